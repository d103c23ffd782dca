"""What a server is doing, in Prometheus's text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import mlx.core as mx

from moshi_mlx.web.health import STATES

if TYPE_CHECKING:
    from moshi_mlx.web.admission import Admission
    from moshi_mlx.web.client import Client
    from moshi_mlx.web.health import Health
    from moshi_mlx.web.model_thread import ModelThread

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES = (0.5, 0.95, 0.99)
_COUNTERS = {  # of clients
    "connections": "Clients that ever came.",
    "dropped_frames": "Frames that the model never heard.",
    "missing_frames": "Frames that came too late and were heard as silence.",
    "unsent_frames": "Replies that a client was too slow for.",
    "uncaptioned_frames": "Frames that there was no time to write down the words of.",
    "skipped_bytes": "Bytes of Ogg that belonged to no whole page.",
    "mended_pages": "Ogg pages with a wrong length that were read all the same.",
    "refused_packets": "Packets in Ogg that were not Opus.",
}


def count(client: Client) -> Counter[str]:
    """Return what one client adds to the counters."""
    lost = client.lost()
    frames = {
        "dropped_frames": lost["dropped"],
        "missing_frames": lost["silences"],
        "unsent_frames": lost["unsent"],
        "uncaptioned_frames": lost["uncaptioned"],
    }
    return Counter(connections=1, **frames, **client.damage())


def render(
    model: ModelThread,
    admission: Admission,
    health: Health,
    clients: Iterable[Client],
    gone: Counter[str],
    jobs: int = 0,
) -> str:
    """Return all metrics. gone: what those clients have counted who left; counters may never fall.

    jobs: requests that are worked on.
    """
    here = list(clients)
    total = sum(map(count, here), gone)
    lag = max((client.slot.lag for client in here if client.slot), default=0.0)
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, values: Mapping[str, float]) -> None:
        lines.append(f"# HELP moshi_{name} {about}")
        lines.append(f"# TYPE moshi_{name} {kind}")
        lines.extend(f"moshi_{name}{suffix} {value:.6g}" for suffix, value in values.items())

    metric("frames_total", "counter", "Steps of the model, each 80 ms for everyone.", {"": model.stats.frames})
    times = {f"to {name}": (name, stage) for name, stage in model.stats.stages.items()}
    times["until everybody's reply is made"] = ("tick", model.stats.tick)
    for what, (name, stage) in times.items():
        values = {f'{{quantile="{q}"}}': stage.percentile(100 * q) for q in _QUANTILES}
        values |= {"_sum": stage.total, "_count": stage.count}
        metric(f"{name}_seconds", "summary", f"Time that a step takes {what}.", values)
    metric("lag_seconds", "gauge", "From the end of a frame to its reply, the slowest conversation.", {"": lag})
    metric("sessions", "gauge", "Conversations going on.", {"": admission.taken})
    metric("sessions_max", "gauge", "Conversations that there may be.", {"": admission.size})
    metric("waiting", "gauge", "Clients that wait for a place.", {"": admission.waiting})
    metric("jobs", "gauge", "Requests of /v1/ that are worked on, or wait for that.", {"": jobs})
    states = {f'{{state="{state}"}}': float(state == health.state) for state in STATES}
    metric("state", "gauge", "1 for the state that /health tells, 0 for the others.", states)
    memory = {'{kind="active"}': mx.get_active_memory(), '{kind="cache"}': mx.get_cache_memory()}
    metric("memory_bytes", "gauge", "What MLX holds: in use, and kept for reuse.", memory)
    metric("refused_total", "counter", "Clients and requests that were sent elsewhere.", {"": health.refused})
    for name, about in _COUNTERS.items():
        metric(f"{name}_total", "counter", about, {"": total[name]})
    return "\n".join(lines) + "\n"
