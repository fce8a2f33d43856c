"""Jobs in control groups on the kernel of this machine, without systemd; as root."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.adapters.cgroup import Delegation
from stockworker.handlers.spec import Limits
from stockworker.protocol.job import Outcome
from tests.harness import cgroups, processes
from tests.harness.executor import Bench, failure, python, result, shell

GRACE_S = 0.05
STAYING = {"python": python("scatter"), "command": shell(f"{cgroups.SCATTER}; exec sleep 1000")}
LEAVING = {"python": python("scatter"), "command": shell(f"{cgroups.SCATTER}; echo null")}
TAKE_OVER = """
import sys
from stockworker.adapters.cgroup import take_over
try:
    take_over()
    print(next(line for line in open("/proc/self/cgroup") if line.startswith("0::")), end="", flush=True)
except OSError as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def delegated() -> Iterator[Path]:
    """A control group that the test owns."""
    with cgroups.delegated() as folder:
        yield folder


@pytest.mark.parametrize("name", STAYING)
def test_all_processes_of_a_cancelled_job_are_killed(delegated: Path, name: str) -> None:
    async def scenario() -> None:
        handlers = {"job": STAYING[name], "bystander": python("wait_for_cancel")}
        async with Bench(handlers, slots=4, stop_grace_s=GRACE_S, groups=Delegation(delegated)) as bench:
            bystander = bench.start("bystander")
            await bench.first_text(bystander)
            for _ in range(10):
                tokens = [bench.start("job", '"stay"') for _ in range(3)]
                pids = [int(pid) for token in tokens for pid in (await bench.first_text(token)).split()]
                assert cgroups.members(delegated) >= set(pids)
                for token in tokens:
                    bench.executor.stop(token)
                    failure(await bench.end(token), Outcome.CANCELLED)
                processes.wait_until_gone(*pids)
            bench.executor.stop(bystander)
            assert failure(await bench.end(bystander), Outcome.CANCELLED) == "stopped on request"

    asyncio.run(scenario())


@pytest.mark.parametrize("name", LEAVING)
def test_processes_that_a_job_leaves_behind_are_killed(delegated: Path, name: str) -> None:
    async def scenario() -> None:
        handlers = {"job": LEAVING[name], "pid": python("pid")}
        async with Bench(handlers, slots=1, groups=Delegation(delegated)) as bench:
            token = bench.start("job")
            pids = [int(pid) for pid in (await bench.first_text(token)).split()]
            assert result(await bench.end(token)) is None
            processes.wait_until_gone(*pids)
            await asyncio.to_thread(cgroups.wait_until_members, delegated, {result(await bench.run("pid"))})

    asyncio.run(scenario())


def test_a_process_without_leftovers_is_reused(delegated: Path) -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}, slots=1, groups=Delegation(delegated)) as bench:
            assert len({result(await bench.run("pid")) for _ in range(10)}) == 1

    asyncio.run(scenario())


def test_handlers_are_in_their_group_before_they_run(delegated: Path) -> None:
    async def scenario() -> None:
        handlers = {"python": python("control_group"), "command": shell("sed -n 's/^0::.*/\"&\"/p' /proc/self/cgroup")}
        async with Bench(handlers, groups=Delegation(delegated)) as bench:
            for number, name in enumerate(handlers, 1):
                assert result(await bench.run(name)) == f"0::/{delegated.name}/handler-{number}"

    asyncio.run(scenario())


def test_all_processes_of_a_job_share_its_cpu_limit(delegated: Path) -> None:
    async def scenario() -> None:
        handlers = {"burn": python("burn_together", Limits(cpu_s=1))}
        async with Bench(handlers, stop_grace_s=GRACE_S, groups=Delegation(delegated)) as bench:
            assert failure(await bench.run("burn"), Outcome.TIMED_OUT).startswith("CPU limit of 1 s exceeded")

    asyncio.run(scenario())


def test_an_executor_that_is_closed_leaves_no_group_behind(delegated: Path) -> None:
    async def scenario() -> None:
        async with Bench(STAYING, groups=Delegation(delegated)) as bench:
            for name in STAYING:
                await bench.first_text(bench.start(name, '"stay"'))
        await asyncio.to_thread(cgroups.wait_until_empty, delegated)

    asyncio.run(scenario())


def test_a_failed_start_leaves_no_group_behind(delegated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    async def scenario() -> None:
        async with Bench(STAYING, groups=Delegation(delegated)) as bench:
            monkeypatch.setattr(os, "pidfd_open", fail)
            for name in STAYING:
                assert "Too many open files" in failure(await bench.run(name), Outcome.RELEASED)
            await asyncio.to_thread(cgroups.wait_until_empty, delegated)

    asyncio.run(scenario())


def test_leftovers_of_a_previous_start_are_killed(delegated: Path) -> None:
    left = delegated / "handler-7" / "deeper"
    left.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        (left / "cgroup.procs").write_text(str(sleeper.pid))
        Delegation(delegated)
        assert sleeper.wait() == -9


def test_a_worker_moves_into_a_subgroup_that_no_other_worker_may_use(delegated: Path) -> None:
    join = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', f"{delegated}/cgroup.procs", sys.executable, "-c", TAKE_OVER]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(join, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == f"0::/{delegated.name}/agent\n"
        second = subprocess.run(
            join, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        assert second.stdout == f"another worker uses {delegated}\n"
