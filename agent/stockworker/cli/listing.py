"""``stockworker list`` and ``stockworker workers``: as many as are wanted, and a hint where there are more."""

import argparse
from dataclasses import replace
from typing import Final

from stockworker.adapters import clock
from stockworker.cli.connection import converse
from stockworker.cli.filters import add_filters, job_filter
from stockworker.cli.stats import worker_table
from stockworker.client import Client
from stockworker.protocol.job_filter import MAX_QUERY
from stockworker.protocol.lifecycle import State
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import JobView, WorkerView
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import add_client_options, identifier, job_identifier, whole_number
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import note, print_json, print_lines
from stockworker.terminal.tables import short_duration, table, terminal_width

_MOST: Final = 1_000_000
_SHORTEST: Final = 8
"""Fewest characters of a shortened ID."""

JOB_HEADER: Final = ("JOB", "TYPE", "PRIORITY", "STATE", "AGE", "ATTEMPT", "WORKER", "REASON")
JOB_SPARE: Final = ("PRIORITY", "ATTEMPT")
JOB_CUT: Final = ("JOB", "TYPE", "WORKER", "REASON")
"""The columns of a table of jobs, which of them can be left out, and which can be cut."""


def list_jobs(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker list``."""
    parser.description = (
        "List jobs, newest first: all jobs for an operator, else the client's own jobs and the shared ones. On a terminal, "
        "IDs are shortened as far as they still name one job; all commands accept such IDs."
    )
    parser.add_argument("--state", choices=tuple(map(str, State)), help="only jobs in this state")
    add_filters(parser)
    _add_limit(parser, "jobs", 50)
    parser.add_argument("--after", type=job_identifier, metavar="JOB", help="begin after this job: the next page")
    add_client_options(parser)
    parser.set_defaults(run=_list)


def workers(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker workers``."""
    parser.description = "List workers by ID: slots, leases, time since the last message, version and job types."
    parser.add_argument(
        "--state", choices=("online", "offline", "drained"), help="only workers that are online, offline or drained"
    )
    parser.add_argument("--type", type=identifier, metavar="TYPE", help="only workers that run jobs of this type")
    _add_limit(parser, "workers", 1000)
    parser.add_argument("--after", type=identifier, metavar="WORKER", help="begin after this worker: the next page")
    add_client_options(parser)
    parser.set_defaults(run=_workers)


def _add_limit(parser: argparse.ArgumentParser, what: str, default: int) -> None:
    parser.add_argument(
        "--limit",
        type=whole_number(1, _MOST),
        default=default,
        metavar="NUMBER",
        help=f"show at most this many {what} (default: {default})",
    )


def _list(arguments: argparse.Namespace) -> int:
    width = None if arguments.json else terminal_width()
    state = None if arguments.state is None else State(arguments.state)
    most = arguments.limit + 1
    wanted = replace(job_filter(arguments, state, min(most, MAX_QUERY)), with_prefixes=width is not None)

    async def ask(client: Client) -> list[JobView]:
        after = None if arguments.after is None else (await client.resolve([arguments.after]))[0]
        return [view async for view in client.search(replace(wanted, before=after), most)]

    views = converse(arguments, ask, notices=False)
    more, views = len(views) == most, views[: arguments.limit]
    if arguments.json:
        for view in views:
            print_json(shown(view))
    else:
        rows = [job_row(view, clock.wall()) for view in views]
        print_lines(table(JOB_HEADER, rows, width, spare=JOB_SPARE, cut=JOB_CUT))
    if more and not arguments.quiet:
        note(f"more jobs match; the next page begins with --after {shortened(views[-1])}, and --limit sets its length")
    return Exit.OK


def job_row(view: JobView, now: float) -> tuple[object, ...]:
    """The cells of a job in a table with `JOB_HEADER`."""
    return (
        shortened(view),
        view.type,
        view.priority.label,
        view.state,
        short_duration(now - view.submitted_at),
        view.attempt,
        view.worker,
        first_line(view.reason),
    )


def shortened(view: JobView) -> str:
    """The ID of a job as far as it is needed, if the dispatcher has sent its length."""
    if view.prefix_length is None:
        return view.job_id
    owner, _, _ = view.job_id.rpartition(":")
    least = (len(owner) + 1 if ":" in view.job_id else 0) + _SHORTEST
    return view.job_id[: max(view.prefix_length, least)]


def _workers(arguments: argparse.Namespace) -> int:
    async def ask(client: Client) -> tuple[list[WorkerView], bool]:
        found: list[WorkerView] = []
        async for worker in client.workers(arguments.after or ""):
            if _is_wanted(worker, arguments):
                if len(found) == arguments.limit:
                    return found, True
                found.append(worker)
        return found, False

    found, more = converse(arguments, ask, notices=False)
    if arguments.json:
        for worker in found:
            print_json(shown(worker))
    else:
        print_lines(worker_table(found, terminal_width()))
    if more and not arguments.quiet:
        note(
            f"more workers match; the next page begins with --after {found[-1].worker_id}, and --limit sets its length"
        )
    return Exit.OK


def _is_wanted(worker: WorkerView, arguments: argparse.Namespace) -> bool:
    states = {"online": worker.online, "offline": not worker.online, "drained": worker.drained, None: True}
    is_of_type = arguments.type is None or arguments.type in worker.types or worker.types_omitted > 0
    return states[arguments.state] and is_of_type
