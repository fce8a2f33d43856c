"""``stockworker stats``."""

import argparse
import asyncio
import textwrap
from collections.abc import Iterator, Sequence

from stockworker.adapters.certificate_watch import SOON_DAYS
from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.protocol.market_stores import by_store, warning
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import QueueView, WorkerView
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import add_client_options, timeout
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_json, print_lines, print_screen
from stockworker.terminal.tables import short_duration, table, terminal_width

_QUEUE_HEADER = ("QUEUE", "STATE", "WAITING", "OLDEST", "WORKERS")
_WORKER_HEADER = ("WORKER", "STATE", "SLOTS", "LEASES", "SEEN", "VERSION", "TYPES")


def stats(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker stats``."""
    parser.description = "Show queues, workers and counters. Counters start at 0 when the dispatcher starts."
    parser.add_argument(
        "--watch",
        nargs="?",
        type=timeout,
        const=2.0,
        metavar="DURATION",
        help="refresh until interrupted, every 2 s by default",
    )
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    async def talk(client: Client) -> None:
        _show(await client.stats(), as_json=arguments.json, screen=False)
        while arguments.watch is not None:
            await asyncio.sleep(arguments.watch)
            _show(await client.stats(), as_json=arguments.json, screen=True)

    converse(arguments, talk, notices=False)
    return Exit.OK


def _show(found: Stats, *, as_json: bool, screen: bool) -> None:
    if as_json:
        print_json(shown(found))
        return
    lines = [line for block in _blocks(found, terminal_width()) for line in ("", *block)]
    (print_screen if screen else print_lines)(lines[1:])


def _blocks(found: Stats, width: int | None) -> Iterator[list[str]]:
    yield [f"dispatcher {found.version}, up {short_duration(found.uptime_s)}{_expiry(found.certificate_days)}"]
    states = [(state, count) for state, count in found.states if count]
    yield list(table(("STATE", "JOBS"), states)) if states else ["no jobs"]
    if found.queues:
        rows = list(map(_queue_row, found.queues))
        yield [*table(_QUEUE_HEADER, rows, width, cut=("QUEUE",)), *_more(found.queues_omitted, "queues")]
    if found.workers:
        hint = "; `stockworker workers` lists all"
        yield [*worker_table(found.workers, width), *_more(found.workers_omitted, "workers", hint)]
    else:
        yield ["no workers; start stockworker@1 on a machine of the fleet"]
    if text := warning(by_store((worker.worker_id, worker.market_store) for worker in found.workers if worker.online)):
        yield textwrap.wrap(f"warning: {text}", width) if width else [f"warning: {text}"]
    counters = [(name, count) for name, count in found.counters if count]
    if counters:
        yield list(table(("COUNTER", "TOTAL"), counters))


def _all_types(worker: WorkerView) -> str:
    """How many types a worker has, where not all are shown: first, because a long cell is cut."""
    return f"{len(worker.types) + worker.types_omitted:,} types: " if worker.types_omitted else ""


def _more(omitted: int, what: str, hint: str = "") -> list[str]:
    """The line below a table that does not show everything."""
    return [f"… and {omitted:,} more {what}{hint}"] if omitted else []


def worker_table(workers: Sequence[WorkerView], width: int | None) -> Iterator[str]:
    """Format a table of workers."""
    rows = list(map(_worker_row, workers))
    return table(_WORKER_HEADER, rows, width, spare=("VERSION", "TYPES"), cut=("WORKER", "STATE", "TYPES"))


def _queue_row(queue: QueueView) -> tuple[object, ...]:
    return (
        queue.type,
        "paused" if queue.paused else "open",
        queue.waiting,
        short_duration(queue.oldest_s),
        queue.workers,
    )


def _worker_row(worker: WorkerView) -> tuple[object, ...]:
    return (
        worker.worker_id,
        ("online" if worker.online else "offline")
        + (", drained" if worker.drained else "")
        + _expiry(worker.certificate_days),
        worker.slots,
        worker.leases,
        short_duration(worker.seen_s),
        worker.version,
        _all_types(worker) + " ".join(worker.types),
    )


def _expiry(certificate_days: int | None) -> str:
    if certificate_days is None or certificate_days >= SOON_DAYS:
        return ""
    return ", certificate expired" if certificate_days < 0 else f", certificate expires in {certificate_days} days"
