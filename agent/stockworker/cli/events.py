"""``stockworker events``: what happens in the fleet, as it happens."""

import argparse
import asyncio
import math
from contextlib import suppress
from typing import Final

from stockworker.adapters import clock
from stockworker.cli.connection import converse
from stockworker.client import Client
from stockworker.client.fleet_events import KIND_OF, EventFilter, EventKind, FleetEvent, FleetEventName
from stockworker.logs.lines import escaped
from stockworker.protocol.body import present
from stockworker.protocol.sealed import first_line
from stockworker.terminal.arguments import (
    JOB_HELP,
    add_client_options,
    identifier,
    job_identifier,
    timeout,
    whole_number,
)
from stockworker.terminal.colour import paint
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_json, print_line
from stockworker.terminal.tables import COLOURS, fit, local_time, terminal_width

_MOST: Final = 1 << 53
_KINDS: Final = tuple(kind for kind in map(str, EventKind) if kind != EventKind.STREAM)
_NAMES: Final = tuple(str(name) for name, kind in KIND_OF.items() if kind is not EventKind.STREAM)
_NAME_WIDTH: Final = max(map(len, map(str, KIND_OF)))


def events(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker events``."""
    parser.description = (
        "Show what happens in the fleet until interrupted: steps of jobs, and workers that connect and leave. Options that "
        "are given several times select the events of each; different options must all match. The steps of jobs in the "
        "first second can be missing. After a lost connection, an event `restored` marks the gap. Requires operator rights."
    )
    parser.add_argument("--kind", action="append", choices=_KINDS, help="only events of this kind")
    parser.add_argument("--event", action="append", choices=_NAMES, metavar="EVENT", help=f"only {', '.join(_NAMES)}")
    parser.add_argument("--type", action="append", type=identifier, metavar="TYPE", help="only jobs of this type")
    parser.add_argument(
        "--worker", action="append", type=identifier, metavar="WORKER", help="only this worker, and jobs that it has"
    )
    parser.add_argument("--job", action="append", type=job_identifier, metavar="JOB", help=JOB_HELP)
    parser.add_argument("--count", type=whole_number(1, _MOST), metavar="NUMBER", help="stop after this many events")
    parser.add_argument("--for", dest="duration", type=timeout, metavar="DURATION", help="stop after this time")
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    async def watch(client: Client) -> None:
        jobs = await client.resolve(arguments.job or ())
        wanted = EventFilter(
            arguments.kind or (), arguments.event or (), arguments.type or (), arguments.worker or (), jobs
        )
        left = arguments.count or math.inf
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as deadline:
                async for event in client.events(wanted):
                    if event.name == FleetEventName.WATCHING and arguments.duration is not None:
                        deadline.reschedule(asyncio.get_running_loop().time() + arguments.duration)
                    _print(event, as_json=arguments.json)
                    left -= event.kind is not EventKind.STREAM
                    if not left:
                        return

    converse(arguments, watch, notices=False)
    return Exit.OK


def _print(event: FleetEvent, *, as_json: bool) -> None:
    now = clock.wall()
    if as_json:
        fields = {"at": now, "kind": event.kind, "event": event.name, "job_id": event.job_id, "type": event.type}
        print_json(present({**fields, "worker": event.worker, "attempt": event.attempt, "text": event.text}))
    else:
        print_line(line_of(event, now, terminal_width()))


def line_of(event: FleetEvent, at: float, width: int | None) -> str:
    """An event as a line for people."""
    head = f"{local_time(at)}  "
    parts = [event.name.ljust(_NAME_WIDTH), *(part for part in (event.job_id, event.type) if part is not None)]
    if event.attempt:
        parts.append(f"attempt {event.attempt}")
    parts += [escaped(part) for part in (event.worker, first_line(event.text)) if part]
    line = fit(head + "  ".join(parts), width)
    return paint(line, [(len(head), min(len(line), len(head) + len(event.name)), COLOURS.get(event.name))])
