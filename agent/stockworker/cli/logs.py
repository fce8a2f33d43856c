"""``stockworker logs``: what the attempts at a job have printed and logged."""

import argparse
import asyncio
from collections.abc import Sequence

from stockworker.cli.connection import converse
from stockworker.client import Client, Output
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.lifecycle import LEASED
from stockworker.protocol.sealed import first_line
from stockworker.protocol.views import AttemptView, JobView
from stockworker.terminal.arguments import JOB_HELP, add_client_options, job_identifier, whole_number
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import complain, note, print_document, print_json, print_line


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
        "by default). The output of an attempt arrives when the attempt ends. It is sealed if the payload is; then its submitter "
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
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    async def ask(client: Client) -> JobLogs:
        (job_id,) = await client.resolve([arguments.job])
        outputs, explanation, views = await asyncio.gather(
            client.outputs(job_id, arguments.attempt), client.explain(job_id), client.query([job_id])
        )
        return JobLogs(views[0], outputs, explanation.attempts)

    printed = converse(arguments, ask, notices=False)
    if not printed.outputs:
        return _explain_none(printed, arguments.attempt)
    for output in printed.outputs:
        if arguments.json:
            _print_json(printed, output)
        else:
            _print(printed, output, with_title=len(printed.outputs) > 1)
    return Exit.FAILED if any(output.text is None for output in printed.outputs) else Exit.OK


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
