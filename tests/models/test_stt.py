"""The speech-to-text model against PyTorch's, with the same weights: words and voice activity."""

import numpy as np
import pytest

from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.wordless import wordless
from moshi_mlx.sampling_config import GREEDY
from tests.golden import Golden, lm_golden, stt_golden


@pytest.fixture(scope="module")
def golden() -> Golden:
    return stt_golden()


def test_text_and_voice_activity_are_pytorchs(golden: Golden) -> None:
    user, texts, vad = (golden.answers[name] for name in ("user", "texts", "vad"))
    session = Batch(wordless(golden.lm), 1).join(0, GREEDY)
    made = [session.generate(codes.astype(np.int32)) for codes in user]
    assert [one.text_id for one in made] == texts.tolist()
    heads = np.stack([one.vad for one in made if one.vad is not None])
    np.testing.assert_allclose(heads, vad, atol=1e-5)
    np.testing.assert_allclose(heads.sum(axis=-1), 1, atol=1e-5)
    reply = session.decode(made[-1])
    assert reply.audio is None
    assert reply.vad is made[-1].vad


def test_voice_activity_belongs_to_its_row(golden: Golden) -> None:
    user, vad = golden.answers["user"].astype(np.int32), golden.answers["vad"]
    batch = Batch(wordless(golden.lm), 2)
    first, second = batch.join(0, GREEDY), batch.join(0, GREEDY)
    for frame in range(8):
        made = batch.generate({first: user[frame], second: user[-1 - frame]})
        one, other = made[first].vad, made[second].vad
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one, vad[frame], atol=1e-5)
        assert np.abs(other - vad[frame]).max() > 1e-2 or frame == 0  # both read initial tokens at first


def test_models_without_extra_heads_say_nothing_of_voice_activity() -> None:
    golden = lm_golden("moshi")
    session = Batch(wordless(golden.lm), 1).join(0, GREEDY)
    generated = session.generate(golden.answers["user"][0].astype(np.int32))
    assert generated.vad is None
    assert session.decode(generated).vad is None
