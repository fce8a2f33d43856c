"""The configuration: YAML files in, frozen dataclasses out, every problem with file, line and remedy.

`schema` says what may be configured, `document` reads files, `reader` joins the two, `rules` looks at keys together,
`loading` finds and merges the files, `reference` writes the documentation.
"""

from stockworker.config.document import Problem
from stockworker.config.loading import DEFAULT_PATH, instances, load, problems
from stockworker.config.schema import (
    ClientConfig,
    Config,
    DispatcherConfig,
    Encryption,
    Handler,
    JobDefaultsConfig,
    LimitsConfig,
    Log,
    MarketData,
    Mqtt,
    Queue,
    Tls,
    WorkerConfig,
)

__all__ = [
    "DEFAULT_PATH",
    "ClientConfig",
    "Config",
    "DispatcherConfig",
    "Encryption",
    "Handler",
    "JobDefaultsConfig",
    "LimitsConfig",
    "Log",
    "MarketData",
    "Mqtt",
    "Problem",
    "Queue",
    "Tls",
    "WorkerConfig",
    "instances",
    "load",
    "problems",
]
