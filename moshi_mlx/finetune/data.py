"""Finding recordings of two people, and the words of the one whose place Moshi takes.

Three forms: what Kyutai's trainer takes (a list, a line {"path": ..., "duration": seconds} for each stereo file,
with a file of words beside each; or a folder of such lists), a folder of stereo files with their words beside
them, and a folder of kept conversations. Left is Moshi, right is the user.
Source: moshi-finetune, README.md, finetune/data/dataset.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moshi_mlx.audio.files import SUFFIXES
from moshi_mlx.conversation.transcript import Transcript
from moshi_mlx.errors import CheckpointError, DataError, MoshiError, some, system_errors
from moshi_mlx.finetune.streams import MAIN, Word
from moshi_mlx.frames import FRAME_SECONDS
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.weights.atomic import AtomicPath

WORDS_OF_A_CONVERSATION = "transcript.jsonl"
_LONGEST = 1e6  # seconds of a recording: eleven days
_SLACK = 0.5  # seconds that words may end behind their recording: transcribers round


@dataclass(frozen=True)
class Recording:
    """Two people's sound and Moshi's words, found but not yet heard.

    moshi, user: files, the same one if it is stereo. words: a function that reads them, by their beginnings, and
    may raise DataError. seconds: as its list says, None if nothing does. conditions: a function that reads the
    values of a model's conditioners.
    """

    moshi: Path
    user: Path
    words: Callable[[], tuple[Word, ...]]
    seconds: float | None = None
    conditions: Callable[[], Mapping[str, str | None]] = dict

    @property
    def stereo(self) -> bool:
        """Whether both voices are in one file."""
        return self.moshi == self.user

    def check_words(self, words: tuple[Word, ...], seconds: float) -> None:
        """Raise DataError for words that lie behind the recording's end."""
        for number, word in enumerate(words, 1):
            if word.begin > seconds + _SLACK:
                raise DataError(
                    f"{self.moshi}: word {number} ({word.text!r}) begins at {word.begin:.2f} s, but the recording "
                    f"ends at {seconds:.2f} s; its words are of another file, or the recording is cut"
                )


@dataclass(frozen=True)
class Source:
    """A place with recordings, and how often it is drawn from beside others."""

    place: str
    recordings: tuple[Recording, ...]
    weight: float = 1.0


Transcribe = Callable[[Path], tuple[Word, ...]]
"""What gives the words of a stereo file that has none beside it."""


def find_sources(
    text: str,
    skip: Callable[[MoshiError], None] | None = None,
    lag: int = 1,
    weight: float = 1.0,
    transcribe: Transcribe | None = None,
) -> list[Source]:
    """Find what a person names: one or several places, PATH[:WEIGHT], with commas between.

    skip: told of each recording that cannot be used, which is left out; unless given the first one raises.
    lag: frames by which Moshi's audio follows its words in kept conversations. weight: of a place without one.
    transcribe: gives words that are missing.
    Raises DataError if a place is not there, or nothing is left of it.
    """
    sources: list[Source] = []
    for item in filter(None, text.split(",")):
        place, own = _weighed(item.strip(), weight)
        if any(place == source.place for source in sources):
            raise DataError(f"{place} is named twice; give it once, with a weight: {place}:2")
        found = []
        for recording in _recordings(Path(place).expanduser(), lag, skip, transcribe):
            try:
                recording.words()
            except MoshiError as error:
                if not skip:
                    raise
                skip(error)
            else:
                found.append(recording)
        if not found:
            raise DataError(
                f"{place} holds no recording that can be trained on; see docs/finetune.md for the forms"
            )
        sources.append(Source(place, tuple(found), own))
    if not sources:
        raise DataError("no data is named: give a list (.jsonl) or a folder")
    return sources


def find_replay(
    text: str,
    learned: Sequence[Source],
    skip: Callable[[MoshiError], None] | None = None,
    lag: int = 1,
    transcribe: Transcribe | None = None,
) -> list[Source]:
    """Find what a model was taught before: as `find_sources`, with PATH[:SHARE] of all windows, half unless given.

    learned: the new sources. Raises DataError also if nothing is left for them, or a place is among them.
    """
    sources = find_sources(text, skip, lag, 0.5, transcribe)
    share = sum(source.weight for source in sources)
    if share >= 1:
        raise DataError(
            f"--replay {text} would be {share:.0%} of all windows; give shares of less than 1 in all, as "
            f"{sources[0].place}:0.3"
        )
    new = {Path(source.place).expanduser().resolve() for source in learned}
    for source in sources:
        if Path(source.place).expanduser().resolve() in new:
            raise DataError(f"{source.place} is both learned and replayed; name it once")
    return sources


def _weighed(item: str, usual: float) -> tuple[str, float]:
    place, colon, weight = item.rpartition(":")
    if not colon or Path(item).expanduser().exists():
        return item, usual
    try:
        number = float(weight)
    except ValueError:
        return item, usual
    if not 0 < number < float("inf"):
        raise DataError(f"{item}: the weight {weight} must be a number above 0")
    return place, number


def _recordings(
    place: Path, lag: int, skip: Callable[[MoshiError], None] | None, transcribe: Transcribe | None
) -> Iterator[Recording]:
    with system_errors(f"cannot read {place}", DataError):
        if place.is_file():
            if place.suffix != ".jsonl":
                raise DataError(f"{place} is neither a list (.jsonl) nor a folder of recordings")
            yield from _listed(place, skip, transcribe)
            return
        if not place.is_dir():
            raise DataError(f"{place} does not exist; give a list (.jsonl) or a folder of recordings")
        kept = sorted(path.parent for path in place.rglob("moshi.wav"))
        lists = sorted(path for path in place.rglob("*.jsonl") if path.parent not in kept)
        for path in lists:
            yield from _listed(path, skip, transcribe)
        for folder in kept:
            yield _kept(folder, lag)
        if not lists and not kept:
            sounds = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            yield from (_with_words(path, None, transcribe) for path in sounds)


def _listed(
    path: Path, skip: Callable[[MoshiError], None] | None, transcribe: Transcribe | None
) -> Iterator[Recording]:
    """Read a list of Kyutai's trainer."""
    with system_errors(f"cannot read {path}", DataError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _line(path, number, line, transcribe)
        except DataError as error:
            if not skip:
                raise
            skip(error)


def _line(path: Path, number: int, line: str, transcribe: Transcribe | None) -> Recording:
    name, seconds = None, 0.0
    with suppress(ValueError, TypeError, KeyError):
        found = json.loads(line)
        name, seconds = found["path"], float(found["duration"])
    if not isinstance(name, str) or not 0 < seconds < float("inf"):
        wanted = '{"path": "one.wav", "duration": seconds}'
        raise DataError(f"{path}, line {number} is {line[:60]!r}; {wanted} expected")
    sound = path.parent / name
    if not sound.is_file():
        raise DataError(f"{path}, line {number} names {sound}, which does not exist")
    return _with_words(sound, seconds, transcribe)


def _with_words(sound: Path, seconds: float | None, transcribe: Transcribe | None) -> Recording:
    path = sound.with_suffix(".json")

    def words() -> tuple[Word, ...]:
        return transcribe(sound) if transcribe and not path.is_file() else read_words(path, sound)

    return Recording(sound, sound, words, seconds, lambda: read_conditions(path))


def _kept(folder: Path, lag: int) -> Recording:
    """A conversation that `chat` has kept."""

    def words() -> tuple[Word, ...]:
        path = folder / WORDS_OF_A_CONVERSATION
        with system_errors(f"cannot read {path}", DataError):
            lines = path.read_text(encoding="utf-8").splitlines()
        said = Transcript()
        try:
            pieces = [json.loads(line) for line in lines if line.strip()]
            # A piece has the time of the step that chose it; its sound comes once its last code is known.
            said.pieces = [(float(piece["t"]) + lag * FRAME_SECONDS, str(piece["text"])) for piece in pieces]
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path} is not a transcript that `chat` has kept ({error})") from error
        last = said.pieces[-1][0] if said.pieces else 0.0
        return tuple(Word(word.text, word.start, word.end) for word in said.words(last + 1.0).words)

    user = folder / "user.wav"
    if not user.is_file():
        raise DataError(f"{folder} has moshi.wav but no user.wav; both are needed, as `chat --save` writes them")
    return Recording(folder / "moshi.wav", user, words)


def read_words(path: Path, sound: Path) -> tuple[Word, ...]:
    """Read the words of a recording: {"alignments": [[word, [begin, end], speaker], ...]}, times in seconds.

    Raises DataError, with the file and the word, if there are none, or they are not in order of their beginnings.
    """
    if not path.is_file():
        raise DataError(
            f"{sound} has no words: {path.name} beside it expected; docs/finetune.md says how they are written, "
            "and --words stt-1b writes them"
        )
    lines: Any = read_json(path, error=DataError, remedy="write it again").get("alignments")
    if not isinstance(lines, list):
        raise DataError(f"{path} has no list of words (alignments)")
    words: list[Word] = []
    for number, line in enumerate(lines, 1):
        word = None
        with suppress(ValueError, TypeError):
            text, (begin, end), speaker = line
            if isinstance(text, str) and isinstance(speaker, str) and 0 <= begin < _LONGEST and end == end:
                word = Word(text, float(begin), float(end), speaker)
        if not word:
            raise DataError(
                f'{path}: word {number} is {str(line)[:60]}; ["word", [begin, end], "SPEAKER_MAIN"] expected'
            )
        if words and word.begin < words[-1].begin:
            raise DataError(
                f"{path}: word {number} ({word.text!r}) begins at {word.begin:.2f} s, before the word in front of "
                f"it ({words[-1].begin:.2f} s); sort them by their beginnings"
            )
        words.append(word)
    return tuple(words)


def write_words(
    path: Path, words: Iterable[tuple[str, float, float]], error: type[MoshiError] = CheckpointError
) -> None:
    """Write Moshi's words, (text, begin, end) in seconds, for `read_words`. error: raised where they cannot be."""
    alignments = [[text, [round(begin, 3), round(end, 3)], MAIN] for text, begin, end in words]
    with AtomicPath(path, error) as part:
        part.write_text(json.dumps({"alignments": alignments}, ensure_ascii=False) + "\n", encoding="utf-8")


def read_conditions(path: Path) -> dict[str, str | None]:
    """Read the values of conditioners beside words, {"text_conditions": {name: value}}; there may be none.

    None, JSON's null, is the learned padding of a conditioner. Raises DataError for anything else.
    """
    found = read_json(path, error=DataError, remedy="write it again").get("text_conditions") or {}
    if not isinstance(found, dict) or not all(isinstance(value, str | None) for value in found.values()):
        raise DataError(f'{path}: text_conditions is {str(found)[:60]}; {{"name": "value"}} expected')
    return found


def no_words(recordings: tuple[Recording, ...]) -> str:
    """Say which recordings have no words at all, for a note; "" if all have some."""
    silent = [str(recording.moshi) for recording in recordings if not recording.words()]
    return f"nobody says a word in {some(silent)}: Moshi learns to be silent there" if silent else ""


def named_twice(sources: Sequence[Source]) -> str:
    """Say which recordings are there more than once, for a note; "" for none."""
    count = Counter(recording.moshi.resolve() for source in sources for recording in source.recordings)
    again = [str(path) for path, times in count.items() if times > 1]
    if not again:
        return ""
    return f"there more than once: {some(again)}; it counts as often, and may be both learned from and tested with"
