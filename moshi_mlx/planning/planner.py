"""Plans: which model fits a machine and keeps real time, worked out before anything is downloaded or loaded.

A frame reads all weights and the window of past positions once, so memory bandwidth bounds its time. All times
here are estimates; `moshi-mlx bench` measures. GB are 10^9 bytes, as bandwidths are given; a machine's memory is
counted in GiB, 2^30 bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moshi_mlx.models.config import LmConfig, TransformerConfig

KV_BITS = {16: 16.0, 8: 8.5}  # the window in bfloat16, or in int8 with its scales and biases

REACHED = 0.85  # share of a chip's bandwidth that matrix-vector products reach
OVERHEAD_MS = 5.0  # 1000 kernel launches of 3 us, one wait for the GPU and 2 ms on the host
KV8_OVERHEAD_MS = 0.8  # 256 more launches: MLX has no fused attention over int8
GOOD_MS, THIN_MS = 68.0, 80.0  # 85 % of a frame's 80 ms, and all of it

CODEC_BYTES = 0.4e9  # Mimi in float32, with its state
MARGIN_BYTES = 1e9  # activations, the buffer cache, Python
MEMORY_SHARE = 0.7  # what a machine can give to one program and stay pleasant

# Of all processors but half a one, which the program needs: rustymimi's processes have successors now and then.
STREAMS_SHARE = 0.75

# A CPU does about 1.1e9 multiply-adds a second on two cores: 6.5 s were measured for a frame of Moshi 7B.
CPU_LIMIT = 1e9  # weights per frame above which no CPU keeps up


@dataclass(frozen=True)
class ModelSize:
    """A language model in numbers, not bytes."""

    per_frame: int  # weights read each frame; of the embedding tables only some rows are, which is nothing
    stored: int  # all weights
    per_position: int  # keys and values of one past position, all layers
    window: int  # past positions attended to
    int8_window: bool = True  # its heads are wide enough for keys and values in int8

    def frame_bytes(self, bits: float, context: int, kv_bits: int = 16) -> float:
        """Return the bytes read in one frame with `context` past positions. bits: per weight."""
        return self.per_frame * bits / 8 + self.window_bytes(context, kv_bits)

    def resident_bytes(self, bits: float, context: int, kv_bits: int = 16) -> float:
        """Return the bytes that the model holds with a window of `context` positions."""
        return self.stored * bits / 8 + self.window_bytes(context, kv_bits)

    def window_bytes(self, context: int, kv_bits: int = 16) -> float:
        """Return the bytes of keys and values of `context` positions. kv_bits: one of KV_BITS."""
        return self.per_position * context * KV_BITS[kv_bits] / 8


def size_of(config: LmConfig) -> ModelSize:
    """Count a model from its shapes. Norms and conditioners are left out: below a thousandth."""
    temporal, depth = config.transformer, config.depth
    head = config.text_classes * temporal.dim
    tables = (config.text_card + 1 + config.n_q * (config.card + 1)) * temporal.dim
    per_frame = _layers(temporal) + head
    stored = per_frame + tables
    if depth:
        dim, kinds = depth.transformer.dim, len(set(depth.schedule))
        block = _layers(depth.transformer) + dim * temporal.dim
        heads = depth.steps * config.card * dim
        width = depth.low_rank_embeddings or dim
        rows = config.text_card + 1 + (depth.steps - 1) * (config.card + 1)
        per_frame += depth.steps * block + heads
        stored += kinds * block + heads + rows * width
    kv = 2 * temporal.num_layers * temporal.num_kv_heads * temporal.head_dim
    return ModelSize(per_frame, stored, kv, temporal.context, temporal.head_dim % 32 == 0)


def held_bytes(weights: int, size: ModelSize, kv_bits: int = 16, conversations: int = 1) -> float:
    """Return the bytes that a loaded model adds to a program: weights (bytes), windows, codec and its states."""
    return weights + CODEC_BYTES + conversations * size.window_bytes(size.window, kv_bits)


def _layers(config: TransformerConfig) -> int:
    attention = config.dim * (2 * config.dim + 2 * config.num_kv_heads * config.head_dim)
    if config.cross_attention:  # keys and values are made once a voice, but are stored
        attention += 4 * config.dim**2
    return config.num_layers * (attention + (3 if config.gated else 2) * config.dim * config.ffn_hidden)


@dataclass(frozen=True)
class Budget:
    """What a machine gives: memory in bytes, and how fast it reads it in GB/s (None: unknown)."""

    memory: int
    bandwidth: float | None
    cpu: bool = False  # no GPU: arithmetic bounds the time, not bandwidth

    def fits(self, need: float) -> bool:
        """Return whether a program that needs so many bytes leaves enough to others."""
        return need <= MEMORY_SHARE * self.memory


@dataclass(frozen=True)
class Entry:
    """One model with one window on one machine."""

    model: str
    context: int
    kv_bits: int
    frame_GB: float  # read per frame
    memory_GB: float  # needed, codec and margin included
    fits: bool
    ms: float | None  # estimated per frame; None if nothing is known to estimate it from
    verdict: str  # of the time: "good", "thin" (nothing may go wrong), "no", "unknown"

    @property
    def possible(self) -> bool:
        """Whether it fits and nothing is known against it."""
        return self.fits and self.verdict != "no"


@dataclass(frozen=True)
class Plan:
    """Every model at every context, and the one to take, if any."""

    entries: tuple[Entry, ...]
    recommended: Entry | None


def plan(models: Mapping[str, tuple[ModelSize, float]], budget: Budget, context: int | None = None) -> Plan:
    """Judge what of `models` runs on a machine.

    models: name -> size and bits per weight, the one to prefer first. context: the longest window wanted, the
    model's own unless given.
    """
    entries = []
    for name, (size, bits) in models.items():
        window = min(context or size.window, size.window)
        lengths = [(0, 16), (window // 2, 16), (window, 16), *([(window, 8)] if size.int8_window else [])]
        entries += [entry(name, size, bits, length, budget, kv) for length, kv in dict.fromkeys(lengths)]
    return Plan(tuple(entries), recommend(entries))


def entry(name: str, size: ModelSize, bits: float, context: int, budget: Budget, kv_bits: int = 16) -> Entry:
    """Judge one model with one window of `context` positions. bits: per weight."""
    read = size.frame_bytes(bits, context, kv_bits)
    need = size.resident_bytes(bits, context, kv_bits) + CODEC_BYTES + MARGIN_BYTES
    ms = None
    if budget.bandwidth and not budget.cpu:
        ms = frame_ms(read, budget.bandwidth) + (KV8_OVERHEAD_MS if kv_bits == 8 else 0.0)
    judged = "no" if budget.cpu and size.per_frame > CPU_LIMIT else verdict(ms)
    return Entry(name, context, kv_bits, read / 1e9, need / 1e9, budget.fits(need), ms, judged)


def frame_ms(read: float, bandwidth: float) -> float:
    """Estimate the time of a frame that reads `read` bytes. bandwidth: GB/s."""
    return read / (REACHED * bandwidth * 1e9) * 1e3 + OVERHEAD_MS


def codec_streams(cost: float, cores: int) -> int:
    """Return how many streams of a codec that takes each by itself keep time.

    cost: of a frame of one, both directions, in seconds of processors. cores: of the machine.
    """
    return int(STREAMS_SHARE * (cores - 0.5) * THIN_MS / 1e3 / cost)


def verdict(ms: float | None) -> str:
    """Say whether a frame that takes so long keeps real time: "good", "thin", "no" or "unknown"."""
    if ms is None:
        return "unknown"
    return "good" if ms < GOOD_MS else "thin" if ms < THIN_MS else "no"


def recommend(entries: Sequence[Entry]) -> Entry | None:
    """Choose the model to take: the first with time to spare over its whole window, else the closest to that.

    An int8 window costs kernels and a little exactness, so it must earn its place: it is taken only where the
    bfloat16 one has no time to spare, or does not fit. A window that is cut short comes last: Moshi forgets.
    """
    longest = {found.model: found.context for found in sorted(entries, key=lambda found: found.context)}

    def rank(found: Entry) -> tuple[Any, ...]:
        short, bfloat16 = found.context < longest[found.model], found.kv_bits == 16
        if found.verdict == "good":
            return short, 0, not bfloat16
        if found.verdict == "unknown":  # the least to read is the likeliest to keep time
            return short, 1, not bfloat16, found.frame_GB
        return short, 2, found.ms

    return min((found for found in entries if found.possible and found.context), key=rank, default=None)


def as_json(found: Entry | None) -> dict[str, Any] | None:
    """Return an entry with its numbers rounded to what they are worth."""
    if found is None:
        return None
    ms = None if found.ms is None else round(found.ms, 1)
    return {
        **asdict(found),
        "frame_GB": round(found.frame_GB, 2),
        "memory_GB": round(found.memory_GB, 2),
        "ms": ms,
    }
