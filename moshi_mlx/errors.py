"""The errors that a user of this package can meet.

MoshiError
├── ConfigError            a config asks for something that does not exist here, or contradicts itself
├── CheckpointError        a checkpoint cannot be found, read, or does not fit its config
│   └── DownloadError      the hub cannot be reached, refuses, or must not be asked because of `--offline`
├── QuantizationError      a quantization is unknown, impossible, or contradicts the file
├── AudioFileError         an audio file cannot be read or written
├── AudioDeviceError       a microphone or speaker cannot be opened or has gone
├── DataError              a recording, its words or a scene cannot be used
├── TrainingError          a training cannot go on
├── ProcessError           a process that shares a model with this one has ended, or cannot do its part
├── CodecError             the audio codec failed or died
├── SessionError           a session was used against its contract (wrong frame, closed, full batch)
├── ProtocolError          a peer on the wire broke the protocol
├── ClientError            a server cannot be reached, refuses, or ended the conversation
└── ServerError            the web server cannot start

A message is one line: what happened, with the value, and what to do.
The command line catches `MoshiError` once, prints the message and exits with code 1.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class MoshiError(Exception):
    """The base of every error that this package raises for people.

    Its message is one line whatever it names: a line break or another control character, as fields, tensors and
    files may have in their names, is shown as Python writes it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__("".join(_visible(character) for character in message))


def _visible(character: str) -> str:
    return repr(character)[1:-1] if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character


class ConfigError(MoshiError):
    """A config asks for something this package does not have, or contradicts itself."""


class CheckpointError(MoshiError):
    """A checkpoint cannot be found, read, or does not fit its config."""


class DownloadError(CheckpointError):
    """The hub cannot be reached, refuses, or must not be asked in offline mode."""


class QuantizationError(MoshiError):
    """A quantization is unknown, impossible for a shape, or contradicts the file."""


class AudioFileError(MoshiError):
    """An audio file cannot be read or written."""


class AudioDeviceError(MoshiError):
    """A microphone or speaker cannot be opened, or has gone."""


class DataError(MoshiError):
    """A recording or its words cannot be trained on, a scene cannot be evaluated, or a text is none."""


class TrainingError(MoshiError):
    """A training cannot go on: a process that takes part in it has ended."""


class ProcessError(MoshiError):
    """A process that shares a model with this one has ended, cannot be reached, or cannot do its part."""


class CodecError(MoshiError):
    """The audio codec failed, or its process died."""


class SessionError(MoshiError):
    """A session was used against its contract: a wrong frame, a closed session, a full batch."""


class ProtocolError(MoshiError):
    """A peer on the wire broke the protocol."""


class ClientError(MoshiError):
    """A server that a program wants to talk with cannot be reached, refuses, or ended the conversation."""


class ServerError(MoshiError):
    """The web server cannot start, because of its port or its certificate."""


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first `most` names and how many more there are, for a message."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def fetch_again(path: Path) -> str:
    """Return what to do about a damaged file, for a message: the command, where it is in the hub's cache."""
    parts = path.absolute().parts
    for index, part in enumerate(parts[:-3]):
        if part.startswith("models--") and parts[index + 1] == "snapshots":
            repo, file = part.removeprefix("models--").replace("--", "/", 1), "/".join(parts[index + 3 :])
            return f"fetch it again: `hf download {repo} {file} --force-download`"
    return "fetch it again"


@contextmanager
def system_errors(what: str, kind: type[MoshiError]) -> Iterator[None]:
    """Raise what the system refuses (OSError) as an error of ours: `what`, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}") from error
