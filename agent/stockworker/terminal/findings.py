"""The findings of `stockworker check`."""

from enum import StrEnum

from stockworker.protocol.frozen import dataclass


class Severity(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``stockworker check``. The text of a warning or failure ends with the remedy."""

    severity: Severity
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding(Severity.OK, subject, text)


def warn(subject: str, text: str) -> Finding:
    return Finding(Severity.WARN, subject, text)


def fail(subject: str, text: str) -> Finding:
    return Finding(Severity.FAIL, subject, text)
