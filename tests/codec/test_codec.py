"""The two codecs, at the published shape: they agree, they are chosen as said, they last, they fail aloud."""

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from moshi_mlx.codec import rust_process
from moshi_mlx.codec.base import Codec, CodecStream
from moshi_mlx.codec.load import auto_kind, load_codec
from moshi_mlx.codec.mlx import MlxCodec
from moshi_mlx.codec.rust import Handover, RustCodec, RustStream
from moshi_mlx.codec.rust_process import HANG_SECONDS
from moshi_mlx.errors import CheckpointError, CodecError, ConfigError
from moshi_mlx.frames import FRAME_SAMPLES, split_frames
from moshi_mlx.models.mimi_config import MIMI, MimiConfig, published_shapes
from moshi_mlx.web.serving.program import crowded
from tests.random_mimi import SMALL_MIMI, gliding_tone, mimi_tensor

pytestmark = pytest.mark.slow

SPEECH = Path("/usr/share/sounds/alsa/Front_Center.wav")  # a human voice, from Debian's alsa-utils
CODEBOOKS = 8


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mimi") / "small.safetensors"
    shapes = published_shapes(MimiConfig.from_dict(SMALL_MIMI))
    save_file({name: mimi_tensor(name, shape) for name, shape in shapes.items()}, path)
    return path


@pytest.fixture(scope="module")
def rustymimi() -> Any:
    return pytest.importorskip("rustymimi", reason="rustymimi is not installed (it has no wheel for Python 3.14)")


@pytest.fixture(scope="module")
def rust(rustymimi, full_mimi_file: Path) -> Codec:
    return load_codec(full_mimi_file, MIMI, CODEBOOKS, "rust")


@pytest.fixture(scope="module")
def mlx(full_mimi_file: Path) -> Codec:
    return load_codec(full_mimi_file, MIMI, CODEBOOKS, "mlx")


@pytest.fixture
def stream(rust: Codec) -> Iterator[CodecStream]:
    stream = rust.stream()
    yield stream
    stream.close()


def frames_of(count: int) -> list[np.ndarray]:
    return list(split_frames(gliding_tone(count)))


def assert_same_audio(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    assert np.shape(ours) == (len(theirs), FRAME_SAMPLES)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_mlx_equals_rustymimi(rustymimi, full_mimi_file: Path, mlx: Codec) -> None:
    """Two seconds; what a full window does is held against PyTorch (tests/models/test_mimi.py)."""
    oracle, stream = rustymimi.Tokenizer(str(full_mimi_file), num_codebooks=CODEBOOKS), mlx.stream()
    frames = frames_of(25)
    expected = [oracle.encode_step(frame[None, None])[0, :, 0] for frame in frames]
    codes = [stream.encode(frame) for frame in frames]
    np.testing.assert_array_equal(codes, expected)
    assert min(len(np.unique(row)) for row in np.transpose(expected)) > 5
    some = expected[::5]
    audio = [oracle.decode_step(code[None, :, None].copy())[0, 0] for code in some]
    assert_same_audio([stream.decode(code) for code in some], audio)


def test_rustymimi_sees_one_position_more_than_mimi(rustymimi, full_mimi_file: Path) -> None:
    """Past 125 frames, where a window of 250 is full: with 251 ours gives rustymimi's codes, with 250 it does not.

    That 250 is right is held against PyTorch in tests/models/test_mimi.py.
    """
    frames = frames_of(131)
    oracle = rustymimi.Tokenizer(str(full_mimi_file), num_codebooks=CODEBOOKS)
    theirs = np.array([oracle.encode_step(frame[None, None])[0, :, 0] for frame in frames])
    wider = replace(MIMI, transformer=replace(MIMI.transformer, context=251))
    ours = MlxCodec(full_mimi_file, wider, CODEBOOKS)._mimi.encode(mx.array(np.concatenate(frames))[None])
    np.testing.assert_array_equal(np.array(ours)[0].T, theirs)


def test_both_codecs_agree_on_a_human_voice(mlx: Codec, stream: CodecStream) -> None:
    if not SPEECH.exists():
        pytest.skip(f"{SPEECH} is not here (apt-get install alsa-utils)")
    from moshi_mlx.audio.files import read_audio

    frames = list(split_frames(read_audio(SPEECH).pcm))
    ours = mlx.stream()
    codes = [stream.encode(frame) for frame in frames]
    np.testing.assert_array_equal([ours.encode(frame) for frame in frames], codes)
    assert_same_audio([ours.decode(code) for code in codes], [stream.decode(code) for code in codes])


@pytest.mark.parametrize("name", ["rust", "mlx"])
def test_a_reset_stream_equals_a_fresh_one(name: str, request: pytest.FixtureRequest) -> None:
    codec = request.getfixturevalue(name)
    stream, frames = codec.stream(), frames_of(5)
    codes = [stream.encode(frame) for frame in frames]
    audio = [stream.decode(code) for code in codes]
    stream.reset_encoder()
    stream.reset_decoder()
    np.testing.assert_array_equal([stream.encode(frame) for frame in frames], codes)
    assert_same_audio([stream.decode(code) for code in codes], audio)
    stream.reset_encoder()
    np.testing.assert_array_equal(stream.encode(frames[0]), codes[0])
    assert np.abs(stream.decode(codes[0]) - audio[0]).max() > 0.01  # the decoder went on
    stream.close()


def test_what_a_frame_costs_is_measured_and_too_many_streams_are_told_of(rust: Codec, stream: CodecStream) -> None:
    frames = frames_of(2)
    codes = [stream.encode(frame) for frame in frames]
    assert isinstance(rust, RustCodec)
    assert 0.001 < rust.frame_cost() < 1.0
    with contextlib.closing(rust.stream()) as another:  # of the processes that were measured
        np.testing.assert_array_equal([another.encode(frame) for frame in frames], codes)
    assert crowded(rust, 1) == ""
    told = crowded(rust, 10_000)
    assert re.match(r"--max-sessions 10000 is more than rustymimi can do in time here, \d+: .* --codec mlx ", told)


def test_a_rust_stream_outlives_its_processes(rustymimi, full_mimi_file: Path, mlx: Codec) -> None:
    """Both directions at once, beyond the frame at which one process has no room left (15)."""
    frames = frames_of(17)
    rules = Handover(start=6, history=3, limit=9)
    stream = RustCodec(full_mimi_file, CODEBOOKS, rules).stream()
    codes, audio, took_over = [], [], []

    def encode() -> None:
        for frame in frames:
            codes.append(stream.encode(frame))
            if stream.encoder.handovers > len(took_over):
                took_over.append((len(codes) - 1, stream.encoder.frames_held - 1))

    def decode() -> None:
        for index in range(len(frames)):
            audio.append(stream.decode(np.arange(CODEBOOKS) * 100 + index))

    threads = [threading.Thread(target=target) for target in (encode, decode)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.close()
    assert len(took_over) >= 2
    assert stream.decoder.handovers >= 2
    assert np.shape(audio) == (17, FRAME_SAMPLES)
    assert (np.sqrt(np.square(audio).mean(axis=1)) > 0.1).all()

    def fresh(start: int, end: int) -> list[np.ndarray]:
        oracle = mlx.stream()
        return [oracle.encode(frame) for frame in frames[start:end]]

    # Between handovers the codes are exactly those of a stream that began where the process did.
    first, held = took_over[0]
    np.testing.assert_array_equal(codes[:first], fresh(0, first))
    np.testing.assert_array_equal(codes[first : took_over[1][0]], fresh(first - held, took_over[1][0])[held:])


def test_a_dead_process_is_an_error_that_nothing_is_waited_for(rust: Codec) -> None:
    stream = rust.stream()
    assert isinstance(stream, RustStream)
    codes = stream.encode(frames_of(1)[0])
    assert stream.decoder._worker
    stream.decoder._worker.kill()
    with pytest.raises(CodecError, match=r"should decode died \(exit status -9\)"):
        stream.decode(codes)
    stream.close()


def test_a_process_that_hangs_without_dying_is_an_error_within_two_seconds(
    rust: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here within half a second, of which being stopped ourselves would be no more than one look."""
    assert HANG_SECONDS == 2
    stream = rust.stream()
    assert isinstance(stream, RustStream)
    frame = frames_of(1)[0]
    stream.encode(frame)
    worker = stream.encoder._worker
    assert worker
    worker._process.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as hasty:
        hasty.setattr(rust_process, "HANG_SECONDS", 0.5)
        with pytest.raises(CodecError, match=r"should encode has not answered for 0\.5 s; start again"):
            stream.encode(frame)
    assert worker._process.wait(60) == -signal.SIGKILL
    stream.close()
    with contextlib.closing(rust.stream()) as next_one:
        next_one.encode(frame)


def test_an_interrupted_step_does_not_shift_the_answers(rust: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = rust.stream()
    assert isinstance(stream, RustStream)
    worker = stream.encoder._worker
    assert worker
    with monkeypatch.context() as waiting:
        waiting.setattr(worker, "_await", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            stream.encode(frames_of(1)[0])
    with pytest.raises(CodecError, match="interrupted while it should encode a frame"):
        stream.encode(frames_of(1)[0])
    stream.close()


def test_a_code_that_no_codebook_has_is_refused(mlx: Codec, stream: CodecStream) -> None:
    for codec_stream in (mlx.stream(), stream):
        with pytest.raises(CodecError, match="code 2048 of codebook 2 is outside 0–2047"):
            codec_stream.decode(np.array([0, 1, 2048, 3, 4, 5, 6, 7]))


def test_auto_takes_mlx_for_another_shape(small_file: Path) -> None:
    config = MimiConfig.from_dict(SMALL_MIMI)
    codec = load_codec(small_file, config, 6, "auto")
    assert (codec.name, codec.threaded, codec.codebooks) == ("mlx", False, 6)
    assert auto_kind(config, gpu=True) == "mlx"
    with pytest.raises(CodecError, match="rustymimi knows only the shape of Kyutai's published Mimi"):
        load_codec(small_file, config, 6, "rust")


def test_auto_takes_rust_for_the_published_shape_beside_a_gpu(rust: Codec, full_mimi_file: Path) -> None:
    assert (rust.name, rust.threaded, rust.codebooks) == ("rust", True, CODEBOOKS)
    assert (auto_kind(MIMI, gpu=True), auto_kind(MIMI, gpu=False)) == ("rust", "mlx")
    here = auto_kind(MIMI, gpu=mx.default_device() == mx.gpu)
    assert load_codec(full_mimi_file, MIMI, CODEBOOKS, "auto").name == here


def test_auto_takes_mlx_without_rustymimi(full_mimi_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rustymimi", None)
    assert auto_kind(MIMI, gpu=True) == "mlx"
    with pytest.raises(CodecError, match="rustymimi is not installed here"):
        load_codec(full_mimi_file, MIMI, CODEBOOKS, "rust")


def test_a_file_that_does_not_fit_is_named(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"small\.safetensors: the Mimi weights lack encoder\.model"):
        load_codec(small_file, MimiConfig.from_dict({**SMALL_MIMI, "seanet": deeper()}), 6)
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors"):
        load_codec(tmp_path / "nothing.safetensors", MIMI, 8)
    with pytest.raises(ConfigError, match="needs 8 codebooks"):
        load_codec(small_file, MimiConfig.from_dict(SMALL_MIMI), 8)
    with pytest.raises(CodecError, match="codec 'opus': one of auto, rust, mlx expected"):
        load_codec(small_file, MIMI, 8, "opus")


def deeper() -> dict[str, Any]:
    return {**SMALL_MIMI["seanet"], "n_residual_layers": 2}


def test_what_rustymimi_says_of_a_file_is_passed_on_in_one_line(rustymimi, small_file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"rustymimi cannot load .*shape mismatch") as error:
        RustCodec(small_file, 6)
    assert "\n" not in str(error.value)
