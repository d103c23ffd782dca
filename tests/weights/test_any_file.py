"""Whatever stands in a GGUF file, in a file of torch.save or in an adapter: it is read, or refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moshi_mlx.checkpoint.random_checkpoint import TINY, TINY_HIBIKI, TINY_STT
from moshi_mlx.checkpoint.settings import read_sampling
from moshi_mlx.errors import CheckpointError, ConfigError, MoshiError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.config_reader import read_json
from moshi_mlx.tasks.transcribe import SttTiming
from moshi_mlx.weights.gguf import read_gguf
from moshi_mlx.weights.safetensors import TensorInfo, header_bytes
from moshi_mlx.weights.sizes import check_sizes
from moshi_mlx.weights.torch_file import read_torch_file
from tests.anything import changed, json_values, one_line

words = st.binary(max_size=12)
counts = st.one_of(st.integers(0, 5), st.sampled_from([2**20 + 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]))
texts = st.one_of(
    words.map(lambda word: struct.pack("<Q", len(word)) + word), counts.map(lambda n: struct.pack("<Q", n))
)
kinds = st.integers(0, 14).map(lambda kind: struct.pack("<I", kind))
bodies = st.lists(st.one_of(texts, kinds, counts.map(lambda n: struct.pack("<Q", n)), words), max_size=12)


def aligned_to(size: int) -> bytes:
    return struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<II", 4, size)


alignments = st.sampled_from([0, 1, 32, 2**31]).map(aligned_to)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@example(version=3, count=0, entries=1, body=[], aligned=aligned_to(0))
@example(version=3, count=0, entries=1, body=[struct.pack("<QIQ", 0, 8, 2**64 - 1)], aligned=b"")
@given(
    version=st.integers(1, 4),
    count=counts,
    entries=counts,
    body=bodies,
    aligned=st.one_of(st.just(b""), alignments),
)
def test_any_gguf_is_read_or_refused(
    folder: Path, version: int, count: int, entries: int, body: list[bytes], aligned: bytes
) -> None:
    path = folder / "any.gguf"
    content = b"GGUF" + struct.pack("<IQQ", version, count, entries) + aligned + b"".join(body)
    path.write_bytes(content)
    try:
        found = read_gguf(path)
    except CheckpointError as refused:
        one_line(refused)
        return
    assert all(0 <= tensor.begin <= tensor.end <= len(content) for tensor in found.values())


def archive(program: bytes, **parts: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr("a/data.pkl", program)
        for name, part in parts.items():
            file.writestr(f"a/data/{name}", part)
    return held.getvalue()


@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(archive)))
def test_any_bytes_are_no_file_of_tensors(content: bytes) -> None:
    refused_or_arrays(content)


@given(said=json_values, cut=st.integers(0, 200), change=st.binary(max_size=4))
def test_any_pickle_is_read_or_refused(said: Any, cut: int, change: bytes) -> None:
    program = pickle.dumps(said, protocol=2)
    cut %= len(program)
    refused_or_arrays(archive(program[:cut] + change + program[cut + len(change) :]))


def refused_or_arrays(content: bytes) -> None:
    try:
        found = read_torch_file(content, "voice.pt")
    except CheckpointError as refused:
        one_line(refused)
        return
    assert all(isinstance(name, str) for name in found)


@given(content=st.one_of(st.binary(max_size=80), json_values.map(lambda said: json.dumps(said).encode())))
def test_any_json_is_a_group_of_fields_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "any.json"
    path.write_bytes(content)
    try:
        found = read_json(path)
    except CheckpointError as refused:
        one_line(refused)
        return
    assert isinstance(found, dict)


@given(
    config=st.one_of(*map(changed, (TINY, TINY_HIBIKI, TINY_STT))),
    layers=st.integers(0, 3),
    width=st.sampled_from([1, 64, 999]),
    books=st.sampled_from([1, 999]),
)
def test_any_config_that_passes_asks_for_no_more_than_the_file_has(
    config: dict[str, Any], layers: int, width: int, books: int
) -> None:
    names = [f"{stack}.layers.{index}.x" for stack in ("transformer", "depformer") for index in range(layers)]
    tensors = {name: TensorInfo("F32", (width, width)) for name in names}
    tensors |= {f"emb.{book}.weight": TensorInfo("F32", (width, width)) for book in range(books)}
    try:
        read = LmConfig.from_dict(config)
        check_sizes(read, tensors, Path("file"))
    except ConfigError as refused:
        one_line(refused)
        return
    assert read.transformer.num_layers <= layers
    assert read.n_q <= len(tensors)
    assert read.transformer.dim <= width


@given(said=changed({"temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25, "use_sampling": True}))
def test_any_way_to_sample_is_read_or_refused(said: dict[str, Any]) -> None:
    try:
        read_sampling(said)
    except MoshiError as refused:
        one_line(refused)


@given(said=changed({"stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0}}))
def test_any_times_of_a_transcription_are_read_or_refused(said: dict[str, Any]) -> None:
    try:
        read = SttTiming.from_settings(said)
    except MoshiError as refused:
        one_line(refused)
        return
    assert 0 <= read.delay < 60


@given(
    layout=st.dictionaries(st.text("ab.", min_size=1, max_size=4), st.tuples(st.integers(0, 3), st.integers(0, 3)))
)
def test_what_is_written_is_within_the_format(folder: Path, layout: dict[str, tuple[int, int]]) -> None:
    header = header_bytes({name: TensorInfo("F32", shape) for name, shape in layout.items()}, {"a": "b"})
    assert len(header) % 8 == 0
    assert json.loads(header[8:])["__metadata__"] == {"a": "b"}
