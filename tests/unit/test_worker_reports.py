"""When a worker repeats what was not acknowledged, whatever else it has to send."""

from stockworker.protocol import codec
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
