"""A result travels as one type: what the process that ran an attempt reports is what the dispatcher decides by."""

from dataclasses import asdict, fields

import pytest

from stockworker.errors import DecodeError
from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import JobId, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport, Report

RESULT = AttemptResult(Token("t1"), Outcome.ERROR, "null", "no data", permanent=True, ran_s=1.5)


def report_of(result: AttemptResult) -> AttemptReport:
    return AttemptReport(job_id=JobId("j1"), **asdict(result))


def test_a_report_is_a_result_with_its_job() -> None:
    assert {field.name for field in fields(AttemptReport)} == {field.name for field in fields(AttemptResult)} | {
        "job_id"
    }


def test_every_field_of_a_result_arrives_at_the_dispatcher() -> None:
    received = codec.decode(codec.encode(Report(WorkerId("w1"), (report_of(RESULT),))))

    assert isinstance(received, Report)
    (attempt,) = received.attempts
    arrived = {field.name: getattr(attempt, field.name) for field in fields(AttemptResult)}
    assert arrived == asdict(RESULT)


def test_an_error_text_is_bounded() -> None:
    result = AttemptResult(Token("t1"), Outcome.ERROR, error="x" * (MAX_TEXT + 1))
    packet = codec.encode(Report(WorkerId("w1"), (report_of(result),)))

    with pytest.raises(DecodeError, match=r"attempts\[0\]\.error"):
        codec.decode(packet)
