"""Python children are forked from a process that has everything imported: what happens to them when it ends."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from stockworker.handlers.spec import Isolation
from stockworker.protocol.job import Outcome
from tests.harness import processes
from tests.harness.executor import Bench, failure, python, result

PER_JOB = Isolation.PER_JOB


def fork_server(bench: Bench) -> int:
    """The process that forks the others."""
    server = bench.executor._server
    assert server is not None
    return server.pid


def memory_kib(pid: int) -> dict[str, int]:
    """Sizes of the memory of a process, by the names in proc(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def test_children_share_the_memory_of_what_they_have_imported() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid"), "wait": python("wait_for_cancel")}, slots=4) as bench:
            for _ in range(3):
                await bench.first_text(bench.start("wait"))
            kib = memory_kib(result(await bench.run("pid")))
        assert kib["Pss"] < 0.6 * kib["Rss"]

    asyncio.run(scenario())


def test_a_child_has_only_its_own_descriptors() -> None:
    async def scenario() -> None:
        async with Bench({"files": python("descriptors"), "wait": python("wait_for_cancel")}) as bench:
            await bench.first_text(bench.start("wait"))
            found = result(await bench.run("files"))
        standard_streams, tether, channel, queue = 3, 1, 1, 1
        assert found == standard_streams + tether + channel + queue

    asyncio.run(scenario())


def test_what_forks_is_replaced_when_it_is_killed() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid", isolation=PER_JOB)}) as bench:
            result(await bench.run("pid"))
            before = fork_server(bench)
            os.kill(before, signal.SIGKILL)
            while bench.executor._server is not None and bench.executor._server.alive:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.005)
            result(await bench.run("pid"))
            assert fork_server(bench) != before

    asyncio.run(scenario())


def test_a_job_continues_when_what_has_forked_its_process_is_killed(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scenario() -> None:
        async with Bench({"pid": python("pid"), "wait": python("wait_for_file")}) as bench:
            result(await bench.run("pid"))
            running = bench.start("wait", json.dumps(str(gate)))
            os.kill(fork_server(bench), signal.SIGKILL)
            processes.wait_until_gone(fork_server(bench))
            gate.touch()
            result(await bench.end(running))

    asyncio.run(scenario())


def test_without_what_has_forked_it_a_process_that_dies_has_crashed() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel"), "pid": python("pid")}) as bench:
            child = result(await bench.run("pid"))
            running = bench.start("wait")
            await bench.first_text(running)
            os.kill(fork_server(bench), signal.SIGKILL)
            processes.wait_until_gone(fork_server(bench))
            os.kill(child, signal.SIGKILL)
            assert "no exit status" in failure(await bench.end(running), Outcome.CRASHED)

    asyncio.run(scenario())


def test_a_process_that_can_not_be_forked_gives_its_job_back() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid", isolation=PER_JOB)}) as bench:
            result(await bench.run("pid"))
            os.kill(fork_server(bench), signal.SIGSTOP)
            running = bench.start("pid")
            os.kill(fork_server(bench), signal.SIGKILL)
            assert "Cannot fork" in failure(await bench.end(running), Outcome.RELEASED)

    asyncio.run(scenario())


def test_a_job_is_given_back_when_what_forks_has_just_been_killed() -> None:
    """The executor asks for a process before it has noticed that nothing forks any more."""

    async def scenario() -> None:
        async with Bench({"pid": python("pid", isolation=PER_JOB)}) as bench:
            result(await bench.run("pid"))
            before = fork_server(bench)
            os.kill(before, signal.SIGKILL)
            processes.wait_until_gone(before)
            assert (await bench.run("pid")).outcome is Outcome.RELEASED
            result(await bench.run("pid"))

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_not_forked_yet_can_be_stopped(number: signal.Signals) -> None:
    async def scenario() -> None:
        grace_s = 1000.0 if number is signal.SIGTERM else 0.0
        async with Bench({"pid": python("pid", isolation=PER_JOB)}, stop_grace_s=grace_s) as bench:
            result(await bench.run("pid"))
            os.kill(fork_server(bench), signal.SIGSTOP)
            running = bench.start("pid")
            bench.executor.stop(running)
            await asyncio.sleep(0)
            os.kill(fork_server(bench), signal.SIGCONT)
            failure(await bench.end(running), Outcome.CANCELLED)

    asyncio.run(scenario())
