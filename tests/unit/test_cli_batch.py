"""Reading a batch of jobs."""

from typing import Any

import pytest

from stockworker.adapters import clock
from stockworker.cli.batch import InvalidLine, read
from stockworker.protocol.job import Priority


def faults(*lines: bytes, **defaults: Any) -> list[InvalidLine]:
    return read(lines, defaults)[1]


def test_a_line_says_all_that_the_command_line_can() -> None:
    line = (
        b'{"id": "a", "type": "echo", "priority": "high", "payload": {"b": [1.5, null]}, "not_before": 1900000000,'
        b' "expires_at": "2031-01-01T00:00:00Z", "timeout": "5m", "max_attempts": 2, "backoff": 0.5, "max_crashes": "1",'
        b' "tags": ["ssd"]}\n'
    )

    (job,), bad = read([line], {})

    submission = job.submission
    assert bad == []
    assert (job.line, submission.job_id, submission.type, submission.priority) == (1, "a", "echo", Priority.HIGH)
    assert submission.payload == '{"b": [1.5, null]}'
    assert (submission.not_before, submission.expires_at) == (1900000000.0, 1924992000.0)
    assert (submission.timeout_s, submission.backoff_s) == (300.0, 0.5)
    assert (submission.max_attempts, submission.max_crashes, submission.tags) == (2, 1, frozenset({"ssd"}))


def test_what_a_line_lacks_the_command_line_says() -> None:
    defaults = {"job_type": "echo", "id": None, "priority": "low", "tags": ["eu"], "timeout_s": 9.0}

    jobs, _ = read([b"{}", b'{"type": "fail", "priority": "high", "tags": [], "timeout": null}'], defaults)

    first, second = (job.submission for job in jobs)
    assert (first.type, first.priority, first.tags, first.timeout_s) == ("echo", Priority.LOW, frozenset({"eu"}), 9.0)
    assert (second.type, second.priority, second.tags, second.timeout_s) == ("fail", Priority.HIGH, frozenset(), 9.0)
    assert first.payload == "null"
    assert first.job_id is not None
    assert first.job_id != second.job_id


def test_empty_lines_count_and_are_passed_over() -> None:
    jobs, bad = read([b"\n", b"  \n", b'{"type": "echo"}\n'], {})

    assert ([job.line for job in jobs], bad) == ([3], [])


def test_a_time_may_count_from_now() -> None:
    before = clock.wall()
    (job,), _ = read([b'{"type": "echo", "not_before": "1h"}'], {})

    assert job.submission.not_before is not None
    assert before + 3600 <= job.submission.not_before <= clock.wall() + 3600


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"type":', "is not JSON: Expecting value: line 1 column 9"),
        (b'{"type": "echo", "payload": NaN}', "is not JSON: NaN is not JSON"),
        (b'{"type": "echo", "payload": 1e999}', "Out of range float values are not JSON compliant"),
        (b"\xff", "'utf-8' codec"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["echo"]', "not a JSON object"),
        (b'{"payload": 1}', "type: missing"),
        (b'{"type": "a b"}', "type: must be an ID (1 to 64 of A-Z a-z 0-9 . _ -), not 'a b'"),
        (b'{"type": "echo", "prio": "high"}', "prio: unknown field"),
        (b'{"type": "echo", "pirority": "high"}', "did you mean 'priority'?"),
        (b'{"type": "echo", "priority": "urgent"}', "priority 'urgent' is not one of high, normal, low"),
        (b'{"type": "echo", "timeout": "soon"}', "timeout: must be a duration (a number of seconds, "),
        (b'{"type": "echo", "timeout": true}', "timeout: must be a string or a number"),
        (b'{"type": "echo", "max_attempts": 1.5}', "max_attempts: must be a whole number, not '1.5'"),
        (b'{"type": "echo", "not_before": "tomorrow"}', "not_before: must be a time such as 2026-05-01T09:30:00Z, "),
        (b'{"type": "echo", "tags": "ssd"}', "tags: must be a list of strings"),
        (b'{"type": "echo", "tags": ["s d"]}', "'s d'"),
        (b'{"type": "echo", "payload": "' + b"x" * 300_000 + b'"}', "the payload is too large"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(line: bytes, text: str) -> None:
    (fault,) = faults(b'{"type": "echo"}', line)

    assert fault.line == 2
    assert text in fault.text


def test_an_id_stands_for_one_job() -> None:
    line = b'{"type": "echo", "id": "a"}'

    assert faults(line, line) == [InvalidLine(2, "id: line 1 has the same ID a; use a different one")]
