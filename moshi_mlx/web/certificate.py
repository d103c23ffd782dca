"""TLS, if need be with a certificate of our own: over a network browsers give the microphone to https pages only.

Nobody vouches for such a certificate, so a browser asks once; it is kept, so that it does not ask every time.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from moshi_mlx.errors import ServerError, system_errors
from moshi_mlx.machine import cache_folder
from moshi_mlx.weights.atomic import AtomicPath, remove_abandoned

DAYS = 397  # the longest that browsers accept
RENEWED = datetime.timedelta(days=7)  # before its end


def load_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return TLS with these two PEM files. Raises ServerError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise ServerError(f"cannot use the certificate {certificate} with the key {key}: {reason}") from error
    return context


def own_tls(names: Sequence[str], folder: Path | None = None) -> ssl.SSLContext:
    """Return TLS with a certificate for these hosts and addresses, made now unless one is still valid.

    folder: where it is kept, with its key. Half a pair, or halves of two as a process leaves them that is killed
    in between, are no pair: both are made anew. Raises ServerError.
    """
    folder = folder or cache_folder()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kept = _kept(certificate, key) if _is_valid(certificate, names) else None
    if kept:
        return kept
    with system_errors(f"cannot keep a certificate in {folder}", ServerError):
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(certificate)
        remove_abandoned(key)
        with AtomicPath(certificate) as new_certificate, AtomicPath(key) as new_key:
            _write(new_certificate, new_key, names)
            return load_tls(new_certificate, new_key)  # another process may put its own there at this moment


def lan_addresses() -> list[str]:
    """Return the addresses under which other machines reach this one, the likeliest first."""
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))  # sends nothing: it only asks which way it would go
                found.append(probe.getsockname()[0])
            except OSError:
                continue
    with suppress(OSError):  # a machine that does not know its own name
        found += [str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)]
    usable = [a.partition("%")[0] for a in found if not ipaddress.ip_address(a.partition("%")[0]).is_loopback]
    return list(dict.fromkeys(a for a in usable if not ipaddress.ip_address(a).is_link_local))


def _kept(certificate: Path, key: Path) -> ssl.SSLContext | None:
    """Return TLS with a pair that was kept, None if it is no pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # ours has none, and nobody is asked for it
    except (OSError, ValueError):
        return None
    return context


def _is_valid(path: Path, names: Sequence[str]) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        known = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    held = {*known.get_values_for_type(x509.DNSName), *map(str, known.get_values_for_type(x509.IPAddress))}
    now = datetime.datetime.now(datetime.timezone.utc)
    holds = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEWED
    return set(names) <= held and holds


def _write(certificate: Path, key: Path, names: Sequence[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "moshi-mlx")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def _general_name(name: str):
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
