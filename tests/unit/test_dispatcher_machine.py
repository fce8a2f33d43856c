"""The dispatcher and its workers: windows, presence, statistics, and the steps that it publishes."""

from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import Offer, RunQuery, ShowStats
from stockworker.protocol.ids import JobId, Tag
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Ack,
    Disconnect,
    Heartbeat,
    Message,
    Monitor,
    Presence,
    Progress,
    Query,
    Register,
    StatsRequest,
    Transition,
    Unregister,
)
from stockworker.protocol.views import PriorityView, QueueView, WorkerView
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    BACKTEST,
    CONNECTED,
    DAY,
    FINISHED,
    IMPORT,
    PRESENCE,
    REPLY,
    RESUME,
    RUNNING,
    W1,
    W2,
    W3,
    WAITING,
    A,
    B,
    C,
    D,
    DispatcherBook,
    ack,
    order,
    report,
    request,
    submit,
)

# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_request_is_a_standing_order(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1, slots=2))
    dispatcher.tell(submit(A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(submit(B, C, reply=None))
    dispatcher.expect(dispatcher.offer(W1, B))
    dispatcher.tell(report(W1, dispatcher.ended(A)))
    dispatcher.expect(dispatcher.offer(W1, C), ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "null"))


def test_a_repeated_request_does_not_give_more(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, B, reply=None), request(W1), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(request(W1))


def test_a_finished_lease_fills_its_place_until_it_is_reported(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(submit(B, reply=None), request(W1, dispatcher.claim(A, FINISHED)))
    dispatcher.expect(ack(W1))


def test_a_worker_that_drains_gets_nothing_and_keeps_what_it_has(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(submit(B, reply=None), request(W1, dispatcher.claim(A, RUNNING), slots=2, window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), slots=2))
    dispatcher.expect(dispatcher.offer(W1, B), ack(W1))


def test_offers_are_cut_into_messages(dispatcher: DispatcherBook) -> None:
    ids = [JobId(f"job-{number:03}") for number in range(100)]
    dispatcher.tell(submit(*ids, reply=None), request(W1, slots=100))
    dispatcher.expect(dispatcher.offer(W1, *ids[:64]), dispatcher.offer(W1, *ids[64:]))
    dispatcher.after(2)
    dispatcher.tell(request(W1, slots=100))
    dispatcher.expect(dispatcher.offer(W1, *ids[:64]), dispatcher.offer(W1, *ids[64:]))


def test_priorities_types_and_tags_decide_which_worker_gets_which_job(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(
        submit(A, priority=Priority.LOW, reply=None),
        submit(B, priority=Priority.HIGH, reply=None),
        submit(C, of_type=IMPORT, reply=None),
        submit(D, tags=frozenset({Tag("gpu")}), reply=None),
    )
    dispatcher.tell(request(W1), request(W2, tags=[Tag("gpu")]), request(W3, types=[IMPORT], slots=4))
    dispatcher.expect(dispatcher.offer(W1, B), dispatcher.offer(W2, D), dispatcher.offer(W3, C))


def test_no_job_waits_behind_others_for_ever(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, priority=Priority.LOW, reply=None))
    dispatcher.after(899)
    dispatcher.tell(submit(B, C, priority=Priority.HIGH, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, B))
    dispatcher.after(1)
    dispatcher.tell(report(W1, dispatcher.ended(B)))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[dispatcher.token(B)]), dispatcher.notice(B, "null"))


def test_a_request_changes_what_a_worker_can_run(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, of_type=IMPORT, reply=None), request(W1))
    dispatcher.tell(request(W1, types=[IMPORT]))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(submit(B, reply=None))


# --- comings and goings -----------------------------------------------------------------------------------------------


def alive(incarnation: str = "boot-1") -> Heartbeat:
    return Heartbeat(W1, incarnation, 1, 0, 0, 1.0)


def test_a_worker_is_known_by_its_request_alone(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    dispatcher.tell(Register(W1, "boot-1", "1.0", 1, (BACKTEST,), ()), alive())
    assert dispatcher.stats().workers == ()
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.logged == ["type_unserved", "worker_seen"]


def test_a_type_that_no_worker_runs_is_logged_once(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), submit(B, reply=None))
    assert dispatcher.logged == ["type_unserved"]
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    refused = dispatcher.ended(A, Outcome.REFUSED, error="no such module")
    dispatcher.tell(report(W1, refused))
    dispatcher.expect(ack(W1, stored=[refused.token]))
    assert dispatcher.logged.count("type_unserved") == 2


def test_workers_have_time_to_register_with_a_restarted_dispatcher(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None))
    dispatcher.restart()
    dispatcher.tell(CONNECTED)
    dispatcher.expect(Send(PRESENCE))
    dispatcher.tell(submit(B, reply=None), submit(D, of_type=IMPORT, reply=None))
    dispatcher.after(50)
    assert dispatcher.logged.count("type_unserved") == 1, "before the restart"
    dispatcher.tell(request(W1, window=2, slots=2))
    dispatcher.expect(dispatcher.offer(W1, A, B))
    dispatcher.after(15)
    assert dispatcher.logged.count("type_unserved") == 2, "the type of D"


def test_a_refused_type_is_tried_again_after_a_while(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    refused = dispatcher.ended(A, Outcome.REFUSED, error="too many open files")
    dispatcher.tell(report(W1, refused))
    dispatcher.expect(ack(W1, stored=[refused.token]))
    dispatcher.after(299)
    dispatcher.tell(request(W1))
    assert dispatcher.state(A) is State.QUEUED
    dispatcher.after(1)
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_refused_type_is_tried_again_when_the_worker_registers_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    refused = dispatcher.ended(A, Outcome.REFUSED, error="no such module")
    dispatcher.tell(report(W1, refused))
    dispatcher.expect(ack(W1, stored=[refused.token]))
    dispatcher.tell(Register(W1, "of-another-start", "1.0", 1, (BACKTEST,), ()))
    assert dispatcher.state(A) is State.QUEUED
    dispatcher.tell(Register(W1, "boot-1", "1.0", 1, (BACKTEST,), ()))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_disconnected_worker_gets_nothing_and_keeps_its_leases(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), slots=2))
    dispatcher.expect(ack(W1))
    dispatcher.tell(Disconnect(W1, "boot-1"), submit(B, reply=None))
    assert dispatcher.state(A) is State.RUNNING
    assert dispatcher.logged[-1] == "worker_disconnected"
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), slots=2))
    dispatcher.expect(dispatcher.offer(W1, B), ack(W1))


def test_the_will_of_an_earlier_start_is_ignored(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.tell(Disconnect(W1, "boot-1"), Unregister(W1, "boot-1"), submit(A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_worker_that_leaves_gives_back_what_it_holds(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(request(W2), Unregister(W1, "boot-1"))
    dispatcher.expect(dispatcher.offer(W2, A))
    job = dispatcher.job(A)
    assert (job.failures, job.crashes) == (0, 0)
    assert [worker.worker_id for worker in dispatcher.stats().workers] == [W2]


def test_a_silent_worker_gets_nothing(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    dispatcher.after(89)
    assert dispatcher.stats().workers[0].online
    dispatcher.after(1)
    assert not dispatcher.stats().workers[0].online
    assert dispatcher.logged[-1] == "worker_lost"
    dispatcher.tell(submit(A, reply=None))
    dispatcher.tell(alive())
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_heartbeat_keeps_a_worker_online(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    for _ in range(10):
        dispatcher.after(60)
        dispatcher.tell(alive())
    assert dispatcher.stats().workers[0].online


def test_a_worker_without_leases_that_is_silent_for_a_day_is_forgotten(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    dispatcher.after(DAY)
    assert len(dispatcher.stats().workers) == 1
    dispatcher.after(2)
    assert dispatcher.stats().workers == ()


# --- telling ----------------------------------------------------------------------------------------------------------


def test_statistics_tell_how_everything_stands(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED)
    dispatcher.tell(submit(B, reply=None), submit(C, D, of_type=IMPORT, reply=None))
    dispatcher.expect(dispatcher.offer(W1, B))
    dispatcher.after(10)
    stats = dispatcher.stats()
    dispatcher.tell(StatsRequest(REPLY, REPLY.client_id))
    dispatcher.expect(ShowStats(replace(stats, reply=REPLY)))
    assert (stats.incarnation, stats.version, stats.uptime_s) == ("epoch", "1.0", 10)
    assert dict(stats.states) == dict.fromkeys(State, 0) | {State.COMPLETED: 1, State.ASSIGNED: 1, State.QUEUED: 2}
    parts = (PriorityView(Priority.NORMAL, waiting=2, oldest_s=10),)
    assert stats.queues == (QueueView(IMPORT, waiting=2, oldest_s=10, workers=0, priorities=parts),)
    assert stats.workers == (
        WorkerView(W1, online=True, slots=1, leases=1, types=(BACKTEST,), seen_s=10, version="1.0"),
    )
    census = {"workers_denied": 0, "workers_known": 1, "workers_online": 1}
    assert dict(stats.counters) == {"jobs_stored": 4, "attempts_ok": 1, **census}


def test_totals_are_counted_over_restarts(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED)
    dispatcher.tell(submit(B, reply=None))
    dispatcher.expect(dispatcher.offer(W1, B))
    dispatcher.restart()
    states = dict(dispatcher.stats().states)
    assert (states[State.COMPLETED], states[State.ASSIGNED]) == (1, 1)


def test_a_query_is_left_to_the_store(dispatcher: DispatcherBook) -> None:
    query = Query((A,), None, with_results=True, reply=REPLY)
    dispatcher.tell(query)
    dispatcher.expect(RunQuery(query))


def test_each_step_of_a_job_is_published(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.FAILED)
    assert dispatcher.steps == [
        Transition(A, BACKTEST, State.QUEUED, 0, None),
        Transition(A, BACKTEST, State.ASSIGNED, 1, W1),
        Transition(A, BACKTEST, State.RUNNING, 1, W1),
        Transition(A, BACKTEST, State.FAILED, 1, W1),
    ]


def test_presence_is_published_whenever_the_link_comes_up(dispatcher: DispatcherBook) -> None:
    dispatcher.connect()
    dispatcher.connect()


@pytest.mark.parametrize(
    "message",
    [Presence(online=True, incarnation="other", version="1.0"), Monitor(()), Ack(W1), Progress(W1, A, 0.5, "")],
)
def test_a_message_for_another_service_is_counted(dispatcher: DispatcherBook, message: Message) -> None:
    dispatcher.tell(message)
    assert dispatcher.counter("messages_refused") == 1


def test_each_worker_gets_one_answer_to_all_its_messages_of_a_turn(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, B, C, reply=None), request(W1, slots=2), request(W2))
    dispatcher.expect(dispatcher.offer(W1, A, C), dispatcher.offer(W2, B))
    dispatcher.tell(
        report(W1, dispatcher.ended(A)),
        request(W1, dispatcher.claim(C, WAITING), slots=2),
        report(W2, dispatcher.ended(B, Outcome.RELEASED)),
        request(W2, window=0),
    )
    first = dispatcher.store.attempts(B)[0].token
    dispatcher.expect(
        order(W2, RESUME),
        dispatcher.offer(W1, B),
        ack(W1, stored=[dispatcher.token(A)]),
        ack(W2, stored=[first]),
        dispatcher.notice(A, "null"),
    )


def test_saves_come_before_everything_that_follows_from_them(dispatcher: DispatcherBook) -> None:
    effects = dispatcher.machine.handle([request(W1), submit(A)], dispatcher.now())
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds == ["SaveJob", "SaveAttempt", "WorkerSeen", "Offer", "Send", "Send"]
    assert isinstance(effects[3], Offer)
