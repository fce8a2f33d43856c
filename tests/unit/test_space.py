"""Which results a worker keeps when it can't report, which it evicts, and when it accepts no more jobs."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockworker.logs.worker_events import AssignmentsRefused
from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assignment, AttemptReport, ControlAction, Unregister
from stockworker.shell.turn import DiskChanged, Send
from stockworker.worker.effects import Drain, Leave, Stop
from stockworker.worker.work import Began
from tests.harness.working import (
    A1,
    B1,
    C1,
    CONNECTED,
    CUT_OFF,
    JOB_A,
    JOB_B,
    JOB_C,
    WAITING,
    WORKER,
    WorkerBook,
    ack,
    assign,
    attempt,
    evicted,
    finished,
    job,
    order,
    reported,
    start,
)

QUOTA = 1000
LOST = "the worker was killed, or its machine went down, while it ran"


@pytest.fixture
def worker() -> Iterator[WorkerBook]:
    """An worker with one slot and room for 1000 bytes of results; cut off."""
    with WorkerBook(quota_bytes=QUOTA) as book:
        yield book


def result_of(assignment: Assignment, size: int) -> AttemptReport:
    return replace(attempt(assignment), result="x" * size)


def gone(assignment: Assignment, size: int) -> AttemptReport:
    error = (
        f"its result ({size} bytes) was evicted: the worker could not report it, and keeps at most 1000 bytes of "
        "results (worker.journal_quota)"
    )
    return evicted(attempt(assignment), error)


def complete(worker: WorkerBook, assignment: Assignment, size: int) -> None:
    """A job runs, and has a result of that size."""
    worker.run(assignment)
    worker.tell(ended(assignment, size))


def ended(assignment: Assignment, size: int) -> AttemptResult:
    return AttemptResult(assignment.token, Outcome.OK, "x" * size, None, permanent=False, ran_s=10.0)


def kept(worker: WorkerBook) -> dict[Token, int]:
    """Bytes of each result in the journal."""
    return {entry.assignment.token: len(entry.report.result or "") for entry in worker.journal.load() if entry.report}


def evictions(worker: WorkerBook) -> int:
    return worker.notes.count("result_evicted")


# --- the quota --------------------------------------------------------------------------------------------------------


def test_results_within_the_quota_are_kept(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 600)
    complete(worker, JOB_B, 400)
    assert kept(worker) == {A1: 600, B1: 400}
    assert evictions(worker) == 0


def test_the_largest_result_goes_first(worker: WorkerBook) -> None:
    for each, size in ((JOB_A, 200), (JOB_B, 500), (JOB_C, 400)):
        complete(worker, each, size)
    assert kept(worker) == {A1: 200, B1: 0, C1: 400}
    assert evictions(worker) == 1


def test_of_equally_large_results_the_oldest_goes_first(worker: WorkerBook) -> None:
    for each in (JOB_A, JOB_B, JOB_C):
        complete(worker, each, 400)
    assert kept(worker) == {A1: 0, B1: 400, C1: 400}


def test_no_more_is_evicted_than_needed(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B, JOB_C))
    worker.expect(start(JOB_A))
    worker.tell(Began(A1), ended(JOB_A, 900))
    worker.expect(start(JOB_B))
    worker.tell(Began(B1), ended(JOB_B, 90))
    worker.expect(start(JOB_C))
    worker.tell(Began(C1), ended(JOB_C, 20))
    assert kept(worker) == {A1: 0, B1: 90, C1: 20}


def test_a_result_larger_than_the_quota_goes_at_once(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 10)
    complete(worker, JOB_B, QUOTA + 1)
    assert kept(worker) == {A1: 10, B1: 0}


def test_bytes_count_not_characters(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(AttemptResult(A1, Outcome.OK, "\u20ac" * 334, None, permanent=False, ran_s=10.0))
    assert kept(worker) == {A1: 0}


def test_the_dispatcher_is_told_that_the_result_is_gone(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 600)
    complete(worker, JOB_B, 500)
    worker.connect(gone(JOB_A, 600), result_of(JOB_B, 500))
    assert worker.heartbeats[-1].evicted_results == 1


def test_what_was_said_before_it_was_evicted_is_said_anew(worker: WorkerBook) -> None:
    worker.connect()
    complete(worker, JOB_A, 600)
    worker.expect(reported(result_of(JOB_A, 600)))
    complete(worker, JOB_B, 500)
    worker.expect(reported(gone(JOB_A, 600), result_of(JOB_B, 500)))


def test_what_is_acknowledged_makes_room(worker: WorkerBook) -> None:
    worker.connect()
    complete(worker, JOB_A, 600)
    worker.expect(reported(result_of(JOB_A, 600)))
    worker.tell(ack(stored=[A1]))
    complete(worker, JOB_B, 900)
    worker.expect(reported(result_of(JOB_B, 900)))
    assert evictions(worker) == 0


def test_the_quota_holds_over_restarts(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 600)
    worker.restart()
    complete(worker, JOB_B, 500)
    assert kept(worker) == {A1: 0, B1: 500}
    worker.restart()
    worker.connect(gone(JOB_A, 600), result_of(JOB_B, 500))
    assert evictions(worker) == 1


def test_a_smaller_quota_holds_from_the_next_start_on(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 600)
    complete(worker, JOB_B, 300)
    worker.quota_bytes = 500
    worker.restart()
    worker.tell()
    assert kept(worker) == {A1: 0, B1: 300}


# --- no more jobs -----------------------------------------------------------------------------------------------------


def test_no_jobs_are_taken_from_three_quarters_of_the_quota_on(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 749)
    worker.connect(result_of(JOB_A, 749))
    assert worker.requests[-1].window == 1
    complete(worker, JOB_B, 1)
    worker.expect(reported(result_of(JOB_B, 1)))
    worker.after(1)
    assert (worker.requests[-1].window, worker.requests[-1].disk_pressure) == (0, True)
    assert worker.notes[-1] == "space_short"
    worker.tell(ack(stored=[B1]))
    worker.after(1)
    assert (worker.requests[-1].window, worker.requests[-1].disk_pressure) == (1, False)
    assert worker.notes[-1] == "space_enough"


def test_what_is_held_is_worked_on_all_the_same(worker: WorkerBook) -> None:
    complete(worker, JOB_A, 800)
    worker.run(JOB_B)


def test_a_full_disk_keeps_jobs_away(worker: WorkerBook) -> None:
    worker.connect()
    worker.tell(DiskChanged(full=True))
    worker.after(1)
    assert worker.requests[-1].window == 0
    worker.tell(assign(JOB_A))  # it was under way
    worker.expect(reported(refused(JOB_A, "the disk of the worker's journal is nearly full")))
    assert worker.journal.load() == []
    worker.tell(DiskChanged(full=False))
    worker.after(1)
    assert worker.requests[-1].window == 1
    assert worker.notes == ["space_short", "assignments_refused", "space_enough"]


# --- more than it asked for -------------------------------------------------------------------------------------------

FULL = "the worker has more leases, or more bytes of payloads, than it has room for"


def refused(assignment: Assignment, reason: str = FULL) -> AttemptReport:
    return attempt(assignment, Outcome.RELEASED, error=reason, ran_s=None)


def many(count: int, payload: str = "1") -> list[Assignment]:
    return [replace(job(JobId(f"j{n}"), Token(f"t{n}")), payload=payload) for n in range(count)]


def test_leases_beyond_the_most_are_given_back(worker: WorkerBook) -> None:
    worker.connect()
    jobs = many(MAX_LEASES + 3)
    worker.tell(assign(*jobs))
    worker.expect(start(jobs[0]), reported(*map(refused, jobs[MAX_LEASES:])))
    assert len(worker.journal.load()) == MAX_LEASES
    size = sum(len(each.payload) for each in jobs[:MAX_LEASES])
    assert worker.logged == [AssignmentsRefused(assignments=3, reason=FULL, leases=MAX_LEASES, payload_bytes=size)]


@pytest.mark.parametrize("payload", ["x" * 100_000, "\u20ac" * 33_333 + "x"])
def test_payloads_beyond_the_quota_are_given_back(payload: str) -> None:
    """One slot may have the largest payload, whatever the quota is."""
    with WorkerBook(quota_bytes=QUOTA) as worker:
        worker.connect()
        jobs = many(4, payload)
        worker.tell(assign(*jobs))
        worker.expect(start(jobs[0]), reported(refused(jobs[2]), refused(jobs[3])))
        worker.tell(Began(jobs[0].token), finished(jobs[0].token))
        worker.expect(start(jobs[1]), reported(attempt(jobs[0])))
        (fifth,) = many(5, payload)[4:]
        worker.tell(assign(fifth))
        assert len(worker.journal.load()) == 3, "the payload of an attempt that has ended takes no room"


def test_payloads_may_take_as_much_as_results() -> None:
    with WorkerBook(quota_bytes=1_000_000) as worker:
        worker.connect()
        jobs = many(12, "x" * 100_000)
        worker.tell(assign(*jobs))
        worker.expect(start(jobs[0]), reported(*map(refused, jobs[10:])))


def test_what_was_given_back_is_reported_once_and_not_accepted_again(worker: WorkerBook) -> None:
    worker.connect()
    jobs = many(MAX_LEASES + 1)
    worker.tell(assign(*jobs))
    worker.expect(start(jobs[0]), reported(refused(jobs[-1])))
    worker.tell(assign(jobs[-1]), ack(stored=[jobs[-1].token]))
    worker.after(10)
    assert jobs[-1].token not in worker.claims()


def test_what_is_refused_while_cut_off_is_not_kept(worker: WorkerBook) -> None:
    jobs = many(MAX_LEASES + 1)
    worker.tell(assign(*jobs))
    worker.expect(start(jobs[0]))
    worker.connect()


def test_the_bounds_hold_over_restarts(worker: WorkerBook) -> None:
    jobs = many(MAX_LEASES + 1)
    worker.tell(assign(*jobs[:-1]))
    worker.expect(start(jobs[0]))
    worker.restart()
    worker.tell()
    worker.expect(start(jobs[1]))
    worker.connect(attempt(jobs[0], Outcome.LOST, error=LOST, ran_s=None))
    worker.tell(assign(jobs[-1]))
    worker.expect(reported(refused(jobs[-1])))


def test_who_drains_is_not_short_of_anything(worker: WorkerBook) -> None:
    """The dispatcher repeats the order until it is obeyed."""
    worker.connect()
    worker.tell(DiskChanged(full=True), order(ControlAction.DRAIN))
    assert (worker.requests[-1].window, worker.requests[-1].disk_pressure) == (0, False)
    worker.tell(order(ControlAction.RESUME))
    assert (worker.requests[-1].window, worker.requests[-1].disk_pressure) == (0, True)


# --- stopped while cut off --------------------------------------------------------------------------------------------


def test_a_reboot_while_cut_off_keeps_what_waits(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_B, JOB_C), CUT_OFF)
    worker.tell(Drain(patience_s=30, leave=True))
    worker.tell(finished(A1))
    worker.expect(Leave())
    worker.restart()
    worker.tell()
    worker.expect(start(JOB_B))
    worker.tell(Began(B1), finished(B1))
    worker.expect(start(JOB_C))
    worker.connect(attempt(JOB_A), attempt(JOB_B))
    assert worker.claims()[C1] is WAITING


def test_who_stops_and_is_connected_again_gives_back_what_waits(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_B), CUT_OFF)
    worker.tell(Drain(patience_s=30, leave=True))
    worker.tell(CONNECTED)
    released = attempt(JOB_B, Outcome.RELEASED, error="the worker drains", ran_s=None)
    worker.expect(worker.introduction(), reported(released))
    worker.tell(finished(A1), ack(stored=[B1]))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(ack(stored=[A1]))
    worker.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_what_has_not_begun_is_stopped_in_a_reboot_and_does_not_count_as_crashed(worker: WorkerBook) -> None:
    warm = job(JobId("warm"), Token("warm-1"))
    worker.run(warm)
    worker.tell(finished(warm.token, ran_s=0.001), CUT_OFF)
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A), start(JOB_B))
    worker.tell(Began(A1), Drain(patience_s=30, leave=True))
    worker.expect(Stop(B1))
    worker.tell(finished(B1, Outcome.CANCELLED, ran_s=0.0), finished(A1))
    worker.expect(Leave())


# --- outputs ----------------------------------------------------------------------------------------------------------


def complete_with_output(worker: WorkerBook, assignment: Assignment, size: int, text: str, omitted: int = 0) -> None:
    """A job runs, and has a result of that size and an output."""
    worker.run(assignment)
    worker.tell(replace(ended(assignment, size), output=AttemptOutput(text, omitted)))


def outputs(worker: WorkerBook) -> dict[Token, tuple[int, int]]:
    """Bytes of each output in the journal, and how many are not kept."""
    reports = (entry.report for entry in worker.journal.load())
    return {
        report.token: (len(report.output.text.encode()), report.output.omitted)
        for report in reports
        if report and report.output
    }


def test_outputs_count_and_go_before_they_keep_new_jobs_away(worker: WorkerBook) -> None:
    complete_with_output(worker, JOB_A, 100, "€" * 100, omitted=5)
    complete_with_output(worker, JOB_B, 100, "x" * 100)
    complete_with_output(worker, JOB_C, 100, "x" * 49)
    assert outputs(worker) == {A1: (300, 5), B1: (100, 0), C1: (49, 0)}
    assert kept(worker) == {A1: 100, B1: 100, C1: 100}
    assert worker.notes.count("space_short") == 0


def test_the_oldest_outputs_go_and_no_more_than_needed(worker: WorkerBook) -> None:
    complete_with_output(worker, JOB_A, 100, "€" * 100, omitted=5)
    complete_with_output(worker, JOB_B, 100, "x" * 100)
    complete_with_output(worker, JOB_C, 100, "x" * 50)
    assert outputs(worker) == {A1: (0, 305), B1: (100, 0), C1: (50, 0)}
    assert kept(worker) == {A1: 100, B1: 100, C1: 100}
    assert evictions(worker) == 0
    assert worker.notes.count("space_short") == 0


def test_results_are_evicted_only_when_no_output_is_left(worker: WorkerBook) -> None:
    complete_with_output(worker, JOB_A, 400, "x" * 300)
    complete_with_output(worker, JOB_B, 500, "x" * 300)
    assert outputs(worker) == {A1: (0, 300), B1: (0, 300)}
    assert kept(worker) == {A1: 400, B1: 500}
    complete(worker, JOB_C, 200)
    assert kept(worker) == {A1: 400, B1: 0, C1: 200}


def test_the_room_of_an_output_is_free_again_when_it_is_reported(worker: WorkerBook) -> None:
    complete_with_output(worker, JOB_A, 100, "x" * 600)
    assert outputs(worker) == {A1: (600, 0)}
    worker.connect(replace(result_of(JOB_A, 100), output=AttemptOutput("x" * 600)))
    worker.tell(ack(stored=[A1]))
    worker.tell(CUT_OFF)
    complete_with_output(worker, JOB_B, 100, "x" * 600)
    assert outputs(worker) == {B1: (600, 0)}
