"""``stockworker submit``: one job, or a batch of them."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from stockworker.cli import batch
from stockworker.cli.connection import converse
from stockworker.cli.jobs import say_result
from stockworker.cli.payload import read_file, read_payload
from stockworker.cli.printing import Waiting, ending_fields, print_ending, print_ending_json
from stockworker.cli.steering import receipt_fields
from stockworker.client import Client, Ended, make_submission
from stockworker.errors import AccessDenied, ConnectionFailed, JobRejected
from stockworker.protocol.job import PRIORITY_BY_LABEL
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission
from stockworker.terminal.arguments import add_client_options, attempts, delay, identifier, moment, timeout
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import StatusLine, complain, note, print_json

_MOST_FAULTS: Final = 20
_WHEN: Final = "a time such as 2026-05-01T09:30:00Z, or a duration from now such as 5m"


def submit(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker submit``."""
    parser.description = (
        "Submit a job, and print its id: the job is on the dispatcher's disk then. With --wait print its result "
        "instead. With --batch submit a job per line of a file; the file is checked as a whole before anything is sent."
    )
    parser.add_argument(
        "type", type=identifier, nargs="?", metavar="TYPE", help="type of the job; which handler runs it"
    )
    parser.add_argument(
        "payload",
        nargs="?",
        metavar="PAYLOAD",
        help="JSON text, @FILE to read it from a file, or - for standard input (default: null)",
    )
    _add_job_options(parser.add_argument_group("the job"))
    many = parser.add_argument_group("many jobs")
    many.add_argument(
        "--batch",
        metavar="FILE",
        help="read jobs from a file, or from standard input (-): a JSON object per line, with the fields type, payload, "
        "id, priority, not_before, expires_at, timeout, max_attempts, backoff, max_crashes, tags, unique; for those that "
        "a line lacks, TYPE and the options hold",
    )
    many.add_argument("--skip-bad", action="store_true", help="submit the good lines even if others are bad")
    waiting = parser.add_argument_group("waiting")
    waiting.add_argument("--wait", action="store_true", help="wait until the job has ended, and print its result")
    waiting.add_argument("--wait-timeout", type=timeout, metavar="DURATION", help="how long; implies --wait")
    add_client_options(parser)
    parser.set_defaults(run=_run)


def _add_job_options(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--id", type=identifier, help="id of the job; the same id again is the same job, and harmless")
    group.add_argument(
        "--unique",
        type=identifier,
        metavar="KEY",
        help="while a job of this type with this key lives, submit nothing, and take that job for this one",
    )
    group.add_argument("--priority", choices=tuple(PRIORITY_BY_LABEL), default="normal", help="default: normal")
    group.add_argument("--not-before", type=moment, metavar="WHEN", help=f"earliest start: {_WHEN}")
    group.add_argument("--expires-at", type=moment, metavar="WHEN", help=f"latest start: {_WHEN}")
    group.add_argument("--timeout", type=timeout, metavar="DURATION", help="how long one attempt may run")
    group.add_argument("--max-attempts", type=attempts, metavar="NUMBER", help="how often it may fail; 1 is no retry")
    group.add_argument(
        "--backoff", type=delay, metavar="DURATION", help="wait after the first failure; doubles with each further one"
    )
    group.add_argument("--max-crashes", type=attempts, metavar="NUMBER", help="how many processes it may take down")
    group.add_argument(
        "--tag", type=identifier, action="append", default=[], help="what its worker must have; may be repeated"
    )


def _run(arguments: argparse.Namespace) -> int:
    arguments.wait = arguments.wait or arguments.wait_timeout is not None
    if arguments.batch is not None:
        return _run_batch(arguments)
    if arguments.type is None:
        raise UsageError("name the TYPE of the job, or a file with --batch")
    if arguments.skip_bad:
        raise UsageError("--skip-bad goes with --batch")
    return _run_single(arguments)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "job_type": arguments.type,
        "id": arguments.id,
        "priority": arguments.priority,
        "not_before": arguments.not_before,
        "expires_at": arguments.expires_at,
        "timeout_s": arguments.timeout,
        "max_attempts": arguments.max_attempts,
        "backoff_s": arguments.backoff,
        "max_crashes": arguments.max_crashes,
        "tags": arguments.tag,
        "unique": arguments.unique,
    }


# --- one job ----------------------------------------------------------------------------------------------------------


def _run_single(arguments: argparse.Namespace) -> int:
    try:
        submission = make_submission(text=read_payload(arguments.payload), **_options(arguments))
    except JobRejected as error:
        raise UsageError(str(error)) from None
    return _Single(arguments, submission).run()


class _Single:
    """Submits one job, and waits for it if that is wanted."""

    def __init__(self, arguments: argparse.Namespace, submission: Submission) -> None:
        self._arguments = arguments
        self._submission = submission
        self._receipt: dict[str, str] = {}
        self._waiting = Waiting(self._say, quiet=arguments.quiet)

    def run(self) -> int:
        waits = {"on_progress": self._waiting.show} if self._arguments.wait else {"notices": False}
        return converse(self._arguments, self._talk, **waits)

    async def _talk(self, client: Client) -> int:
        try:
            (entry,) = await client.submit_many([self._submission])
        except AccessDenied:
            raise
        except ConnectionFailed as error:
            again = f"; if it may have been stored, submit it again with --id {self._submission.job_id}"
            raise type(error)(f"{error}{again}") from None
        self._receipt = receipt_fields(entry)
        if entry.status is ReceiptStatus.REJECTED:
            complain(f"job {entry.job_id} was rejected: {entry.reason}")
            if self._arguments.json:
                print_json(self._receipt)
            return Exit.FAILED
        job_id = _meant(entry)
        if entry.status is ReceiptStatus.DUPLICATE:
            self._note(f"{entry.reason or f'job {job_id} had been submitted before'}: nothing was changed")
        if self._arguments.wait:
            self._note(f"waiting for job {job_id}")
            return await self._waiting.wait(client, [job_id], self._arguments.wait_timeout)
        if self._arguments.json:
            print_json(self._receipt)
        else:
            print(job_id)
        return Exit.OK

    def _note(self, text: str) -> None:
        if not self._arguments.quiet:
            note(text)

    def _say(self, ended: Ended) -> None:
        if self._arguments.json:
            print_json({**self._receipt, **ending_fields(ended)})
        else:
            say_result(ended)


def _meant(entry: ReceiptEntry) -> str:
    """The job that will be run for a submission: another one, where that has its unique key."""
    return str(entry.holder or entry.job_id)


# --- many jobs --------------------------------------------------------------------------------------------------------


def _run_batch(arguments: argparse.Namespace) -> int:
    for option, given in (("PAYLOAD", arguments.payload), ("--id", arguments.id)):
        if given is not None:
            raise UsageError(f"{option} does not go with --batch: each line has its own")
    name = arguments.batch
    lines = sys.stdin.buffer if name == "-" else read_file(name).splitlines()
    jobs, faults = batch.read(lines, _options(arguments))
    shown = "standard input" if name == "-" else name
    for fault in faults[:_MOST_FAULTS]:
        complain(f"{shown}:{fault.line}: {fault.text}")
    if len(faults) > _MOST_FAULTS:
        complain(f"{shown}: {len(faults) - _MOST_FAULTS} more lines are bad")
    if faults and not arguments.skip_bad:
        complain("nothing was sent: mend the file, or submit the good lines with --skip-bad")
        return Exit.USAGE
    status = _Batch(arguments, jobs).run() if jobs else Exit.OK
    return status or (Exit.USAGE if faults else Exit.OK)


class _Batch:
    """Submits many jobs, and waits for them if that is wanted."""

    def __init__(self, arguments: argparse.Namespace, jobs: Sequence[batch.BatchLine]) -> None:
        self._arguments = arguments
        self._jobs = jobs
        self._lines = {job.submission.job_id: job.line for job in jobs}
        self._counts: Counter[ReceiptStatus] = Counter()
        self._line = StatusLine(quiet=arguments.quiet)
        self._waiting = Waiting(print_ending_json if arguments.json else print_ending, quiet=arguments.quiet)

    def run(self) -> int:
        waits = {"on_progress": self._waiting.show} if self._arguments.wait else {"notices": False}
        try:
            return converse(self._arguments, self._talk, **waits)
        except ConnectionFailed as error:
            stored = f"{self._counts.total()} of {len(self._jobs)} jobs were answered before"
            raise type(error)(f"{error} ({stored}; lines with an id can be submitted again)") from None

    async def _talk(self, client: Client) -> int:
        entries = await client.submit_many((job.submission for job in self._jobs), self._say)
        self._line.clear()
        if not self._arguments.quiet:
            counts = ", ".join(f"{count} {status}" for status, count in sorted(self._counts.items()))
            note(f"{len(entries)} jobs: {counts}")
        status = Exit.FAILED if self._counts[ReceiptStatus.REJECTED] else Exit.OK
        if self._arguments.wait:
            stored = [_meant(entry) for entry in entries if entry.status is not ReceiptStatus.REJECTED]
            return (await self._waiting.wait(client, stored, self._arguments.wait_timeout)) or status
        return status

    def _say(self, entries: Sequence[ReceiptEntry]) -> None:
        self._line.clear()
        for entry in entries:
            self._counts[entry.status] += 1
            line = self._lines.get(entry.job_id)
            if self._arguments.json:
                print_json({"line": line, **receipt_fields(entry)})
            elif entry.status is ReceiptStatus.REJECTED:
                complain(f"line {line}: job {entry.job_id} was rejected: {entry.reason}")
            elif not self._arguments.wait:
                print(_meant(entry))
        self._line.show(f"{self._counts.total()} of {len(self._jobs)} jobs")
