"""The keys of the configuration, continued: what watches the fleet."""

from pathlib import Path
from typing import Final

from stockworker.config.key import key as _key
from stockworker.config.kinds import BOOLEAN, PATH, duration
from stockworker.protocol.frozen import dataclass

_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    enabled: bool = _key(
        default=False,
        kind=BOOLEAN,
        meaning="Whether the services on this machine write metrics. Needs the package `python3-prometheus-client`, and a "
        "restart.",
    )
    folder: Path | None = _key(
        None,
        PATH,
        "Folder of the files: `stockworker-<id>.prom` for each service. The unit of the service must be allowed to write "
        "to another folder than the default one.",
        shown="`/run/stockworker-dispatcher`, or `/run/stockworker-worker-<instance>`",
    )
    interval_s: float = _key(15.0, duration(1, _HOUR_S), "How often a service writes its file.")
    tracers: bool = _key(
        default=True,
        kind=BOOLEAN,
        meaning="Whether the dispatcher measures losses while it writes metrics: every minute, a message for each job type "
        "travels the way of a job. It starts nothing, and is in no list. Needs a restart.",
    )
