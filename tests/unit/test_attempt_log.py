"""What an attempt reports while it runs: progress, and what it logs and prints."""

import json
import logging

from stockworker.protocol.ids import Token
from stockworker.worker import frames
from stockworker.worker.attempt_log import JobLog, RunningAttempt
from stockworker.worker.output import MOST_KEPT

TOKEN = Token("00c0ffee12345678")


def attempt() -> tuple[RunningAttempt, list[bytes]]:
    sent: list[bytes] = []
    return RunningAttempt(TOKEN, sent.append), sent


def test_an_attempt_that_is_cancelled_knows_it_and_is_woken() -> None:
    running, _ = attempt()
    woken: list[bool] = []
    running.wake = lambda: woken.append(running.is_cancelled())
    assert not running.is_cancelled()
    running.cancel()
    assert woken == [True]


def test_a_plain_function_is_cancelled_without_being_woken() -> None:
    running, _ = attempt()
    running.cancel()
    assert running.is_cancelled()


def test_what_was_printed_waits_and_is_sent_once() -> None:
    running, sent = attempt()
    assert running.kept() == b""
    running.keep("a")
    running.keep("b\n")
    assert sent == []
    assert running.kept() == frames.encode(frames.OUTPUT, TOKEN, "ab\n", 0)
    assert running.kept() == b""


def test_of_much_text_only_the_end_waits_and_the_rest_is_counted_in_bytes() -> None:
    running, _ = attempt()
    running.keep("€" * MOST_KEPT)
    running.keep("x" * MOST_KEPT)
    running.keep("end")
    expected = frames.encode(frames.OUTPUT, TOKEN, "x" * (MOST_KEPT - 3) + "end", 3 * MOST_KEPT + 3)
    assert running.kept() == expected


def test_progress_is_within_bounds_and_not_too_often() -> None:
    running, sent = attempt()
    running.progress(1.5, "half")
    running.progress(0.6, "too soon")
    assert sent == [frames.encode(frames.PROGRESS, TOKEN, 1.0, "half")]


def test_progress_that_is_no_number_is_none() -> None:
    running, sent = attempt()
    running.progress(float("nan"))
    assert [json.loads(sent[0])[-2:]] == [[0.0, ""]]


def test_a_log_record_is_kept_with_its_time_and_level() -> None:
    running, sent = attempt()
    record = logging.LogRecord("jobs", logging.WARNING, "jobs.py", 1, "no %s", ("bars",), None)
    record.created = 1.7e9
    JobLog(sent.append, lambda: running).emit(record)
    kept = frames.encode(frames.OUTPUT, TOKEN, "22:13:20Z WARNING no bars\n", 0)
    assert sent == [kept + frames.encode(frames.LOG, TOKEN, logging.WARNING, "no bars")]
