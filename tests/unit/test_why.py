"""Why a job waits: every obstacle has its sentence, and the sentences agree with the job's state."""

import pytest

from stockworker.dispatcher.effects import RunQuery
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import JobId, Tag
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import Disconnect, LeaseStatus, Query, Register
from tests.harness.advice import follows
from tests.harness.dispatching import (
    BACKTEST,
    FINISHED,
    IMPORT,
    MIDDAY,
    REPLY,
    RUNNING,
    W1,
    W2,
    WAITING,
    A,
    B,
    C,
    DispatcherBook,
    cancel,
    drain,
    pause,
    report,
    request,
    submit,
)

GPU = Tag("gpu")
Why = tuple[tuple[JobId, tuple[str, ...]], ...]


def story(dispatcher: DispatcherBook, job_id: JobId = A) -> list[str]:
    """The explanation of a live job."""
    (((told_of, sentences),),) = looks(dispatcher, job_id)
    assert told_of == job_id
    return list(sentences)


def looks(dispatcher: DispatcherBook, *job_ids: JobId, explain: bool = True) -> list[Why]:
    query = Query(job_ids, None, with_results=False, reply=REPLY, explain=explain)
    effects = dispatcher.turn([query])
    assert all(isinstance(effect, RunQuery) and effect.query == query for effect in effects)
    return [effect.why for effect in effects if isinstance(effect, RunQuery)]


def waits(dispatcher: DispatcherBook) -> list[str]:
    """The explanation without its first sentence, how long the job has waited."""
    first, *rest = story(dispatcher)
    assert first.startswith("it has waited for ")
    return rest


# --- queued -----------------------------------------------------------------------------------------------------------


def test_no_worker_is_known(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    dispatcher.after(90)
    assert story(dispatcher) == [
        "it has waited for 90 s at priority normal",
        "none of the 0 known workers runs jobs of type backtest",
    ]


def test_no_worker_runs_its_type(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1, types=[IMPORT]))
    assert waits(dispatcher) == ["none of the 1 known workers runs jobs of type backtest"]


def test_its_type_is_paused(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(pause(BACKTEST), submit(A, reply=None), request(W1))
    assert waits(dispatcher) == ["jobs of type backtest are paused: stockworker resume backtest"]


def test_no_worker_has_its_tags(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, tags=frozenset({GPU, Tag("eu")}), reply=None), request(W1, tags=[GPU]), request(W2))
    assert waits(dispatcher) == ["2 of 2 workers for its type: without one of its tags (eu, gpu)"]


@follows("unable to run it, see their logs; tried again in …, or after systemctl reload stockworker@INSTANCE there")
def test_its_worker_could_not_run_the_type_after_all(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.REFUSED, error="no module backtest\nTraceback"))])
    again = "tried again in 300 s, or after systemctl reload stockworker@INSTANCE there"
    assert waits(dispatcher) == [
        "it is queued again: no module backtest",
        f"1 of 1 workers for its type: unable to run it, see their logs; {again}",
    ]
    dispatcher.turn([Register(W1, "boot-1", "1.0", 1, (BACKTEST,), ()), request(W1)])  # after a reload
    assert dispatcher.state(A) is State.ASSIGNED


def test_workers_are_away_drained_stopping_or_busy(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(B, C, reply=None), request(W1), request(W2, slots=2))
    dispatcher.expect(dispatcher.offer(W1, B), dispatcher.offer(W2, C))
    dispatcher.turn([submit(A, reply=None), drain(W2), request(W2, dispatcher.claim(C, RUNNING), window=0)])
    assert waits(dispatcher) == [
        "1 of 2 workers for its type: drained (stockworker undrain WORKER)",
        "1 of 2 workers for its type: busy",
    ]
    dispatcher.turn([Disconnect(W2, "boot-1"), request(W1, dispatcher.claim(B, RUNNING), window=0)])
    assert waits(dispatcher) == [
        "1 of 2 workers for its type: not connected",
        "1 of 2 workers for its type: about to stop, or short of memory or descriptors",
    ]


def test_a_worker_has_no_room_for_results(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1, window=0, short=True))
    assert waits(dispatcher) == ["1 of 1 workers for its type: low on disk space, see their logs"]


def test_a_worker_that_has_enough_ahead_of_it_is_busy(dispatcher: DispatcherBook) -> None:
    """Its window is not full, but it gets more only when half of the jobs are done."""
    dispatcher.turn([submit(*(JobId(f"job-{number}") for number in range(5)), reply=None), request(W1, window=4)])
    done = [dispatcher.ended(JobId("job-0"))]
    dispatcher.turn([report(W1, *done), submit(A, reply=None)])
    assert waits(dispatcher) == ["1 of 1 workers for its type: busy"]


def test_the_worker_that_can_take_it_is_given_it_in_the_same_turn(dispatcher: DispatcherBook) -> None:
    """The explanation is that of the end of the turn, as is the answer from the store."""
    query = Query((A,), None, with_results=False, reply=REPLY, explain=True)
    effects = dispatcher.turn([submit(A, reply=None), query, request(W1)])
    (look,) = [effect for effect in effects if isinstance(effect, RunQuery)]
    assert look.why == (
        (A, ("attempt 1: worker w1 has not reported this lease yet", "its lease ends in 30 s unless renewed")),
    )


def test_a_worker_is_ready_but_the_link_is_down(dispatcher: DispatcherBook) -> None:
    dispatcher.restart()
    dispatcher.tell(submit(A, reply=None), request(W1))
    assert waits(dispatcher) == ["1 of 1 workers for its type: ready to get it"]


def test_the_expiry_is_explained(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 60, reply=None))
    assert waits(dispatcher)[-1] == "it expires in 60 s unless started (expires_at)"


def test_a_lost_job_is_queued_again_with_its_reason(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.after(31)
    assert waits(dispatcher) == [
        "it is queued again: worker w1 was lost",
        "1 of 1 workers for its type: not connected",
    ]


# --- scheduled --------------------------------------------------------------------------------------------------------


def test_a_job_for_later(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, not_before=MIDDAY + 60, expires_at=MIDDAY + 90, reply=None))
    assert story(dispatcher) == [
        "it must not start for another 60 s (not_before)",
        "it expires in 90 s unless started (expires_at)",
    ]


def test_a_job_that_failed_and_is_tried_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, backoff_s=8.0, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.ERROR, error="no data\nTraceback"))])
    delay_s = dispatcher.job(A).ready_at - dispatcher.clock.steady
    assert story(dispatcher) == ["failure 1 of at most 3: no data", f"it will be tried again in {delay_s:.0f} s"]


# --- leased -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "doing"),
    [
        (WAITING, "has it waiting for a free slot"),
        (RUNNING, "runs it"),
        (FINISHED, "has finished it, and is about to report"),
    ],
)
def test_the_status_of_the_lease_is_explained(dispatcher: DispatcherBook, status: LeaseStatus, doing: str) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.turn([request(W1, dispatcher.claim(A, status))])
    dispatcher.clock.advance(10)
    assert story(dispatcher) == [f"attempt 1: worker w1 {doing}", "its lease ends in 20 s unless renewed"]


def test_a_running_job_is_being_cancelled(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([cancel(A, reply=None)])
    assert story(dispatcher)[-1] == "it is being cancelled: its worker was ordered to stop it"


# --- in general -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_job_is_left_to_the_store(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    assert looks(dispatcher, A, B) == [()]


def test_nothing_is_explained_without_a_request(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    assert looks(dispatcher, A, explain=False) == [()]


def test_no_sentence_is_longer_than_a_text_may_be(dispatcher: DispatcherBook) -> None:
    tags = frozenset(Tag(f"{number:064}") for number in range(1000))
    dispatcher.tell(submit(A, tags=tags, reply=None), request(W1))
    assert max(map(len, story(dispatcher))) == MAX_TEXT
