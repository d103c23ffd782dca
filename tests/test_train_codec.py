"""The codec's training by several processes, and what the ears may change, with PyTorch."""

import os
import sys
from pathlib import Path
from subprocess import run

import pytest

pytest.importorskip("torch", reason="Nano is trained in an environment of its own")

from training import ranks, train_codec
from training.codec import Codec

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # of the package that defines Mimi

_EVERYBODY = """
import torch
from training import ranks

rank, many = ranks.meet()
value = torch.full((2, 3), float(rank + 5), requires_grad=True)
other = torch.full((4,), float(rank), requires_grad=True)
unused = torch.ones(1, requires_grad=True)
ranks.share_values([value, other])
(value.sum() * (rank + 1) + (other * torch.arange(4.0) * (1 - rank)).sum()).backward()
ranks.average_gradients([value, unused, other])
assert many == 2
assert (value == 5).all() and (other == 0).all(), "not what process 0 has"
assert (value.grad == 1.5).all(), value.grad
assert torch.equal(other.grad, torch.arange(4.0) / 2), other.grad
assert unused.grad is None
ranks.part()
"""


def test_processes_share_values_and_gradients(tmp_path: Path) -> None:
    script = tmp_path / "everybody.py"
    script.write_text(_EVERYBODY)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = run(command, cwd=Path(__file__).parents[1], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_codebooks_are_trained_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks, "meet", lambda: (1, 2))
    monkeypatch.setattr(train_codec.corpus_file, "load", lambda folder: None)
    with pytest.raises(ValueError, match="'autoencoder' is trained by one process"):
        train_codec.train(tmp_path)


def test_ears_leave_the_codebooks_the_decoder_and_a_finished_models_heads_alone() -> None:
    names = [name for name, _ in Codec().named_parameters()]
    heads = train_codec._HEADS
    fresh, known = ({name for name in names if train_codec._hears(name, kept)} for kept in ((), heads))
    assert fresh - known == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    assert not [name for name in fresh if "codebook" in name or "decoder" in name or "output_proj" in name]
    assert [name for name in known if name.startswith("mimi.encoder_transformer")]
    assert [name for name in known if "input_proj" in name]
