"""Texts said as PyTorch says them: every token of its own streams, with voices, guidance and prefixes."""

import json
from typing import Any

import numpy as np
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.sampling_config import GREEDY
from moshi_mlx.tasks.say import say, say_together
from moshi_mlx.tasks.script import Words
from moshi_mlx.tasks.utterance import Pace, Spoken, TextScript
from moshi_mlx.tasks.voice import prepared
from tests.golden import Golden, read_golden
from tests.say_golden import SaidCodec, SaidStream, SayTokenizer
from tests.say_texts import encode, voice

PACE = Pace(between=1, most=8, first=2, last=4)
STREAMS = [
    *[("crossed", name) for name in ("plain", "voice", "cfg", "two", "slow")],
    *[("prefixed", name) for name in ("plain", "guided", "voice", "none", "fast")],
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
    who, strength, bonus = json.loads(str(answers["played"]))[name]
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
    pace = Pace(PACE.between, PACE.most, PACE.first, PACE.last, strength, bonus, renewed=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextScript, "take", watched)
        for spoken in say(moshi, json.loads(str(answers["talk"])), voices, pace=pace, sampling=GREEDY):
            words += spoken.words
            frames += bool(len(spoken.audio))
            if len(rows) >= limit:
                break
    return np.array(rows), words, frames


@pytest.mark.parametrize(("kind", "name"), STREAMS)
def test_every_token_is_that_of_pytorch(goldens: dict[str, Golden], kind: str, name: str) -> None:
    golden = goldens[kind]
    enough = 110 if name in ("slow", "fast") else 230  # by then the pace is another
    theirs = golden.answers[f"{name}_rows"][:enough].copy()
    ours, words, frames = played(golden, name, len(theirs))
    assert len(theirs) > min(enough, 180) - 1
    known = 9 if kind == "prefixed" and name != "none" else 0
    asked = ours[:, 0] != -1  # what the model would have written at the other steps changes nothing
    assert 5 <= len(asked) - asked.sum() - known <= 6, "so they are taken in one pass"
    assert asked[~asked].size == np.argmax(asked)
    theirs[: len(ours)][~asked, 0] = -1
    wrong = np.flatnonzero((ours != theirs[: len(ours)]).any(axis=1))
    assert not len(wrong), f"step {wrong[0]} and {len(wrong)} in all"
    assert len(ours) == len(theirs), "the text ends where it ends for PyTorch"
    said = [(word, round(seconds / 0.08) + known) for word, seconds in words]
    heard = json.loads(str(golden.answers[f"{name}_words"]))
    assert said == [tuple(each) for each in heard][: len(said)]
    assert len(said) > enough // 15
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
    whole = heard(list(say(moshi, "good morning how did you sleep", vectors, sampling=GREEDY)))
    asked: list[int] = []
    made: list[Spoken] = []

    def coming() -> Any:
        words = Words(SayTokenizer().encode, True, 1)
        for piece in ["good", "morning", "how", "did", "you", "sleep"]:
            asked.append(len(made))
            yield from words.turn(piece) if not asked[1:] else words.more(piece)

    for spoken in say(moshi, coming(), vectors, sampling=GREEDY):
        made.append(spoken)
    assert np.array_equal(whole, heard(made))
    assert asked == sorted(asked)
    assert 0 == asked[3] < asked[4], "no word is asked for before it may be needed"
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


TEXTS = [
    "good morning",
    "how did you sleep",
    "I am glad",
    "very well. and you?",
    'so <break time="0.4s"/> did I',
    "tell me",
    "a quiet night",
    "yes",
]


def test_a_recording_is_encoded_once_for_several_texts(goldens: dict[str, Golden]) -> None:
    golden = goldens["prefixed"]
    moshi, pcm = moshi_of(golden), np.zeros((6 + 2) * 1920, np.float32)
    moshi.codec.known = np.random.RandomState(5).randint(0, golden.lm.config.card, (golden.lm.config.n_q, 6)).T
    pace, codes = Pace(guidance=1.0), prepared(moshi, pcm)
    assert np.array_equal(codes, moshi.codec.known.T)
    whole = heard(list(say(moshi, "I did.", [pcm], pace=pace, sampling=GREEDY)))
    moshi.codec.known = moshi.codec.known[:0]
    assert np.array_equal(heard(list(say(moshi, "I did.", [codes], pace=pace, sampling=GREEDY))), whole)
    assert not np.array_equal(heard(list(say(moshi, "I did.", [pcm], pace=pace, sampling=GREEDY))), whole)
    with pytest.raises(ConfigError, match=r"a voice of 0\.48 s: more"):
        next(say(moshi, "a", [codes[1:]], sampling=GREEDY))


@pytest.mark.parametrize(("kind", "size"), [("crossed", 8), ("prefixed", 5)])
def test_eight_texts_at_once_are_said_as_each_alone(goldens: dict[str, Golden], kind: str, size: int) -> None:
    moshi = moshi_of(goldens[kind])
    voices = [[voice(1 + index % 3)[0].T] if kind == "crossed" else [] for index in range(len(TEXTS))]
    pace = Pace(guidance=2.0)
    together: list[list[Spoken]] = [[] for _ in TEXTS]
    ended: list[int] = []
    pairs = zip(TEXTS, voices, strict=True)
    for index, spoken in say_together(moshi, pairs, size=size, pace=pace, sampling=GREEDY):
        assert index not in ended
        if spoken:
            together[index].append(spoken)
        else:
            ended.append(index)
    assert sorted(ended) == list(range(len(TEXTS)))
    assert ended != sorted(ended), "a short text makes room for another"
    other = []
    for index, text in enumerate(TEXTS):
        alone = list(say(moshi, text, voices[index], pace=pace, sampling=GREEDY))
        assert [one.words for one in alone] == [one.words for one in together[index]]
        ours, theirs = (heard(each).reshape(-1, moshi.codec.codebooks) for each in (together[index], alone))
        if (first := np.flatnonzero((ours != theirs).any(axis=1))).size:
            other.append((text, int(first[0])))
    # Of some 8,000 codes one may lie so near another that sums of another order, 1e-6 apart, choose the other.
    assert len(other) <= 1, other
    assert all(frame > 4 for _, frame in other)
    assert len({heard(one).tobytes() for one in together}) == len(TEXTS)


def heard(spoken: list[Spoken]) -> np.ndarray:
    """All audio of a speech."""
    return np.concatenate([one.audio for one in spoken])


def test_the_first_sound_comes_a_frame_after_the_delays(goldens: dict[str, Golden]) -> None:
    """The delay of the audio is 6 frames, that of the codebooks 2; the steps before the first sound are fewer."""
    moshi = moshi_of(goldens["crossed"])
    given = {"pace": Pace(first=2), "sampling": GREEDY}
    spoken = list(say(moshi, TEXTS[1], [voice(1)[0].T], **given))
    silent = next(index for index, one in enumerate(spoken) if len(one.audio))
    word = "how"
    known = 2 + 1 + len(encode(word)) + 1  # padding, the step at which the word begins, its speaker and itself
    assert silent == 6 + 2 - known
    assert all(len(one.audio) for one in spoken[silent:])
    assert spoken[0].words[0] == (word, 0.16)


def test_a_speech_can_be_ended_at_any_step(goldens: dict[str, Golden], monkeypatch: pytest.MonkeyPatch) -> None:
    moshi = moshi_of(goldens["crossed"])
    closed: list[int] = []
    monkeypatch.setattr(SaidStream, "close", lambda codec: closed.append(1))
    for steps in (0, 1, 5, 12):
        speech = say(moshi, TEXTS[1], [voice(1)[0].T], sampling=GREEDY)
        assert len([next(speech) for _ in range(steps)]) == steps
        speech.close()
        assert len(closed) == (steps > 0)
        assert next(speech, None) is None
        closed.clear()


def test_a_long_text_goes_on_in_the_same_window(goldens: dict[str, Golden]) -> None:
    """Its first sentences sound as if they were all, and the rest as no text that begins anew."""
    moshi, vectors = moshi_of(goldens["crossed"]), [voice(1)[0].T]
    one, two, rest = (list(say(moshi, "I did. " * n, vectors, sampling=GREEDY)) for n in (4, 6, 2))
    times = [at for spoken in one for _, at in spoken.words]
    same = (round(times[5] / 0.08) - 6 - 2) * moshi.codec.codebooks  # the sixth word looks ahead, to the eighth
    assert same > 24 * moshi.codec.codebooks, "more than the window"
    assert np.array_equal(heard(one)[:same], heard(two)[:same])
    assert not np.array_equal(heard(two)[-len(heard(rest)) :], heard(rest))


def test_a_recording_that_the_window_would_lose_is_heard_again(goldens: dict[str, Golden]) -> None:
    golden = goldens["prefixed"]
    moshi = moshi_of(golden)
    moshi.codec.known = np.random.RandomState(5).randint(0, golden.lm.config.card, (golden.lm.config.n_q, 6)).T
    recording, pace = [np.zeros((6 + 2) * 1920, np.float32)], Pace(guidance=1.0)
    whole = list(say(moshi, "I did. " * 3, recording, pace=pace, sampling=GREEDY))
    times = [at for spoken in whole for _, at in spoken.words]
    assert times == sorted(times)
    assert len(times) == 6
    part = list(say(moshi, "I did.", recording, pace=pace, sampling=GREEDY))
    assert np.array_equal(heard(whole), np.tile(heard(part), 3))
    kept = say(moshi, "I did. " * 3, recording, pace=Pace(guidance=1.0, renewed=False), sampling=GREEDY)
    assert len(heard(list(kept))) < len(heard(whole)), "pauses are not made anew"
