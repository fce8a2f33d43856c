"""``stockworker logs``: what the attempts at a job have printed and logged."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from stockworker.cli.connection import converse
from stockworker.client import Client, Output
from stockworker.errors import AccessDenied, ConnectionFailed
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.lifecycle import LEASED
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import AttemptView, JobView
from stockworker.terminal.arguments import JOB_HELP, add_client_options, job_identifier, whole_number
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import complain, note, print_document, print_json, print_line

T = TypeVar("T")

_LOOK_EVERY_S: Final = 2.0
"""How often `--follow` asks for the state of the job. It asks for outputs only if that has changed."""


@dataclass(frozen=True, slots=True)
class JobLogs:
    """The outputs of a job, and what is known about its attempts."""

    view: JobView
    outputs: Sequence[Output]
    attempts: Sequence[AttemptView]

    def attempt(self, number: int) -> AttemptView | None:
        return next((each for each in self.attempts if each.number == number), None)


def logs(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker logs``."""
    parser.description = (
        "Print what a job has printed and logged: of each attempt the end, as much as its worker keeps (worker.output, 64 KiB "
        "by default). The output of an attempt arrives when the attempt ends; --follow waits for it, attempt by attempt. It is sealed if the payload is; then its submitter "
        "can open it. The exit status is 4 if the job has not ended and there is no output yet. It is 1 if no output is kept, or "
        "it can't be opened."
    )
    parser.add_argument("job", type=job_identifier, metavar="JOB", help=JOB_HELP)
    parser.add_argument(
        "--attempt",
        type=whole_number(1, (1 << 31) - 1),
        metavar="N",
        help="print the output of this attempt alone (default: all)",
    )
    parser.add_argument(
        "--follow", action="store_true", help="print the output of each attempt when it ends, until the job ends"
    )
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    def show(printed: JobLogs, *, with_title: bool) -> None:
        for output in printed.outputs:
            if arguments.json:
                _print_json(printed, output)
            else:
                _print(printed, output, with_title=with_title)

    async def ask(client: Client) -> JobLogs:
        (job_id,) = await client.resolve([arguments.job])
        if arguments.follow:
            with_title = arguments.attempt is None
            return await follow(client, job_id, arguments.attempt, lambda found: show(found, with_title=with_title))
        found = await load_logs(client, job_id, arguments.attempt)
        show(found, with_title=len(found.outputs) > 1)
        return found

    printed = converse(arguments, ask, notices=False)
    if not printed.outputs:
        return _explain_none(printed, arguments.attempt)
    return Exit.FAILED if any(output.text is None for output in printed.outputs) else Exit.OK


async def load_logs(client: Client, job_id: str, attempt: int | None) -> JobLogs:
    """Ask for the outputs of a job, or of one attempt at it. They are at least as new as the state of the job.

    Raises:
        JobUnknown: the dispatcher does not know the job.
    """
    views = await client.query([job_id])
    outputs, explanation = await asyncio.gather(client.outputs(job_id, attempt), client.explain(job_id))
    return JobLogs(views[0], outputs, explanation.attempts)


async def follow(
    client: Client, job_id: str, attempt: int | None, show: Callable[[JobLogs], None], every_s: float = _LOOK_EVERY_S
) -> JobLogs:
    """Show the outputs of a job as they arrive, until it ends; return the last state with all that were shown."""
    shown: dict[int, Output] = {}
    found = await load_logs(client, job_id, attempt)
    while True:
        new = [output for output in found.outputs if output.attempt not in shown]
        show(JobLogs(found.view, new, found.attempts))
        shown |= {output.attempt: output for output in new}
        if found.view.ended_at is not None or attempt in shown:
            return JobLogs(found.view, list(shown.values()), found.attempts)
        await _await_change(client, found.view, every_s)
        found = await _patiently(lambda: load_logs(client, job_id, attempt), every_s)


async def _await_change(client: Client, view: JobView, every_s: float) -> None:
    """Ask for the state of a job until an attempt at it has begun or ended, or the job is not known any longer."""
    views = [view]
    while [(each.attempt, each.state in LEASED) for each in views] == [(view.attempt, view.state in LEASED)]:
        await asyncio.sleep(every_s)
        views = list(await _patiently(lambda: client.query([view.job_id]), every_s))
        if views and views[0].ended_at is not None:
            return


async def _patiently(ask: Callable[[], Awaitable[T]], every_s: float) -> T:
    """Ask until an answer arrives: the broker and the dispatcher may restart meanwhile."""
    while True:
        try:
            return await ask()
        except AccessDenied:
            raise
        except ConnectionFailed as error:
            note(f"{error}. Asking again")
            await asyncio.sleep(every_s)


def _print_json(printed: JobLogs, output: Output) -> None:
    attempt = printed.attempt(output.attempt)
    about = {} if attempt is None else {"worker": attempt.worker, "outcome": attempt.outcome}
    document = {"job_id": printed.view.job_id, "attempt": output.attempt, **about, "omitted": output.omitted}
    print_json({**document, **({"refusal": output.refusal} if output.text is None else {"text": output.text})})


def _print(printed: JobLogs, output: Output, *, with_title: bool) -> None:
    if with_title:
        print_line(f"==> {_title(printed, output.attempt)} <==")
    if output.omitted:
        note(f"attempt {output.attempt}: {output.omitted:,} bytes of its output are not kept")
    if output.text is None:
        complain(f"the output of attempt {output.attempt} can't be shown: {output.refusal}")
    elif output.text:
        print_document(output.text)


def _title(printed: JobLogs, number: int) -> str:
    attempt = printed.attempt(number)
    if attempt is None:
        return f"attempt {number}"
    error = first_line(attempt.error)
    return f"attempt {number} on {attempt.worker}: {attempt.outcome}{f': {error}' if error else ''}"


def _explain_none(printed: JobLogs, wanted: int | None) -> Exit:
    view = printed.view
    if view.attempt == 0:
        complain(f"job {view.job_id} has no output: it has not started. Its state is {view.state}")
        return Exit.NOT_ENDED if view.ended_at is None else Exit.FAILED
    if wanted is not None and wanted > view.attempt:
        complain(f"job {view.job_id} has no attempt {wanted}: its newest one is attempt {view.attempt}")
        return Exit.FAILED
    if view.state in LEASED and wanted in {None, view.attempt}:
        where = f"attempt {view.attempt} is {view.state} on {view.worker}"
        complain(f"job {view.job_id} has no output yet: {where}, and its output arrives when it ends")
        return Exit.NOT_ENDED
    complain(
        f"no output of job {view.job_id} is kept: it has printed and logged nothing, or its worker keeps no output "
        "(worker.output), or the dispatcher had no room for it any more (dispatcher.limits.outputs)"
    )
    return Exit.FAILED
