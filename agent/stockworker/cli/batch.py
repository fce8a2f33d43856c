"""A batch of jobs: one JSON object per line. The whole batch is read and checked before anything is sent."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from stockworker.cli.job_options import OPTIONS, read_option, read_value
from stockworker.client import make_submission
from stockworker.errors import JobRejected
from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.fields import parse_json
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Submission
from stockworker.protocol.suggestion import suggestion
from stockworker.terminal.arguments import identifier
from stockworker.terminal.given import LineBounds

_PARTICULARS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "id": ("id", identifier),
    "type": ("job_type", identifier),
    "priority": ("priority", str),
}
"""Fields beside the job options → argument of `make_submission`, and the parser of its value."""

FIELDS: Final = ("type", "payload", "id", "priority", *OPTIONS)

BOUNDS: Final = LineBounds(line_bytes=8 * MAX_CONTENT, lines=1_000_000, bytes=2**30)
"""Of a batch. A line can be longer than its payload: JSON may escape each character with six bytes."""


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A job and the number of its line."""

    line: int
    submission: Submission


@dataclass(frozen=True, slots=True)
class InvalidLine:
    """An error in a line."""

    line: int
    text: str


def read(lines: Iterable[bytes], defaults: Mapping[str, Any]) -> tuple[list[BatchLine], list[InvalidLine]]:
    """Read a batch; empty lines are ignored.

    Args:
        lines: the lines of the file; the first is number 1.
        defaults: options of `make_submission` for fields that a line does not have.
    """
    jobs: list[BatchLine] = []
    faults: list[InvalidLine] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            submission = _read_job(line, defaults)
        except (_Wrong, JobRejected) as error:
            faults.append(InvalidLine(number, str(error)))
            continue
        first = seen.setdefault(str(submission.job_id), number)
        if first == number:
            jobs.append(BatchLine(number, submission))
        else:
            faults.append(
                InvalidLine(number, f"id: line {first} has the same ID {submission.job_id}; use a different one")
            )
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
        if name not in FIELDS:
            raise _Wrong(f"{name}: unknown field{suggestion(name, FIELDS)}; valid fields are {', '.join(FIELDS)}")
        if value is not None and name != "payload":
            options.update([_read_field(name, value)])
    if options.get("job_type") is None:
        raise _Wrong(
            "type: missing, here and on the command line; add it to the line, or name TYPE on the command line"
        )
    return make_submission(payload=fields.get("payload"), **options)


def _read_field(name: str, value: Any) -> tuple[str, Any]:
    """The argument of `make_submission` that a field gives, and its value."""
    try:
        if name in OPTIONS:
            return OPTIONS[name].attribute, read_option(OPTIONS[name], value)
        argument, parse = _PARTICULARS[name]
        return argument, read_value(value, parse)
    except argparse.ArgumentTypeError as error:
        raise _Wrong(f"{name}: {error}") from None
