"""Sealing in a worker: payloads are opened for handlers, results sealed before they are journaled, refusals distinct."""

import json
import logging
from dataclasses import replace

import pytest

from stockworker.adapters import clock
from stockworker.errors import SealRefused
from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.body import MAX_TEXT, content_size, output_room
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.sealed import LONGEST_ERROR, is_sealed
from stockworker.sealing.keyring import Holder
from stockworker.sealing.submitter_seal import Sent
from stockworker.worker.sealing import WorkerSealing, shorten
from stockworker.worker.work import Work
from tests.harness.seals import JOB, NOW, PRICE_UPDATE, Parties, group, job, sent_of

TOKEN = Token("t1")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "wall", lambda: NOW)


@pytest.fixture
def parties() -> Parties:
    return Parties()


def work(payload: str) -> Work:
    return Work(TOKEN, JOB, PRICE_UPDATE, 1, payload, 60.0)


def sealed(parties: Parties) -> str:
    return parties.submitter().seal_job(job({"symbol": "ACME"}), JOB, NOW).text


def opened(parties: Parties) -> tuple[WorkerSealing, Sent]:
    sealing, text = WorkerSealing(parties.worker()), sealed(parties)
    assert isinstance(sealing.open(work(text)), Work)
    return sealing, sent_of(text)


def test_a_sealed_payload_is_opened_and_its_result_sealed(parties: Parties) -> None:
    sealing, text = WorkerSealing(parties.worker()), sealed(parties)

    assert sealing.open(work(text)) == work('{"symbol": "ACME"}')
    assert sealing.covers(TOKEN)
    attempt_result = sealing.close(AttemptResult(TOKEN, Outcome.OK, result='"rich"'))
    assert attempt_result.outcome is Outcome.OK
    assert parties.submitter().open_result(attempt_result.result or "", JOB, NOW, sent_of(text)) == '"rich"'
    assert not sealing.covers(TOKEN)


def test_an_error_text_is_sealed(parties: Parties) -> None:
    sealing, sent = opened(parties)
    attempt_result = sealing.close(AttemptResult(TOKEN, Outcome.ERROR, error="no price: ACME", permanent=True))

    assert (attempt_result.outcome, attempt_result.permanent) == (Outcome.ERROR, True)
    assert parties.submitter().open_error(attempt_result.error or "", JOB, NOW, sent) == "no price: ACME"


def test_a_long_error_text_keeps_its_beginning_and_its_end(parties: Parties) -> None:
    sealing, sent = opened(parties)
    text = "first line\n" + "ü" * MAX_TEXT + "\nlast line"
    error = sealing.close(AttemptResult(TOKEN, Outcome.CRASHED, error=text[:MAX_TEXT] + "\nlast line")).error or ""
    read = parties.submitter().open_error(error, JOB, NOW, sent)

    assert LONGEST_ERROR - 10 < len(error) <= LONGEST_ERROR < MAX_TEXT
    assert read.startswith("first line\nü")
    assert read.endswith("ü\nlast line")


def test_what_is_short_is_left_as_it_is() -> None:
    assert shorten("über", 5) == "über"
    assert len(shorten("ü" * 100, 50).encode()) <= 50


def test_a_result_that_is_too_large_sealed(parties: Parties) -> None:
    sealing, sent = opened(parties)
    attempt_result = sealing.close(AttemptResult(TOKEN, Outcome.OK, result=json.dumps("x" * 190_000)))

    assert (attempt_result.outcome, attempt_result.result, attempt_result.permanent) == (Outcome.ERROR, None, True)
    read = parties.submitter().open_error(attempt_result.error or "", JOB, NOW, sent)
    assert read.startswith("the sealed result is larger than 245760 bytes: store it elsewhere")


def test_plain_payloads_are_refused_where_sealed_ones_are_required(parties: Parties) -> None:
    attempt_result = WorkerSealing(parties.worker()).open(work("{}"))

    assert isinstance(attempt_result, AttemptResult)
    assert (attempt_result.outcome, attempt_result.permanent) == (Outcome.ERROR, True)
    assert "not sealed, and this worker runs nothing else (encryption.required)" in (attempt_result.error or "")


def test_plain_payloads_pass_where_they_may(parties: Parties) -> None:
    for sealing in (WorkerSealing(parties.worker(required=False)), WorkerSealing()):
        assert sealing.open(work("{}")) == work("{}")
        attempt_result = AttemptResult(TOKEN, Outcome.OK, result="1")
        assert sealing.close(attempt_result) is attempt_result


@pytest.mark.parametrize("lacks", ["keys", "its group's key", "a listed key of its own"])
def test_what_another_worker_may_open_is_given_back(parties: Parties, lacks: str) -> None:
    seals = {
        "keys": None,
        "its group's key": parties.worker(groups=[group()]),
        "a listed key of its own": parties.worker(lines=parties.without(Holder.WORKER)),
    }
    attempt_result = WorkerSealing(seals[lacks]).open(work(sealed(parties)))

    assert isinstance(attempt_result, AttemptResult)
    assert (attempt_result.outcome, attempt_result.permanent) == (Outcome.REFUSED, False)


def test_refusals_are_counted_and_logged_without_what_is_inside(
    parties: Parties, caplog: pytest.LogCaptureFixture
) -> None:
    sealing = WorkerSealing(parties.worker(lines=parties.without(Holder.SUBMITTER)))
    with caplog.at_level(logging.WARNING):
        attempt_results = [sealing.open(work(text)) for text in (sealed(parties), "{}", "sealed.1.x.y.z")]

    assert all(
        isinstance(attempt_result, AttemptResult) and attempt_result.permanent for attempt_result in attempt_results
    )
    assert sealing.refused == 3
    fields = [record.__dict__["fields"] for record in caplog.records]
    assert [each["reason"] for each in fields] == ["untrusted", "plain", "damaged"]
    assert [each["count"] for each in fields] == [1, 2, 3]
    assert "ACME" not in caplog.text


def test_an_answer_is_sealed_with_the_keys_of_now(parties: Parties) -> None:
    sealing, sent = opened(parties)
    sealing.use(parties.worker(groups=[]))
    attempt_result = sealing.close(AttemptResult(TOKEN, Outcome.OK, result="1"))
    assert parties.submitter().open_result(attempt_result.result or "", JOB, NOW, sent) == "1"


def test_what_can_not_be_sealed_any_more_is_not_told(parties: Parties) -> None:
    for seal in (None, parties.worker(lines=parties.without(Holder.WORKER))):
        for attempt_result in (
            AttemptResult(TOKEN, Outcome.OK, result='"ACME"'),
            AttemptResult(TOKEN, Outcome.CRASHED, error="ACME"),
        ):
            sealing, _ = opened(parties)
            sealing.use(seal)
            told = sealing.close(attempt_result)
            assert told.outcome is (Outcome.ERROR if attempt_result.outcome is Outcome.OK else Outcome.CRASHED)
            assert told.result is None
            assert (told.error or "").startswith("the result or error can't be sealed: ")
            assert "ACME" not in repr(told)


def test_an_ending_without_words_stays_one(parties: Parties) -> None:
    sealing, _ = opened(parties)
    assert sealing.close(AttemptResult(TOKEN, Outcome.CANCELLED)) == AttemptResult(TOKEN, Outcome.CANCELLED)


def test_a_second_attempt_says_so(parties: Parties) -> None:
    sealing, text = WorkerSealing(parties.worker()), sealed(parties)
    sealing.open(replace(work(text), attempt=2))
    assert is_sealed(sealing.close(AttemptResult(TOKEN, Outcome.OK, result="1")).result or "")


def test_an_output_is_sealed_with_its_attempt(parties: Parties) -> None:
    sealing, sent = opened(parties)
    result = AttemptResult(TOKEN, Outcome.ERROR, error="no price", output=AttemptOutput("text ACME\n", 7))
    closed = sealing.close(result)
    assert closed.output is not None
    assert closed.output.omitted == 7
    assert is_sealed(closed.output.text)
    submitter = parties.submitter()
    assert submitter.open_output(closed.output.text, JOB, 1, NOW, sent) == "text ACME\n"
    with pytest.raises(SealRefused, match="sealed as the output of attempt 1"):
        submitter.open_output(closed.output.text, JOB, 2, NOW, sent)
    with pytest.raises(SealRefused, match="sealed as the output of another job"):
        submitter.open_error(closed.output.text, JOB, NOW, sent)
    assert sealing.close(result) is result


@pytest.mark.parametrize("size", [0, 100_000, 170_000])
def test_a_sealed_output_fits_into_the_report_beside_the_result(parties: Parties, size: int) -> None:
    sealing, sent = opened(parties)
    text = "ü" * 65_536
    closed = sealing.close(AttemptResult(TOKEN, Outcome.OK, f'"{"x" * size}"', output=AttemptOutput(text, 1)))
    assert closed.output is not None
    room = output_room(closed.result, closed.error)
    assert room - 8 - (size == 0) * room < content_size(closed.output.text) <= room
    read = parties.submitter().open_output(closed.output.text, JOB, 1, NOW, sent)
    assert text.endswith(read)
    assert closed.output.omitted == 1 + len(text.encode()) - len(read.encode())
    assert (closed.output.omitted == 1) is (size == 0)


def test_an_output_that_can_not_be_sealed_any_more_is_only_counted(parties: Parties) -> None:
    sealing, _ = opened(parties)
    sealing.use(None)
    closed = sealing.close(AttemptResult(TOKEN, Outcome.OK, "1", output=AttemptOutput("text ACME\n", 7)))
    assert closed.output == AttemptOutput("", 17)
    assert "was taken out of the configuration" in (closed.error or "")
