"""The pure parts of the web page: accounts, sessions, the chart of the throughput, and what the templates show."""

import itertools
from dataclasses import replace

import pytest

from stockworker.client.throughput import KEPT_S, Throughput
from stockworker.client.triage import longest_wait_first, may_cancel, may_retry, worst_first
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import AttemptView, Explanation, JobView, QueueView, WorkerView
from stockworker.web.accounts import (
    SALT_BYTES,
    SHORTEST_PASSWORD,
    AccountRole,
    make_account,
    read_accounts,
    write_accounts,
)
from stockworker.web.pages import timeline
from stockworker.web.sessions import IDLE_S, MOST_SESSIONS, WebSessions
from stockworker.web.throughput import chart

SALT = b"s" * SALT_BYTES
PASSWORD = "correct horse"  # noqa: S105 (of an account that only this test has)
MARY = make_account("mary", AccountRole.OPERATOR, PASSWORD, SALT)
JOB = JobView(
    JobId("j1"),
    JobType("echo"),
    Priority.NORMAL,
    State.QUEUED,
    100.0,
    100.0,
    None,
    0,
    0,
    0,
    None,
    cancel_requested=False,
    reason=None,
)
WORKER = WorkerView(WorkerId("w1"), online=True, slots=5, leases=0, types=(), seen_s=1.0, version="1")


def stats(incarnation: str = "i1", **counters: int) -> Stats:
    return Stats(None, incarnation, "1", 1.0, (), (), (), tuple(sorted(counters.items())))


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_an_account_accepts_only_its_password() -> None:
    assert MARY.accepts(PASSWORD)
    assert not MARY.accepts(PASSWORD.upper())
    assert PASSWORD not in MARY.line()


def test_accounts_are_read_as_they_were_written() -> None:
    accounts = {"mary": MARY, "vera": make_account("vera", AccountRole.VIEWER, "p" * SHORTEST_PASSWORD, SALT)}
    assert read_accounts("# people\n\n" + write_accounts(accounts)) == accounts


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("mary:operator", "line 1: is not 'NAME:ROLE:scrypt:"),
        (MARY.line().replace("operator", "root"), "line 1: the role must be viewer or operator, not 'root'"),
        (MARY.line().replace("16384", "16383"), "power of two"),
        (MARY.line().replace("16384", "268435456"), "power of two up to"),
        (MARY.line().replace(":8:", ":-8:"), "three numbers"),
        (MARY.line().replace("mary", "m ry"), "line 1: "),
        (MARY.line() + "\n" + MARY.line(), "line 2: mary has an account already"),
    ],
)
def test_a_wrong_line_is_refused_without_its_secret(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"line \d: ") as refused:
        read_accounts(line)
    assert problem in str(refused.value)
    assert MARY.line()[-20:] not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "password"), [("mary", "short"), ("mary", "x" * 2000), ("m:ry", PASSWORD), ("", PASSWORD)]
)
def test_an_account_needs_a_name_and_a_password_of_some_length(name: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"password|character"):
        make_account(name, AccountRole.VIEWER, password, SALT)


# --- sessions ---------------------------------------------------------------------------------------------------------


def make_sessions() -> WebSessions:
    numbers = itertools.count()
    return WebSessions(lambda: f"token-{next(numbers)}")


def test_a_session_ends_after_a_while_without_requests() -> None:
    sessions = make_sessions()
    cookie = sessions.open(MARY, 0.0)
    assert sessions.find(cookie, IDLE_S - 1) is not None
    assert sessions.find(cookie, 2 * IDLE_S - 2) is not None
    assert sessions.find(cookie, 4 * IDLE_S) is None
    assert sessions.find(cookie, 4 * IDLE_S) is None


def test_a_form_of_another_session_is_not_accepted() -> None:
    sessions = make_sessions()
    one, two = (sessions.find(sessions.open(MARY, 0.0), 0.0) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one.accepts(one.form_token)
    assert not one.accepts(two.form_token)
    assert not one.accepts("")


def test_of_too_many_sessions_the_one_unused_for_longest_ends() -> None:
    sessions = make_sessions()
    cookies = [sessions.open(MARY, 0.0) for _ in range(MOST_SESSIONS)]
    assert sessions.find(cookies[0], 1.0) is not None
    sessions.open(MARY, 2.0)
    assert sessions.find(cookies[0], 3.0) is not None
    assert sessions.find(cookies[1], 3.0) is None


def test_sessions_of_deleted_and_changed_accounts_end() -> None:
    sessions = make_sessions()
    cookie = sessions.open(MARY, 0.0)
    sessions.keep_only({"mary": MARY})
    assert sessions.find(cookie, 1.0) is not None
    sessions.keep_only({"mary": replace(MARY, role=AccountRole.VIEWER)})
    assert sessions.find(cookie, 1.0) is None


# --- the chart --------------------------------------------------------------------------------------------------------


def test_rates_are_differences_of_the_counters() -> None:
    history = Throughput()
    history.add(stats(jobs_stored=10, attempts_ok=0), 100.0)
    history.add(stats(jobs_stored=30, attempts_ok=10, attempts_error=2, attempts_crashed=2), 102.0)
    newest = {line.name: line.newest for line in chart(history).series}
    assert newest == {"submitted": 10.0, "completed": 5.0, "failed": 2.0}
    assert chart(history).top == 10.0


def test_a_restart_of_the_dispatcher_is_no_negative_rate() -> None:
    history = Throughput()
    history.add(stats(jobs_stored=1000), 100.0)
    history.add(stats("i2", jobs_stored=0), 102.0)
    history.add(stats("i2", jobs_stored=8), 104.0)
    (submitted, *_) = chart(history).series
    assert submitted.newest == 4.0
    assert submitted.points.count(",") == 1


def test_the_past_is_forgotten() -> None:
    history = Throughput()
    for second in range(0, 2 * int(KEPT_S), 60):
        history.add(stats(jobs_stored=second), float(second))
    (submitted, *_) = chart(history).series
    assert submitted.points.count(",") == KEPT_S / 60
    assert all(float(point.split(",")[0]) >= 0 for point in submitted.points.split())


@pytest.mark.parametrize(("known_s", "minutes"), [(2, 2), (120, 2), (121, 5), (301, 10), (601, 30), (1800, 30)])
def test_the_chart_is_as_long_as_what_is_known(known_s: int, minutes: int) -> None:
    history = Throughput()
    history.add(stats(jobs_stored=0), 100.0)
    history.add(stats(jobs_stored=1), 101.0)
    history.add(stats(jobs_stored=1), 100.0 + known_s)
    drawn = chart(history)
    assert drawn.minutes == minutes
    first, last = (float(point.split(",")[0]) for point in drawn.series[0].points.split())
    assert first == pytest.approx(drawn.width * (1 - (known_s - 1) / (60 * minutes)), abs=0.1)
    assert last == drawn.width


def test_a_chart_without_samples_is_empty() -> None:
    assert [line.points for line in chart(Throughput()).series] == ["", "", ""]


# --- what the templates show ------------------------------------------------------------------------------------------


def test_workers_with_problems_come_first() -> None:
    workers = [
        replace(WORKER, worker_id=WorkerId("fine")),
        replace(WORKER, worker_id=WorkerId("old"), certificate_days=3),
        replace(WORKER, worker_id=WorkerId("gone"), online=False),
        replace(WORKER, worker_id=WorkerId("quiet"), seen_s=100.0, certificate_days=-1),
        replace(WORKER, worker_id=WorkerId("drained"), drained=True),
    ]
    rows = worst_first(workers)
    assert [(row.view.worker_id, row.state, row.problems) for row in rows] == [
        ("quiet", "online", ("silent", "its certificate expired")),
        ("gone", "offline", ("offline",)),
        ("old", "online", ("its certificate expires in 3 days",)),
        ("drained", "drained", ()),
        ("fine", "online", ()),
    ]


def test_queues_without_a_worker_come_first() -> None:
    queues = [
        QueueView(JobType("short"), 5, 10.0, 2),
        QueueView(JobType("stuck"), 1, 1.0, 0),
        QueueView(JobType("long"), 5, 99.0, 2),
    ]
    assert [queue.type for queue in longest_wait_first(queues)] == ["stuck", "long", "short"]


def test_the_timeline_has_each_attempt() -> None:
    attempts = (
        AttemptView(1, WorkerId("w1"), Token("t1"), 101.0, 103.0, Outcome.ERROR, 1.5, "boom"),
        AttemptView(2, WorkerId("w2"), Token("t2"), 110.0),
    )
    view = replace(JOB, state=State.RUNNING, attempt=2, worker=WorkerId("w2"))
    moments = timeline(view, Explanation(JobId("j1"), (), attempts))
    assert [(moment.at, moment.text, moment.detail) for moment in moments] == [
        (100.0, "submitted", ""),
        (101.0, "attempt 1 assigned to w1", ""),
        (103.0, "attempt 1: error after 1.50 s", "boom"),
        (110.0, "attempt 2 assigned to w2", ""),
    ]


def test_buttons_are_shown_only_where_they_help() -> None:
    assert may_cancel(JOB)
    assert not may_cancel(replace(JOB, cancel_requested=True))
    assert not may_cancel(replace(JOB, state=State.COMPLETED))
    assert may_retry(replace(JOB, state=State.FAILED))
    assert not may_retry(JOB)
