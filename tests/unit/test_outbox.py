"""The outbox: few and large messages for each peer, the urgent ones first."""

from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import Effect, Offer
from stockworker.dispatcher.outbox import Outbox
from stockworker.logs.events import JobFailed, JobReleased, JobRetried, LogEvent
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.ids import JobId, Token, WorkerId
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Ack, Message, Monitor, Receipt, ReceiptEntry, ReceiptStatus, Transition
from stockworker.shell.turn import Now, Send
from tests.harness.dispatching import BACKTEST, MIDDAY, REPLY, W1, W2, A, a_job

LEASE_S = 30.0
NOW = Now(MIDDAY, MIDDAY)
STORED = ReceiptEntry(A, ReceiptStatus.STORED)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(LEASE_S)


def messages(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def tokens(count: int) -> list[Token]:
    return [Token(f"token-{number}") for number in range(count)]


def transitions(count: int) -> list[Transition]:
    return [Transition(JobId(f"job-{number}"), BACKTEST, State.QUEUED, 0, None) for number in range(count)]


def a_job_with_reason(state: State, reason: str) -> JobRecord:
    return replace(a_job(A, state), reason=reason)


def test_the_answers_to_a_worker_travel_in_one_message(outbox: Outbox) -> None:
    stored, stale = tokens(2)
    outbox.stored(W1, stored)
    outbox.stale(W1, stale)
    outbox.renewed(W1)
    assert messages(outbox.flush((), ())) == [Ack(W1, stored=(stored,), stale=(stale,), lease_s=LEASE_S)]


def test_a_renewal_alone_is_an_answer(outbox: Outbox) -> None:
    outbox.renewed(W1)
    assert messages(outbox.flush((), ())) == [Ack(W1, lease_s=LEASE_S)]


def test_each_worker_gets_its_own_answer(outbox: Outbox) -> None:
    first, second = tokens(2)
    outbox.stored(W1, first)
    outbox.stored(W2, second)
    workers: list[WorkerId] = [
        message.worker_id for message in messages(outbox.flush((), ())) if isinstance(message, Ack)
    ]
    assert workers == [W1, W2]


def test_more_tokens_than_fit_travel_in_several_messages(outbox: Outbox) -> None:
    given = tokens(5000)
    for token in given:
        outbox.stored(W1, token)
    sent = [message for message in messages(outbox.flush((), ())) if isinstance(message, Ack)]
    assert [len(message.stored) for message in sent] == [2048, 2048, 904]
    assert [token for message in sent for token in message.stored] == given


def test_a_client_without_a_reply_address_gets_no_receipt(outbox: Outbox) -> None:
    outbox.receipt(None, [STORED])
    assert outbox.flush((), ()) == []


def test_a_large_batch_gets_several_receipts(outbox: Outbox) -> None:
    outbox.receipt(REPLY, [STORED] * 600)
    sent = [message for message in messages(outbox.flush((), ())) if isinstance(message, Receipt)]
    assert [(message.reply, len(message.entries)) for message in sent] == [(REPLY, 512), (REPLY, 88)]


def test_more_leases_than_a_list_holds_are_several_offers(outbox: Outbox) -> None:
    jobs = [a_job(JobId(f"job-{number}"), State.QUEUED) for number in range(MAX_LIST + 1)]
    outbox.offer(W1, jobs)
    offers = [effect for effect in outbox.flush((), ()) if isinstance(effect, Offer)]
    assert [len(offer.jobs) for offer in offers] == [MAX_LIST, 1]


def test_more_transitions_than_a_list_holds_travel_in_several_messages(outbox: Outbox) -> None:
    sent = [
        message for message in messages(outbox.flush((), transitions(MAX_LIST + 1))) if isinstance(message, Monitor)
    ]
    assert [len(message.transitions) for message in sent] == [MAX_LIST, 1]


def test_workers_are_answered_before_clients_and_monitors(outbox: Outbox) -> None:
    """A worker runs on as soon as it has its answer; a monitor only watches."""
    outbox.receipt(REPLY, [STORED])
    outbox.renewed(W1)
    kinds = [type(message) for message in messages(outbox.flush((), transitions(1)))]
    assert kinds == [Ack, Receipt, Monitor]


def test_a_flush_leaves_nothing_behind(outbox: Outbox) -> None:
    outbox.receipt(REPLY, [STORED])
    outbox.renewed(W1)
    outbox.flush((), transitions(1))
    assert outbox.flush((), ()) == []


@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (State.FAILED, Outcome.ERROR, JobFailed),
        (State.SCHEDULED, Outcome.ERROR, JobRetried),
        (State.QUEUED, Outcome.RELEASED, JobReleased),
        (State.QUEUED, Outcome.LOST, None),
        (State.COMPLETED, Outcome.OK, None),
    ],
)
def test_an_outcome_is_logged_where_an_operator_may_have_to_act(
    outbox: Outbox, state: State, outcome: Outcome, expected: type[LogEvent] | None
) -> None:
    outbox.log_outcome(a_job_with_reason(state, "first line\nsecond line"), outcome, NOW)
    logged = [effect for effect in outbox.flush((), ()) if isinstance(effect, LogEvent)]
    assert [type(event) for event in logged] == ([] if expected is None else [expected])
    assert [getattr(event, "reason", None) for event in logged] == ["first line"] * len(logged)


def test_the_payload_of_a_sealed_job_is_not_logged_with_its_reason(outbox: Outbox) -> None:
    outbox.log_outcome(a_job_with_reason(State.FAILED, "refused sealed.1.abc.def.ghi"), Outcome.ERROR, NOW)
    (event,) = (effect for effect in outbox.flush((), ()) if isinstance(effect, JobFailed))
    assert event.reason is not None
    assert "abc" not in event.reason
