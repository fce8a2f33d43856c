"""Leases of workers: renewed, lost, reclaimed, offered again, released, and kept over restarts."""

from collections.abc import Iterable

import pytest

from stockworker.dispatcher import roster
from stockworker.dispatcher.effects import Unreached
from stockworker.protocol.ids import WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.market_stores import by_store
from stockworker.protocol.messages import Cleanup, Disconnect, Heartbeat, LeaseStatus, Register, ReportedLease
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    BACKTEST,
    CONNECTED,
    CUT_OFF,
    FINISHED,
    MIDDAY,
    POLICY,
    PRESENCE,
    RESUME,
    RUNNING,
    UNKNOWN_TOKEN,
    W1,
    W2,
    WAITING,
    A,
    B,
    C,
    DispatcherBook,
    ack,
    order,
    report,
    request,
    submit,
)

UNFINISHED = (WAITING, RUNNING)


def lose(dispatcher: DispatcherBook) -> None:
    """W1 has claimed that A runs, and is silent from then on. No other worker is known."""
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(Heartbeat(W1, "boot-1", 1, 1, 0, 1.0), request(W1, dispatcher.claim(A, RUNNING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(31)
    dispatcher.expect()
    assert dispatcher.state(A) is State.QUEUED


# --- claims -----------------------------------------------------------------------------------------------------------


def test_a_claim_renews_the_lease_for_ever(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    for _ in range(10):
        dispatcher.after(29)
        dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
        dispatcher.expect(ack(W1))
    assert dispatcher.state(A) is State.RUNNING
    assert dispatcher.job(A).attempt == 1


@pytest.mark.parametrize(
    ("status", "state"), [(WAITING, State.ASSIGNED), (RUNNING, State.RUNNING), (FINISHED, State.RUNNING)]
)
def test_a_claim_moves_the_job_on(dispatcher: DispatcherBook, status: LeaseStatus, state: State) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.tell(request(W1, dispatcher.claim(A, status)))
    dispatcher.expect(ack(W1))
    assert dispatcher.state(A) is state


@pytest.mark.parametrize("status", UNFINISHED)
def test_a_claim_to_a_lease_of_another_is_stale(dispatcher: DispatcherBook, status: LeaseStatus) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(
        request(W2, ReportedLease(A, dispatcher.token(A), status), ReportedLease(B, UNKNOWN_TOKEN, status), window=0)
    )
    dispatcher.expect(order(W2, RESUME), ack(W2, stale=[dispatcher.token(A), UNKNOWN_TOKEN]))
    assert dispatcher.job(A).worker == W1


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_a_claim_to_a_job_that_has_ended_is_stale(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    token = dispatcher.token(A)
    dispatcher.tell(request(W1, ReportedLease(A, token, RUNNING)))
    dispatcher.expect(ack(W1, stale=[token]))


def test_a_finished_attempt_is_settled_by_its_report_alone(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED)
    dispatcher.tell(request(W1, ReportedLease(A, dispatcher.token(A), FINISHED)))


# --- lost -------------------------------------------------------------------------------------------------------------


def test_a_silent_workers_job_runs_elsewhere(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    first = dispatcher.token(A)
    dispatcher.tell(request(W2))
    dispatcher.after(29.9)
    dispatcher.expect()
    dispatcher.after(1.2)
    dispatcher.expect(dispatcher.offer(W2, A))
    job = dispatcher.job(A)
    assert (job.attempt, job.failures, job.crashes) == (2, 0, 1)
    assert job.token != first
    assert [attempt.outcome for attempt in dispatcher.store.attempts(A)] == [Outcome.LOST, None]
    assert "lease_expired" in dispatcher.logged


def test_a_worker_that_let_a_lease_run_out_in_silence_does_not_get_the_job_again(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.after(45)
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)
    assert not dispatcher.stats().workers[0].online
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_an_old_token_is_stale_once_another_worker_has_the_job(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    late = dispatcher.ended(A, result="late")
    dispatcher.tell(request(W2))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.offer(W2, A))
    dispatcher.tell(request(W1, ReportedLease(A, late.token, RUNNING)), report(W1, late))
    dispatcher.expect(ack(W1, stale=[late.token, late.token]))
    dispatcher.tell(report(W2, dispatcher.ended(A, result="2")))
    dispatcher.expect(ack(W2, stored=[dispatcher.token(A)]), dispatcher.notice(A, "2"))


def test_a_job_whose_workers_get_lost_is_given_up(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None, max_crashes=2), request(W1), request(W2))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.after(28)
    dispatcher.tell(request(W2))
    dispatcher.after(3)
    dispatcher.expect(dispatcher.offer(W2, A))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.notice(A))
    assert dispatcher.state(A) is State.FAILED
    assert dispatcher.job(A).reason == "worker w2 was lost (2 crashes; max_crashes is 2)"


def test_a_job_that_is_known_to_have_waited_is_not_blamed(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.tell(request(W1, dispatcher.claim(A, WAITING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(31)
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 0)


def test_an_older_claim_that_arrives_late_takes_no_blame_away(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(request(W1, dispatcher.claim(A, WAITING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(31)
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)


def test_a_cleanup_ends_overdue_leases_immediately(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(29.5)
    dispatcher.clock.advance(0.5)
    dispatcher.tell(Cleanup())
    assert dispatcher.state(A) is State.QUEUED


def test_a_dispatcher_that_was_suspended_gives_every_worker_time(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.clock.advance(3600)
    dispatcher.tell(Cleanup())
    assert dispatcher.state(A) is State.RUNNING
    dispatcher.after(31)
    assert dispatcher.state(A) is State.QUEUED


def test_a_dispatcher_that_looks_twice_in_a_lease_was_not_suspended(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    for _ in range(2):
        dispatcher.clock.advance(POLICY.lease_s / 2)
        dispatcher.tell(Cleanup())
    assert dispatcher.state(A) is State.QUEUED


# --- taken up again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [RUNNING, FINISHED])
def test_a_worker_that_returns_reclaims_its_lease(dispatcher: DispatcherBook, status: LeaseStatus) -> None:
    lose(dispatcher)
    token = dispatcher.token(A)
    dispatcher.tell(request(W1, dispatcher.claim(A, status)))
    dispatcher.expect(ack(W1))
    job = dispatcher.job(A)
    assert (job.state, job.attempt, job.token, job.reason) == (State.RUNNING, 1, token, None)
    (attempt,) = dispatcher.store.attempts(A)
    assert attempt.outcome is None
    assert dispatcher.counter("leases_reclaimed") == 1
    assert "lease_reclaimed" in dispatcher.logged
    dispatcher.tell(request(W2))  # it is not in the queue any more
    dispatcher.after(31)
    dispatcher.expect(dispatcher.offer(W2, A))


def test_a_worker_that_was_only_cut_off_is_not_a_crash(dispatcher: DispatcherBook) -> None:
    """However often the link fails, a job whose worker is alive does not fail."""
    dispatcher.run_to(State.RUNNING)
    for _ in range(5):
        dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), window=0))
        dispatcher.expect(order(W1, RESUME), ack(W1))
        dispatcher.after(31)
        assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "1"))
    assert dispatcher.job(A).crashes == 0


def test_a_loss_without_blame_leaves_the_crashes_unchanged(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None, backoff_s=0.0), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    crashed = dispatcher.ended(A, Outcome.CRASHED)
    dispatcher.tell(report(W1, crashed))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[crashed.token]))
    dispatcher.tell(request(W1, dispatcher.claim(A, WAITING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(31)
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))
    assert dispatcher.job(A).crashes == 1


def test_a_late_report_is_accepted_while_no_other_worker_has_the_job(dispatcher: DispatcherBook) -> None:
    lose(dispatcher)
    token = dispatcher.token(A)
    dispatcher.restart()
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A, "1"))
    (attempt,) = dispatcher.store.attempts(A)
    assert attempt.outcome is Outcome.OK


def test_a_lost_lease_that_waits_is_not_reclaimed(dispatcher: DispatcherBook) -> None:
    lose(dispatcher)
    token = dispatcher.token(A)
    claims = dispatcher.claim(A, WAITING), dispatcher.claim(A, RUNNING)
    dispatcher.tell(request(W1, claims[0], window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1, stale=[token]))
    # It may have started the job before that answer arrives. The token stays invalid, whatever the worker claims then.
    dispatcher.tell(request(W1, claims[1], window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1, stale=[token]))


def test_no_other_worker_reclaims_a_lost_lease(dispatcher: DispatcherBook) -> None:
    lose(dispatcher)
    dispatcher.tell(request(W2, dispatcher.claim(A, RUNNING), window=0))
    dispatcher.expect(order(W2, RESUME), ack(W2, stale=[dispatcher.token(A)]))


# --- offered again ----------------------------------------------------------------------------------------------------


def test_a_lease_that_is_not_claimed_is_offered_again_under_the_same_token(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    offered = dispatcher.offer(W1, A)
    dispatcher.after(1.9)
    dispatcher.tell(request(W1))  # it may be under way
    dispatcher.after(0.1)
    dispatcher.tell(request(W1))
    dispatcher.expect(offered)
    dispatcher.tell(request(W1))
    dispatcher.after(2)
    dispatcher.tell(request(W1))
    dispatcher.expect(offered)
    assert dispatcher.job(A).attempt == 1
    assert dispatcher.counter("leases_reoffered") == 2


def test_a_lease_that_is_never_claimed_is_lost(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    for _ in range(5):
        dispatcher.after(5)
        dispatcher.tell(request(W1, window=0))
        dispatcher.expect(order(W1, RESUME), dispatcher.offer(W1, A))
    dispatcher.after(6)
    assert dispatcher.state(A) is State.QUEUED


@pytest.mark.parametrize(
    ("state", "outcome", "crashes"), [(State.ASSIGNED, Outcome.RELEASED, 0), (State.RUNNING, Outcome.LOST, 1)]
)
def test_a_worker_that_restarted_without_a_lease_loses_it_immediately(
    dispatcher: DispatcherBook, state: State, outcome: Outcome, crashes: int
) -> None:
    dispatcher.run_to(state)
    first = dispatcher.token(A)
    dispatcher.tell(Disconnect(W1, "boot-1"), request(W1, incarnation="boot-2"))
    dispatcher.expect(dispatcher.offer(W1, A))
    job = dispatcher.job(A)
    assert (job.attempt, job.crashes) == (2, crashes)
    assert job.token != first
    assert dispatcher.store.attempts(A)[0].outcome is outcome


def test_a_worker_that_restarted_with_its_lease_keeps_it(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(Disconnect(W1, "boot-1"), request(W1, dispatcher.claim(A, FINISHED), incarnation="boot-2"))
    dispatcher.expect(ack(W1))
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "1"))


def test_a_late_request_of_an_earlier_incarnation_takes_nothing_from_the_current_one(
    dispatcher: DispatcherBook,
) -> None:
    """A dispatcher that has restarted does not know which incarnations of a worker are former ones."""
    dispatcher.tell(request(W1, incarnation="boot-1"))
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(submit(A, reply=None, max_crashes=1), request(W1, incarnation="boot-2"))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), incarnation="boot-2"))
    dispatcher.expect(ack(W1))
    dispatcher.tell(request(W1, incarnation="boot-1"))
    assert dispatcher.state(A) is State.RUNNING
    assert dispatcher.counter("requests_old") == 1
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), incarnation="boot-2"))
    dispatcher.expect(ack(W1))


def test_an_earlier_incarnation_that_was_accepted_gives_way_before_a_lease_runs_out(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.tell(Disconnect(W1, "boot-2"), request(W1, incarnation="boot-1"))
    dispatcher.tell(submit(A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, A))
    for _ in range(3):
        dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), incarnation="boot-2"))
        dispatcher.after(5)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), incarnation="boot-2"))
    dispatcher.expect(ack(W1))


def test_a_worker_whose_messages_could_not_arrive_is_not_lost(dispatcher: DispatcherBook) -> None:
    """The dispatcher was suspended: the messages of its workers arrive only now."""
    dispatcher.run_to(State.RUNNING)
    dispatcher.clock.advance(600)
    dispatcher.after(0)
    assert dispatcher.stats().workers[0].online
    dispatcher.tell(request(W1, incarnation="boot-0"))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))


def test_an_unknown_incarnation_is_accepted_after_a_silence(dispatcher: DispatcherBook) -> None:
    """The broker has not reported the old incarnation as disconnected."""
    dispatcher.run_to(State.ASSIGNED)
    first = dispatcher.token(A)
    dispatcher.after(14)
    dispatcher.tell(Register(W1, "boot-2", "1.0", 1, (BACKTEST,), ()), request(W1, incarnation="boot-2"))
    assert dispatcher.token(A) == first
    dispatcher.after(1)
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.job(A).attempt == 2


# --- taken back -------------------------------------------------------------------------------------------------------


def unreached(dispatcher: DispatcherBook) -> Unreached:
    """The broker could not deliver A."""
    return Unreached(W1, (dispatcher.token(A),))


def test_a_job_that_was_not_delivered_goes_to_another_worker_immediately(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.tell(request(W2), unreached(dispatcher))
    dispatcher.expect(dispatcher.offer(W2, A))
    job = dispatcher.job(A)
    assert (job.failures, job.crashes, job.ready_at) == (0, 0, MIDDAY)
    assert not dispatcher.stats().workers[0].online


def test_a_worker_that_was_not_reached_gets_nothing_until_its_next_message(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.tell(unreached(dispatcher))
    dispatcher.after(10)
    dispatcher.expect()
    dispatcher.tell(Heartbeat(W1, "boot-1", 1, 0, 0, 1.0))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_worker_whose_message_came_later_stays_online(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.after(1)
    dispatcher.tell(request(W1))
    dispatcher.tell(unreached(dispatcher))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.job(A).attempt == 2


def test_a_claimed_lease_was_delivered(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(unreached(dispatcher))
    assert dispatcher.state(A) is State.RUNNING


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_an_ended_job_is_not_released(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    dispatcher.tell(unreached(dispatcher), Unreached(W2, (UNKNOWN_TOKEN,)))
    assert dispatcher.state(A) is state


# --- cut off, and restarted -------------------------------------------------------------------------------------------


def test_without_a_link_no_lease_runs_out(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(CUT_OFF)
    dispatcher.after(600)
    assert dispatcher.state(A) is State.RUNNING
    dispatcher.connect()
    dispatcher.after(29)
    assert dispatcher.state(A) is State.RUNNING
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))


def test_without_a_link_no_job_is_assigned(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), CUT_OFF, submit(A, reply=None))
    dispatcher.tell(CONNECTED)
    dispatcher.expect(Send(PRESENCE), dispatcher.offer(W1, A))


@pytest.mark.parametrize("state", [State.ASSIGNED, State.RUNNING])
def test_a_restarted_dispatcher_knows_the_leases_and_gives_their_workers_time(
    dispatcher: DispatcherBook, state: State
) -> None:
    dispatcher.run_to(state)
    dispatcher.restart()
    dispatcher.after(100)
    dispatcher.connect()
    dispatcher.after(29)
    dispatcher.expect()
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))
    dispatcher.tell(submit(B, reply=None))  # its one slot is taken
    (worker,) = dispatcher.stats().workers
    assert worker.leases == 1


def test_a_restarted_dispatcher_loses_workers_that_do_not_return(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(request(W2))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.offer(W2, A))


def test_a_restarted_dispatcher_sends_unclaimed_leases_again(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(request(W1))
    dispatcher.after(2)
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.job(A).attempt == 1


def test_a_restart_in_the_middle_of_everything_forgets_nothing(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(submit(B, C, reply=None), request(W2))
    dispatcher.expect(dispatcher.offer(W2, B))
    dispatcher.tell(report(W2, dispatcher.ended(B, Outcome.ERROR)))
    dispatcher.expect(dispatcher.offer(W2, C), ack(W2, stored=[dispatcher.token(B)]))
    before = dict(dispatcher.store.jobs)
    dispatcher.restart()
    assert dict(dispatcher.stats().states)[State.SCHEDULED] == 1
    dispatcher.connect()
    assert dispatcher.store.jobs == before
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")), report(W2, dispatcher.ended(C, result="1")))
    dispatcher.expect(
        ack(W1, stored=[dispatcher.token(A)]),
        ack(W2, stored=[dispatcher.token(C)]),
        dispatcher.notice(A, "1"),
        dispatcher.notice(C, "1"),
    )
    dispatcher.after(4)
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, B))
    assert dispatcher.job(B).attempt == 2


# --- market data ------------------------------------------------------------------------------------------------------


def test_many_changes_of_a_market_store_are_compared_once_in_a_turn(
    dispatcher: DispatcherBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comparison looks at all workers, and one worker can send any number of heartbeats."""
    dispatcher.tell(request(W1), request(W2))
    dispatcher.tell(Heartbeat(W1, "boot-1", 1, 0, 0, 1.0, market_store="id-1"))
    compared: list[dict[str, list[str]]] = []

    def compare(workers: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
        compared.append(by_store(workers))
        return compared[-1]

    monkeypatch.setattr(roster, "by_store", compare)
    evil = [Heartbeat(W2, "boot-1", 1, 0, 0, 1.0, market_store=f"evil-{number}") for number in range(100)]
    dispatcher.tell(*evil)
    dispatcher.expect()
    assert len(compared) == 1
    assert dispatcher.logged.count("market_stores_differ") == 1


def test_different_market_stores_are_logged_once(dispatcher: DispatcherBook) -> None:
    def logged_after(worker_id: WorkerId, store: str | None) -> int:
        dispatcher.tell(Heartbeat(worker_id, "boot-1", 1, 0, 0, 1.0, market_store=store))
        dispatcher.expect()
        return dispatcher.logged.count("market_stores_differ")

    dispatcher.tell(request(W1), request(W2))
    assert [logged_after(W1, "id-1"), logged_after(W2, "id-1"), logged_after(W2, None)] == [0, 0, 0]
    assert [logged_after(W2, "id-2"), logged_after(W1, "id-1"), logged_after(W2, "id-1")] == [1, 1, 1]
    assert logged_after(W2, "id-2") == 2
    assert {worker.worker_id: worker.market_store for worker in dispatcher.stats().workers} == {W1: "id-1", W2: "id-2"}
