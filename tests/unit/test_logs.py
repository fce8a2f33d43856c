"""What ends up in the log, and what can't be smuggled into it."""

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.logs import configure, lines, log_event
from stockworker.logs.events import Fault, JobFailed, JobMoved, MessageRefused, Ready
from stockworker.logs.worker_events import AttemptFailed, HandlerLog

LOGGER = logging.getLogger("stockworker.test")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, gmqtt = logging.getLogger(), logging.getLogger("gmqtt")
    before = (root.handlers[:], root.level, gmqtt.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    gmqtt.setLevel(before[2])


def configured(level: str = "info", form: Literal["auto", "text", "json"] = "auto") -> io.StringIO:
    stream = io.StringIO()
    configure(level, form, stream)
    return stream


def failure(reason: str, *, ran_s: float) -> AttemptFailed:
    return AttemptFailed(job="j1", type=None, attempt=2, outcome="error", reason=reason, ran_s=ran_s)


def test_text_has_time_level_words_and_fields() -> None:
    stream = configured()

    log_event(LOGGER, failure("no such file: x", ran_s=0.12345))

    time, rest = stream.getvalue().split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'WARNING an attempt failed job=j1 attempt=2 outcome=error reason="no such file: x" ran_s=0.123\n'


def test_json_has_one_object_per_line() -> None:
    stream = configured(form="json")

    log_event(LOGGER, failure("a\nb\u2028\x9b", ran_s=float("inf")))
    LOGGER.warning("plain %s", "words")

    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning", "logger": "stockworker.test", "event": "attempt_failed", "text": "an attempt failed",
        "job": "j1", "attempt": 2, "outcome": "error", "reason": "a\nb\u2028\x9b", "ran_s": "inf",
    }  # fmt: skip
    assert (second["text"], "event" in second) == ("plain words", False)


def test_a_line_of_a_library_names_it() -> None:
    stream = configured()

    logging.getLogger("asyncio").warning("slow\n2026-01-01 INFO forged")

    assert stream.getvalue().endswith("WARNING asyncio: slow\\n2026-01-01 INFO forged\n")


@given(st.text(), st.text())
def test_no_value_can_forge_a_line(message: str, value: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (message,), None)
    record.__dict__["fields"] = {"reason": value}

    text = lines.text_line(record)
    assert text.isprintable()
    assert lines.json_line(record).isascii()
    assert lines.for_journal(lines.bare_line)(record).startswith("<6>x: ")


@given(st.text(max_size=50))
def test_a_quoted_value_ends_where_it_should(value: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)
    record.__dict__["fields"] = {"reason": value, "job": "j1"}

    assert re.fullmatch(r'x: m reason=([^\s"\'=\\]+|"([^"\\]|\\.)*") job=j1', lines.bare_line(record))


def test_a_long_value_is_cut() -> None:
    for form in ("text", "json"):
        stream = configured(form=form)
        log_event(LOGGER, MessageRefused(topic="t", reason="x" * 100_000))
        assert len(stream.getvalue()) < 2500


def fail() -> None:
    raise ValueError("first\n<0>forged")


def raised() -> ValueError:
    with pytest.raises(ValueError, match="first") as caught:
        fail()
    return caught.value


def test_a_traceback_stands_behind_a_margin() -> None:
    stream = configured()

    log_event(LOGGER, Fault(where="machine"), exc_info=raised())

    head, *rest = stream.getvalue().splitlines()
    assert head.endswith("ERROR   internal error where=machine")
    assert all(line.startswith("    | ") for line in rest)
    assert [line[6:] for line in rest[-2:]] == ["ValueError: first", "<0>forged"]


def test_under_systemd_each_line_has_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        configure("debug", "auto", stream)
        log_event(LOGGER, JobMoved(job="j1", type="echo", state="running", attempt=1, worker=None))
        log_event(LOGGER, Ready(id="w-1"))
        log_event(LOGGER, JobFailed(job="j1", type="echo", attempt=1, worker=None, outcome="error", reason=None))
        log_event(LOGGER, Fault(where="machine"), exc_info=raised())
        configure("debug", "json", stream)
        log_event(LOGGER, Ready(id="w-1"))
    written = (tmp_path / "journal").read_text().splitlines()

    assert written[:4] == [
        "<7>a job moved on job=j1 type=echo state=running attempt=1",
        "<6>ready id=w-1",
        "<4>a job has failed job=j1 type=echo attempt=1 outcome=error",
        "<3>internal error where=machine",
    ]
    assert all(line.startswith("<3>    | ") for line in written[4:-1])
    assert json.loads(written[-1].removeprefix("<6>"))["id"] == "w-1"


def test_another_stream_is_not_taken_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "log").open("w+") as stream:
        configure("info", "auto", stream)
        log_event(LOGGER, Ready(id="w-1"))
        stream.seek(0)
        assert stream.read().endswith("Z INFO    ready id=w-1\n")


def handler_line(message: str) -> HandlerLog:
    return HandlerLog(job="j1", type="echo", attempt=1, message=message)


def test_levels_are_respected_and_can_be_overridden() -> None:
    stream = configured("warning")

    log_event(LOGGER, handler_line("unimportant"))
    log_event(LOGGER, handler_line("important"), level=logging.ERROR)

    assert stream.getvalue().endswith("ERROR   handler job=j1 type=echo attempt=1 message=important\n")
    assert stream.getvalue().count("\n") == 1


def test_the_mqtt_client_never_logs_payloads() -> None:
    stream = configured("debug")

    logging.getLogger("gmqtt").debug("payload")
    assert stream.getvalue() == ""

    for level in ("info", "error"):
        configure(level, "auto", stream)
        logging.getLogger("gmqtt.mqtt.protocol").warning("[EXC: CONN LOST]", exc_info=ConnectionResetError())
        assert stream.getvalue() == ""


def test_configuring_again_replaces_the_settings() -> None:
    first, second = configured(), configured(form="json")

    log_event(LOGGER, Ready(id="w-1"))

    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
