"""Waiting for jobs, and printing receipts and completions."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from stockworker.client import Client, Completion
from stockworker.logs.lines import escaped
from stockworker.protocol.messages import Progress
from stockworker.protocol.sealed import first_line
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import StatusLine, print_document, print_json, print_line


class Waiting:
    """Waits for jobs; shows their progress, and prints how each one ended.

    Args:
        print_completion: called with each job that ended.
        quiet: show no progress.
    """

    def __init__(self, print_completion: Callable[[Completion], None], *, quiet: bool) -> None:
        self._print = print_completion
        self._line = StatusLine(quiet=quiet)
        self._open: set[str] = set()

    def show(self, progress: Progress) -> None:
        """Show the progress of a job that is waited for; a callback for `Client.on_progress`."""
        if progress.job_id in self._open:
            self._line.show(f"{progress.job_id}  {progress.fraction:4.0%}  {progress.text}")

    async def wait(self, client: Client, job_ids: Sequence[str], timeout_s: float | None) -> Exit:
        """Wait until all jobs end.

        Raises:
            JobUnknown: the dispatcher does not know one of the jobs.
            TimeoutError: not all jobs ended in time.
        """
        self._open = set(job_ids)
        status = Exit.OK
        try:
            async for ended in client.wait(job_ids, timeout_s):
                self._open.discard(ended.job_id)
                self._line.clear()
                self._print(ended)
                if not ended.has_result:
                    status = Exit.FAILED
        finally:
            self._line.clear()
        return status


def print_completion(ended: Completion) -> None:
    """Print one line about how a job ended."""
    print_line(describe(ended))


def print_completion_json(ended: Completion) -> None:
    """Print how a job ended, as a JSON object."""
    print_json(completion_fields(ended))


def describe(ended: Completion) -> str:
    """One line about how a job ended."""
    reason = f": {escaped(first_line(ended.reason))}" if ended.reason else ""
    return f"{ended.job_id} {ended.state}{reason}"


def completion_fields(ended: Completion) -> dict[str, Any]:
    """How a job ended, as a JSON object: ``job_id``, ``state``, and ``result`` or ``reason``.

    A completed job with a ``reason`` is one whose result was refused.
    """
    fields: dict[str, Any] = {"job_id": ended.job_id, "id": ended.job_id, "state": ended.state}
    if ended.has_result:
        fields["result"] = parse_result(ended.result)
    elif ended.reason is not None:
        fields["reason"] = ended.reason
    return fields


def parse_result(result: str | None) -> Any:
    """A result as JSON data; a result that is not valid JSON is a string."""
    try:
        return None if result is None else json.loads(result)
    except ValueError:
        return result


def print_result(result: str | None) -> None:
    """Print a result as the handler returned it."""
    print_document("null" if result is None else result)
