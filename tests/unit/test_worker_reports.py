"""When a worker repeats what was not acknowledged, whatever else it has to send."""

from dataclasses import replace

from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.messages import Report
from stockworker.shell.turn import Now
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
