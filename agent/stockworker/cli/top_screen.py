"""Draws `stockworker top`: the lines of a screen of any size. Pure, but for the time zone of the person."""

# Nothing is cut in silence. A cell that is cut ends with `…`, and a list that is longer than its place ends with a line that
# counts the rows that are not shown. The pane with the cursor gets the room that the others leave. The cursor is a `>`, and
# each state is a word: colours add nothing that is not written.

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from stockworker.cli.listing import JOB_CUT, JOB_HEADER, JOB_SPARE, job_row
from stockworker.cli.top_model import (
    JOB_ORDERS,
    JOB_STATES,
    KEYS,
    MOST_JOBS,
    PANES,
    QUEUE_ORDERS,
    WORKER_ORDERS,
    PageKind,
    Pane,
    TopState,
    cursor,
    jobs_of,
    names_of,
    queues_of,
    wanted_jobs,
    workers_of,
)
from stockworker.client.triage import WorkerRow, worst_first
from stockworker.logs.lines import escaped, printable
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import QueueView
from stockworker.terminal.colour import Colour, Painted, paint
from stockworker.terminal.tables import fit, short_duration, table

LEAST_WIDTH: Final = 40
LEAST_HEIGHT: Final = 12
LATE_S: Final = 6.0
"""Without an answer for this long, the screen shows that its facts are old."""

_LEAST_PANE: Final = 4
"""Lines of a list: its header, a row at least, and how many rows are not shown."""

_CURSOR: Final = "> "
_MARGIN: Final = "  "
_QUEUE_HEADER: Final = ("QUEUE", "STATE", "WAITING", "WORKERS", *(priority.name for priority in Priority))
_WORKER_HEADER: Final = ("WORKER", "STATE", "SLOTS", "LEASES", "SEEN", "CERT", "VERSION", "PROBLEM")
_HINTS: Final = {
    PageKind.OVERVIEW: "?:help q:quit Tab:list Enter:open /:filter s:sort f:jobs r:retry c:cancel d:drain p:pause",
    PageKind.QUEUE: "?:help q:quit Esc:back Enter:open /:filter s:sort f:jobs r:retry c:cancel p:pause",
    PageKind.WORKER: "?:help q:quit Esc:back Enter:open /:filter s:sort f:jobs r:retry c:cancel d:drain",
    PageKind.JOB: "?:help q:quit Esc:back Up,Down:scroll r:retry c:cancel",
    PageKind.HELP: "q:quit Esc:back Up,Down:scroll",
}


def render(state: TopState, width: int, height: int) -> list[str]:
    """The lines of the screen: exactly `height`, each of at most `width` columns."""
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        text = f"this terminal has {width} x {height} characters; at least {LEAST_WIDTH} x {LEAST_HEIGHT} are necessary"
        lines = textwrap.wrap(text, max(1, width))
        return [*lines, *[""] * height][:height]
    head = list(_head(state, width))
    room = height - len(head) - 1
    body = list(_text(state, width, room) if state.pane is None else _panes(state, width, room))
    return [*head, *[*body, *[""] * room][:room], _foot(state, width)]


def clamped(state: TopState, width: int, height: int) -> TopState:
    """The state, with a page of text scrolled to its last lines at most."""
    if state.pane is not None:
        return state
    room = height - len(list(_head(state, width))) - 1
    most = max(0, len(_text_lines(state, width)) - max(1, room - 1))
    page = replace(state.page, scroll=min(state.page.scroll, most))
    return replace(state, pages=(*state.pages[:-1], page))


# --- above and below --------------------------------------------------------------------------------------------------


def _head(state: TopState, width: int) -> Iterator[str]:
    stats = state.facts.stats
    yield fit(f"stockworker: {_title(state)}", width)
    yield from _link(state, width)
    if stats is not None and state.page.kind is PageKind.OVERVIEW:
        yield from _wrapped("jobs: ", _job_counts(stats), width)
        yield from _wrapped("per second: ", (f"{_rate(rate)} {name}" for name, rate in state.facts.rates), width)
        yield from _wrapped("workers: ", _worker_counts(state), width)
    yield ""


def _title(state: TopState) -> str:
    page, stats = state.page, state.facts.stats
    if page.kind is PageKind.HELP:
        return "help"
    if page.kind is not PageKind.OVERVIEW:
        return f"{page.kind} {escaped(page.name)}"
    return "fleet" if stats is None else f"dispatcher {escaped(stats.version)}, up {short_duration(stats.uptime_s)}"


def _link(state: TopState, width: int) -> Iterator[str]:
    """One line if the facts are old."""
    facts = state.facts
    age_s = state.now - facts.at
    old = f"; shown is the state {short_duration(age_s)} ago" if facts.stats is not None else ""
    if state.problem is not None:
        text = f"NO CONNECTION{old}: {escaped(state.problem)}"
    elif facts.stats is None:
        text = "waiting for the dispatcher"
    elif age_s > LATE_S:
        text = f"NO ANSWER of the dispatcher{old}"
    else:
        return
    line = fit(text, width)
    yield paint(line, [(0, len(line), Colour.BAD)])


def _job_counts(stats: Stats) -> list[str]:
    return [f"{count:,} {state}" for state, count in stats.states if count] or ["none"]


def _worker_counts(state: TopState) -> list[str]:
    views, missing = state.facts.workers, state.facts.workers_missing
    online = sum(view.online for view in views)
    counts = {
        "online": online,
        "offline": len(views) - online,
        "drained": sum(view.drained for view in views),
        "not loaded yet": missing,
    }
    return [f"{count:,} {word}" for word, count in counts.items() if count] or ["none"]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}"


def _wrapped(title: str, parts: Iterable[str], width: int) -> list[str]:
    return textwrap.wrap(title + ", ".join(parts), width, subsequent_indent=" " * len(title))


def _foot(state: TopState, width: int) -> str:
    if state.question is not None:
        order = state.question
        line = fit(f"{order.verb} {order.what} {escaped(order.name)}? y: yes, any other key: no", width)
        return paint(line, [(0, len(line), Colour.NOTABLE)])
    if state.typing:
        return fit(f"show only rows with: {escaped(state.page.filter)}_", width)
    if state.note:
        return fit(escaped(state.note), width)
    hints = _HINTS[state.page.kind]
    while len(hints) > width:
        hints = hints.rpartition(" ")[0]
    return hints


# --- panes ------------------------------------------------------------------------------------------------------------


def _panes(state: TopState, width: int, room: int) -> Iterator[str]:
    panes = PANES[state.page.kind]
    above = list(_about(state, width))[: max(0, room - 6)]
    yield from above
    room -= len(above) + len(panes) - 1
    focus = state.page.focus % len(panes)
    if room < _LEAST_PANE * len(panes):  # only the list at the cursor
        room, panes, focus = room + len(panes) - 1, (panes[focus],), 0
    blocks = [_block(state, pane) for pane in panes]
    needs = [max(1, len(block[1])) + 1 + bool(_missing(state, pane)) for block, pane in zip(blocks, panes, strict=True)]
    places = shares(needs, focus, room)
    for number, (block, place) in enumerate(zip(blocks, places, strict=True)):
        if number:
            yield ""
        yield from _window(state, panes[number], block, place, width)


def shares(needs: Sequence[int], focus: int, room: int) -> list[int]:
    """Divide lines between panes: each gets a quarter if it needs that, and the pane with the cursor gets the rest."""
    least = max(3, room // 4)
    got = [min(need, least) for need in needs]
    for pane in (focus, *range(len(needs))):
        got[pane] += max(0, min(needs[pane] - got[pane], room - sum(got)))
    return got


_Block = tuple[Sequence[str], Sequence[Sequence[object]], dict[str, Sequence[str]]]
"""The header of a table, its rows, and which columns can be left out or cut."""


def _block(state: TopState, pane: Pane) -> _Block:
    match pane:
        case Pane.QUEUES:
            return _QUEUE_HEADER, list(map(_queue_row, queues_of(state))), {"spare": ("STATE",), "cut": ("QUEUE",)}
        case Pane.WORKERS:
            rows = list(map(_worker_row, workers_of(state)))
            return _WORKER_HEADER, rows, {"spare": ("VERSION", "SEEN"), "cut": ("WORKER", "VERSION", "PROBLEM")}
        case Pane.JOBS:
            rows = [job_row(view, state.now) for view in jobs_of(state)]
            return JOB_HEADER, rows, {"spare": JOB_SPARE, "cut": JOB_CUT}


def _queue_row(queue: QueueView) -> tuple[object, ...]:
    parts = {part.priority: f"{part.waiting:,} {short_duration(part.oldest_s)}" for part in queue.priorities}
    state = "paused" if queue.paused else "open"
    return (queue.type, state, queue.waiting, queue.workers, *(parts.get(priority) for priority in Priority))


def _worker_row(row: WorkerRow) -> tuple[object, ...]:
    view = row.view
    days = None if view.certificate_days is None else f"{view.certificate_days}d"
    seen = short_duration(view.seen_s)
    return view.worker_id, row.state, view.slots, view.leases, seen, days, view.version, ", ".join(row.problems)


def _window(state: TopState, pane: Pane, block: _Block, place: int, width: int) -> Iterator[str]:
    """A pane on `place` lines: the header, the rows around the cursor, and how many rows are not shown."""
    header, rows, columns = block
    has_cursor = pane is state.pane
    at = cursor(state, names_of(state, pane)) if has_cursor else 0
    hidden = len(rows) > place - 1 or bool(_missing(state, pane))
    count = max(0, place - 1 - hidden) if rows else 0
    first = min(max(0, (at or 0) - count // 2), max(0, len(rows) - count))
    shown = rows[first : first + count]
    lines = list(table(header, shown, width - len(_MARGIN), **columns))
    yield _margin("", lines[0])
    for number, line in enumerate(lines[1:], first):
        yield _margin(_CURSOR if has_cursor and number == at else "", line)
    if not rows:
        yield fit(_MARGIN + _nothing(state, pane), width)
    elif hidden:
        yield fit(_MARGIN + _rest(state, pane, first, len(rows) - first - count), width)


def _margin(mark: str, line: str) -> str:
    text = mark.ljust(len(_MARGIN)) + line
    parts = line.parts if isinstance(line, Painted) else ()
    return paint(text, [(begin + len(_MARGIN), end + len(_MARGIN), colour) for begin, end, colour in parts])


def _rest(state: TopState, pane: Pane, above: int, below: int) -> str:
    counts = [f"{above:,} above" if above else "", f"{below:,} below" if below else ""]
    return "… " + ", ".join([*filter(None, counts), *_missing(state, pane), _order(state, pane)])


def _order(state: TopState, pane: Pane) -> str:
    names = {Pane.QUEUES: QUEUE_ORDERS, Pane.WORKERS: WORKER_ORDERS, Pane.JOBS: JOB_ORDERS}[pane]
    place = list(Pane).index(pane)
    return names[state.orders[place] % len(names)][0]


def _missing(state: TopState, pane: Pane) -> list[str]:
    """What the dispatcher has, and this screen has not."""
    facts = state.facts
    if pane is Pane.QUEUES and facts.stats is not None and facts.stats.queues_omitted:
        return [f"{facts.stats.queues_omitted:,} less busy ones are not in the statistics"]
    if pane is Pane.WORKERS and facts.workers_missing:
        return [f"{facts.workers_missing:,} are not loaded yet"]
    if pane is Pane.JOBS and facts.more_jobs:
        return [f"older jobs than the newest {MOST_JOBS} are not loaded"]
    return []


def _nothing(state: TopState, pane: Pane) -> str:
    filtered = f" with {escaped(state.page.filter)!r}" if state.page.filter else ""
    match pane:
        case Pane.QUEUES:
            return f"no queue with waiting jobs{filtered}"
        case Pane.WORKERS:
            return f"no worker{filtered}"
        case Pane.JOBS if state.facts.jobs is None or state.facts.jobs[0] != wanted_jobs(state.page):
            return "waiting for the dispatcher"
        case Pane.JOBS:
            state_name = JOB_STATES[state.page.job_state % len(JOB_STATES)]
            return f"no {'job' if state_name is None else f'{state_name} job'}{filtered}"


def _about(state: TopState, width: int) -> Iterator[str]:
    """What a page about a queue or a worker shows above its jobs."""
    if state.page.kind is PageKind.WORKER:
        yield from _about_worker(state, width)
    elif state.page.kind is PageKind.QUEUE and state.facts.stats is not None:
        rows = [_queue_row(queue) for queue in state.facts.stats.queues if queue.type == state.page.name]
        yield from table(_QUEUE_HEADER, rows, width, cut=("QUEUE",)) if rows else ["no job waits in this queue"]
        yield ""


def _about_worker(state: TopState, width: int) -> Iterator[str]:
    row = next((row for row in worst_first(state.facts.workers) if row.view.worker_id == state.page.name), None)
    if row is None:
        yield fit("the dispatcher does not know this worker any longer", width)
    else:
        yield from table(_WORKER_HEADER, [_worker_row(row)], width, spare=("VERSION",), cut=("WORKER", "PROBLEM"))
        omitted = [f"… and {row.view.types_omitted:,} more"] if row.view.types_omitted else []
        yield from _wrapped("types: ", [*map(escaped, row.view.types or ("none",)), *omitted], width)
    yield ""


# --- text -------------------------------------------------------------------------------------------------------------


def _text(state: TopState, width: int, room: int) -> Iterator[str]:
    lines = _text_lines(state, width)
    first = min(state.page.scroll, max(0, len(lines) - (room - 1)))
    if len(lines) <= room:
        yield from lines
        return
    shown = lines[first : first + room - 1]
    yield from shown
    yield fit(f"… lines {first + 1:,} to {first + len(shown):,} of {len(lines):,}", width)


def _text_lines(state: TopState, width: int) -> list[str]:
    """The lines of a page of text; longer ones go on in the next line."""
    return [part for line in _unbroken(state) for part in _broken(printable(line), width)]


def _unbroken(state: TopState) -> Iterator[str]:
    page, facts = state.page, state.facts
    if page.kind is PageKind.HELP:
        yield from (f"{keys:<34}{meaning}" for keys, meaning in KEYS)
        yield ""
        yield "An order is sent only after you confirm it. It needs the rights of an operator."
    elif facts.story is not None and facts.story[0] == page.name:
        yield from facts.story[1]
    else:
        yield "waiting for the dispatcher"


def _broken(line: str, width: int) -> list[str]:
    return [line[at : at + width] for at in range(0, len(line), width)] or [""]
