"""``stockworker status``, ``wait`` and ``result``: the state of jobs, and how they ended."""

import argparse
from collections.abc import Iterator, Sequence

from stockworker.cli.connection import converse
from stockworker.cli.printing import Waiting, describe, print_completion, print_completion_json, print_result
from stockworker.client import Client, Completion
from stockworker.errors import JobUnknown
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.views import JobView
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import (
    JOB_HELP,
    add_client_options,
    job_identifier,
    timeout,
)
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import complain, print_json, print_lines
from stockworker.terminal.tables import local_time


def status(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker status``."""
    parser.description = "Show job status. The exit status does not reflect job states; it is 3 if a job ID is unknown."
    _add_jobs(parser)
    add_client_options(parser)
    parser.set_defaults(run=_status)


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
    async def ask(client: Client) -> tuple[Sequence[JobId], list[JobView]]:
        wanted = await client.resolve(arguments.jobs)
        return wanted, await client.query(wanted)

    wanted, all_found = converse(arguments, ask, notices=False)
    found = {view.job_id: view for view in all_found}
    views = [found[job_id] for job_id in dict.fromkeys(wanted) if job_id in found]
    if arguments.json:
        for view in views:
            print_json(shown(view))
    else:
        print_lines([line for view in views for line in ("", *_details(view))][1:])
    unknown = [job_id for job_id in wanted if job_id not in found]
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


def _wait(arguments: argparse.Namespace) -> int:
    waiting = Waiting(print_completion_json if arguments.json else print_completion, quiet=arguments.quiet)

    async def talk(client: Client) -> Exit:
        return await waiting.wait(client, await client.resolve(arguments.jobs), arguments.timeout)

    return converse(arguments, talk, on_progress=waiting.show)


def _result(arguments: argparse.Namespace) -> int:
    if arguments.wait or arguments.wait_timeout is not None:
        waiting = Waiting(print_outcome, quiet=arguments.quiet)

        async def talk(client: Client) -> Exit:
            return await waiting.wait(client, await client.resolve([arguments.job]), arguments.wait_timeout)

        return converse(arguments, talk, on_progress=waiting.show)

    async def ask(client: Client) -> list[JobView]:
        return await client.query(await client.resolve([arguments.job]), with_results=True)

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
