"""``stockworker backup``: a copy of the dispatcher's store."""

import argparse
import os
from pathlib import Path

from stockworker.adapters.files import who_can_change
from stockworker.config import load
from stockworker.dispatcher.stores import store_kind
from stockworker.errors import StoreError
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import StatusLine, print_line


def backup(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker backup``."""
    parser.description = (
        "Copy the dispatcher's store: a consistent snapshot of all jobs. Run it on the dispatcher's machine, whether the "
        "dispatcher is running or not. The copy is checked for damage; only its owner may read it. Other users must not be "
        "able to change its folder. docs/operations.md describes how to restore it, and what happens to jobs then."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file to create; it must not exist")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    target: Path = arguments.file
    if os.path.lexists(target):
        raise UsageError(f"{target} already exists; choose another name or move it")
    _check_folder(target.absolute().parent)
    store = load(arguments.config).dispatcher.store
    try:
        store.stat()
    except OSError as error:
        raise StoreError(f"{store}: {error.strerror}. Run this command as root, on the dispatcher's machine") from error
    line = StatusLine(quiet=arguments.quiet)
    try:
        store_kind(store).back_up(store, target, lambda done: line.show(f"copied {done:.0%} of {store}"))
    finally:
        line.clear()
    print_line(target)
    return Exit.OK


def _check_folder(folder: Path) -> None:
    # SQLite opens the copy, and files beside it, by name.
    try:
        others = who_can_change(folder)
    except OSError as error:
        raise StoreError(f"{error.filename}: {error.strerror}") from error
    if others is not None:
        raise UsageError(
            f"{folder}: {others} can replace files in this folder while the copy is written. Choose a folder that only "
            "root and you can change, such as /var/backups"
        )
