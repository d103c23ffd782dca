"""The loaded parts of a model, from which conversations are made.

Not here: what a conversation is (see `session`), where files come from (see `checkpoint`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from moshi_mlx.checkpoint.adapter import find_adapter, with_adapter
from moshi_mlx.checkpoint.checkpoint import Checkpoint
from moshi_mlx.checkpoint.names import DEFAULT_MODEL
from moshi_mlx.codec.base import or_raise
from moshi_mlx.errors import ConfigError
from moshi_mlx.frames import silence
from moshi_mlx.models.conditioner_config import Condition
from moshi_mlx.models.layers import lay_for_products, parameter_bytes
from moshi_mlx.models.lm import widen_on_cpu
from moshi_mlx.models.split import SplitTransformer
from moshi_mlx.runtime.batch import Batch
from moshi_mlx.runtime.places import widths
from moshi_mlx.runtime.prompt import Prompt
from moshi_mlx.runtime.session import Session, Tokenizer
from moshi_mlx.runtime.step import FrameStep
from moshi_mlx.sampling_config import SamplingConfig
from moshi_mlx.weights.adapted import Beside
from moshi_mlx.weights.progress import progress_bar

if TYPE_CHECKING:
    from moshi_mlx.codec.base import Codec
    from moshi_mlx.distributed.leader import Leader
    from moshi_mlx.models.lm import Lm

WARM_UP_FRAMES = 3  # the first hears nothing, the second speaks first, the third is like all others


def load(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    codec: str = "auto",
    quantization: str | None = None,
    kv_bits: int | None = None,
    conditions: Mapping[str, Condition] | None = None,
    guidance: float = 1.0,
    adapter: str | os.PathLike[str] | None = None,
    offline: bool = False,
) -> Moshi:
    """Find a checkpoint, load its weights, and give a Moshi that is ready to talk.

    model: an alias ("moshiko-q4", "nano"), a hub repo id (optionally "@revision"), or a folder.
    codec: "auto", "rust" or "mlx". quantization: only to be checked against the file, never needed.
    kv_bits, conditions, guidance: see `Moshi`. adapter: a LoRA adapter of that model, as `finetune` makes them: a
    folder, a file or a hub repo id. A bar is drawn on stderr if that is a terminal.
    What may be wrong with the weights is a warning (`UserWarning`).
    Raises CheckpointError, ConfigError, QuantizationError or CodecError.
    """
    checkpoint = Checkpoint.resolve(model, quantization=quantization, offline=offline)
    if adapter:
        checkpoint = with_adapter(checkpoint, os.fspath(adapter), offline=offline)
    for note in checkpoint.choices:
        warnings.warn(note, stacklevel=2)
    with progress_bar(f"loading {checkpoint.lm_weights.name}", checkpoint.weights.nbytes) as advance:
        return assemble(checkpoint, codec, kv_bits, advance, conditions, guidance, warnings.warn)


def assemble(
    checkpoint: Checkpoint,
    codec: str = "auto",
    kv_bits: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    conditions: Mapping[str, Condition] | None = None,
    guidance: float = 1.0,
    tell: Callable[[str], None] = lambda note: None,
    leader: Leader | None = None,
) -> Moshi:
    """Load all weights of a checkpoint that was found. Arguments as in `load` and `LmWeights.load`.

    advance: also told, of no bytes, when the codec is loaded and when all else is done.
    leader: of the processes that share the model; None where this one has it all.
    """
    chosen = checkpoint.lm_config.conditions(conditions)
    checkpoint.lm_config.check_guidance(guidance)
    loaded = checkpoint.load_codec(codec)  # first: it is quick to load, and to complain
    advance(0)
    if leader:
        lm = leader.load_lm(checkpoint, advance, tell)
    else:
        lm = checkpoint.load_lm(advance=advance, tell=tell)
        widen_on_cpu(lm)
    lay_for_products(lm)
    advance(0)
    tokenizer, sampling = checkpoint.load_tokenizer(), checkpoint.sampling
    return Moshi(lm, loaded, tokenizer, sampling, kv_bits, chosen, guidance, checkpoint.translates, checkpoint)


class Moshi:
    """The loaded parts. Weights only: every conversation has its own state, so many can share one Moshi.

    sampling: what sessions use unless told otherwise.
    kv_bits: 8 keeps the temporal transformer's window in int8: half the bytes, some more kernels, which pays on
        chips of little bandwidth once the window is long. None keeps it in the activations' type.
    conditions: conditioner name -> value of sessions that choose none; the best unless given (Hibiki's is
        "very_good"), None for the learned padding.
    guidance: classifier-free, of models with conditions: 1 is none; above, sessions keep away from the worst
        condition, at the price of a second row of state each. Kyutai names 3 as typical for Hibiki.
    translates: whether it is made for `tasks.translate`. checkpoint: what it was loaded from, for `use_adapter`.
    """

    def __init__(
        self,
        lm: Lm,
        codec: Codec,
        tokenizer: Tokenizer,
        sampling: SamplingConfig | None = None,
        kv_bits: int | None = None,
        conditions: Mapping[str, Condition] | None = None,
        guidance: float = 1.0,
        translates: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        if kv_bits not in (None, 8):
            raise ConfigError(f"kv_bits is {kv_bits}: 8 (int8) or None (as the activations) expected")
        if codec.codebooks != lm.config.codebooks:
            raise ConfigError(f"the codec has {codec.codebooks} codebooks, the model needs {lm.config.codebooks}")
        lm.config.check_guidance(guidance)
        self.conditions: Mapping[str, Condition] = lm.config.conditions(conditions)
        self.guidance = guidance
        self.translates = translates
        lm.fuse()
        self.lm = lm
        self.codec = codec
        self.tokenizer = tokenizer
        self.sampling = sampling or SamplingConfig()
        self.kv_bits = kv_bits
        self._step: FrameStep | None = None
        self._checkpoint = checkpoint
        self._beside: Beside | None = None

    def __repr__(self) -> str:
        gigabytes, window = (
            parameter_bytes(self.lm) / 1e9,
            f", window in int{self.kv_bits}" if self.kv_bits else "",
        )
        return (
            f"<Moshi of {gigabytes:.3g} GB, {self.codec.name} codec of {self.codec.codebooks} codebooks{window}>"
        )

    @property
    def step(self) -> FrameStep:
        """What takes a batch one frame further; every batch of this Moshi shares what it compiles."""
        self._step = self._step or FrameStep(self.lm)
        return self._step

    def use_adapter(self, name: str | os.PathLike[str] | None, *, offline: bool = False) -> None:
        """Put a LoRA adapter on the model in place of the one it has; None takes it away.

        name: a folder, a file or a hub repository. It stands beside the weights, which stay as they are, bit for
        bit: nothing is loaded again but the adapter. Conversations go on with it from their next frame on.
        Only on the thread that owns MLX, between frames; compiled code is made anew. An adapter that is refused
        changes nothing.
        Raises CheckpointError or ConfigError for one that does not fit, and for a dense model that was loaded with
        an adapter, which is merged into it.
        """
        base = self._checkpoint
        if base is None:
            raise ConfigError(
                "this Moshi was not loaded from a checkpoint, so no adapter can be checked against it"
            )
        if base.adapter:
            raise ConfigError(
                f"this Moshi was loaded with {base.adapter.path}, which is part of it now; load the model without "
                "an adapter, and choose one with use_adapter"
            )
        if isinstance(self.lm.transformer, SplitTransformer):
            raise ConfigError("a model that several processes share takes no adapter; start one process")
        found = find_adapter(os.fspath(name), base, offline=offline) if name is not None else None
        beside = Beside(self.lm, found) if found else None
        self.lm.unfuse()
        if self._beside:
            self._beside.remove(self.lm)
        if beside:
            beside.put(self.lm)
        self._beside, self._step = beside, None
        self.lm.fuse()

    def warm_up(self, size: int = 1, sampling: SamplingConfig | None = None) -> None:
        """Compile everything a conversation with these settings needs, so that its first frame costs as any other.

        size: of the batch. Compiled code belongs to the calling thread: warm up where the steps will be taken.
        """
        batch = self.batch(size)
        with batch.join(0, sampling) as session:
            for width in widths(size):
                batch.make_room(width)
                for _ in range(WARM_UP_FRAMES):
                    session.step(silence())
        if size > 1 and not self.codec.threaded:
            self._warm_up_streams(size)

    def _warm_up_streams(self, size: int) -> None:
        """Let a codec in this process trace what it needs for any number of people up to `size`."""
        streams = self.codec.streams()
        people = [streams.stream() for _ in range(size)]
        for count in range(1, size + 1):
            frames = {stream: silence() for stream in people[:count]}
            streams.decode({stream: or_raise(codes) for stream, codes in streams.encode(frames)().items()})()

    def session(
        self,
        seed: int | None = None,
        sampling: SamplingConfig | None = None,
        conditions: Mapping[str, Condition] | None = None,
        guidance: float | None = None,
        prompt: Prompt | None = None,
    ) -> Session:
        """One conversation on its own (a batch of one); arguments as in `batch` and `Batch.join`."""
        return self.batch(1, guidance).join(seed, sampling, conditions, prompt)

    def batch(self, size: int, guidance: float | None = None) -> Batch:
        """Room for up to `size` conversations that are stepped together. guidance: this Moshi's unless given."""
        return Batch(self, size, self.guidance if guidance is None else guidance)
