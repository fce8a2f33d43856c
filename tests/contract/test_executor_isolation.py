"""Which jobs may share a process, and how many processes are kept."""

import asyncio
import json
from pathlib import Path

import pytest

from stockworker.handlers.spec import Isolation, PythonHandler
from tests.harness import processes
from tests.harness.executor import Bench, python, result

SHARED, PER_TYPE, PER_JOB = Isolation


@pytest.mark.parametrize(
    ("isolation", "same_type", "other_type"), [(SHARED, True, True), (PER_TYPE, True, False), (PER_JOB, False, False)]
)
def test_isolation_decides_which_jobs_may_share_a_process(
    isolation: Isolation,
    same_type: bool,  # noqa: FBT001 (a case)
    other_type: bool,  # noqa: FBT001 (a case)
) -> None:
    async def scenario() -> None:
        one, other = python("pid", isolation=isolation), python("pid", isolation=isolation, other=1)
        async with Bench({"one": one, "other": other}, slots=1) as bench:
            first, second, third, fourth = [result(await bench.run(name)) for name in ("one", "one", "other", "one")]
        assert (first == second, second == third) == (same_type, other_type)
        assert (fourth in {first, second, third}) is (isolation is not PER_JOB)

    asyncio.run(scenario())


def test_jobs_of_one_type_share_processes_unless_something_else_is_configured() -> None:
    assert PythonHandler("module:function").isolation is PER_TYPE


def test_types_that_are_not_shared_stay_out_of_the_shared_process() -> None:
    async def scenario() -> None:
        handlers = {
            "shared": python("pid", isolation=SHARED),
            "also": python("pid", isolation=SHARED),
            "own": python("pid", isolation=PER_TYPE),
        }
        async with Bench(handlers, slots=1) as bench:
            shared, own, also = [result(await bench.run(name)) for name in ("shared", "own", "also")]
        assert shared == also != own

    asyncio.run(scenario())


def test_a_process_for_one_type_knows_no_settings_of_another() -> None:
    """They may hold an API key."""

    async def scenario() -> None:
        async with Bench(
            {"one": python("known_types", isolation=PER_TYPE), "other": python("pid", key="secret")}
        ) as bench:
            assert result(await bench.run("one")) == ["one"]

    asyncio.run(scenario())


def test_many_types_keep_few_processes_and_those_that_are_used_stay() -> None:
    async def scenario() -> None:
        before = processes.descendants()
        names = [f"type-{number}" for number in range(9)]
        async with Bench({name: python("pid", isolation=PER_TYPE) for name in names}, slots=1) as bench:
            always = result(await bench.run(names[0]))
            for name in names[1:]:
                await bench.run(name)
                assert result(await bench.run(names[0])) == always
            kept = bench.executor._idle
            assert len(kept) == 4
            newest = result(await bench.run(names[-1]))
            assert newest in processes.descendants()
            kept_and_their_parent = 4 + 1
            while len(processes.descendants() - before) > kept_and_their_parent:  # noqa: ASYNC110 (the kernel sets no asyncio.Event)
                await asyncio.sleep(0.005)

    asyncio.run(scenario())


def test_busy_slots_may_use_any_types_beside_the_idle_processes(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scenario() -> None:
        waits = python("wait_for_file", isolation=PER_TYPE)
        handlers = {"pid": python("pid", isolation=PER_TYPE), "one": waits, "two": waits}
        async with Bench(handlers, slots=2) as bench:
            idle = result(await bench.run("pid"))
            tokens = [bench.start(name, json.dumps(str(gate))) for name in ("one", "two")]
            gate.touch()
            for token in tokens:
                await bench.end(token)
            assert result(await bench.run("pid")) == idle

    asyncio.run(scenario())
