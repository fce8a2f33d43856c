"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``stockworker check``; the text of what is not ok ends with the remedy."""

    verdict: Severity
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding(Severity.OK, subject, text)


def warn(subject: str, text: str) -> Finding:
    return Finding(Severity.WARN, subject, text)


def fail(subject: str, text: str) -> Finding:
    return Finding(Severity.FAIL, subject, text)
