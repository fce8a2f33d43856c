"""Alarms: on the right clock, one condition after the other, and few."""

from dataclasses import replace

from stockworker.dispatcher.alarms import Alarms
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.shell.turn import Now
from tests.harness.dispatching import A, B, a_job

NOON = Now(steady=100.0, wall=1000.0)


def at(steady: float, wall: float) -> Now:
    return Now(steady, wall)


def test_without_jobs_there_is_nothing_to_wait_for() -> None:
    assert Alarms().next_in_s(NOON) is None
    assert Alarms().ring(NOON) == set()


def test_a_backoff_is_on_the_steady_clock() -> None:
    alarms = Alarms()
    alarms.arm(a_job(A, State.SCHEDULED, ready_at=105.0), NOON)
    assert alarms.next_in_s(NOON) == 5
    assert alarms.ring(at(104.9, 9999)) == set()
    assert alarms.ring(at(105, 0)) == {A}
    assert alarms.ring(at(105, 0)) == set()


def test_people_wish_on_the_wall_clock() -> None:
    alarms = Alarms()
    alarms.arm(a_job(A, State.SCHEDULED, not_before=1010.0), NOON)
    alarms.arm(a_job(B, State.QUEUED, expires_at=1020.0), NOON)
    assert alarms.next_in_s(NOON) == 10
    assert alarms.ring(at(9999, 1009)) == set()
    assert alarms.ring(at(100, 1010)) == {A}
    assert alarms.ring(at(100, 1020)) == {B}


def test_a_job_waits_for_one_thing_after_the_other() -> None:
    alarms = Alarms()
    job = a_job(A, State.SCHEDULED, ready_at=105.0, not_before=1010.0)
    alarms.arm(job, NOON)
    assert alarms.ring(at(105, 1005)) == {A}
    alarms.arm(job, at(105, 1005))
    assert alarms.next_in_s(at(105, 1005)) == 5
    assert alarms.ring(at(110, 1010)) == {A}


def test_an_alarm_that_was_handled_does_not_ring_again_immediately() -> None:
    alarms = Alarms()
    job = a_job(A, State.SCHEDULED, ready_at=90.0, not_before=1010.0, expires_at=1020.0)
    alarms.arm(job, NOON)
    assert alarms.ring(NOON) == set()


def test_only_a_job_that_waits_can_expire() -> None:
    alarms = Alarms()
    for state in set(State) - {State.SCHEDULED, State.QUEUED}:
        alarms.arm(a_job(A, state, expires_at=1020.0), NOON)
    assert alarms.next_in_s(NOON) is None


def test_what_is_due_is_due_now() -> None:
    alarms = Alarms()
    alarms.arm(a_job(A, State.QUEUED, expires_at=900.0), NOON)
    assert alarms.next_in_s(NOON) == 0


def test_superfluous_alarms_are_swept_out_and_no_other() -> None:
    alarms = Alarms()
    job = a_job(A, State.QUEUED, expires_at=1020.0)
    for number in range(2000):
        alarms.arm(replace(job, spec=replace(job.spec, job_id=JobId(f"gone-{number}"))), NOON)
        alarms.arm(job, NOON)
    alarms.sweep({A})
    assert alarms._wall == [(1020.0, A)]
    alarms.sweep(set())  # one is not worth the walk
    assert alarms.ring(at(100, 1020)) == {A}


def test_there_are_about_two_alarms_for_each_job_at_most() -> None:
    alarms, jobs = Alarms(), [a_job(JobId(f"{number}"), State.QUEUED, expires_at=1020.0) for number in range(2000)]
    for job in jobs:
        for _ in range(3):
            alarms.arm(job, NOON)
    alarms.sweep([job.spec.job_id for job in jobs])
    assert len(alarms._wall) == len(jobs)


def test_after_a_sweep_alarms_ring_in_their_order() -> None:
    alarms, kept = Alarms(), [JobId(f"kept-{number}") for number in range(200)]
    for number, job_id in enumerate(reversed(kept)):
        job = a_job(job_id, State.QUEUED, expires_at=1020.0 + number)
        for _ in range(20):
            alarms.arm(job, NOON)
    alarms.sweep(kept)
    rang = [job_id for second in range(200) for job_id in alarms.ring(at(100, 1020 + second))]
    assert rang == kept[::-1]
