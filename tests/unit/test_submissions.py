"""Requests of clients: stored once, answered always, and valid or refused in every state that a job can be in."""

import hashlib
from typing import Any

import pytest

from stockworker.dispatcher.policy import JobDefaults, JobLimits, LiveLimits, Policy
from stockworker.logs.events import JobRejected
from stockworker.protocol.ids import JobId, JobType, Tag
from stockworker.protocol.job import JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Receipt, ReceiptEntry, ReceiptStatus
from stockworker.protocol.retry import RetryPolicy
from stockworker.shell.turn import DiskChanged, Send
from tests.harness.dispatching import (
    BACKTEST,
    DAY,
    IMPORT,
    MIDDAY,
    REPLY,
    RUNNING,
    W1,
    A,
    B,
    C,
    D,
    DispatcherBook,
    ack,
    cancel,
    receipt,
    report,
    request,
    retry,
    stop,
    submit,
)
from tests.harness.playbook import placeholder

# --- submit -----------------------------------------------------------------------------------------------------------


def test_a_job_is_stored_with_the_defaults_and_then_receipted(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A))
    dispatcher.expect(receipt(A, ReceiptStatus.STORED))
    job = dispatcher.job(A)
    assert job.spec == JobSpec(
        job_id=A,
        type=BACKTEST,
        priority=Priority.NORMAL,
        not_before=None,
        expires_at=None,
        timeout_s=600.0,
        max_attempts=3,
        backoff_s=8.0,
        backoff_max_s=600.0,
        max_crashes=3,
        tags=frozenset(),
        payload_digest=hashlib.sha256(b"{}").digest()[:16],
    )
    assert (job.state, job.submitted_at, job.ready_at, job.sequence) == (State.QUEUED, MIDDAY, MIDDAY, 1)
    assert dispatcher.store.payloads([job]) == {A: "{}"}


def test_the_options_of_a_submission_override_the_defaults(dispatcher: DispatcherBook) -> None:
    tags = frozenset({Tag("gpu")})
    dispatcher.tell(
        submit(
            A,
            priority=Priority.HIGH,
            reply=None,
            expires_at=MIDDAY + 60,
            timeout_s=1.5,
            max_attempts=7,
            backoff_s=0.0,
            max_crashes=2,
            tags=tags,
        )
    )
    spec = dispatcher.job(A).spec
    assert (spec.priority, spec.tags, spec.expires_at) == (Priority.HIGH, tags, MIDDAY + 60)
    assert (spec.timeout_s, spec.retry, spec.max_crashes) == (1.5, RetryPolicy(7, 0.0, 600.0), 2)


def test_a_backoff_above_the_longest_is_kept(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, backoff_s=DAY, reply=None))
    assert dispatcher.job(A).spec.retry == RetryPolicy(3, DAY, DAY)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"timeout_s": 86401.0}, "timeout is 86401 s, and the dispatcher allows at most 86400 s (dispatcher.job_limits.timeout)"),
        ({"max_attempts": 101}, "max_attempts is 101, and the dispatcher allows at most 100 (dispatcher.job_limits.max_attempts)"),
        ({"max_crashes": 1000}, "max_crashes is 1000, and the dispatcher allows at most 10 (dispatcher.job_limits.max_crashes)"),
        ({"backoff_s": 2 * DAY}, "backoff is 172800 s, and the dispatcher allows at most 86400 s (dispatcher.job_limits.backoff)"),
    ],
)  # fmt: skip
def test_an_option_beyond_its_limit_is_rejected(dispatcher: DispatcherBook, asked: dict[str, Any], reason: str) -> None:
    dispatcher.tell(submit(A, **asked))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, reason))


def test_a_type_has_limits_of_its_own_which_bound_the_defaults_too() -> None:
    limits = JobLimits(timeout_s=60.0, max_crashes=1)
    with DispatcherBook(Policy(job_limits_of_type={BACKTEST: limits})) as dispatcher:
        dispatcher.tell(submit(A, reply=None))
        spec = dispatcher.job(A).spec
        assert (spec.timeout_s, spec.max_crashes, spec.max_attempts) == (60.0, 1, 3)
        dispatcher.tell(submit(B, timeout_s=61.0))
        reason = "timeout is 61 s, and the dispatcher allows at most 60 s (dispatcher.types.backtest.timeout)"
        dispatcher.expect(receipt(B, ReceiptStatus.REJECTED, reason))
        dispatcher.tell(submit(C, of_type=IMPORT, timeout_s=61.0, reply=None))
        assert dispatcher.job(C).spec.timeout_s == 61.0


def test_jobs_expire_after_the_default_time_if_there_is_one() -> None:
    with DispatcherBook(Policy(defaults=JobDefaults(expires_after_s=60.0))) as dispatcher:
        dispatcher.tell(submit(A, reply=None), submit(B, expires_at=MIDDAY + 600, reply=None))
        dispatcher.tell(submit(C, not_before=MIDDAY + 600, reply=None))
        assert [dispatcher.job(each).spec.expires_at for each in (A, B, C)] == [MIDDAY + 60, MIDDAY + 600, MIDDAY + 660]
        dispatcher.after(61)
        dispatcher.expect(dispatcher.notice(A))
        assert dispatcher.state(A) is State.EXPIRED


def test_jobs_beyond_the_limits_are_rejected_until_others_have_ended() -> None:
    with DispatcherBook(Policy(limits=LiveLimits(live_jobs=4))) as dispatcher:
        dispatcher.tell(submit(A, B, C, reply=None))
        assert dispatcher.only(JobRejected).reason == (
            "too many live jobs: the shared owner has 2, the most for one submitter (dispatcher.limits.live_jobs, 4, times "
            "submitter_share, 0.5). Submit again when some of them have ended, or cancel some"
        )
        dispatcher.tell(submit(A))
        dispatcher.expect(receipt(A, ReceiptStatus.DUPLICATE))  # this one is stored
        dispatcher.restart()
        dispatcher.connect()
        dispatcher.tell(submit(C, reply=None), cancel(A, None), submit(D))
        dispatcher.expect(
            receipt(D, ReceiptStatus.STORED),
            dispatcher.notice(A),
        )
        assert C not in dispatcher.store.jobs


def test_a_full_disk_takes_no_new_jobs(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), DiskChanged(full=True))
    dispatcher.tell(submit(B), submit(A))
    reason = (
        "the dispatcher stores no new jobs, because the disk of its job store is nearly full. Make room there; the "
        "dispatcher notices that by itself"
    )
    dispatcher.expect(receipt(B, ReceiptStatus.REJECTED, reason), receipt(A, ReceiptStatus.DUPLICATE))
    dispatcher.tell(DiskChanged(full=False), submit(B))
    dispatcher.expect(receipt(B, ReceiptStatus.STORED))


def test_the_size_of_a_payload_is_kept_in_bytes(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, payload='"\N{EURO SIGN}"', reply=None))
    assert dispatcher.job(A).payload_bytes == 5


def test_a_job_without_an_id_is_given_one(dispatcher: DispatcherBook) -> None:
    made = placeholder("made")
    dispatcher.tell(submit(None))
    dispatcher.expect(Send(Receipt(REPLY, (ReceiptEntry(made, ReceiptStatus.STORED),))))
    (job,) = dispatcher.store.jobs.values()
    assert made == job.spec.job_id


def test_without_a_reply_address_no_receipt_is_sent(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    dispatcher.expect()
    assert dispatcher.state(A) is State.QUEUED


def test_a_batch_is_answered_as_one(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    dispatcher.tell(submit(B, A, C, B))
    dispatcher.expect(
        Send(
            Receipt(
                REPLY,
                (
                    ReceiptEntry(B, ReceiptStatus.STORED),
                    ReceiptEntry(A, ReceiptStatus.DUPLICATE),
                    ReceiptEntry(C, ReceiptStatus.STORED),
                    ReceiptEntry(B, ReceiptStatus.DUPLICATE),
                ),
            )
        )
    )
    assert [job.sequence for job in map(dispatcher.job, (A, B, C))] == [1, 2, 3]


@pytest.mark.parametrize("state", State)
def test_a_repeated_submission_changes_nothing_in_any_state(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    before = dispatcher.job(A)
    dispatcher.tell(submit(A, max_attempts=99))
    dispatcher.expect(receipt(A, ReceiptStatus.DUPLICATE))
    dispatcher.restart()
    dispatcher.tell(submit(A, max_attempts=99))
    dispatcher.expect(receipt(A, ReceiptStatus.DUPLICATE))
    assert dispatcher.job(A) == before
    assert dispatcher.store.load().next_sequence == 2


def test_a_job_and_its_repetition_in_one_turn_are_one_job(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A), submit(A))
    dispatcher.expect(receipt(A, ReceiptStatus.STORED), receipt(A, ReceiptStatus.DUPLICATE))
    assert dispatcher.counter("submissions_duplicate") == 1


@pytest.mark.parametrize("state", State)
def test_another_payload_or_type_under_a_known_id_is_rejected_in_any_state(
    dispatcher: DispatcherBook, state: State
) -> None:
    """After a receipt `duplicate`, the client would wait for a job that never runs."""
    dispatcher.run_to(state)
    before = dispatcher.job(A)
    stored = "is stored under this ID. Submit the new job under another ID"
    for _ in range(2):
        dispatcher.tell(submit(A, payload="[]"))
        dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, f"a job with another payload {stored}"))
        dispatcher.tell(submit(A, of_type=JobType("other")))
        dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, f"a job of type backtest {stored}"))
        dispatcher.restart()
    assert dispatcher.job(A) == before
    assert dispatcher.store.payloads([before]) == {A: "{}"}


def test_another_payload_in_the_same_turn_is_rejected(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A), submit(A, payload="1"), submit(A))
    rejected = receipt(A, ReceiptStatus.REJECTED, placeholder("reason"))
    dispatcher.expect(receipt(A, ReceiptStatus.STORED), rejected, receipt(A, ReceiptStatus.DUPLICATE))
    assert dispatcher.counter("submissions_rejected") == 1


def test_each_sealing_of_a_payload_differs_so_only_its_submitter_compares_them(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, payload="sealed.2.a.b.c"))
    dispatcher.expect(receipt(A, ReceiptStatus.STORED))
    assert dispatcher.job(A).spec.payload_digest is None
    for again in ("sealed.2.a.b.c", "sealed.2.a.b.d", "{}"):
        dispatcher.tell(submit(A, payload=again))
        dispatcher.expect(receipt(A, ReceiptStatus.DUPLICATE))


def test_a_job_that_has_expired_on_its_way_is_rejected(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, "expires_at is in the past"))
    assert dispatcher.store.jobs == {}
    assert dispatcher.logged == ["job_rejected"]


def test_the_receipts_of_a_huge_batch_fit_into_messages(dispatcher: DispatcherBook) -> None:
    ids = [JobId(f"job-{number}") for number in range(1000)]
    dispatcher.tell(submit(*ids))
    entries = tuple(ReceiptEntry(job_id, ReceiptStatus.STORED) for job_id in ids)
    dispatcher.expect(Send(Receipt(REPLY, entries[:512])), Send(Receipt(REPLY, entries[512:])))


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED])
def test_a_waiting_job_is_cancelled_immediately(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    dispatcher.tell(cancel(A))
    dispatcher.expect(receipt(A, ReceiptStatus.CANCELLED), dispatcher.notice(A))
    job = dispatcher.job(A)
    assert (job.state, job.ended_at, job.reason) == (State.CANCELLED, MIDDAY, "cancelled before a worker had it")
    dispatcher.tell(request(W1))  # gets nothing


@pytest.mark.parametrize("state", [State.ASSIGNED, State.RUNNING])
def test_a_running_job_is_cancelled_when_its_worker_confirms(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    token = dispatcher.token(A)
    dispatcher.tell(cancel(A))
    dispatcher.expect(stop(W1, token), receipt(A, ReceiptStatus.CANCELLING))
    assert dispatcher.state(A) is state
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.CANCELLED)))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.CANCELLED
    assert dispatcher.job(A).reason == "cancelled while it ran"


def test_a_worker_that_was_faster_than_the_cancellation_completes(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, dispatcher.token(A)))
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "1"))
    assert dispatcher.state(A) is State.COMPLETED
    assert not dispatcher.job(A).cancel_requested


@pytest.mark.parametrize(
    "outcome", [Outcome.ERROR, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.RELEASED, Outcome.REFUSED]
)
def test_a_job_to_be_cancelled_is_not_tried_again(dispatcher: DispatcherBook, outcome: Outcome) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(cancel(A, reply=None))
    token = dispatcher.token(A)
    dispatcher.expect(stop(W1, token))
    dispatcher.tell(report(W1, dispatcher.ended(A, outcome)))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.CANCELLED


def test_a_lost_job_that_was_to_be_cancelled_is(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, dispatcher.token(A)))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.notice(A))
    assert dispatcher.state(A) is State.CANCELLED


def test_the_order_to_stop_is_repeated_until_the_worker_reports(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    token = dispatcher.token(A)
    dispatcher.tell(cancel(A))
    dispatcher.expect(stop(W1, token), receipt(A, ReceiptStatus.CANCELLING))
    dispatcher.tell(cancel(A))
    dispatcher.expect(stop(W1, token), receipt(A, ReceiptStatus.CANCELLING))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(stop(W1, token), ack(W1))
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(stop(W1, token), ack(W1))


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.EXPIRED])
def test_what_has_ended_is_not_cancelled(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    dispatcher.tell(cancel(A))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, f"the job is already {state}"))
    assert dispatcher.state(A) is state


def test_a_cancellation_may_be_repeated(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.CANCELLED)
    dispatcher.tell(cancel(A))
    dispatcher.expect(receipt(A, ReceiptStatus.CANCELLED))


def test_an_unknown_job_is_neither_cancelled_nor_reopened(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(cancel(A), retry(A))
    dispatcher.expect(
        receipt(A, ReceiptStatus.REJECTED, "no such job"), receipt(A, ReceiptStatus.REJECTED, "no such job")
    )


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_failed_job_runs_again_with_all_its_attempts(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.FAILED)
    first = dispatcher.token(A)
    dispatcher.after(60)
    dispatcher.tell(retry(A))
    dispatcher.expect(dispatcher.offer(W1, A), receipt(A, ReceiptStatus.REOPENED))
    job = dispatcher.job(A)
    assert (job.failures, job.crashes, job.ended_at, job.reason) == (0, 0, None, None)
    assert (job.ready_at, job.attempt) == (MIDDAY + 60, 2)
    assert job.token != first


@pytest.mark.parametrize("state", [State.COMPLETED, State.CANCELLED, State.EXPIRED])
def test_only_a_failed_job_is_reopened(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    dispatcher.tell(retry(A))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, f"the job is already {state}"))


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.ASSIGNED, State.RUNNING])
def test_a_live_job_is_not_reopened(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    dispatcher.tell(retry(A))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, f"the job is {state}; only a failed job can be retried"))


def test_the_report_of_the_attempt_before_the_reopening_is_stale(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.FAILED)
    late = dispatcher.ended(A, Outcome.ERROR)
    dispatcher.tell(retry(A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(report(W1, late))
    dispatcher.expect(ack(W1, stale=[late.token]))
    assert dispatcher.state(A) is State.ASSIGNED


# --- races within one turn --------------------------------------------------------------------------------------------


def test_a_job_is_submitted_and_cancelled_in_one_turn(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A), cancel(A), submit(A))
    dispatcher.expect(
        receipt(A, ReceiptStatus.STORED),
        receipt(A, ReceiptStatus.CANCELLED),
        receipt(A, ReceiptStatus.DUPLICATE),
        dispatcher.notice(A),
    )
    assert dispatcher.store.payloads([dispatcher.job(A)]) == {A: "{}"}


def test_a_job_ends_is_cancelled_and_submitted_again_in_one_turn(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    token = dispatcher.token(A)
    ended = dispatcher.ended(A, result="1")
    dispatcher.tell(report(W1, ended), cancel(A), submit(A), report(W1, ended), retry(A))
    dispatcher.expect(
        ack(W1, stored=[token, token]),
        receipt(A, ReceiptStatus.REJECTED, "the job is already completed"),
        receipt(A, ReceiptStatus.DUPLICATE),
        receipt(A, ReceiptStatus.REJECTED, "the job is already completed"),
        dispatcher.notice(A, "1"),
    )
    assert dispatcher.store.results([dispatcher.job(A)]) == {A: "1"}


def test_a_job_fails_and_is_reopened_and_assigned_in_one_turn(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    ended = dispatcher.ended(A, Outcome.ERROR, error="bad data")
    dispatcher.tell(report(W1, ended), retry(A))
    failed = dispatcher.job(A)
    dispatcher.expect(
        dispatcher.offer(W1, A),
        ack(W1, stored=[ended.token]),
        receipt(A, ReceiptStatus.REOPENED),
        Send(notice_of_failure := placeholder("notice")),
    )
    assert (failed.state, failed.attempt, failed.reason) == (State.ASSIGNED, 2, None)
    assert "bad data (attempt 1 of 1)" in repr(notice_of_failure)
    assert [attempt.outcome for attempt in dispatcher.store.attempts(A)] == [Outcome.ERROR, None]
