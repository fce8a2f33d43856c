"""The configuration: reads YAML files into frozen dataclasses, and reports each problem with file, line and remedy.

`schema` defines the keys, `document` reads files, `reader` combines the two, `rules` checks several keys together,
`loading` finds and merges the files, `reference` generates the documentation.
"""

from stockworker.config.document import Problem
from stockworker.config.loading import (
    DEFAULT_PATH,
    client_path,
    client_places,
    instances,
    load,
    load_with_warnings,
    problems,
)
from stockworker.config.schema import Config, Encryption, Handler, Tls

__all__ = [
    "DEFAULT_PATH",
    "Config",
    "Encryption",
    "Handler",
    "Problem",
    "Tls",
    "client_path",
    "client_places",
    "instances",
    "load",
    "load_with_warnings",
    "problems",
]
