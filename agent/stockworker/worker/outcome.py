"""How an attempt ended, judged by what its process left behind. Pure."""

import math
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from stockworker.handlers.spec import Limits
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT, fits, sendable
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome

DATA_ERROR = 65
"""Exit code by which a command prevents further attempts (EX_DATAERR in sysexits.h)."""


def describe(summary: str, detail: str = "") -> str:
    """Join an error text of at most `MAX_TEXT` characters: the beginning of the summary, the end of the detail."""
    summary = sendable(summary.strip(), MAX_TEXT // 2)
    detail = sendable(detail.strip()[-(MAX_TEXT - len(summary) - 1) :])
    return f"{summary}\n{detail}" if detail else summary


def accept_result(token: Token, text: str) -> AttemptResult:
    """Judge a result in JSON text: if it is too large for a message, another attempt can't help."""
    if fits(text):
        return AttemptResult(token, Outcome.OK, result=text)
    return too_large(token)


def find_non_finite(value: Any) -> str | None:
    """Describe where a NaN or an infinity in JSON data is, if there is one. `1e999` is read as infinity."""
    waiting: list[tuple[str, Any]] = [("result", value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return f"{path} is {value}"
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            items = value.items()
        elif isinstance(value, list | tuple):
            items = enumerate(value)
        waiting.extend((f"{path}[{key!r}]", item) for key, item in items)
    return None


def too_large(token: Token) -> AttemptResult:
    """Judge a result of more than `MAX_CONTENT` bytes."""
    limit = f"the result is larger than {MAX_CONTENT} bytes as a JSON string"
    return AttemptResult(
        token, Outcome.ERROR, error=f"{limit}: store it elsewhere and return where it is", permanent=True
    )


def use_up_cpu(token: Token, limits: Limits, detail: str = "") -> AttemptResult:
    """Judge an attempt that was stopped because it had used up its processor time."""
    allowed = "" if limits.cpu_s is None else f" of {limits.cpu_s} s"
    return AttemptResult(token, Outcome.TIMED_OUT, error=describe(f"CPU limit{allowed} exceeded", detail))


def find_shortage(memory_events: Mapping[str, int], job_type: JobType, limits: Limits) -> str:
    """Explain which memory was short when the kernel killed a process of a control group; empty if it killed none.

    Args:
        memory_events: of the group (memory.events in the kernel's documentation, admin-guide/cgroup-v2).
        job_type: what ran in it.
        limits: what it was allowed.
    """
    if not memory_events.get("oom_kill"):
        return ""
    if limits.memory_bytes is None or not memory_events.get("oom"):  # the group was not short of memory by itself
        return "the machine, or this worker as a whole, was out of memory"
    return f"it needed more memory than handlers.{job_type}.limits.memory, {_show_size(limits.memory_bytes)}"


def judge_death(
    token: Token, returncode: int | None, output: bytes, limits: Limits, shortage: str = ""
) -> AttemptResult:
    """Judge an attempt whose process ended by itself and sent no result.

    Args:
        token: names the attempt.
        returncode: its exit code, or the negative number of the signal that killed it; None if it is unknown.
        output: the end of what it printed.
        limits: what it was allowed.
        shortage: the answer of `find_shortage`.
    """
    printed = output.decode(errors="replace")
    if returncode is None:
        unknown = "the process ended, and the kernel has no exit status of it"
        return AttemptResult(token, Outcome.CRASHED, error=describe(unknown, printed))
    if returncode >= 0:
        return AttemptResult(
            token, Outcome.CRASHED, error=describe(f"the process exited with code {returncode}", printed)
        )
    if returncode == -signal.SIGXCPU:
        return use_up_cpu(token, limits, printed)
    if returncode == -signal.SIGKILL and shortage:
        return AttemptResult(token, Outcome.CRASHED, error=describe(f"killed by the kernel: {shortage}", printed))
    hint = ", and not by this worker: out of memory?" if returncode == -signal.SIGKILL else ""
    return AttemptResult(
        token, Outcome.CRASHED, error=describe(f"the process was killed by {_signal_name(-returncode)}{hint}", printed)
    )


def judge_command(
    token: Token, returncode: int | None, output: bytes, errors: bytes, limits: Limits, shortage: str = ""
) -> AttemptResult:
    """Judge a command by its exit code and what it printed.

    Args:
        token: names the attempt.
        returncode: its exit code, or the negative number of the signal that killed it; None if it is unknown.
        output: all of its standard output.
        errors: the end of its standard error.
        limits: what it was allowed.
        shortage: the answer of `find_shortage`.
    """
    if returncode is None or returncode < 0:
        return judge_death(token, returncode, errors, limits, shortage)
    if returncode != 0:
        error = describe(f"exit code {returncode}", errors.decode(errors="replace"))
        return AttemptResult(token, Outcome.ERROR, error=error, permanent=returncode == DATA_ERROR)
    try:
        result = output.decode().strip() or "null"
        beyond = find_non_finite(parse_json(result))
        if beyond is not None:
            raise FieldError(f"{beyond}, and JSON has no such number")
    except ValueError as error:
        problem = f"not UTF-8: {error}" if isinstance(error, UnicodeDecodeError) else f"it {error}"
        beginning = output[: MAX_TEXT // 4].decode(errors="replace")
        text = describe(f"exit code 0, but standard output is not a result: {problem}", beginning)
        return AttemptResult(token, Outcome.ERROR, error=text, permanent=True)
    return accept_result(token, result)


def _show_size(value: int) -> str:
    """Bytes as they are written in the configuration: in the largest unit that leaves a whole number."""
    for unit in ("", "K", "M", "G"):
        if value % 1024:
            return f"{value}{unit}"
        value //= 1024
    return f"{value}T"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
