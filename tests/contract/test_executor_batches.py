"""Short jobs are handed to a child ahead: what one of them does harms no other one, and each runs once."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from stockworker.handlers.spec import Isolation
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker.executor import Executor
from stockworker.worker.work import Began
from tests.harness.executor import HANDLERS, Bench, failure, python, result, typed

SHORT = 50


async def make_short(bench: Bench, job_type: str = "short") -> None:
    """Let the executor see that jobs of this type are short."""
    for token in [bench.start(job_type) for _ in range(SHORT)]:
        await bench.end(token)


async def until_ahead(executor: Executor) -> None:
    """Wait until children have jobs ahead."""
    async with asyncio.timeout(20):
        while not executor._ahead:  # noqa: ASYNC110 (the executor has no event for it)
            await asyncio.sleep(0)


def outcomes(bench: Bench) -> dict[Token, Outcome]:
    """How each attempt ended; each ended once."""
    ends = [event for event in bench.events if isinstance(event, AttemptResult)]
    assert max(Counter(end.token for end in ends).values()) == 1
    return {end.token: end.outcome for end in ends}


def test_results_of_short_jobs_are_those_of_each_job() -> None:
    async def scenario() -> None:
        async with Bench({"short": python("append")}) as bench:
            tokens = [bench.start("short", json.dumps(["", number])) for number in range(500)]
            assert [result(await bench.end(token)) for token in tokens] == list(range(500))
        assert set(outcomes(bench).values()) == {Outcome.OK}

    asyncio.run(scenario())


def test_only_the_job_that_ran_has_crashed(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=1) as bench:
            await make_short(bench)
            before = [bench.start("short", json.dumps([str(ran), number])) for number in range(20)]
            crashes = bench.start("short", json.dumps([str(ran), "crash"]))
            after = [bench.start("short", json.dumps([str(ran), number])) for number in range(20, 40)]
            await until_ahead(bench.executor)
            failure(await bench.end(crashes), Outcome.CRASHED)
            for token in (*before, *after):
                result(await bench.end(token))
        outcomes(bench)

    asyncio.run(scenario())
    assert ran.read_text().split() == [*map(str, range(20)), "crash", *map(str, range(20, 40))]


def test_a_job_that_takes_long_holds_no_other_one_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=2) as bench:
            await make_short(bench)
            long = bench.start("short", json.dumps(["", "wait", str(gate)]))
            others = [bench.start("short", json.dumps(["", number])) for number in range(100)]
            for token in others:
                result(await bench.end(token))
            assert long in bench.executor.running
            gate.touch()
            result(await bench.end(long))
        outcomes(bench)

    asyncio.run(scenario())


@pytest.mark.parametrize("grace_s", [0.0, 1000.0])
def test_a_job_ahead_can_be_cancelled_and_harms_no_other_one(tmp_path: Path, grace_s: float) -> None:
    ran = tmp_path / "ran"

    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=1, stop_grace_s=grace_s) as bench:
            await make_short(bench)
            tokens = [bench.start("short", json.dumps([str(ran), number])) for number in range(60)]
            await until_ahead(bench.executor)
            ahead = list(bench.executor._ahead)
            for token in ahead[::2]:
                bench.executor.stop(token)
            for token in tokens:
                await bench.end(token)
            ended = outcomes(bench)
            assert {ended[token] for token in tokens if token not in ahead[::2]} == {Outcome.OK}
            assert Outcome.CANCELLED in {ended[token] for token in ahead[::2]}

    asyncio.run(scenario())
    assert max(Counter(ran.read_text().split()).values()) == 1


def test_the_time_out_of_a_job_ahead_begins_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=1, stop_grace_s=0.0) as bench:
            await make_short(bench)
            late = bench.start("short", json.dumps(["", "wait", str(tmp_path / "never")]), timeout_s=0.2)
            others = [bench.start("short", json.dumps(["", number]), timeout_s=20.0) for number in range(20)]
            failure(await bench.end(late), Outcome.TIMED_OUT)
            for token in others:
                result(await bench.end(token))

    asyncio.run(scenario())


def test_new_handlers_run_the_jobs_that_have_not_begun() -> None:
    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=1) as bench:
            await make_short(bench)
            tokens = [bench.start("short", json.dumps(["", number])) for number in range(60)]
            await until_ahead(bench.executor)
            bench.executor.reload(typed({"short": python("append", note="new")}), [HANDLERS])
            assert not bench.executor._ahead
            for token in tokens:
                result(await bench.end(token))

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", [Isolation.PER_JOB])
def test_a_process_for_one_job_gets_none_ahead(isolation: Isolation) -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid", isolation=isolation)}, slots=1) as bench:
            tokens = [bench.start("pid") for _ in range(30)]
            assert len({result(await bench.end(token)) for token in tokens}) == 30

    asyncio.run(scenario())


def test_a_child_gets_no_more_jobs_than_it_may_run() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}, slots=1, recycle_after=20) as bench:
            tokens = [bench.start("pid") for _ in range(100)]
            pids = [result(await bench.end(token)) for token in tokens]
        assert set(Counter(pids).values()) == {20}

    asyncio.run(scenario())


def test_more_attempts_than_slots_never_run_together() -> None:
    async def scenario() -> None:
        async with Bench({"short": python("append")}, slots=2) as bench:
            most = 0

            def look(_event: object) -> None:
                nonlocal most
                most = max(most, len(bench.executor.running))

            bench.reaction = look
            tokens = [bench.start("short", json.dumps(["", number])) for number in range(300)]
            for token in tokens:
                await bench.end(token)
            assert most <= 2
            assert sum(isinstance(event, Began) for event in bench.events) < len(tokens)

    asyncio.run(scenario())
