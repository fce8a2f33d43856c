"""``stockworker pause``, ``resume``, ``drain`` and ``undrain``: orders about job types and workers."""

import argparse
import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.config import instances, load
from stockworker.errors import JobUnknown
from stockworker.protocol.body import present
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.protocol.messages import Order, ReceiptEntry, SetDrain, SetPause, Stats
from stockworker.protocol.suggestion import suggestion
from stockworker.terminal.arguments import add_client_options, identifier
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import note, print_json, print_line


def pause(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pause``."""
    parser.description = (
        "Stop dispatching jobs of these types to any worker until `stockworker resume`. New jobs are still accepted, "
        "and wait. Jobs that workers already have run to their end. Requires operator rights."
    )
    _complete_for_types(parser, partial(SetPause, paused=True), "paused")
    _add_force(parser, "pause a type that the dispatcher does not know yet")


def resume(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker resume``."""
    parser.description = "Dispatch jobs of these types again, starting immediately. Requires operator rights."
    _complete_for_types(parser, partial(SetPause, paused=False), "resumed")


def drain(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker drain``."""
    parser.description = (
        "Stop assigning jobs to these workers until `stockworker undrain`, even if the worker or the dispatcher "
        "restarts. Running jobs finish; jobs that wait on the workers go to other workers. A worker is empty when "
        "`stockworker stats` shows 0 leases for it. Requires operator rights."
    )
    _complete_for_workers(parser, partial(SetDrain, drained=True), "drained")
    _add_force(parser, "drain a worker that the dispatcher does not know yet")


def undrain(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker undrain``."""
    parser.description = "Assign jobs to these workers again, starting immediately. Requires operator rights."
    _complete_for_workers(parser, partial(SetDrain, drained=False), "undrained")


def _add_force(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--force", action="store_true", help=meaning)


def _complete_for_types(parser: argparse.ArgumentParser, order: Callable[[JobType], Order], done: str) -> None:
    parser.add_argument("names", type=identifier, nargs="+", metavar="TYPE", help="job type")
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, order, "type", done))


def _complete_for_workers(parser: argparse.ArgumentParser, order: Callable[[WorkerId], Order], done: str) -> None:
    parser.add_argument(
        "names",
        type=identifier,
        nargs="+",
        metavar="WORKER",
        help="worker ID, or an instance on this machine: 1 is the worker of stockworker@1",
    )
    add_client_options(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, order, "worker", done))


def _run(arguments: argparse.Namespace, order: Callable[[Any], Order], kind: str, done: str) -> int:
    async def talk(client: Client) -> dict[str, ReceiptEntry]:
        names = arguments.names
        stats = await client.stats()
        if kind == "worker":
            names = worker_ids(names, {worker.worker_id for worker in stats.workers}, arguments.config)
        names = list(dict.fromkeys(names))
        if not getattr(arguments, "force", True):
            _check_known(names, kind, stats)
        entries = await asyncio.gather(*(client.order(order(name)) for name in names))
        return dict(zip(names, entries, strict=True))

    for name, entry in converse(arguments, talk, notices=False).items():
        if arguments.json:
            print_json(present({kind: name, "status": done, "reason": entry.reason}))
        else:
            print_line(f"{name} {done}")
            if entry.reason is not None and not arguments.quiet:
                note(f"{name}: {entry.reason}")
    return Exit.OK


def _check_known(names: Iterable[str], kind: str, stats: Stats) -> None:
    """Refuse names that are probably misspelt, before anything is sent: a script would go on to stop the real worker.

    Raises:
        JobUnknown: the dispatcher does not know a name, and its statistics are complete.
    """
    if kind == "worker":
        known, complete = {str(worker.worker_id) for worker in stats.workers}, not stats.workers_omitted
    else:
        known = {str(queue.type) for queue in stats.queues}
        known.update(str(job_type) for worker in stats.workers for job_type in worker.types)
        complete = not (stats.queues_omitted or stats.workers_omitted or any(w.types_omitted for w in stats.workers))
    unknown = [f"{name!r}{suggestion(name, known) or '.'}" for name in names if name not in known]
    if unknown and complete:
        raise JobUnknown(
            f"the dispatcher does not know the {kind} {' '.join(unknown)} Nothing was sent. `stockworker stats` lists what "
            f"it knows. If the {kind} is new, use --force"
        )


def worker_ids(names: Iterable[str], known: set[str], config: Path | None) -> list[str]:
    """Resolve the names that a user gave to worker IDs.

    A name is an ID if the dispatcher knows it. Else it is an instance of this machine, if it is a number or the name
    of a file in `instances/`. Everything else is an ID that the dispatcher will know later.

    Raises:
        ConfigError: the configuration of an instance is not usable.
    """
    own = set(instances(config))
    return [
        load(config, name).worker.id if name not in known and (name in own or name.isdecimal()) else name
        for name in names
    ]
