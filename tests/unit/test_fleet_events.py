"""Which events of the fleet are in the messages that an operator may read."""

import pytest

from stockworker.client.fleet_events import (
    KIND_OF,
    EventFilter,
    EventKind,
    FleetEvent,
    UnreadEvents,
    event_topics,
    events_of,
)
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Disconnect,
    Heartbeat,
    Message,
    Monitor,
    Notice,
    Presence,
    Register,
    Transition,
    Unregister,
)
from stockworker.protocol.topics import BY_KIND, Role, parse

J, T, W = JobId("ann:j1"), JobType("echo"), WorkerId("w1")


def step(state: State, attempt: int = 1) -> Transition:
    return Transition(J, T, state, attempt, W)


def notice(state: State, reason: str | None = None) -> Notice:
    return Notice(J, T, state, 2, W, None, reason)


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (
            Monitor((step(State.QUEUED, 0), step(State.RUNNING), step(State.COMPLETED))),
            [
                FleetEvent("queued", J, T, W, 0),
                FleetEvent("running", J, T, W, 1),
                FleetEvent("completed", J, T, W, 1),
            ],
        ),
        # The notice of these has the reason, and comes once.
        (Monitor((step(State.FAILED), step(State.CANCELLED), step(State.EXPIRED))), []),
        (notice(State.FAILED, "no data"), [FleetEvent("failed", J, T, W, 2, "no data")]),
        (notice(State.CANCELLED), [FleetEvent("cancelled", J, T, W, 2)]),
        (notice(State.COMPLETED), []),
        (Register(W, "b", "1.2", 1, (), ()), [FleetEvent("connected", worker=W, text="1.2")]),
        (Unregister(W, "b"), [FleetEvent("left", worker=W)]),
        (Disconnect(W, "b"), [FleetEvent("disconnected", worker=W)]),
        (Presence(online=True, incarnation="e", version="1.2"), [FleetEvent("online", text="1.2")]),
        (Presence(online=False, incarnation="e", version="1.2"), [FleetEvent("offline", text="1.2")]),
        (Heartbeat(W, "b", 1, 1, 0, 1.0), []),
    ],
)
def test_a_message_has_these_events(message: Message, events: list[FleetEvent]) -> None:
    assert list(events_of(message)) == events


PROBED = "stockworker-check-0f"


@pytest.mark.parametrize(
    ("job_id", "count"),
    [
        (f"{PROBED}:{PROBED}", 0),
        ("stockworker-check-1:j", 0),
        (f"ann:{PROBED}", 1),
        (PROBED, 1),
        ("stockworker-check:j", 1),
    ],
)
def test_a_notice_that_tests_a_right_is_no_event_and_no_client_can_imitate_it(job_id: str, count: int) -> None:
    probe = Notice(JobId(job_id), T, State.EXPIRED, 0, None, None, "a probe")
    assert len(list(events_of(probe))) == count


@pytest.mark.parametrize(
    "message", [Register(W, PROBED, "1.2", 1, (), ()), Unregister(W, PROBED), Disconnect(W, PROBED)]
)
def test_a_message_of_a_worker_that_tests_a_right_is_no_event(message: Message) -> None:
    assert list(events_of(message)) == []


def test_a_sealed_reason_is_not_shown() -> None:
    (event,) = events_of(notice(State.FAILED, "crashed: sealed.2.aaaa.bbbb.cccc"))
    assert event.text == "crashed: (sealed for its submitter)"


def test_each_event_has_a_kind() -> None:
    assert {name: FleetEvent(name).kind for name in KIND_OF} == KIND_OF
    assert {kind for name, kind in KIND_OF.items() if name in set(State)} == {EventKind.JOB}
    assert (
        FleetEvent("connected").kind is FleetEvent("left").kind is FleetEvent("disconnected").kind is EventKind.WORKER
    )
    assert FleetEvent("online").kind is FleetEvent("offline").kind is EventKind.DISPATCHER


def test_an_operator_may_read_every_topic_of_events() -> None:
    topics = event_topics()
    for topic in topics:
        line = BY_KIND[parse(topic.replace("+", "x")).kind]
        assert Role.OPERATOR in line.subscribers | line.watchers
    assert {"system/monitor", "jobs/failed/+/+", "jobs/failed/+", "workers/register/+", "system/dispatcher"} <= {
        *topics
    }


FAILED = FleetEvent("failed", J, T, W, 1, "no data")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (EventFilter(), True),
        (EventFilter(kinds=["job"]), True),
        (EventFilter(kinds=["worker", "dispatcher"]), False),
        (EventFilter(names=["completed", "failed"]), True),
        (EventFilter(names=["completed"]), False),
        (EventFilter(types=["echo"]), True),
        (EventFilter(types=["other"]), False),
        (EventFilter(workers=["w1"]), True),
        (EventFilter(workers=["w2"]), False),
        (EventFilter(jobs=["ann:j1"]), True),
        (EventFilter(jobs=["j1"]), False),
        (EventFilter(kinds=["job"], types=["echo"], workers=["w2"]), False),
    ],
)
def test_filters_must_all_match(wanted: EventFilter, *, matches: bool) -> None:
    assert wanted.matches(FAILED) is matches
    assert wanted.matches(FleetEvent("broken", text="gone"))


def test_a_reader_that_is_too_slow_gets_the_number_of_missed_events() -> None:
    unread = UnreadEvents(most=2)
    assert unread.take() == []
    for _ in range(1502):
        unread.add(FAILED)
    assert unread.take() == [FAILED, FAILED, FleetEvent("missed", text="1,500 events: this reader is too slow")]
    unread.add(FAILED)
    assert unread.take() == [FAILED]
