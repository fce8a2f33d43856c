"""The ``stockworker`` command."""

import gc
from collections.abc import Sequence

from stockworker.cli import hangup


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    hangup.defer()  # first of all: the imports take a while
    gc.disable()  # during the imports, whose objects stay; `invoke` enables it
    from stockworker.cli.invocation import invoke  # noqa: PLC0415 (for that reason)

    try:
        return invoke(arguments)
    finally:
        gc.enable()  # after a wrong command line, too: a program that calls this goes on
