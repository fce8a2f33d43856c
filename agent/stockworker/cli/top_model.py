"""The state of `stockworker top`, and what keys and answers make of it. Pure: `top_screen` draws it, `top` does the rest."""

# A page is what fills the screen. Pages are opened one above the other: the overview, a queue or a worker, a job, the help.
# The overview has three panes, and one of them has the cursor. A pane is a list of rows with names. The cursor is at a name:
# a list in a new order does not move it to another row. If the name has gone, the cursor stays at its number.
#
# What must be asked for follows from the page (`wanted`), and not from keys. So an answer that is late, lost or of a page
# that was left is harmless. An order is sent only after its question was answered with `y`, and it keeps the name that the
# question showed, whatever the lists do meanwhile.

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from stockworker.client.triage import WorkerRow, longest_wait_first, may_cancel, may_retry, worst_first
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import JobView, QueueView, WorkerView

MOST_JOBS: Final = 200
"""Most jobs of a list: the newest ones."""

_JUMP: Final = 10
"""Rows of the keys PgUp and PgDn."""

_LAST: Final = 1 << 53


class PageKind(StrEnum):
    """What fills the screen."""

    OVERVIEW = "overview"
    QUEUE = "queue"
    WORKER = "worker"
    JOB = "job"
    HELP = "help"


class Pane(StrEnum):
    """A list on a page."""

    QUEUES = "queues"
    WORKERS = "workers"
    JOBS = "jobs"


PANES: Final = {
    PageKind.OVERVIEW: (Pane.QUEUES, Pane.WORKERS, Pane.JOBS),
    PageKind.QUEUE: (Pane.JOBS,),
    PageKind.WORKER: (Pane.JOBS,),
    PageKind.JOB: (),
    PageKind.HELP: (),
}
"""The panes of each page, from the top."""

JOB_STATES: Final = (None, State.FAILED, State.RUNNING, State.ASSIGNED, State.QUEUED, State.SCHEDULED)
"""The states of which a list can show the jobs; None is any state."""


class Verb(StrEnum):
    """What an operator can order."""

    CANCEL = "cancel"
    RETRY = "retry"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class TopOrder:
    """An order about the job, worker or job type of this name."""

    verb: Verb
    name: str

    @property
    def what(self) -> str:
        """The kind of thing that has this name: a job, a worker or a type."""
        return {Verb.CANCEL: "job", Verb.RETRY: "job", Verb.DRAIN: "worker", Verb.UNDRAIN: "worker"}.get(
            self.verb, "type"
        )


@dataclass(frozen=True, slots=True)
class Quit:
    """The person wants to leave."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        kind: what it shows.
        name: of the queue, worker or job that it is about.
        focus: number of the pane that has the cursor.
        selected: name of the row at the cursor; None before it was moved.
        row: number of that row.
        scroll: the first line that is shown, of a page of text.
        job_state: number in `JOB_STATES`.
        filter: only rows with this text are shown.
    """

    kind: PageKind
    name: str = ""
    focus: int = 0
    selected: str | None = None
    row: int = 0
    scroll: int = 0
    job_state: int = 0
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the dispatcher has answered.

    Attributes:
        stats: the newest statistics; None before the first.
        at: when they arrived, as `TopState.now`.
        workers: all workers.
        workers_missing: how many of them have not been loaded.
        rates: how many per second, by what is counted.
        jobs: the newest jobs that `wanted` names, and for which filter they were loaded.
        more_jobs: whether older ones exist.
        story: the lines about a job, and its ID.
        job: that job.
    """

    stats: Stats | None = None
    at: float = 0.0
    workers: tuple[WorkerView, ...] = ()
    workers_missing: int = 0
    rates: tuple[tuple[str, float | None], ...] = ()
    jobs: tuple[JobFilter, tuple[JobView, ...]] | None = None
    more_jobs: bool = False
    story: tuple[str, tuple[str, ...]] | None = None
    job: JobView | None = None


@dataclass(frozen=True, slots=True)
class TopState:
    """Everything that the screen shows.

    Attributes:
        pages: those that are open; the last one is shown.
        facts: what is known.
        now: the time.
        orders: number of the order of the rows of each pane, in the order of `Pane`.
        question: the order that waits for `y`.
        typing: whether keys are text of the filter.
        note: what became of the last order.
        problem: why there is no connection.
    """

    pages: tuple[Page, ...] = (Page(PageKind.OVERVIEW, focus=1, job_state=JOB_STATES.index(State.FAILED)),)
    facts: Facts = Facts()
    now: float = 0.0
    orders: tuple[int, int, int] = (0, 0, 0)
    question: TopOrder | None = None
    typing: bool = False
    note: str = ""
    problem: str | None = None

    @property
    def page(self) -> Page:
        """The page that is shown."""
        return self.pages[-1]

    @property
    def pane(self) -> Pane | None:
        """The pane that has the cursor."""
        panes = PANES[self.page.kind]
        return panes[self.page.focus % len(panes)] if panes else None


# --- what must be known -----------------------------------------------------------------------------------------------


def wanted_jobs(page: Page) -> JobFilter | None:
    """Which jobs a page lists, one more than it shows; None if it lists none."""
    if Pane.JOBS not in PANES[page.kind]:
        return None
    return JobFilter(
        JOB_STATES[page.job_state % len(JOB_STATES)],
        JobType(page.name) if page.kind is PageKind.QUEUE else None,
        MOST_JOBS + 1,
        worker=WorkerId(page.name) if page.kind is PageKind.WORKER else None,
        with_prefixes=True,
    )


def wanted(page: Page) -> tuple[JobFilter | None, str | None]:
    """What a page needs besides the statistics: the jobs that it lists, and the job that it is about."""
    return wanted_jobs(page), page.name if page.kind is PageKind.JOB else None


# --- rows -------------------------------------------------------------------------------------------------------------

QueueOrder = Callable[[Sequence[QueueView]], list[QueueView]]
WorkerOrder = Callable[[list[WorkerRow]], list[WorkerRow]]
JobOrder = Callable[[Sequence[JobView]], list[JobView]]

QUEUE_ORDERS: Final[tuple[tuple[str, QueueOrder], ...]] = (
    ("longest wait first", longest_wait_first),
    ("most jobs first", lambda rows: sorted(rows, key=lambda row: (-row.waiting, row.type))),
    ("by name", lambda rows: sorted(rows, key=lambda row: row.type)),
)
WORKER_ORDERS: Final[tuple[tuple[str, WorkerOrder], ...]] = (
    ("worst first", list),
    ("by name", lambda rows: sorted(rows, key=lambda row: row.view.worker_id)),
    ("most leases first", lambda rows: sorted(rows, key=lambda row: (-row.view.leases, row.view.worker_id))),
    ("longest silent first", lambda rows: sorted(rows, key=lambda row: (-row.view.seen_s, row.view.worker_id))),
)
JOB_ORDERS: Final[tuple[tuple[str, JobOrder], ...]] = (
    ("newest first", list),
    ("oldest first", lambda rows: sorted(rows, key=lambda row: row.submitted_at)),
    ("by type", lambda rows: sorted(rows, key=lambda row: row.type)),
    ("by worker", lambda rows: sorted(rows, key=lambda row: row.worker or "")),
)


def queues_of(state: TopState) -> list[QueueView]:
    """The queues that are shown, in their order."""
    stats = state.facts.stats
    rows = () if stats is None else stats.queues
    _, arrange = QUEUE_ORDERS[state.orders[0] % len(QUEUE_ORDERS)]
    return [row for row in arrange(rows) if _matches(state, row.type, "paused" if row.paused else "open")]


def workers_of(state: TopState) -> list[WorkerRow]:
    """The workers that are shown, in their order."""
    _, arrange = WORKER_ORDERS[state.orders[1] % len(WORKER_ORDERS)]
    rows = arrange(worst_first(state.facts.workers))
    return [
        row
        for row in rows
        if _matches(state, row.view.worker_id, row.state, row.view.version, *row.problems, *row.view.types)
    ]


def jobs_of(state: TopState) -> list[JobView]:
    """The jobs that are shown, in their order. Jobs of another page are not."""
    loaded = state.facts.jobs
    rows = () if loaded is None or loaded[0] != wanted_jobs(state.page) else loaded[1]
    _, arrange = JOB_ORDERS[state.orders[2] % len(JOB_ORDERS)]
    return [
        row
        for row in arrange(rows)
        if _matches(state, row.job_id, row.type, row.state, row.worker or "", row.reason or "")
    ]


def _matches(state: TopState, *texts: str) -> bool:
    searched = state.page.filter.lower()
    return not searched or any(searched in text.lower() for text in texts)


def names_of(state: TopState, pane: Pane) -> list[str]:
    """The names of the rows of a pane."""
    match pane:
        case Pane.QUEUES:
            return [row.type for row in queues_of(state)]
        case Pane.WORKERS:
            return [row.view.worker_id for row in workers_of(state)]
        case Pane.JOBS:
            return [row.job_id for row in jobs_of(state)]


def cursor(state: TopState, names: Sequence[str]) -> int | None:
    """The number of the row at the cursor; None if no row exists."""
    if not names:
        return None
    page = state.page
    return names.index(page.selected) if page.selected in names else min(page.row, len(names) - 1)


def selected(state: TopState) -> str | None:
    """The name of the row at the cursor."""
    names = [] if state.pane is None else names_of(state, state.pane)
    at = cursor(state, names)
    return None if at is None else names[at]


# --- keys -------------------------------------------------------------------------------------------------------------

Pressed = tuple[TopState, TopOrder | Quit | None]

KEYS: Final = (
    ("Up, Down, PgUp, PgDn, Home, End", "move the cursor, or scroll"),
    ("Tab", "go to the next list"),
    ("Enter", "open the queue, worker or job at the cursor"),
    ("Esc, Backspace", "go back"),
    ("/", "show only rows with a text; Esc shows all again"),
    ("s", "sort the list in another way"),
    ("f", "list jobs of another state: failed, running, …"),
    ("r", "run the failed job again"),
    ("c", "cancel the job"),
    ("d", "drain the worker, or end that"),
    ("p", "pause the job type, or resume it"),
    ("Ctrl-L", "draw the screen again"),
    ("?", "show this help"),
    ("q, Ctrl-C", "leave"),
)
"""The keys, and what they do."""


def press(state: TopState, key: str) -> Pressed:
    """Follow a key: a character, or the name of a key such as ``up``."""
    if state.question is not None:
        asked, state = state.question, replace(state, question=None)
        return (
            (state, asked) if key in {"y", "Y"} else (replace(state, note=f"did not {asked.verb} {asked.name}"), None)
        )
    state = replace(state, note="")
    if state.typing:
        return _type(state, key), None
    if key == "q":
        return state, Quit()
    action = _ACTIONS.get(key)
    return (state if action is None else action(state)), None


def _type(state: TopState, key: str) -> TopState:
    text = state.page.filter
    match key:
        case "enter":
            return replace(state, typing=False)
        case "escape":
            return _with_page(replace(state, typing=False), filter="")
        case "backspace":
            return _with_page(state, filter=text[:-1])
        case _ if len(key) == 1 and key.isprintable():
            return _with_page(state, filter=text + key)
        case _:
            return state


def _with_page(state: TopState, **changes: Any) -> TopState:
    return replace(state, pages=(*state.pages[:-1], replace(state.page, **changes)))


def _move(rows: int) -> Callable[[TopState], TopState]:
    def move(state: TopState) -> TopState:
        if state.pane is None:
            return _with_page(state, scroll=min(_LAST, max(0, state.page.scroll + rows)))
        names = names_of(state, state.pane)
        at = cursor(state, names)
        if at is None:
            return state
        to = min(len(names) - 1, max(0, at + rows))
        return _with_page(state, selected=names[to], row=to)

    return move


def _next_pane(state: TopState) -> TopState:
    panes = PANES[state.page.kind]
    if not panes[1:]:
        return state
    return _with_page(state, focus=(state.page.focus + 1) % len(panes), selected=None, row=0)


def _open(state: TopState) -> TopState:
    name = selected(state)
    kinds = {Pane.QUEUES: PageKind.QUEUE, Pane.WORKERS: PageKind.WORKER, Pane.JOBS: PageKind.JOB}
    if name is None or state.pane is None:
        return state
    return replace(state, pages=(*state.pages, Page(kinds[state.pane], name)))


def _back(state: TopState) -> TopState:
    if state.page.filter:
        return _with_page(state, filter="")
    return replace(state, pages=state.pages[:-1] or state.pages) if len(state.pages) > 1 else state


def _help(state: TopState) -> TopState:
    if state.page.kind is PageKind.HELP:
        return state
    return replace(state, pages=(*state.pages, Page(PageKind.HELP)))


def _sort(state: TopState) -> TopState:
    if state.pane is None:
        return state
    at = list(Pane).index(state.pane)
    first, second, third = (number + (place == at) for place, number in enumerate(state.orders))
    return _with_page(replace(state, orders=(first, second, third)), selected=None, row=0)


def _next_job_state(state: TopState) -> TopState:
    if Pane.JOBS not in PANES[state.page.kind]:
        return state
    return _with_page(state, job_state=(state.page.job_state + 1) % len(JOB_STATES))


def _filter(state: TopState) -> TopState:
    return replace(state, typing=True) if PANES[state.page.kind] else state


def _ask(state: TopState, order: TopOrder | None, otherwise: str) -> TopState:
    return replace(state, question=order) if order is not None else replace(state, note=otherwise)


def _job_at_cursor(state: TopState) -> JobView | None:
    if state.page.kind is PageKind.JOB:
        job = state.facts.job
        return job if job is not None and job.job_id == state.page.name else None
    name = selected(state) if state.pane is Pane.JOBS else None
    return next((job for job in jobs_of(state) if job.job_id == name), None)


def _retry(state: TopState) -> TopState:
    job = _job_at_cursor(state)
    order = TopOrder(Verb.RETRY, job.job_id) if job is not None and may_retry(job) else None
    return _ask(state, order, "r runs a failed job again: put the cursor on one")


def _cancel(state: TopState) -> TopState:
    job = _job_at_cursor(state)
    order = TopOrder(Verb.CANCEL, job.job_id) if job is not None and may_cancel(job) else None
    return _ask(state, order, "c cancels an unfinished job: put the cursor on one")


def _drain(state: TopState) -> TopState:
    name = state.page.name if state.page.kind is PageKind.WORKER else None
    name = selected(state) if state.pane is Pane.WORKERS else name
    worker = next((worker for worker in state.facts.workers if worker.worker_id == name), None)
    order = None if worker is None else TopOrder(Verb.UNDRAIN if worker.drained else Verb.DRAIN, worker.worker_id)
    return _ask(state, order, "d drains a worker: put the cursor on one")


def _pause(state: TopState) -> TopState:
    name = state.page.name if state.page.kind is PageKind.QUEUE else None
    name = selected(state) if state.pane is Pane.QUEUES else name
    queues = () if state.facts.stats is None else state.facts.stats.queues
    is_paused = any(queue.paused for queue in queues if queue.type == name)
    order = None if name is None else TopOrder(Verb.RESUME if is_paused else Verb.PAUSE, name)
    return _ask(state, order, "p pauses a job type: put the cursor on one")


_ACTIONS: Final[dict[str, Callable[[TopState], TopState]]] = {
    "up": _move(-1),
    "down": _move(1),
    "k": _move(-1),
    "j": _move(1),
    "pageup": _move(-_JUMP),
    "pagedown": _move(_JUMP),
    "home": _move(-_LAST),
    "end": _move(_LAST),
    "tab": _next_pane,
    "enter": _open,
    "right": _open,
    "escape": _back,
    "backspace": _back,
    "left": _back,
    "?": _help,
    "h": _help,
    "s": _sort,
    "f": _next_job_state,
    "/": _filter,
    "r": _retry,
    "c": _cancel,
    "d": _drain,
    "p": _pause,
}
