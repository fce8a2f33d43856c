"""What `stockworker top` shows on terminals of any size."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockworker.cli.top_model import Facts, Page, PageKind, TopState, press, wanted_jobs
from stockworker.cli.top_screen import LEAST_HEIGHT, LEAST_WIDTH, clamped, render, shares
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import JobView, PriorityView, QueueView, WorkerView

QUEUES = (
    QueueView(
        JobType("price_update"),
        122,
        303.0,
        2,
        priorities=(PriorityView(Priority.HIGH, 2, 3.0), PriorityView(Priority.LOW, 120, 303.0)),
    ),
    QueueView(JobType("data_import"), 0, 0.0, 1, paused=True),
)
JOB = JobView(
    JobId("shop:0197c1d8-6a2b-7f35-9c4e-2f1d8a7b6c5d"),
    JobType("price_update"),
    Priority.NORMAL,
    State.FAILED,
    940.0,
    940.0,
    950.0,
    3,
    3,
    0,
    WorkerId("edge-7-1"),
    cancel_requested=False,
    reason="the provider has no symbol 'XYZQ'\nand a stack",
    prefix_length=13,
)


def worker(number: int, **changes: Any) -> WorkerView:
    view = WorkerView(
        WorkerId(f"edge-{number:04}"),
        online=True,
        slots=4,
        leases=number % 5,
        types=(JobType("price_update"),),
        seen_s=2.0,
        version="0.1.0",
        certificate_days=80,
    )
    return replace(view, **changes)


WORKERS = (
    *(worker(number) for number in range(997)),
    worker(997, online=False, seen_s=7260.0),
    worker(998, seen_s=95.0, certificate_days=5),
    worker(999, drained=True),
)


def state_of(workers: Sequence[WorkerView] = WORKERS, jobs: Sequence[JobView] = (JOB,), **facts: Any) -> TopState:
    stats = Stats(
        None,
        "i1",
        "0.1.0",
        11_000.0,
        ((State.QUEUED, 122), (State.RUNNING, 7), (State.COMPLETED, 1_234_567), (State.FAILED, 1)),
        QUEUES,
        (),
        (),
    )
    listed = wanted_jobs(TopState().page)
    assert listed is not None
    rates = (("submitted", 12.0), ("completed", 11.94), ("failed", None))
    known = Facts(stats=stats, at=1000.0, workers=tuple(workers), rates=rates, jobs=(listed, tuple(jobs)))
    return TopState(facts=replace(known, **facts), now=1000.0)


def shown(state: TopState, width: int = 80, height: int = 24) -> list[str]:
    lines = render(state, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    return lines


def after(state: TopState, *keys: str) -> TopState:
    for key in keys:
        state, _ = press(state, key)
    return state


PICTURE = """\
stockworker: dispatcher 0.1.0, up 3h 3m
jobs: 122 queued, 7 running, 1,234,567 completed, 1 failed
per second: 12.0 submitted, 11.9 completed, - failed
workers: 999 online, 1 offline, 1 drained

  QUEUE         STATE   WAITING  WORKERS  HIGH  NORMAL  LOW
  price_update  open        122        2  2 3s  -       120 5m 3s
  data_import   paused        0        1  -     -       -

  WORKER     STATE    SLOTS  LEASES  SEEN    CERT  VERSION  PROBLEM
> edge-0998  online       4       3  1m 35s  5d    0.1.0    silent, its certifi…
  edge-0997  offline      4       2  2h 1m   80d   0.1.0    offline
  edge-0000  online       4       0  2s      80d   0.1.0    -
  edge-0001  online       4       1  2s      80d   0.1.0    -
  edge-0002  online       4       2  2s      80d   0.1.0    -
  edge-0003  online       4       3  2s      80d   0.1.0    -
  edge-0004  online       4       4  2s      80d   0.1.0    -
  edge-0005  online       4       0  2s      80d   0.1.0    -
  edge-0006  online       4       1  2s      80d   0.1.0    -
  … 991 below, worst first

  JOB            TYPE          STATE   AGE    WORKER    REASON
  shop:0197c1d8  price_update  failed  1m 0s  edge-7-1  the provider has no sym…
?:help q:quit Tab:list Enter:open /:filter s:sort f:jobs r:retry c:cancel"""
"""A thousand workers on 80 columns and 24 lines."""


def test_a_thousand_workers_on_a_small_screen() -> None:
    assert "\n".join(shown(state_of())) == PICTURE
    assert f"```text\n{PICTURE}\n```" in Path("docs/operations.md").read_text()


def number_of_rows(lines: Sequence[str], prefix: str) -> int:
    return sum(line[2:].startswith(prefix) for line in lines)


@pytest.mark.parametrize("size", [(80, 24), (LEAST_WIDTH, LEAST_HEIGHT), (200, 60), (100, 2000), (63, 17)])
@pytest.mark.parametrize("moves", [[], ["end"], ["pagedown"] * 40])
def test_no_row_is_missing_in_silence(size: tuple[int, int], moves: list[str]) -> None:
    state = after(state_of(), *moves)
    lines = shown(state, *size)
    text = "\n".join(lines)
    hidden = sum(int(count.replace(",", "")) for count in re.findall(r"([\d,]+) (?:above|below)", text))
    assert number_of_rows(lines, "edge-") + hidden == 1000
    assert sum(line.startswith("> ") for line in lines) == 1


def test_the_list_at_the_cursor_gets_the_room() -> None:
    assert shares([3, 1001, 2], 1, 17) == [3, 12, 2]
    assert shares([500, 1001, 2], 1, 17) == [4, 11, 2]
    assert shares([500, 1001, 300], 0, 17) == [9, 4, 4]
    assert shares([2, 2, 2], 0, 17) == [2, 2, 2]
    assert shares([2, 2, 300], 0, 17) == [2, 2, 13]


def test_what_the_dispatcher_leaves_out_is_counted() -> None:
    state = state_of(WORKERS[:3], workers_missing=700, more_jobs=True)
    assert state.facts.stats is not None
    state = replace(state, facts=replace(state.facts, stats=replace(state.facts.stats, queues_omitted=45)))
    text = "\n".join(shown(state, 140, 40))
    assert "workers: 3 online, 700 not loaded yet" in text
    assert "… 700 are not loaded yet, worst first" in text
    assert "… 45 less busy ones are not in the statistics, longest wait first" in text
    assert "… older jobs than the newest 200 are not loaded, newest first" in text


def test_empty_lists_are_words() -> None:
    state = state_of((), ())
    assert state.facts.stats is not None
    empty = replace(state, facts=replace(state.facts, stats=replace(state.facts.stats, queues=(), states=())))
    text = "\n".join(shown(empty))
    for words in ("jobs: none", "workers: none", "no queue with waiting jobs", "no worker", "no failed job"):
        assert words in text
    text = "\n".join(shown(after(state_of(), "/", *"zebra", "enter")))
    assert text.count("with 'zebra'") == 3
    assert "show only rows with: zeb_" in shown(after(state_of(), "/", *"zeb"))[-1]


def test_the_first_answer_is_awaited() -> None:
    assert shown(TopState())[1] == "waiting for the dispatcher"
    assert "waiting for the dispatcher" in "\n".join(shown(after(state_of(), "enter")))


def test_old_facts_are_marked() -> None:
    late = replace(state_of(), now=1006.0)
    assert not any("NO " in line for line in shown(late))
    late = replace(late, now=1012.0)
    assert shown(late)[1] == "NO ANSWER of the dispatcher; shown is the state 12s ago"
    cut = replace(late, problem="the broker is unreachable")
    assert shown(cut)[1] == "NO CONNECTION; shown is the state 12s ago: the broker is unreachable"


def test_a_question_a_note_and_hints_are_below() -> None:
    assert shown(after(state_of(), "d"))[-1] == "drain worker edge-0998? y: yes, any other key: no"
    assert shown(after(state_of(), "d", "n"))[-1] == "did not drain edge-0998"
    assert shown(after(state_of(), "?"))[-1] == "q:quit Esc:back Up,Down:scroll"


def test_a_worker_and_a_queue_have_their_own_pages() -> None:
    worker_page = shown(after(state_of(), "enter"))
    assert worker_page[0] == "stockworker: worker edge-0998"
    assert "types: price_update" in worker_page
    gone = replace(state_of(()), pages=(TopState().page, Page(PageKind.WORKER, "edge-1")))
    assert "the dispatcher does not know this worker any longer" in shown(gone)
    many = replace(state_of([worker(0, types_omitted=2000)]), pages=(Page(PageKind.WORKER, "edge-0000"),))
    assert "types: price_update, … and 2,000 more" in shown(many)
    queue = replace(state_of(), pages=(Page(PageKind.QUEUE, "price_update"),))
    assert "price_update  open       122        2  2 3s  -       120 5m 3s" in shown(queue)
    queue = replace(state_of(), pages=(Page(PageKind.QUEUE, "echo"),))
    assert "no job waits in this queue" in shown(queue)


def test_a_long_text_scrolls_to_its_end_and_wraps() -> None:
    story = ("x" * 100, *(f"line {number}" for number in range(50)))
    state = replace(state_of(story=("j1", story)), pages=(TopState().page, Page(PageKind.JOB, "j1")))
    lines = shown(state)
    assert lines[2:4] == ["x" * 80, "x" * 20]
    assert lines[-2] == "… lines 1 to 20 of 52"
    end = clamped(after(state, "end"), 80, 24)
    assert end.page.scroll == 32
    assert shown(end)[-3:-1] == ["line 49", "… lines 33 to 52 of 52"]
    assert clamped(after(end, "up"), 80, 24).page.scroll == 31
    assert clamped(after(state, "end"), 80, 60).page.scroll == 0
    assert clamped(state_of(), 80, 24) == state_of()


def test_a_terminal_that_is_too_small_is_told_so() -> None:
    text = " ".join(filter(None, shown(state_of(), 39, 24)))
    assert text == "this terminal has 39 x 24 characters; at least 40 x 12 are necessary"
    assert "at least 40 x 12" in " ".join(shown(state_of(), 80, 11))
    assert shown(state_of(), 1, 1) == ["t"]


def test_nothing_controls_the_terminal() -> None:
    evil = "evil\x1b[2J\u202e\x9b\n"
    views = [worker(1, worker_id=evil, version=evil, types=(evil,), online=False)]
    jobs = [
        replace(JOB, job_id=JobId(evil), type=JobType(evil), worker=WorkerId(evil), reason=evil, prefix_length=None)
    ]
    state = state_of(views, jobs, story=(evil, (evil,)))
    state = replace(state, problem=evil, note=evil)
    pages = [TopState().page, *(Page(kind, evil) for kind in (PageKind.WORKER, PageKind.QUEUE, PageKind.JOB))]
    for page in pages:
        for question in (None, *(after(replace(state, pages=(page,)), key).question for key in "dprc")):
            text = "".join(shown(replace(state, pages=(page,), question=question), 200, 30))
            assert text.isprintable()
