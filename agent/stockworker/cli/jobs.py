"""``stockworker status``, ``list``, ``wait`` and ``result``: the state of jobs, and how they ended."""

import argparse
from collections.abc import Iterator

from stockworker.adapters import clock
from stockworker.cli.connection import converse
from stockworker.cli.printing import Waiting, describe, print_completion, print_completion_json, print_result
from stockworker.client import Client, Completion
from stockworker.errors import JobUnknown
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import MAX_QUERY, JobFilter
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import JobView
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import (
    JOB_HELP,
    add_client_options,
    identifier,
    job_identifier,
    timeout,
    whole_number,
)
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import complain, print_json, print_lines
from stockworker.terminal.tables import local_time, short_duration, table, terminal_width


def status(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker status``."""
    parser.description = "Show job status. The exit status does not reflect job states; it is 3 if a job ID is unknown."
    _add_jobs(parser)
    add_client_options(parser)
    parser.set_defaults(run=_status)


def list_jobs(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker list``."""
    parser.description = (
        "List jobs, newest first: all jobs for an operator, else the client's own jobs and the shared ones."
    )
    parser.add_argument("--state", choices=tuple(map(str, State)), help="only jobs in this state")
    parser.add_argument("--type", type=identifier, metavar="TYPE", help="only jobs of this type")
    parser.add_argument(
        "--limit",
        type=whole_number(1, MAX_QUERY),
        default=50,
        metavar="NUMBER",
        help=f"show at most this many jobs, up to {MAX_QUERY} (default: 50)",
    )
    add_client_options(parser)
    parser.set_defaults(run=_list)


def wait(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker wait``."""
    parser.description = (
        "Wait until all jobs end, and print how each one ended, in the order in which they end. The exit status is 0 if "
        "all completed, and 1 if one failed, was cancelled or expired."
    )
    _add_jobs(parser)
    parser.add_argument("--timeout", type=timeout, metavar="DURATION", help="how long to wait (default: forever)")
    add_client_options(parser)
    parser.set_defaults(run=_wait)


def result(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker result``."""
    parser.description = "Print the result of a job: the JSON that its handler returned."
    parser.add_argument("job", type=job_identifier, metavar="JOB", help=JOB_HELP)
    parser.add_argument("--wait", action="store_true", help="wait until the job ends")
    parser.add_argument("--wait-timeout", type=timeout, metavar="DURATION", help="how long to wait; implies --wait")
    add_client_options(parser, json=False)
    parser.set_defaults(run=_result)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", type=job_identifier, nargs="+", metavar="JOB", help=JOB_HELP)


def _status(arguments: argparse.Namespace) -> int:
    async def ask(client: Client) -> list[JobView]:
        return await client.query(arguments.jobs)

    found = {view.job_id: view for view in converse(arguments, ask, notices=False)}
    views = [found[job_id] for job_id in dict.fromkeys(arguments.jobs) if job_id in found]
    if arguments.json:
        for view in views:
            print_json(shown(view))
    else:
        print_lines([line for view in views for line in ("", *_details(view))][1:])
    unknown = [job_id for job_id in arguments.jobs if job_id not in found]
    for job_id in unknown:
        complain(f"job {job_id} is unknown to the dispatcher")
    return Exit.UNKNOWN if unknown else Exit.OK


def _details(view: JobView) -> Iterator[str]:
    fields = {
        "job": view.job_id,
        "type": view.type,
        "priority": view.priority.label,
        "state": f"{view.state} (cancel requested)" if view.cancel_requested else view.state,
        "submitted": local_time(view.submitted_at),
        "not before": local_time(view.ready_at) if view.state is State.SCHEDULED else None,
        "ended": None if view.ended_at is None else local_time(view.ended_at),
        "attempt": view.attempt,
        "failures": view.failures or None,
        "crashes": view.crashes or None,
        "worker": view.worker,
        "reason": view.reason,
    }
    for name, value in fields.items():
        if value is not None:
            label = f"{name}:"
            for line in str(value).splitlines():
                yield f"{label:<12}{line}"
                label = ""


def _list(arguments: argparse.Namespace) -> int:
    wanted = JobFilter(arguments.state and State(arguments.state), arguments.type, arguments.limit)

    async def ask(client: Client) -> list[JobView]:
        return await client.list(wanted)

    views = converse(arguments, ask, notices=False)
    if arguments.json:
        for view in views:
            print_json(shown(view))
        return Exit.OK
    header = ("JOB", "TYPE", "PRIORITY", "STATE", "AGE", "ATTEMPT", "WORKER", "REASON")
    now = clock.wall()
    rows = [
        (
            view.job_id,
            view.type,
            view.priority.label,
            view.state,
            short_duration(now - view.submitted_at),
            view.attempt,
            view.worker,
            first_line(view.reason),
        )
        for view in views
    ]
    print_lines(table(header, rows, terminal_width()))
    return Exit.OK


def _wait(arguments: argparse.Namespace) -> int:
    waiting = Waiting(print_completion_json if arguments.json else print_completion, quiet=arguments.quiet)

    async def talk(client: Client) -> Exit:
        return await waiting.wait(client, arguments.jobs, arguments.timeout)

    return converse(arguments, talk, on_progress=waiting.show)


def _result(arguments: argparse.Namespace) -> int:
    if arguments.wait or arguments.wait_timeout is not None:
        waiting = Waiting(print_outcome, quiet=arguments.quiet)

        async def talk(client: Client) -> Exit:
            return await waiting.wait(client, [arguments.job], arguments.wait_timeout)

        return converse(arguments, talk, on_progress=waiting.show)

    async def ask(client: Client) -> list[JobView]:
        return await client.query([arguments.job], with_results=True)

    views = converse(arguments, ask, notices=False)
    if not views:
        raise JobUnknown(f"job {arguments.job} is unknown to the dispatcher")
    view = views[0]
    if view.state not in TERMINAL:
        complain(f"job {view.job_id} has not ended: its state is {view.state}. Use --wait to wait for it")
        return Exit.NOT_ENDED
    ended = Completion(view.job_id, view.state, view.result, view.reason)
    print_outcome(ended)
    return Exit.OK if ended.has_result else Exit.FAILED


def print_outcome(ended: Completion) -> None:
    """Print the result of a completed job; else print why there is no result."""
    if ended.has_result:
        print_result(ended.result)
    else:
        complain(f"job {describe(ended)}")
