"""A message that can't be encoded is logged and left out; it must not end the service."""

import math

import pytest

from stockworker.logs.events import LogEvent, MessageUnsendable
from stockworker.protocol import codec
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport, Message, Progress, Report, Request
from stockworker.shell.departures import departures

W, J = WorkerId("host-1"), JobId("job-1")


def test_a_message_is_encoded() -> None:
    log: list[LogEvent] = []
    message = Progress(W, J, 0.5, "half")
    assert list(departures(message, log)) == [codec.encode(message)]
    assert log == []


@pytest.mark.parametrize(
    ("message", "job"),
    [
        (Progress(W, J, 0.5, "\ud800"), J),
        (Progress(W, J, math.nan, "half"), J),
        (Report(W, (AttemptReport(Token("t"), Outcome.OK, "\udfff", job_id=J),)), None),
        (Request(W, "\ud800", 1, 1, (JobType("echo"),), (), "1", ()), None),
    ],
)
def test_what_no_message_can_hold_is_logged(message: Message, job: JobId | None) -> None:
    log: list[LogEvent] = []
    assert list(departures(message, log)) == []
    (event,) = log
    assert isinstance(event, MessageUnsendable)
    assert (event.message, event.job) == (type(message).__name__, job)
    assert event.reason.isascii()
