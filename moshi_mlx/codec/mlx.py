"""Our own Mimi, in MLX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from moshi_mlx.codec.base import Answers, CodecStream, Finish, check_codes, or_raise
from moshi_mlx.errors import CheckpointError, CodecError
from moshi_mlx.frames import FRAME_SAMPLES
from moshi_mlx.models.layers import keep_transposes, lay_for_products
from moshi_mlx.models.mimi import HalfState, Mimi
from moshi_mlx.models.mimi_config import MimiConfig

# On a CPU each direction has a queue of work of its own beside the language model's: several cores can be busy.
_ENCODER = mx.new_thread_local_stream(mx.cpu)
_DECODER = mx.new_thread_local_stream(mx.cpu)


def _beside(queue: mx.ThreadLocalStream) -> AbstractContextManager[object]:
    """Put what is built within into a queue of its own, if MLX computes on the CPU; a GPU has one of all."""
    return mx.stream(queue) if mx.default_device() == mx.cpu else nullcontext()


class MlxCodec:
    """Our own Mimi; to be used on the thread that owns MLX."""

    name = "mlx"
    threaded = False

    def __init__(self, weights: Path, config: MimiConfig, codebooks: int) -> None:
        self.codebooks = codebooks
        self._bins = config.bins
        self._mimi = Mimi(config, codebooks)
        try:
            published = mx.load(str(weights), format="safetensors")
            assert isinstance(published, dict)
            self._mimi.load_weights(list(Mimi.sanitize(published, config, codebooks).items()))
        except (RuntimeError, CheckpointError) as error:
            raise CheckpointError(f"cannot load {weights}: {str(error).splitlines()[0]}") from error
        mx.eval(self._mimi.parameters())
        lay_for_products(self._mimi)
        keep_transposes(self._mimi)

    def stream(self) -> MlxStream:
        """Return a fresh stream for one conversation, which takes its frames by itself."""
        return self.streams().stream()

    def streams(self) -> MlxStreams:
        """Return what makes streams that take their frames together, and takes them."""
        return MlxStreams(self._mimi, self._bins)


class MlxStream:
    """One conversation with our own Mimi: in each direction a row of a state that it shares with others."""

    def __init__(self, streams: MlxStreams) -> None:
        self.encoder = self.decoder = None  # until a frame was taken
        self._streams = streams

    encoder: _Rows | None
    decoder: _Rows | None

    def encode(self, frame: np.ndarray) -> np.ndarray:
        return or_raise(self._streams.encode({self: frame})()[self])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return or_raise(self._streams.decode({self: codes})()[self])

    def reset_encoder(self) -> None:
        self.encoder = None

    def reset_decoder(self) -> None:
        self.decoder = None

    def close(self) -> None:
        self.encoder = self.decoder = None


class MlxStreams:
    """Streams that are rows of one state, as long as they take their frames together.

    The state holds the rows of those who took the latest frame, no others: it grows, shrinks and is put together
    anew when somebody comes, goes, pauses, or begins anew. Pasts are copied then, so the others do not notice.
    """

    def __init__(self, mimi: Mimi, bins: int) -> None:
        self._mimi = mimi
        self._bins = bins

    def stream(self) -> MlxStream:
        return MlxStream(self)

    def encode(self, frames: Mapping[CodecStream, np.ndarray]) -> Finish:
        if not frames:
            return dict
        with _beside(_ENCODER):
            rows = self._together(frames, "encoder", self._mimi.new_encoder_state)
            pcm = np.stack([frames[stream] for stream in rows.members])
            assert pcm.shape[1:] == (FRAME_SAMPLES,), pcm.shape
            codes = self._mimi.encode_half(mx.array(pcm, mx.float32), rows.state)
            mx.async_eval(codes, rows.state.arrays())
        return lambda: dict(zip(rows.members, np.array(codes)[:, :, 0], strict=True))

    def decode(self, codes: Mapping[CodecStream, np.ndarray]) -> Finish:
        refused: Answers = {}
        for stream, each in codes.items():
            try:
                check_codes(each, self._bins)
            except CodecError as error:
                refused[stream] = error
        good = [stream for stream in codes if stream not in refused]
        if not good:
            return lambda: refused
        with _beside(_DECODER):
            rows = self._together(good, "decoder", self._mimi.new_decoder_state)
            given = np.stack([codes[stream] for stream in rows.members])
            pcm = self._mimi.decode_half(mx.array(given, mx.int32)[:, :, None], rows.state)
            mx.async_eval(pcm, rows.state.arrays())
        return lambda: {**dict(zip(rows.members, np.array(pcm), strict=True)), **refused}

    def _together(self, streams: Iterable[CodecStream], half: str, new_state: Callable[[int], HalfState]) -> _Rows:
        """Return the state whose rows are these streams and no others; half: "encoder" or "decoder"."""
        wanted: dict[_Rows, list[int]] = {}
        fresh: list[MlxStream] = []
        for stream in streams:
            assert isinstance(stream, MlxStream)
            rows: _Rows | None = getattr(stream, half)
            if rows is None:
                fresh.append(stream)
            else:
                wanted.setdefault(rows, []).append(rows.members.index(stream))
        if len(wanted) == 1 and not fresh:
            (rows,) = wanted
            if len(rows.members) == len(wanted[rows]):
                return rows
        parts: list[tuple[HalfState, Sequence[int]]] = [
            (rows.state, sorted(places)) for rows, places in wanted.items()
        ]
        members = [rows.members[place] for rows, places in wanted.items() for place in sorted(places)]
        if fresh:
            parts.append((new_state(len(fresh)), range(len(fresh))))
        state = HalfState.joined(parts) if wanted else parts[0][0]
        made = _Rows([*members, *fresh], state)
        for stream in made.members:
            setattr(stream, half, made)
        return made


@dataclass(eq=False)
class _Rows:
    """A state, and the streams that are its rows. A stream that has left it since may still be among them."""

    members: list[MlxStream]
    state: HalfState
