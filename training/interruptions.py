"""Whether Nano stops when somebody speaks over it, and goes on when something else is heard."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from moshi_mlx.frames import FRAME_SAMPLES, FRAME_SECONDS
from moshi_mlx.runtime.moshi import Moshi
from training import augment
from training.answers import LEAD_FRAMES, answer_streams
from training.dialogue import ANSWERS, STOPS
from training.heard import listen, read_along
from training.intervals import share
from training.questions import LEAD, TAIL
from training.recordings import Said, all_of, recorded, seed_of
from training.voices import SAMPLE_RATE, Voice

STOP_SECONDS = 0.5  # by then it is to be silent
SILENT_FRAMES = 3  # in a row make silence


@dataclass(frozen=True)
class Interruption:
    """A question, what is said into its answer, and how soon Nano is silent then."""

    voice: str
    first: str
    second: str
    said: str
    delay: float  # seconds from its onset; up to the recording's end if Nano goes on

    @property
    def asks(self) -> bool:
        return self.second not in STOPS

    @property
    def answered(self) -> bool:
        return self.said.endswith(ANSWERS[self.second])


def interrupt(moshi: Moshi, voices: Sequence[Voice], each: int, name: str) -> list[Interruption]:
    """`each` questions of every voice whose answers are interrupted, by a question and by one of STOPS in turn.

    Those are left out that Nano is not answering at that moment: in those, nothing is interrupted.
    """
    rng = np.random.default_rng(seed_of(name))
    known, count = list(ANSWERS), each * len(voices)
    speakers = [voice for voice in voices for _ in range(each)]
    firsts = [known[index] for index in rng.integers(len(known), size=count)]
    seconds = [
        STOPS[rng.integers(len(STOPS))] if number % 2 else known[rng.integers(len(known))]
        for number in range(count)
    ]
    texts = zip([*speakers, *speakers], [*firsts, *seconds], strict=True)
    said = all_of(recorded, [seed_of(name)], [Said(voice, text) for voice, text in texts])
    recordings, onsets = [], []
    for one, other in zip(said[:count], said[count:], strict=True):
        pause = int((0.32 + rng.uniform(0.3, 0.9)) * SAMPLE_RATE)
        recordings.append(np.concatenate([one, np.zeros(pause, np.float32), other]))
        onsets.append(LEAD + (len(one) + pause) / SAMPLE_RATE)
    found = []
    for voice, first, second, onset, heard in zip(
        speakers, firsts, seconds, onsets, listen(moshi, recordings, LEAD, TAIL), strict=True
    ):
        delay = delay_of(heard.loud, onset)
        if delay is not None:
            found.append(Interruption(str(voice), first, second, heard.text, round(delay, 3)))
    return found


def delay_of(loud: np.ndarray, onset: float) -> float | None:
    """Seconds from `onset` until the audio is silent; None if it is silent then already.

    loud: (steps,) bool. What the n-th step gives is heard when that step is done; the first step is not part of
    the recording. Audio that does not fall silent lasts to its end.
    """
    step = int(onset / FRAME_SECONDS) + 1
    if not loud[step]:
        return None
    silent = next((at for at in range(step, len(loud)) if not loud[at : at + SILENT_FRAMES].any()), len(loud))
    return silent * FRAME_SECONDS - onset


def interruptions_summed_up(several: Sequence[Interruption]) -> dict[str, Any]:
    """Shares that stop in time and that are answered, quantiles of the delay, and what was missed."""
    delays = np.array([one.delay for one in several])
    voices: dict[str, list[bool]] = {}
    for one in several:
        voices.setdefault(one.voice, []).append(one.delay <= STOP_SECONDS)
    return {
        **share([one.delay <= STOP_SECONDS for one in several]).as_dict(),
        "median_seconds": round(float(np.median(delays)), 3),
        "p95_seconds": round(float(np.quantile(delays, 0.95)), 3),
        "longest_seconds": round(float(delays.max()), 3),
        "by_voice": {voice: share(some).as_dict() for voice, some in voices.items()},
        "answered": share([one.answered for one in several if one.asks]).as_dict(),
        "missed": [
            list(asdict(one).values())
            for one in several
            if one.delay > STOP_SECONDS or (one.asks and not one.answered)
        ],
    }


def undisturbed(moshi: Moshi, voice: Voice, count: int) -> dict[str, Any]:
    """Answers that Nano finishes though there is a noise, or its own echo, while it speaks; `count` of each."""
    rng = np.random.default_rng(8)
    streams = answer_streams()

    def noise(_: str) -> tuple[float, np.ndarray]:
        return rng.uniform(0.62, 1.22), rng.choice([0.03, 0.1, 0.5]) * augment.bumps(rng, int(0.65 * SAMPLE_RATE))

    def echo(answer: str) -> tuple[float, np.ndarray]:
        gain = 10 ** (rng.uniform(-40, -30) / 20)
        return 0.48, gain * streams[answer][LEAD_FRAMES * FRAME_SAMPLES :]

    sounds: dict[str, Callable[[str], tuple[float, np.ndarray]]] = {"noise": noise, "echo": echo}
    found: dict[str, Any] = {"voice": str(voice)}
    for name, sound in sounds.items():
        texts = [list(ANSWERS)[index] for index in rng.integers(len(ANSWERS), size=count)]
        recordings = []
        for pcm, text in zip(
            all_of(recorded, [seed_of(name)], [Said(voice, text) for text in texts]), texts, strict=True
        ):
            after, heard_too = sound(ANSWERS[text])
            pause = np.zeros(int(after * SAMPLE_RATE), np.float32)
            recordings.append(np.concatenate([pcm, pause, heard_too], dtype=np.float32))
        heard = read_along(moshi, recordings, LEAD, TAIL)
        found[name] = share([one.text == ANSWERS[text] for one, text in zip(heard, texts, strict=True)]).as_dict()
    return found
