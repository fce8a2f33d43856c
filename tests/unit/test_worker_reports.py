"""When a worker repeats what was not acknowledged, whatever else it has to send."""

from dataclasses import replace

from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport, LeaseStatus, Report
from stockworker.shell.turn import DiskChanged, Now, Send
from stockworker.worker.machine import Intervals, WorkerMachine
from stockworker.worker.turn import WorkerOutput, WorkerTurns
from stockworker.worker.work import Began
from tests.harness.working import (
    A1,
    CAPABILITIES,
    CONNECTED,
    CUT_OFF,
    JOB_A,
    MemoryJournal,
    WorkerBook,
    ack,
    assign,
    attempt,
    finished,
    reported,
)

SELDOM = Intervals(poll_interval_s=1000.0, heartbeat_interval_s=1000.0)


def reports(output: WorkerOutput) -> list[Report]:
    return [message for message in map(codec.decode, output.packets) if isinstance(message, Report)]


def test_a_lost_report_is_repeated_before_the_next_request_is_due() -> None:
    machine = WorkerMachine(WorkerBook().identity, SELDOM, CAPABILITIES, [], 1000.0)
    turns = WorkerTurns(machine, MemoryJournal())
    turns.take([CONNECTED, assign(JOB_A), Began(A1)], Now(1000.0, 0.0))
    (sent,) = reports(turns.take([finished(A1)], Now(1010.0, 0.0)))
    assert sent.attempts == (attempt(JOB_A),)
    assert turns.next_in_s(Now(1012.0, 0.0)) == 3.0
    assert reports(turns.take([], Now(1014.9, 0.0))) == []
    assert reports(turns.take([], Now(1015.0, 0.0))) == [sent]
    turns.take([CUT_OFF], Now(1016.0, 0.0))
    assert turns.next_in_s(Now(1016.0, 0.0)) > 5.0
    turns.take([CONNECTED, ack(stored=[A1])], Now(1017.0, 0.0))
    assert turns.next_in_s(Now(1017.0, 0.0)) > 5.0


def test_large_outputs_travel_in_as_many_reports_as_they_need() -> None:
    machine = WorkerMachine(WorkerBook().identity, SELDOM, CAPABILITIES, [], 1000.0)
    turns = WorkerTurns(machine, MemoryJournal())
    jobs = [replace(JOB_A, job_id=JobId(f"job-{number}"), token=Token(f"t{number}")) for number in range(6)]
    turns.take([CUT_OFF], Now(1000.0, 0.0))
    for each in jobs:
        turns.take([assign(each), Began(each.token)], Now(1001.0, 0.0))
        turns.take([replace(finished(each.token), output=AttemptOutput("\x1b" * 16_384))], Now(1002.0, 0.0))
    sent = reports(turns.take([CONNECTED], Now(1003.0, 0.0)))
    assert [len(each.attempts) for each in sent] == [2, 2, 2]
    assert [len(each.output.text) for report in sent for each in report.attempts if each.output] == [16_384] * 6


# --- tracers ----------------------------------------------------------------------------------------------------------

TRACER = replace(JOB_A, token=Token("stockworker-check-1"), payload="", expires_in_s=0.0)


def traced(outcome: Outcome) -> Send:
    return reported(AttemptReport(TRACER.token, outcome, job_id=TRACER.job_id))


def test_a_tracer_is_answered_immediately_and_starts_nothing() -> None:
    """Also while all slots are busy and the disk is full; nothing repeats the answer."""
    with WorkerBook() as worker:
        worker.connect()
        worker.run(JOB_A)
        worker.tell(DiskChanged(full=True), assign(TRACER, TRACER))
        worker.expect(traced(Outcome.OK), traced(Outcome.OK))
        worker.after(60)
    assert worker.claims() == {A1: LeaseStatus.RUNNING}


def test_a_tracer_of_a_type_that_the_worker_does_not_run_is_released() -> None:
    with WorkerBook() as worker:
        worker.connect()
        worker.tell(assign(replace(TRACER, type=JobType("other"))))
        worker.expect(traced(Outcome.RELEASED))


def test_without_a_connection_a_tracer_is_not_answered() -> None:
    with WorkerBook() as worker:
        worker.connect()
        worker.tell(CUT_OFF, assign(TRACER))
        worker.expect()
        worker.connect()
