"""Texts said as PyTorch says them: every token of its own streams, with voices, guidance and prefixes."""

import json
from typing import Any

import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.say import Feeder, Pace, TextScript, say
from moshi_mlx.tasks.script import Words
from tests.golden import Golden, read_golden
from tests.say_golden import SaidCodec, SayTokenizer
from tests.say_texts import voice

PACE = Pace(between=1, most=8, first=2, last=4)
STREAMS = [
    *[("crossed", name) for name in ("plain", "voice", "cfg", "two")],
    *[("prefixed", name) for name in ("plain", "guided", "voice", "none")],
]
PLAYERS: dict[int, Any] = {}


def moshi_of(golden: Golden) -> Any:
    """What plays a golden model; made once, so that it compiles once."""
    codebooks = golden.lm.config.dep_q
    if codebooks not in PLAYERS:
        PLAYERS[codebooks] = Moshi(golden.lm, SaidCodec(codebooks), SayTokenizer(), GREEDY)
    player = PLAYERS[codebooks]
    player.codec.known = player.codec.known[:0]
    return player


@pytest.fixture(scope="module")
def goldens() -> dict[str, Golden]:
    """Both models."""
    return {kind: read_golden(f"say_{kind}") for kind in ("crossed", "prefixed")}


def played(golden: Golden, name: str, limit: int) -> tuple[np.ndarray, list[tuple[str, float]], int]:
    """The tokens [wish, text, codes] of every step, the words, and how many frames came."""
    answers, lm, moshi = golden.answers, golden.lm, moshi_of(golden)
    who, strength = json.loads(str(answers["played"]))[name]
    voices: list[np.ndarray] = []
    if isinstance(who, list):
        voices = [voice(seed)[0].T for seed in who]
    elif who is not None:
        moshi.codec.known = np.random.RandomState(who).randint(0, lm.config.card, (lm.config.n_q, 9)).T
        voices = [np.zeros((9 + 2) * 1920, np.float32)]
    rows: list[list[int]] = []
    take = TextScript.take

    def watched(script: TextScript, step: int, sampled: np.ndarray) -> np.ndarray:
        read = take(script, step, sampled)
        rows.append([int(sampled[0]), *read.tolist()])
        return read

    words, frames = [], 0
    pace = Pace(PACE.between, PACE.most, PACE.first, PACE.last, strength)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextScript, "take", watched)
        for spoken in say(moshi, json.loads(str(answers["talk"])), voices, pace=pace, sampling=GREEDY):
            words += spoken.words
            frames += 1
            if len(rows) >= limit:
                break
    return np.array(rows), words, frames


@pytest.mark.parametrize(("kind", "name"), STREAMS)
def test_every_token_is_that_of_pytorch(goldens: dict[str, Golden], kind: str, name: str) -> None:
    golden = goldens[kind]
    theirs = golden.answers[f"{name}_rows"].copy()
    ours, words, frames = played(golden, name, len(theirs))
    assert len(theirs) > 180
    known = 9 if kind == "prefixed" and name != "none" else 0
    theirs[:known, 0] = -1  # what the model would have written there is not asked
    wrong = np.flatnonzero((ours != theirs[: len(ours)]).any(axis=1))
    assert not len(wrong), f"step {wrong[0]} and {len(wrong)} in all"
    assert len(ours) == len(theirs), "the text ends where it ends for PyTorch"
    said = [(word, round(seconds / 0.08) + known) for word, seconds in words]
    heard = json.loads(str(golden.answers[f"{name}_words"]))
    assert said == [tuple(each) for each in heard][: len(said)]
    assert len(said) > 15
    assert frames == len(theirs) - 6 - 2 - known


def test_voices_guidance_and_prefixes_change_the_tokens(goldens: dict[str, Golden]) -> None:
    for kind, name in STREAMS:
        plain, other = (goldens[kind].answers[f"{each}_rows"][:180, 2:] for each in ("plain", name))
        if name != "plain":
            assert (plain[20:] != other[20:]).mean() > 0.3, (kind, name)


def test_text_that_comes_in_pieces_is_waited_for_and_said_the_same(goldens: dict[str, Golden]) -> None:
    golden = goldens["crossed"]
    moshi = moshi_of(golden)
    vectors = [voice(1)[0].T]
    whole = [frame.audio for frame in say(moshi, "good morning how did you sleep", vectors, sampling=GREEDY)]
    asked: list[int] = []
    made: list[np.ndarray] = []

    def coming() -> Any:
        words = Words(SayTokenizer().encode, True, 1)
        for piece in ["good", "morning", "how", "did", "you", "sleep"]:
            asked.append(len(made))
            yield from words.turn(piece) if not asked[1:] else words.more(piece)

    made += [frame.audio for frame in say(moshi, coming(), vectors, sampling=GREEDY)]
    assert np.array_equal(whole, made)
    assert len(asked) == 6


def test_what_a_model_cannot_have_is_said(goldens: dict[str, Golden]) -> None:
    crossed, prefixed = (moshi_of(goldens[kind]) for kind in ("crossed", "prefixed"))
    with pytest.raises(ConfigError, match="this model needs a voice"):
        next(say(crossed, "a"))
    with pytest.raises(ConfigError, match="'cfg' has no value"):
        next(say(crossed, "a", [voice(1)[0].T], pace=Pace(guidance=2.2)))
    with pytest.raises(ConfigError, match="1 to 5 of one shape"):
        next(say(crossed, "a", [voice(1)[0].T] * 6))
    with pytest.raises(ConfigError, match="takes one, a recording"):
        next(say(prefixed, "a", [np.zeros(9600, np.float32)] * 2))
    with pytest.raises(ConfigError, match=r"a voice of 0\.08 s"):
        next(say(prefixed, "a", [np.zeros(1920, np.float32)]))
    with pytest.raises(ConfigError, match="takes a recording"):
        next(say(prefixed, "a", [voice(1)[0].T]))
    talks = read_golden("lm_moshi").lm
    with pytest.raises(ConfigError, match="does not say texts"):
        next(say(Moshi(talks, SaidCodec(8), SayTokenizer(), GREEDY), "a"))


def test_a_batch_of_other_texts_changes_nothing(goldens: dict[str, Golden]) -> None:
    golden = goldens["crossed"]
    moshi = moshi_of(golden)
    from moshi_mlx.tasks.say import speakers, supply, words_of

    texts = ["good morning", "how did you sleep last night", "I am glad to hear that"]

    def stream(batch: Any, text: str, seed: int) -> tuple[Any, Any]:
        conditions = {"speaker_wavs": speakers([voice(seed)[0].T]), "cfg": "2.0", "control": "ok"}
        session = batch.join(0, GREEDY, conditions)
        feeder = Feeder(13, 2)
        session.script = TextScript(golden.lm.config, feeder, np.zeros((32, 0), np.int32))
        return session, (feeder, words_of(moshi, [text]))

    def run(chosen: list[int]) -> list[list[Any]]:
        batch = moshi.batch(len(chosen))
        members = [stream(batch, texts[index], index + 1) for index in chosen]
        made: list[list[Any]] = [[] for _ in chosen]
        for _ in range(30):
            for _, (feeder, words) in members:
                supply(feeder, words)
            found = batch.generate({session: np.zeros(0, np.int32) for session, _ in members})
            for row, (session, _) in enumerate(members):
                codes = found[session].codes
                made[row].append((found[session].text_id, None if codes is None else codes.tolist()))
        return made

    together = run([0, 1, 2])
    for index in range(3):
        assert run([index])[0] == together[index]
