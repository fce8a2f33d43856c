"""Waiting for jobs, and saying how they have ended."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from stockworker.client import Client, Ended
from stockworker.logs.lines import escaped
from stockworker.protocol.messages import Progress
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import StatusLine, print_json


class Waiting:
    """A wait for some jobs; shows how far they are, and says how each has ended.

    Args:
        say: is called with each job that has ended.
        quiet: show no progress.
    """

    def __init__(self, say: Callable[[Ended], None], *, quiet: bool) -> None:
        self._say = say
        self._line = StatusLine(quiet=quiet)
        self._open: set[str] = set()

    def show(self, progress: Progress) -> None:
        """Show how far a job is, if it is one of those that are waited for: for `Client.on_progress`."""
        if progress.job_id in self._open:
            self._line.show(f"{progress.job_id}  {progress.fraction:4.0%}  {progress.text}")

    async def wait(self, client: Client, job_ids: Sequence[str], timeout_s: float | None) -> Exit:
        """Wait until all have ended.

        Raises:
            JobUnknown: the dispatcher does not know one of them.
            TimeoutError: not all have ended in time.
        """
        self._open = set(job_ids)
        status = Exit.OK
        try:
            async for ended in client.wait(job_ids, timeout_s):
                self._open.discard(ended.job_id)
                self._line.clear()
                self._say(ended)
                if not ended.has_result:
                    status = Exit.FAILED
        finally:
            self._line.clear()
        return status


def print_ending(ended: Ended) -> None:
    """Say in a line how a job has ended."""
    print(describe(ended), flush=True)


def print_ending_json(ended: Ended) -> None:
    """Print how a job has ended, for programs."""
    print_json(ending_fields(ended))


def describe(ended: Ended) -> str:
    """How a job has ended, in a line."""
    reason = f": {escaped(first_line(ended.reason))}" if ended.reason else ""
    return f"{ended.job_id} {ended.state}{reason}"


def first_line(reason: str | None) -> str:
    """What went wrong, without the places in the code that follow."""
    return (reason or "").partition("\n")[0]


def ending_fields(ended: Ended) -> dict[str, Any]:
    """How a job has ended, as a JSON object: ``id``, ``state``, and ``result`` or ``reason``.

    A completed job with a ``reason`` is one whose result is refused.
    """
    fields: dict[str, Any] = {"id": ended.job_id, "state": ended.state}
    if ended.has_result:
        fields["result"] = parse_result(ended.result)
    elif ended.reason is not None:
        fields["reason"] = ended.reason
    return fields


def parse_result(result: str | None) -> Any:
    """A result as JSON data; one that is no JSON is a string."""
    try:
        return None if result is None else json.loads(result)
    except ValueError:
        return result


def print_result(result: str | None) -> None:
    """Print a result as the handler returned it; without what could steer a terminal, if it goes to one."""
    text = "null" if result is None else result
    print("\n".join(map(escaped, text.split("\n"))) if sys.stdout.isatty() else text)
