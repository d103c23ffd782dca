"""The loop: every frame through, in order; reset and errors and the end travel with the frames."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from moshi_mlx.errors import CodecError, SessionError
from moshi_mlx.runtime.engine import converse, converse_together
from moshi_mlx.runtime.moshi import Moshi
from moshi_mlx.runtime.reply import Generated, Reply
from moshi_mlx.runtime.session import Session
from moshi_mlx.runtime.stages import RESET, Control
from moshi_mlx.runtime.stats import Stats
from tests.runtime.test_session import same, talk


class Frames:
    """A source made of a list."""

    def __init__(self, items: list[np.ndarray | Control]) -> None:
        self.items = items
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        return iter(self.items)

    def close(self) -> None:
        self.closed.set()


class Microphone(Frames):
    """A source that goes on for ever, waiting for frames that never come, until it is closed."""

    def __iter__(self) -> Iterator[np.ndarray | Control]:
        yield from self.items
        self.closed.wait()


class Replies(list[Reply]):
    """A sink that keeps everything and may fail at a given reply."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        super().__init__()
        self.fail_at, self.error = fail_at, error

    def write(self, reply: Reply) -> None:
        if len(self) == self.fail_at and self.error:
            raise self.error
        self.append(reply)


@pytest.fixture(scope="module", params=["mlx", "rust"])
def moshi(request: pytest.FixtureRequest) -> Moshi:
    """The tiny model with each codec: stages in turn, and stages on threads."""
    return request.getfixturevalue("tiny_moshi" if request.param == "mlx" else "rust_moshi")


LAST_BITS = 1e-5  # of the audio's peak: what rustymimi's reset leaves behind in a process that is used again


def run(moshi: Moshi, source: Frames, sink: Replies) -> Stats:
    """One conversation that is closed at its end, so that a codec's processes are free for the next."""
    with moshi.session(seed=1) as session:
        return converse(session, source, sink)


def test_the_loop_gives_what_stepping_gives(moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames = list(noise_frames[:12])
    with moshi.session(seed=1) as session:
        stepped = talk(session, noise_frames[:12])
    source, sink = Frames(frames), Replies()
    stats = run(moshi, source, sink)
    assert same(stepped, sink, LAST_BITS)
    assert source.closed.is_set()
    assert stats.frames == stats.encode.count == stats.decode.count == 12
    assert set(stats.queue_depths) == ({"encode", "decode"} if moshi.codec.threaded else set())


def test_a_reset_between_frames_begins_a_new_conversation(moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames = list(noise_frames[:8])
    sink = Replies()
    run(moshi, Frames([*frames, RESET, *frames]), sink)
    assert len(sink) == 16
    assert same(sink[:8], sink[8:], LAST_BITS)


def test_a_source_may_be_anything_that_gives_frames(moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames = list(noise_frames[:6])
    usual = Replies()
    run(moshi, Frames(frames), usual)
    for source in (frames, iter(frames), (frame for frame in frames)):
        sink = Replies()
        with moshi.session(seed=1) as session:
            converse(session, source, sink)
        assert same(usual, sink, LAST_BITS)


def test_a_generator_that_is_at_work_does_not_hide_the_error(rust_moshi: Moshi, noise_frames: np.ndarray) -> None:
    at_work, done = threading.Event(), threading.Event()

    def source() -> Iterator[np.ndarray]:
        yield from noise_frames[:3]
        at_work.set()
        done.wait(60)

    class Full(Replies):
        def write(self, reply: Reply) -> None:
            at_work.wait(60)
            threading.Timer(0.3, done.set).start()
            raise OSError("disk full")

    with rust_moshi.session(seed=1) as session, pytest.raises(OSError, match="disk full"):
        converse(session, source(), Full())


def test_an_empty_source_is_an_empty_conversation(moshi: Moshi) -> None:
    stats = run(moshi, Frames([]), Replies())
    assert stats.frames == 0
    assert stats.summary()
    assert stats.as_dict()["frames"] == 0


def test_an_error_of_the_sink_ends_the_loop_even_with_an_open_microphone(
    moshi: Moshi, noise_frames: np.ndarray
) -> None:
    source = Microphone(list(noise_frames[:10]))
    with pytest.raises(OSError, match="disk full"):
        run(moshi, source, Replies(3, OSError("disk full")))
    assert source.closed.is_set()


def test_an_error_of_the_source_comes_out(moshi: Moshi, noise_frames: np.ndarray) -> None:
    class Broken(Frames):
        def __iter__(self) -> Iterator[np.ndarray | Control]:
            yield self.items[0]
            raise CodecError("unplugged")

    with pytest.raises(CodecError, match="unplugged"):
        run(moshi, Broken(list(noise_frames[:1])), Replies())


def test_a_wrong_frame_comes_out_as_the_sessions_error(moshi: Moshi, noise_frames: np.ndarray) -> None:
    with pytest.raises(SessionError, match="a frame is"):
        run(moshi, Frames([noise_frames[0], np.zeros(7, np.float32)]), Replies())


def test_no_thread_outlives_the_loop(moshi: Moshi, noise_frames: np.ndarray) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(moshi, Microphone(list(noise_frames[:9])), Replies(2, KeyboardInterrupt()))
    assert not [t.name for t in threading.enumerate() if t.name in ("moshi-encode", "moshi-decode")]


def test_the_loop_may_run_on_a_worker_thread(moshi: Moshi, noise_frames: np.ndarray) -> None:
    frames = list(noise_frames[:5])
    here, there = Replies(), Replies()
    run(moshi, Frames(frames), here)
    worker = threading.Thread(target=run, args=(moshi, Frames(frames), there))
    worker.start()
    worker.join()
    assert same(here, there, LAST_BITS)


def test_stages_overlap_when_the_codec_is_outside(rust_moshi: Moshi, noise_frames: np.ndarray) -> None:
    session = rust_moshi.session(seed=1)
    later_frame_begins, began_meanwhile = threading.Event(), []
    encode, generate = session.batch.encode, session.batch.generate
    encoded = iter(range(20))

    def signalling_encode(frames: Mapping[Session, np.ndarray]) -> Any:
        if next(encoded) == 6:
            later_frame_begins.set()
        return encode(frames)

    def waiting_generate(codes: Mapping[Session, np.ndarray]) -> dict[Session, Generated]:
        if session.delays.step == 3:
            began_meanwhile.append(later_frame_begins.wait(60))  # in turn with us it could not begin
        return generate(codes)

    session.batch.encode, session.batch.generate = signalling_encode, waiting_generate
    with session:
        converse(session, Frames(list(noise_frames[:20])), Replies())
    assert began_meanwhile == [True]


@pytest.mark.parametrize("ready", [False, True], ids=["live", "recorded"])
def test_a_recording_is_encoded_ahead_and_nothing_waits_for_a_frame_that_is_to_come(
    tiny_moshi: Moshi, noise_frames: np.ndarray, ready: bool
) -> None:
    session, done, replies = tiny_moshi.session(seed=1), [], Replies()
    rows: Any = session.batch
    encode, generate = rows.encode, rows.generate
    rows.encode = lambda frames: (done.append("encode"), encode(frames))[1]
    rows.generate = lambda codes: (done.append("generate"), generate(codes))[1]

    class Seeing(Frames):
        def __iter__(self) -> Iterator[np.ndarray]:
            for frame in noise_frames[:5]:
                done.append(len(replies))
                yield frame

    source = Seeing([])
    source.ready = ready  # pyright: ignore[reportAttributeAccessIssue]
    with session:
        converse(session, source, replies)
    live = [each for index in range(5) for each in (index, "encode", "generate")]
    ahead = [0, "encode", 0, "encode", "generate", 0, "encode", "generate", 1, "encode", "generate"]
    assert done == ([*ahead, 2, "encode", "generate", "generate"] if ready else live)
    with tiny_moshi.session(seed=1) as again:
        assert same(replies, talk(again, noise_frames[:5]))


def test_several_in_lockstep_each_get_what_they_get_alone(tiny_moshi: Moshi, noise_frames: np.ndarray) -> None:
    batch = tiny_moshi.batch(2)
    short, long = Frames(list(noise_frames[:8])), Frames([*noise_frames[:5], RESET, *noise_frames[5:20]])
    said = Replies(), Replies()
    parties = {batch.join(1): (short, said[0]), batch.join(2): (long, said[1])}
    stats = converse_together(parties)
    assert stats.frames == 20, "one step for both"
    assert short.closed.is_set()
    assert long.closed.is_set()
    with tiny_moshi.session(seed=1) as session:
        assert same(said[0], talk(session, noise_frames[:8]))
    with tiny_moshi.session(seed=2) as session:
        before = talk(session, noise_frames[:5])
        session.reset()
        assert same(said[1], before + talk(session, noise_frames[5:20]))
