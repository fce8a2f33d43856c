"""Which agreed keys a sender keeps."""

import pytest

from stockworker.sealing import sessions
from stockworker.sealing.envelope import read_job
from stockworker.sealing.sessions import LONGEST_SESSION_S, Sessions
from tests.harness.seals import JOB, NOW, PRICE_UPDATE, Parties, job, opening_key

INFO = b"a purpose"


def test_the_session_that_was_not_used_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_SESSIONS", 2)
    made = Sessions()
    a, b, c = (opening_key().public for _ in range(3))
    first, second = made.to(a, INFO, 0.0), made.to(b, INFO, 0.0)
    assert made.to(a, INFO, 1.0) is first
    third = made.to(c, INFO, 1.0)
    assert [made.to(a, INFO, 2.0), made.to(c, INFO, 2.0)] == [first, third]
    assert made.to(b, INFO, 2.0) is not second


def test_a_session_ends_after_its_time_its_messages_or_a_clock_step() -> None:
    made, public = Sessions(), opening_key().public
    first = made.to(public, INFO, 100.0)
    assert made.to(public, INFO, 100.0 + LONGEST_SESSION_S - 1) is first
    second = made.to(public, INFO, 100.0 + LONGEST_SESSION_S)
    assert second is not first
    assert made.to(public, INFO, 0.0) is not second
    third = made.to(public, INFO, 0.0)
    third.left = 1
    assert made.to(public, INFO, 0.0) is third
    third.left = 0
    assert made.to(public, INFO, 0.0) is not third
    assert made.to(public, b"another", 0.0) is not made.to(public, INFO, 0.0)


def test_a_recipient_keeps_the_keys_that_it_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MOST_RECEIVED", 2)
    parties = Parties()
    worker = parties.worker()
    texts = [parties.submitter().seal_job(job(), JOB, NOW).text for _ in range(3)]  # each with a session of its own
    for text in (texts[0], texts[1], texts[0], texts[2]):
        worker.open_job(text, JOB, PRICE_UPDATE, NOW)
    kept = {encapsulation for _, encapsulation, _ in worker._received._keys}
    assert kept == {read_job(text).header.enc for text in (texts[0], texts[2])}
