"""``stockworker submit``: one job or a batch of jobs."""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from stockworker.cli import batch
from stockworker.cli.connection import converse
from stockworker.cli.job_options import add_job_options, option_values
from stockworker.cli.jobs import print_outcome
from stockworker.cli.payload import read_payload
from stockworker.cli.printing import Waiting, completion_fields, print_completion, print_completion_json
from stockworker.client import Client, Completion, make_submission
from stockworker.errors import AccessDenied, ConnectionFailed, JobRejected
from stockworker.protocol.job import PRIORITY_BY_LABEL
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission
from stockworker.protocol.wire import shown
from stockworker.terminal.arguments import add_client_options, identifier, timeout
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.given import name_of, read_lines
from stockworker.terminal.output import StatusLine, complain, note, print_json, print_line

_MOST_FAULTS: Final = 20


def submit(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker submit``."""
    parser.description = (
        "Submit a job, and print its ID once the dispatcher has stored the job on disk. With --wait, print its result "
        "instead. With --batch, submit one job per line of a file; the whole file is checked before anything is sent."
    )
    parser.add_argument("type", type=identifier, nargs="?", metavar="TYPE", help="job type; selects the handler")
    parser.add_argument(
        "payload",
        nargs="?",
        metavar="PAYLOAD",
        help="JSON text, @FILE to read a file, or - to read standard input (default: null)",
    )
    _add_job_options(parser.add_argument_group("the job"))
    many = parser.add_argument_group("many jobs")
    many.add_argument(
        "--batch",
        metavar="FILE",
        help="read jobs from a file or from standard input (-), one JSON object per line, with the fields "
        f"{', '.join(batch.FIELDS)}; TYPE and the options are the defaults of fields that a line does not have",
    )
    many.add_argument("--skip-bad", action="store_true", help="submit the valid lines even if other lines are invalid")
    waiting = parser.add_argument_group("waiting")
    waiting.add_argument("--wait", action="store_true", help="wait until the job ends, then print its result")
    waiting.add_argument("--wait-timeout", type=timeout, metavar="DURATION", help="how long to wait; implies --wait")
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _add_job_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--id", type=identifier, help="job ID; submitting the same ID again does not create a second job"
    )
    group.add_argument("--priority", choices=tuple(PRIORITY_BY_LABEL), default="normal", help="default: normal")
    add_job_options(group)


def _run(arguments: argparse.Namespace) -> int:
    arguments.wait = arguments.wait or arguments.wait_timeout is not None
    if arguments.batch is not None:
        return _run_batch(arguments)
    if arguments.type is None:
        raise UsageError("name the job TYPE, or a file with --batch FILE")
    if arguments.skip_bad:
        raise UsageError("--skip-bad requires --batch")
    return _run_single(arguments)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    particulars = {"job_type": arguments.type, "id": arguments.id, "priority": arguments.priority}
    return particulars | option_values(arguments)


# --- one job ----------------------------------------------------------------------------------------------------------


def _run_single(arguments: argparse.Namespace) -> int:
    try:
        submission = make_submission(text=read_payload(arguments.payload), **_options(arguments))
    except JobRejected as error:
        raise UsageError(str(error)) from None
    return _Single(arguments, submission).run()


class _Single:
    """Submits one job, and waits for it with ``--wait``."""

    def __init__(self, arguments: argparse.Namespace, submission: Submission) -> None:
        self._arguments = arguments
        self._submission = submission
        self._receipt: dict[str, Any] = {}
        self._waiting = Waiting(self._print, quiet=arguments.quiet)

    def run(self) -> int:
        waits = {"on_progress": self._waiting.show} if self._arguments.wait else {"notices": False}
        return converse(self._arguments, self._talk, **waits)

    async def _talk(self, client: Client) -> int:
        try:
            (entry,) = await client.submit_many([self._submission])
        except AccessDenied:
            raise
        except ConnectionFailed as error:
            again = f"The job may have been stored; to submit it again safely, use --id {self._submission.job_id}"
            raise type(error)(f"{error}. {again}") from None
        self._receipt = shown(entry)
        if entry.status is ReceiptStatus.REJECTED:
            complain(f"job {entry.job_id} was rejected: {entry.reason}")
            if self._arguments.json:
                print_json(self._receipt)
            return Exit.FAILED
        job_id = _job_that_runs(entry)
        if entry.status is ReceiptStatus.DUPLICATE:
            self._note(f"{entry.reason or f'job {job_id} was submitted before'}; nothing was changed")
        if self._arguments.wait:
            self._note(f"waiting for job {job_id}")
            return await self._waiting.wait(client, [job_id], self._arguments.wait_timeout)
        if self._arguments.json:
            print_json(self._receipt)
        else:
            print_line(job_id)
        return Exit.OK

    def _note(self, text: str) -> None:
        if not self._arguments.quiet:
            note(text)

    def _print(self, ended: Completion) -> None:
        if self._arguments.json:
            print_json({**self._receipt, **completion_fields(ended)})
        else:
            print_outcome(ended)


def _job_that_runs(entry: ReceiptEntry) -> str:
    """The job that runs for a submission: the holder of its unique key if there is one, else the submitted job."""
    return str(entry.holder or entry.job_id)


# --- many jobs --------------------------------------------------------------------------------------------------------


def _run_batch(arguments: argparse.Namespace) -> int:
    for option, given in (("PAYLOAD", arguments.payload), ("--id", arguments.id)):
        if given is not None:
            raise UsageError(f"{option} can't be combined with --batch; set it in each line of the file")
    name = arguments.batch
    jobs, faults = batch.read(read_lines(name, batch.BOUNDS), _options(arguments))
    shown = name_of(name)
    for fault in faults[:_MOST_FAULTS]:
        complain(f"{shown}:{fault.line}: {fault.text}")
    if len(faults) > _MOST_FAULTS:
        complain(f"{shown}: {len(faults) - _MOST_FAULTS} more lines are invalid")
    if faults and not arguments.skip_bad:
        complain("nothing was sent. Correct the file, or submit only the valid lines with --skip-bad")
        return Exit.USAGE
    status = _Batch(arguments, jobs).run() if jobs else Exit.OK
    return status or (Exit.USAGE if faults else Exit.OK)


class _Batch:
    """Submits a batch of jobs, and waits for them with ``--wait``."""

    def __init__(self, arguments: argparse.Namespace, jobs: Sequence[batch.BatchLine]) -> None:
        self._arguments = arguments
        self._jobs = jobs
        self._lines = {job.submission.job_id: job.line for job in jobs}
        self._counts: Counter[ReceiptStatus] = Counter()
        self._line = StatusLine(quiet=arguments.quiet)
        self._waiting = Waiting(print_completion_json if arguments.json else print_completion, quiet=arguments.quiet)

    def run(self) -> int:
        waits = {"on_progress": self._waiting.show} if self._arguments.wait else {"notices": False}
        try:
            return converse(self._arguments, self._talk, **waits)
        except ConnectionFailed as error:
            answered = f"The dispatcher answered {self._counts.total()} of {len(self._jobs)} jobs before"
            raise type(error)(f"{error}. {answered}; lines with an ID can be submitted again safely") from None

    async def _talk(self, client: Client) -> int:
        entries = await client.submit_many((job.submission for job in self._jobs), self._print)
        self._line.clear()
        if not self._arguments.quiet:
            counts = ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items()))
            note(f"{len(entries)} jobs: {counts}")
        status = Exit.FAILED if self._counts[ReceiptStatus.REJECTED] else Exit.OK
        if self._arguments.wait:
            stored = [_job_that_runs(entry) for entry in entries if entry.status is not ReceiptStatus.REJECTED]
            return (await self._waiting.wait(client, stored, self._arguments.wait_timeout)) or status
        return status

    def _print(self, entries: Sequence[ReceiptEntry]) -> None:
        self._line.clear()
        for entry in entries:
            self._counts[entry.status] += 1
            line = self._lines.get(entry.job_id)
            if self._arguments.json:
                print_json({"line": line, **shown(entry)})
            elif entry.status is ReceiptStatus.REJECTED:
                complain(f"line {line}: job {entry.job_id} was rejected: {entry.reason}")
            elif not self._arguments.wait:
                print_line(_job_that_runs(entry))
        self._line.show(f"{self._counts.total()} of {len(self._jobs)} jobs")
