"""``stockworker backup``: a copy of the dispatcher's store."""

import argparse
import os
from pathlib import Path

from stockworker.config import load
from stockworker.dispatcher.store_sqlite import back_up_store
from stockworker.errors import StoreError
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import StatusLine


def backup(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker backup``."""
    parser.description = (
        "On the dispatcher's machine: copy its store, all jobs as they are at one moment, whether the dispatcher runs or "
        "not, and look whether the copy is sound. Only its owner may read the copy. docs/operations.md says how to "
        "restore it, and what becomes of jobs then."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the copy; there must be no such file")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    target: Path = arguments.file
    if os.path.lexists(target):
        raise UsageError(f"{target}: is there: name a new file, or move it away")
    store = load(arguments.config).dispatcher.store
    try:
        store.stat()
    except OSError as error:
        raise StoreError(f"{store}: {error.strerror}: run this as root, on the dispatcher's machine") from error
    line = StatusLine(quiet=arguments.quiet)
    try:
        back_up_store(store, target, lambda done: line.show(f"copied {done:.0%} of {store}"))
    finally:
        line.clear()
    print(target)
    return Exit.OK
