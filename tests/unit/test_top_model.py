"""What keys make of the state of `stockworker top`."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stockworker.cli.top_model import (
    JOB_STATES,
    Facts,
    Page,
    PageKind,
    Pane,
    Quit,
    TopOrder,
    TopState,
    Verb,
    cursor,
    jobs_of,
    names_of,
    press,
    queues_of,
    selected,
    wanted,
    wanted_jobs,
    workers_of,
)
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import JobView, QueueView, WorkerView

JOB = JobView(
    JobId("ann:j1"),
    JobType("echo"),
    Priority.NORMAL,
    State.FAILED,
    100.0,
    100.0,
    200.0,
    1,
    1,
    0,
    WorkerId("w1"),
    cancel_requested=False,
    reason="no data",
)
JOBS = (JOB, replace(JOB, job_id=JobId("ann:j2"), type=JobType("sum"), submitted_at=50.0, worker=None, reason=None))
QUEUES = (
    QueueView(JobType("echo"), 5, 10.0, 2),
    QueueView(JobType("stuck"), 1, 1.0, 0),
    QueueView(JobType("sum"), 9, 3.0, 2, paused=True),
)
WORKERS = tuple(
    WorkerView(
        WorkerId(name), online=name != "w3", slots=2, leases=leases, types=(JobType("echo"),), seen_s=seen, version="1"
    )
    for name, leases, seen in (("w1", 0, 1.0), ("w2", 2, 5.0), ("w3", 1, 9.0))
)
STATS = Stats(None, "i1", "1", 1.0, (), QUEUES, WORKERS, ())
START = TopState()
FAILED = wanted_jobs(START.page)
assert FAILED is not None
LOADED = replace(START, facts=Facts(stats=STATS, workers=WORKERS, jobs=(FAILED, JOBS)))


def after(*keys: str, state: TopState = LOADED) -> TopState:
    """The state after keys of which none is a request."""
    for key in keys:
        state, request = press(state, key)
        assert request is None, (key, request)
    return state


def at(pane: Pane, *keys: str) -> TopState:
    """The overview with the cursor in a pane."""
    return after(*["tab"] * {Pane.WORKERS: 0, Pane.JOBS: 1, Pane.QUEUES: 2}[pane], *keys)


# --- moving -----------------------------------------------------------------------------------------------------------


def test_it_begins_with_the_worst_worker_and_the_failed_jobs() -> None:
    assert (LOADED.pane, selected(LOADED)) == (Pane.WORKERS, "w3")
    assert wanted(START.page) == (JobFilter(State.FAILED, limit=201, with_prefixes=True), None)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["down"], "w1"),
        (["j", "j"], "w2"),
        (["down", "down", "down", "up"], "w1"),
        (["down", "k"], "w3"),
        (["up"], "w3"),
        (["end"], "w2"),
        (["end", "home"], "w3"),
        (["pagedown"], "w2"),
        (["pagedown", "pageup"], "w3"),
    ],
)
def test_the_cursor_moves_within_its_list(keys: Sequence[str], name: str) -> None:
    assert selected(after(*keys)) == name


def test_a_jump_is_ten_rows() -> None:
    many = tuple(replace(WORKERS[0], worker_id=WorkerId(f"w{number:02}")) for number in range(30))
    state = replace(LOADED, facts=replace(LOADED.facts, workers=many))
    assert selected(after("pagedown", state=state)) == "w10"
    assert selected(after("pagedown", "pagedown", "pageup", "up", state=state)) == "w09"


def test_tab_goes_round_and_begins_each_list_at_its_top() -> None:
    assert [at(pane).pane for pane in (Pane.WORKERS, Pane.JOBS, Pane.QUEUES)] == [Pane.WORKERS, Pane.JOBS, Pane.QUEUES]
    assert after("tab", "tab", "tab").pane is Pane.WORKERS
    assert selected(after("down", "tab")) == "ann:j1"


def test_the_cursor_stays_at_its_row_when_the_list_changes() -> None:
    state = after("down")
    gone = replace(state, facts=replace(state.facts, workers=(replace(WORKERS[0], online=False), *WORKERS[1:])))
    assert selected(gone) == "w1"
    assert cursor(gone, names_of(gone, Pane.WORKERS)) == 0
    gone = replace(state, facts=replace(state.facts, workers=WORKERS[1:]))
    assert selected(gone) == "w2"
    gone = replace(state, facts=replace(state.facts, workers=WORKERS[2:]))
    assert selected(gone) == "w3"
    gone = replace(state, facts=replace(state.facts, workers=()))
    assert selected(gone) is None
    assert after("down", "enter", "d", state=gone).pages == gone.pages


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_worker_a_queue_and_a_job_open_and_close() -> None:
    worker = after("enter")
    assert worker.page == Page(PageKind.WORKER, "w3")
    assert wanted(worker.page) == (JobFilter(limit=201, worker=WorkerId("w3"), with_prefixes=True), None)
    queue = at(Pane.QUEUES, "enter")
    assert queue.page == Page(PageKind.QUEUE, "stuck")
    assert wanted(queue.page) == (JobFilter(type=JobType("stuck"), limit=201, with_prefixes=True), None)
    job = at(Pane.JOBS, "down", "right")
    assert job.page == Page(PageKind.JOB, "ann:j2")
    assert (job.pane, wanted(job.page)) == (None, (None, "ann:j2"))
    for key in ("escape", "backspace", "left"):
        assert after(key, state=job).pages == at(Pane.JOBS, "down").pages
    assert after("escape").pages == LOADED.pages


def test_jobs_of_another_page_are_not_shown() -> None:
    worker = after("enter")
    assert jobs_of(worker) == []
    assert wanted_jobs(worker.page) is not None
    loaded = replace(worker, facts=replace(worker.facts, jobs=(wanted_jobs(worker.page), JOBS)))  # type: ignore[arg-type]
    assert jobs_of(loaded) == [*JOBS]
    assert after("enter", state=loaded).page == Page(PageKind.JOB, "ann:j1")
    assert after("tab", state=loaded).page == loaded.page


def test_the_help_opens_once_and_scrolls() -> None:
    state = after("?", "h", "down", "down", "up")
    assert [page.kind for page in state.pages] == [PageKind.OVERVIEW, PageKind.HELP]
    assert state.page.scroll == 1
    assert after("up", "up", state=state).page.scroll == 0
    assert after("pagedown", state=state).page.scroll == 11
    assert after("tab", "enter", "f", "s", "/", "x", state=state).pages == state.pages
    assert after("escape", state=state) == LOADED


# --- filter, order, states ---------------------------------------------------------------------------------------------


def test_a_filter_selects_rows_by_any_of_their_texts() -> None:
    state = after("/", "W", "2", "x", "backspace", "up", "tab")
    assert (state.typing, state.page.filter) == (True, "W2")
    assert [row.view.worker_id for row in workers_of(state)] == ["w2"]
    state = after("enter", state=state)
    assert (state.typing, selected(state)) == (False, "w2")
    assert queues_of(state) == []
    assert jobs_of(state) == []
    assert after("escape", state=state).page.filter == ""
    assert [row.view.worker_id for row in workers_of(after("/", *"offline"))] == ["w3"]
    assert [row.type for row in queues_of(after("/", *"paused"))] == ["sum"]
    assert [row.job_id for row in jobs_of(after("/", *"NO DATA"))] == ["ann:j1"]
    cleared = after("/", "x", "escape")
    assert (cleared.typing, cleared.page.filter) == (False, "")


def test_s_sorts_the_list_at_the_cursor() -> None:
    def workers(*keys: str) -> str:
        return "".join(row.view.worker_id[1] for row in workers_of(after(*keys)))

    assert [workers(*["s"] * times) for times in range(5)] == ["312", "123", "231", "321", "312"]
    queues = ["".join(row.type[:3] for row in queues_of(at(Pane.QUEUES, *["s"] * times))) for times in range(4)]
    assert queues == ["stuechsum", "sumechstu", "echstusum", "stuechsum"]
    jobs = ["".join(row.job_id[-1] for row in jobs_of(at(Pane.JOBS, *["s"] * times))) for times in range(5)]
    assert jobs == ["12", "21", "12", "21", "12"]
    assert selected(after("down", "s")) == "w1"


def test_f_lists_jobs_of_the_next_state() -> None:
    states = [wanted_jobs(after(*["f"] * times).page) for times in range(len(JOB_STATES) + 1)]
    assert [found.state for found in states if found is not None] == [
        State.FAILED,
        State.RUNNING,
        State.ASSIGNED,
        State.QUEUED,
        State.SCHEDULED,
        None,
        State.FAILED,
    ]
    assert jobs_of(after("f")) == []
    job = at(Pane.JOBS, "enter")
    assert after("f", state=job) == job


# --- orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "key", "order", "what"),
    [
        (at(Pane.JOBS), "r", TopOrder(Verb.RETRY, "ann:j1"), "job"),
        (at(Pane.WORKERS), "d", TopOrder(Verb.DRAIN, "w3"), "worker"),
        (at(Pane.WORKERS, "enter"), "d", TopOrder(Verb.DRAIN, "w3"), "worker"),
        (at(Pane.QUEUES), "p", TopOrder(Verb.PAUSE, "stuck"), "type"),
        (at(Pane.QUEUES, "end"), "p", TopOrder(Verb.RESUME, "sum"), "type"),
        (at(Pane.QUEUES, "end", "enter"), "p", TopOrder(Verb.RESUME, "sum"), "type"),
    ],
)
def test_an_order_is_sent_after_it_was_confirmed(state: TopState, key: str, order: TopOrder, what: str) -> None:
    asked = after(key, state=state)
    assert (asked.question, order.what) == (order, what)
    for yes in "yY":
        confirmed, request = press(asked, yes)
        assert (confirmed.question, request) == (None, order)
    for other in ("n", "enter", "escape", "q", key, ""):
        declined, request = press(asked, other)
        assert (declined.question, request) == (None, None)
        assert declined.note == f"did not {order.verb} {order.name}"
        assert declined.pages == state.pages


def test_the_name_in_the_question_is_that_of_the_order() -> None:
    asked = after("d")
    other = replace(asked, facts=replace(asked.facts, workers=WORKERS[:1]))
    assert press(other, "y")[1] == TopOrder(Verb.DRAIN, "w3")


def test_a_drained_worker_is_undrained() -> None:
    drained = replace(LOADED, facts=replace(LOADED.facts, workers=(replace(WORKERS[0], drained=True),)))
    assert after("d", state=drained).question == TopOrder(Verb.UNDRAIN, "w1")


def test_a_job_is_cancelled_or_retried_where_that_helps() -> None:
    running = replace(JOB, state=State.RUNNING)
    listed = replace(at(Pane.JOBS), facts=replace(LOADED.facts, jobs=(FAILED, (running,))))  # type: ignore[arg-type]
    assert after("c", state=listed).question == TopOrder(Verb.CANCEL, "ann:j1")
    assert after("r", state=listed).note == "r runs a failed job again: put the cursor on one"
    assert after("c", state=at(Pane.JOBS)).note == "c cancels an unfinished job: put the cursor on one"
    page = replace(after("enter", state=listed), facts=Facts(job=running))
    assert after("c", state=page).question == TopOrder(Verb.CANCEL, "ann:j1")
    other = replace(page, facts=Facts(job=replace(running, job_id=JobId("ann:j9"))))
    assert after("c", state=other).question is None
    failed = replace(page, facts=Facts(job=JOB))
    assert after("r", state=failed).question == TopOrder(Verb.RETRY, "ann:j1")


def test_a_key_that_does_not_fit_the_list_explains_itself() -> None:
    assert after("p").note == "p pauses a job type: put the cursor on one"
    assert after("d", state=at(Pane.JOBS)).note == "d drains a worker: put the cursor on one"
    assert after("d", "down", state=at(Pane.JOBS)).note == ""
    assert after("r").question is after("c").question is None


def test_q_leaves_and_unknown_keys_do_nothing() -> None:
    assert press(LOADED, "q") == (LOADED, Quit())
    assert press(at(Pane.JOBS, "enter"), "q")[1] == Quit()
    for key in ("x", "", "Ω", "\x1b[99~"):
        assert after(key) == LOADED
    typing = after("/", "q")
    assert typing.page.filter == "q"
    assert after("", "redraw", state=typing) == typing
