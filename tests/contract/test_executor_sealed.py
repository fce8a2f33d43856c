"""The executor with sealed payloads: handlers see plain ones, everybody else sealed results."""

import asyncio

from stockworker.adapters import clock
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.sealing.keyring import Holder
from stockworker.worker.sealing import WorkerSealing
from stockworker.worker.work import Progressed, Work
from tests.harness.executor import Bench, failure, python, shell
from tests.harness.seals import DESK, EDGE, PRICES, Parties, job, line

JOB = JobId("job-1")
TYPES = ("length", "fail", "report_progress", "cat", "wait_for_cancel")


def parties() -> Parties:
    made = Parties()
    made.lines = [
        line(Holder.SUBMITTER, DESK, made.desk),
        line(Holder.WORKER, EDGE, made.edge),
        line(Holder.GROUP, PRICES, made.prices, TYPES),
    ]
    return made


def bench(made: Parties) -> Bench:
    handlers = {name: python(name) for name in TYPES if name != "cat"}
    return Bench({**handlers, "cat": shell("cat")}, sealing=WorkerSealing(made.worker()))


def start(bench: Bench, made: Parties, job_type: str, payload: object, timeout_s: float = 60.0) -> Token:
    sealed = made.submitter().seal_job(job(payload, JOB, job_type), JOB, clock.wall()).text
    bench.executor.start(Work(Token("t1"), JOB, JobType(job_type), 1, sealed, timeout_s))
    return Token("t1")


def opened_result(made: Parties, finished: AttemptResult) -> str:
    assert finished.outcome is Outcome.OK, finished
    return made.submitter().open_result(finished.result or "", JOB, clock.wall(), None)


def opened_error(made: Parties, finished: AttemptResult) -> str:
    return made.submitter().open_error(finished.error or "", JOB, clock.wall(), None)


def test_python_handlers_and_commands_see_what_was_meant() -> None:
    async def scenario() -> None:
        made = parties()
        async with bench(made) as running:
            assert opened_result(made, await running.end(start(running, made, "length", "ACME"))) == "4"
        async with bench(made) as running:
            assert opened_result(made, await running.end(start(running, made, "cat", "ACME"))) == '"ACME"'

    asyncio.run(scenario())


def test_errors_and_time_outs_are_told_to_the_submitter_alone() -> None:
    async def scenario() -> None:
        made = parties()
        async with bench(made) as running:
            finished = await running.end(start(running, made, "fail", None))
            assert failure(finished).startswith("sealed.2.")
            assert opened_error(made, finished).startswith("ValueError: no such ticker")
        async with bench(made) as running:
            finished = await running.end(start(running, made, "wait_for_cancel", None, timeout_s=0.05))
            assert finished.outcome is Outcome.TIMED_OUT
            assert opened_error(made, finished) == "not done after 0.05 s"

    asyncio.run(scenario())


def test_progress_tells_how_far_and_not_what() -> None:
    async def scenario() -> None:
        made = parties()
        async with bench(made) as running:
            await running.end(start(running, made, "report_progress", [0.25]))
            told = [event for event in running.events if isinstance(event, Progressed)]
            assert [(event.fraction, event.text) for event in told] == [(0.25, "")]

    asyncio.run(scenario())


def test_a_refused_payload_frees_its_slot_and_starts_no_process() -> None:
    async def scenario() -> None:
        made = parties()
        async with bench(made) as running:
            text = failure(await running.run("length", '"plain"'), permanent=True)
            assert text.startswith("the payload is refused: it is not sealed")
            assert not running.executor.running
            assert not running.executor._children

    asyncio.run(scenario())
