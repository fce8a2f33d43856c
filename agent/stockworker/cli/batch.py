"""A batch of jobs: one JSON object per line. The whole batch is read and checked before anything is sent."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stockworker.client import make_submission
from stockworker.errors import JobRejected
from stockworker.protocol.fields import parse_json
from stockworker.protocol.messages import Submission
from stockworker.protocol.suggestion import suggestion
from stockworker.terminal.arguments import attempts, delay, identifier, moment, timeout

_OPTIONS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "id": ("id", identifier),
    "type": ("job_type", identifier),
    "priority": ("priority", str),
    "not_before": ("not_before", moment),
    "expires_at": ("expires_at", moment),
    "timeout": ("timeout_s", timeout),
    "max_attempts": ("max_attempts", attempts),
    "backoff": ("backoff_s", delay),
    "max_crashes": ("max_crashes", attempts),
    "unique": ("unique", identifier),
}
"""Field name, as in the protocol → option of `make_submission`, and the parser of its value."""

_TIMES: Final = frozenset({"not_before", "expires_at"})
_FIELDS: Final = (*_OPTIONS, "payload", "tags")


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A job and the number of its line."""

    line: int
    submission: Submission


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a line."""

    line: int
    text: str


def read(lines: Iterable[bytes], defaults: Mapping[str, Any]) -> tuple[list[BatchLine], list[Fault]]:
    """Read a batch; empty lines are ignored.

    Args:
        lines: the lines of the file; the first is number 1.
        defaults: options of `make_submission` for fields that a line does not have.
    """
    jobs: list[BatchLine] = []
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            submission = _read_job(line, defaults)
        except (_Wrong, JobRejected) as error:
            faults.append(Fault(number, str(error)))
            continue
        first = seen.setdefault(str(submission.job_id), number)
        if first == number:
            jobs.append(BatchLine(number, submission))
        else:
            faults.append(Fault(number, f"id: line {first} has the same ID {submission.job_id}; use a different one"))
    return jobs, faults


class _Wrong(Exception):
    pass


def _read_job(line: bytes, defaults: Mapping[str, Any]) -> Submission:
    try:
        fields = parse_json(line.strip().decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise _Wrong(str(error)) from None
    if not isinstance(fields, dict):
        raise _Wrong('not a JSON object; write {"type": "...", "payload": ...}')
    options = dict(defaults)
    for name, value in fields.items():
        if name not in _FIELDS:
            raise _Wrong(f"{name}: unknown field{suggestion(name, _FIELDS)}; valid fields are {', '.join(_FIELDS)}")
        if name in _OPTIONS and value is not None:
            option, parse = _OPTIONS[name]
            options[option] = _read_option(name, value, parse)
    if "tags" in fields:
        options["tags"] = _read_tags(fields["tags"])
    if options.get("job_type") is None:
        raise _Wrong(
            "type: missing, here and on the command line; add it to the line, or name TYPE on the command line"
        )
    return make_submission(payload=fields.get("payload"), **options)


def _read_option(name: str, value: Any, parse: Callable[[str], Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Wrong(f"{name}: must be a string or a number")
    if name in _TIMES and not isinstance(value, str):
        return float(value)  # seconds since the epoch, as in the protocol
    try:
        return parse(value if isinstance(value, str) else json.dumps(value))
    except argparse.ArgumentTypeError as error:
        raise _Wrong(f"{name}: {error}") from None


def _read_tags(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise _Wrong("tags: must be a list of strings")
    return value
