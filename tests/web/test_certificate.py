"""The certificate of `serve --lan`: kept with its key while it fits, else both are made anew."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509

from moshi_mlx.web import certificate as module
from moshi_mlx.web.certificate import load_tls, own_tls

NAMES = ["localhost", "192.168.7.7"]


def pair(folder: Path) -> tuple[bytes, bytes]:
    """Certificate and key; they fit each other."""
    load_tls(folder / "certificate.pem", folder / "key.pem")
    return (folder / "certificate.pem").read_bytes(), (folder / "key.pem").read_bytes()


def test_a_certificate_is_kept_while_it_fits(tmp_path: Path) -> None:
    own_tls(NAMES, tmp_path)
    first = pair(tmp_path)
    own_tls(["192.168.7.7"], tmp_path)
    assert pair(tmp_path) == first
    own_tls(["10.0.0.1"], tmp_path)
    assert pair(tmp_path) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["certificate.pem", "key.pem"]
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("missing", ["certificate.pem", "key.pem"])
@pytest.mark.parametrize("left", [None, b"", b"-----BEGIN PRIVATE KEY-----\n", "another"])
def test_half_a_pair_is_made_anew(tmp_path: Path, missing: str, left: bytes | str | None) -> None:
    """Lost, empty, cut, or the half of another pair, as a process leaves them that is killed between two files."""
    own_tls(NAMES, tmp_path)
    own_tls(NAMES, tmp_path / "other")
    first = pair(tmp_path)
    (tmp_path / missing).unlink()
    if left == "another":
        (tmp_path / missing).write_bytes((tmp_path / "other" / missing).read_bytes())
    elif isinstance(left, bytes):
        (tmp_path / missing).write_bytes(left)
    own_tls(NAMES, tmp_path)
    second = pair(tmp_path)
    assert first[0] != second[0]
    assert first[1] != second[1]


@pytest.mark.parametrize(("days", "kept"), [(9, True), (7, False), (-1, False)])
def test_it_is_renewed_a_week_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, kept: bool
) -> None:
    monkeypatch.setattr(module, "DAYS", days + 1)
    own_tls(NAMES, tmp_path)
    first = pair(tmp_path)
    monkeypatch.undo()
    own_tls(NAMES, tmp_path)
    second = pair(tmp_path)
    assert (first == second) is kept
    if not kept:
        made = x509.load_pem_x509_certificate(second[0])
        left = made.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
        assert datetime.timedelta(days=390) < left < datetime.timedelta(days=397)


def test_one_from_the_future_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was wrong then, or is now; browsers would refuse it."""

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(days=30)

    later = type("later", (), {**vars(datetime), "datetime": Later})
    monkeypatch.setattr(module, "datetime", later)
    own_tls(NAMES, tmp_path)
    first = pair(tmp_path)
    monkeypatch.undo()
    own_tls(NAMES, tmp_path)
    assert pair(tmp_path) != first


def test_what_killed_processes_left_is_removed_and_a_failure_keeps_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_tls(NAMES, tmp_path)
    first = pair(tmp_path)
    (tmp_path / ".key.pem.999999999.part").write_bytes(b"half")

    def fail(certificate: Path, key: Path, names: list[str]) -> None:
        key.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", fail)
        with pytest.raises(module.ServerError, match=r"cannot keep a certificate in .*: No space left"):
            own_tls(["10.0.0.1"], tmp_path)
    assert pair(tmp_path) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["certificate.pem", "key.pem"]
