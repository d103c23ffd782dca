"""What a server is doing, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moshi_mlx.web.admission import Seats
    from moshi_mlx.web.client import Client
    from moshi_mlx.web.model import Model

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES = (0.5, 0.95, 0.99)


@dataclass
class Totals:
    """What clients left behind who have gone; counters may never fall."""

    connections: int = 0
    dropped: int = 0
    silences: int = 0
    unsent: int = 0

    def add(self, client: Client) -> None:
        """Count a client that leaves."""
        self.dropped += client.dropped
        self.silences += client.silences
        self.unsent += client.unsent


def render(model: Model, seats: Seats, clients: Iterable[Client], gone: Totals) -> str:
    """All metrics."""
    here = list(clients)
    lags = [slot.lag for client in here if (slot := client.slot)]
    lines: list[str] = []

    def metric(name: str, kind: str, about: str, values: dict[str, float]) -> None:
        lines.append(f"# HELP moshi_{name} {about}")
        lines.append(f"# TYPE moshi_{name} {kind}")
        lines.extend(f"moshi_{name}{labels} {value:.6g}" for labels, value in values.items())

    stats = model.stats
    metric("frames_total", "counter", "Steps of the model, each 80 ms for everyone.", {"": stats.frames})
    for name, stage in stats.stages.items():
        quantiles = {f'{{quantile="{q}"}}': stage.percentile(100 * q) for q in _QUANTILES}
        metric(f"{name}_seconds", "summary", f"Time that a step takes to {name}.", quantiles)
        lines.append(f"moshi_{name}_seconds_sum {stage.total:.6g}")
        lines.append(f"moshi_{name}_seconds_count {stage.count}")
    lag = max(lags, default=0.0)
    metric("lag_seconds", "gauge", "From the end of a frame to its reply, the slowest conversation.", {"": lag})
    metric("sessions", "gauge", "Conversations going on.", {"": seats.taken})
    metric("sessions_max", "gauge", "Conversations that there may be.", {"": seats.size})
    metric("waiting", "gauge", "Clients that wait for a place.", {"": seats.waiting})
    metric("connections_total", "counter", "Clients that ever came.", {"": gone.connections})
    dropped = gone.dropped + sum(client.dropped for client in here)
    metric("dropped_frames_total", "counter", "Frames that the model never heard.", {"": dropped})
    silences = gone.silences + sum(client.silences for client in here)
    metric(
        "missing_frames_total", "counter", "Frames that came too late and were heard as silence.", {"": silences}
    )
    unsent = gone.unsent + sum(client.unsent for client in here)
    metric("unsent_frames_total", "counter", "Replies that a client was too slow for.", {"": unsent})
    return "\n".join(lines) + "\n"
