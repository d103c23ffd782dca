"""The language model against PyTorch's, with the same weights."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.runtime.delays import DelayLine
from moshi_mlx.runtime.step import Draw, FrameStep
from moshi_mlx.sampling_config import GREEDY
from tests.golden import LM_GOLDENS, Golden, lm_golden


@pytest.fixture(
    scope="module", params=[(name, laid_out) for name in LM_GOLDENS for laid_out in (False, True)], ids=str
)
def golden(request: pytest.FixtureRequest) -> Golden:
    name, laid_out = request.param
    golden = lm_golden(name)
    if laid_out:
        golden.lm.fuse()
    return golden


def assert_close(ours: mx.array, reference: np.ndarray, tolerance: float = 1e-4) -> None:
    error = np.abs(np.array(ours) - reference).max() / np.abs(reference).max()
    assert error <= tolerance, f"{error:.2e} of the largest value"


@pytest.mark.parametrize("chunks", [[40], [1] * 40, [5, 1, 30, 4]], ids=["at once", "one by one", "uneven"])
def test_teacher_forced_logits_match_pytorch(golden: Golden, chunks: list[int]) -> None:
    lm, answers = golden.lm, golden.answers
    tokens = mx.array(answers["tokens"].astype(np.int32))
    state, hidden, start = lm.new_state(), [], 0
    for count in chunks:
        hidden.append(lm.temporal(tokens[:, :, start : start + count], state, golden.condition))
        start += count
    joined = mx.concatenate(hidden, axis=1)
    assert_close(joined[0], answers["hidden"])
    assert_close(lm.text_linear(joined)[0], answers["text_logits"])
    assert_close(lm.depformer.logits(joined, tokens)[0], answers["audio_logits"])
    for index, head in enumerate(lm.get("extra_heads", [])):
        assert_close(head(joined)[0], answers["extra_heads"][index])


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_greedy_stream_matches_pytorch_token_for_token(golden: Golden, fused: bool) -> None:
    lm, answers = golden.lm, golden.answers
    assert len(answers["user"]) > 3 * lm.config.transformer.context, "the window should wrap three times"
    state, delays, step = lm.new_state(), DelayLine(lm.config), FrameStep(lm)
    (mx.enable_compile if fused else mx.disable_compile)()
    try:
        for frame, user in enumerate(answers["user"]):
            tokens = delays.inputs(user)[None, :, None]
            text, *codes = step(tokens, [Draw(GREEDY, 0, frame)], state, golden.condition).sampled[0]
            emitted = delays.accept(text, np.array(codes))
            assert text == answers["texts"][frame], f"text token of step {frame}"
            if emitted is None:
                assert (answers["emitted"][frame] == -2).all()
            else:
                assert emitted.tolist() == answers["emitted"][frame].tolist(), f"codes of step {frame}"
    finally:
        mx.enable_compile()
