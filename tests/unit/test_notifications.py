"""Which notifications are sent, when, and what they name."""

import pytest

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import Losses
from stockworker.dispatcher.notifications import (
    MOST_ATTEMPTS,
    Conditions,
    Notification,
    Notifications,
    NotificationSubject,
    Occurrence,
    failed_jobs,
)
from stockworker.logs.events import JobFailed, StoreDiskFull
from stockworker.protocol.ids import WorkerId

JOBS, WORKERS, CERTIFICATES, LOSSES = (
    NotificationSubject.JOBS,
    NotificationSubject.WORKERS,
    NotificationSubject.CERTIFICATES,
    NotificationSubject.LOSSES,
)


def occurred(name: str = "a", subject: NotificationSubject = JOBS) -> Occurrence:
    return Occurrence(subject, f"{subject} {name}", {"name": name})


def made(most_an_hour: int = 10) -> Notifications:
    return Notifications([*NotificationSubject], most_an_hour)


def sent(notifications: Notifications, now: float) -> Notification:
    found = notifications.due(now)
    assert found is not None
    return found


# --- groups -----------------------------------------------------------------------------------------------------------


def test_what_happens_within_five_seconds_is_one_notification() -> None:
    notifications = made()
    notifications.add([occurred("a")], 100.0)
    notifications.add([occurred("b"), occurred("w", WORKERS)], 104.0)
    assert notifications.due(104.9) is None
    found = sent(notifications, 105.0)
    assert found == Notification((occurred("a"), occurred("b"), occurred("w", WORKERS)), {JOBS: 2, WORKERS: 1})
    assert found.text == "jobs a\njobs b\nworkers w"
    notifications.delivered()
    assert notifications.due(1000.0) is None


def test_a_large_group_names_the_first_ten_of_each_subject_and_counts_the_others() -> None:
    notifications = made()
    notifications.add([occurred(str(number), subject) for subject in NotificationSubject for number in range(12)], 0.0)
    found = sent(notifications, 5.0)
    assert len(found.occurrences) == 40
    assert found.counts == dict.fromkeys(NotificationSubject, 12)
    assert [line for line in found.text.splitlines() if " more " in line] == [
        "2 more jobs failed",
        "2 more workers are missing",
        "2 more certificates expire",
        "2 more losses",
    ]


def test_other_subjects_than_the_wanted_ones_are_left_out() -> None:
    notifications = Notifications([WORKERS], 10)
    notifications.add([occurred()], 0.0)
    assert notifications.due(100.0) is None


def test_beyond_the_rate_the_group_grows_until_an_hour_is_over() -> None:
    notifications = made(most_an_hour=2)
    for began in (0.0, 100.0):
        notifications.add([occurred()], began)
        sent(notifications, began + 5)
        notifications.delivered()
    for number in range(3):
        notifications.add([occurred(str(number))], 200.0 + number)
    assert notifications.due(3604.9) is None
    assert sent(notifications, 3605.0).counts == {JOBS: 3}
    notifications.delivered()
    notifications.add([occurred()], 3606.0)
    assert notifications.due(3704.9) is None
    assert notifications.due(3705.0) is not None


# --- retries ----------------------------------------------------------------------------------------------------------


def test_a_notification_is_repeated_with_longer_and_longer_pauses_and_then_given_up() -> None:
    notifications = made(most_an_hour=1)
    notifications.add([occurred()], 0.0)
    first, now = sent(notifications, 5.0), 5.0
    pauses: list[int] = []
    notifications.add([occurred("later")], 6.0)
    while notifications.failed(now, retryable=True):
        pause = next(each for each in range(1, 601) if notifications.due(now + each) is not None)
        assert notifications.due(now + pause) is first
        now += pause
        pauses.append(pause)
    assert pauses == [10, 20, 40, 80, 160, 320, 600]
    assert len(pauses) == MOST_ATTEMPTS - 1
    assert notifications.due(3604.0) is None
    assert sent(notifications, 3605.0).text == "jobs later"


def test_one_that_can_never_be_delivered_is_given_up_immediately() -> None:
    notifications = made()
    notifications.add([occurred()], 0.0)
    sent(notifications, 5.0)
    assert not notifications.failed(5.0, retryable=False)
    notifications.add([occurred("b")], 5.0)
    assert sent(notifications, 10.0).text == "jobs b"
    assert notifications.failed(10.0, retryable=True)


def test_the_next_notification_begins_with_few_attempts() -> None:
    notifications = made()
    for began in (0.0, 100.0):
        notifications.add([occurred()], began)
        sent(notifications, began + 5)
        for attempt in range(MOST_ATTEMPTS - 1):
            assert notifications.failed(began + 5, retryable=True), attempt
        notifications.delivered()


# --- what is noticed --------------------------------------------------------------------------------------------------


def worker(name: str, *, online: bool) -> Worker:
    return Worker(WorkerId(name), "boot", 1, 1, frozenset(), frozenset(), "1.0", 0.0, online=online)


def test_a_worker_is_missing_once_after_some_time_offline_and_again_after_it_was_online() -> None:
    conditions = Conditions(300.0, ())

    def look(now: float, *, online: bool) -> list[Occurrence]:
        return conditions.workers([worker("w2", online=online), worker("w1", online=online)], now)

    assert look(0.0, online=False) == []
    assert look(299.9, online=False) == []
    texts = [each.text for each in look(300.0, online=False)]
    assert texts == [f"worker {name} is missing: it has been offline for 300 s" for name in ("w1", "w2")]
    assert look(900.0, online=False) == []
    assert look(901.0, online=True) == []
    assert look(902.0, online=False) == []
    (first, _) = look(1202.0, online=False)
    assert first == Occurrence(WORKERS, texts[0], {"worker": "w1"})


def test_a_worker_that_was_removed_is_not_missing() -> None:
    conditions = Conditions(300.0, ())
    conditions.workers([worker("w1", online=False)], 0.0)
    assert conditions.workers([], 299.0) == []
    assert conditions.workers([worker("w1", online=False)], 301.0) == []


def test_a_certificate_is_reported_once_below_each_number_of_days() -> None:
    conditions = Conditions(300.0, (3, 30))
    texts = [
        [each.text for each in conditions.certificates({"w1": days, "w2": None})]
        for days in (30, 29, 28, 2, 1, -1, 90, 2)
    ]
    assert texts == [
        [],
        ["the certificate of w1 expires in 29 days"],
        [],
        ["the certificate of w1 expires in 2 days"],
        [],
        [],
        [],
        ["the certificate of w1 expires in 2 days"],
    ]
    assert conditions.certificates({"w3": -1}) == [
        Occurrence(CERTIFICATES, "the certificate of w3 has expired", {"service": "w3", "days": -1})
    ]
    assert [each.text for each in conditions.certificates({"w4": 0})] == ["the certificate of w4 expires in 0 days"]


def test_a_loss_is_reported_once_until_the_figure_was_0() -> None:
    conditions = Conditions(300.0, ())
    losses = Losses(accounting=1, broker=2)
    details = {"accounting": 1, "tracers": 0, "broker": 2, "unheard": 0, "lost": 3}
    expected = [Occurrence(LOSSES, "jobs or messages may be lost (accounting 1, broker 2)", details)]
    seen = [conditions.losses(each) for each in (Losses(), losses, Losses(unheard=9), Losses(), losses)]
    assert seen == [[], expected, [], [], expected]


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("no such symbol", "no such symbol"), (None, "crashed"), ("\x1b[2J\n", "?[2J?"), ("x" * 400, "x" * 300)],
)
def test_a_failed_job_is_reported_with_a_text_that_can_be_printed(reason: str | None, shown: str) -> None:
    failed = JobFailed(job="a", type="prices", attempt=3, worker="w1", outcome="crashed", reason=reason)
    details = {"job": "a", "type": "prices", "outcome": "crashed", "reason": shown}
    assert failed_jobs([StoreDiskFull(), failed]) == [Occurrence(JOBS, f"job a (prices) failed: {shown}", details)]
