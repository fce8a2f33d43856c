"""What the executor makes of control groups, played by ordinary files; tests/packages has real ones."""

import asyncio
from pathlib import Path

import pytest

from stockworker.adapters.cgroup import Cgroup
from stockworker.handlers.spec import Limits
from stockworker.protocol.job import Outcome
from tests.harness import processes
from tests.harness.cgroups import Played
from tests.harness.executor import Bench, failure, python, result, shell

DIE = "printf 'oom {oom}\\noom_kill 1\\n' > {folder}/handler-1/memory.events; kill -KILL $$"


def test_a_job_that_the_kernel_has_killed_for_its_memory_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        handlers = {"resize": shell(DIE.format(oom=1, folder=tmp_path), Limits(memory_bytes=512 << 20))}
        async with Bench(handlers, groups=Played(tmp_path, "memory")) as bench:
            error = failure(await bench.run("resize"), Outcome.CRASHED)
            assert error == "killed by the kernel: it needed more memory than handlers.resize.limits.memory, 512M"

    asyncio.run(scenario())


def test_a_job_that_the_kernel_has_killed_for_the_machine_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        handlers = {"resize": shell(DIE.format(oom=0, folder=tmp_path), Limits(memory_bytes=512 << 20))}
        async with Bench(handlers, groups=Played(tmp_path, "memory")) as bench:
            error = failure(await bench.run("resize"), Outcome.CRASHED)
            assert error == "killed by the kernel: the machine, or this worker as a whole, was out of memory"

    asyncio.run(scenario())


def test_what_a_group_limits_its_processes_are_not_limited_by(tmp_path: Path) -> None:
    script = 'cat {}/handler-1/memory.max {}/handler-1/cpu.max | tr "\\n" " " >&2; echo "\\"$(ulimit -d)\\""'

    async def scenario() -> None:
        handlers = {"command": shell(script.format(tmp_path, tmp_path), Limits(memory_bytes=512 << 20, processors=0.5))}
        async with Bench(handlers, groups=Played(tmp_path, "memory", "cpu")) as bench:
            token = bench.start("command")
            assert result(await bench.end(token)) == "unlimited"
            assert "".join(bench.texts(token)).strip() == f"{512 << 20}50000 100000"

    asyncio.run(scenario())


def test_what_no_group_can_limit_its_processes_are_limited_by(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=512 << 20)

    async def scenario() -> None:
        handlers = {"command": shell('echo "\\"$(ulimit -d)\\""', limits), "python": python("limits", limits)}
        async with Bench(handlers, groups=Played(tmp_path)) as bench:
            assert result(await bench.run("command")) == str(512 << 10)
            assert result(await bench.run("python"))[0] == 512 << 20

    asyncio.run(scenario())


def test_a_job_gets_no_process_that_has_used_up_half_of_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cgroup, "members", lambda _: frozenset())  # a file does not know who is in a group

    async def scenario() -> None:
        handlers = {"large": python("pid"), "small": python("pid", Limits(memory_bytes=64 << 20))}
        async with Bench(handlers, slots=1, groups=Played(tmp_path, "memory")) as bench:
            first = result(await bench.run("large"))
            kept = tmp_path / "handler-1" / "memory.current"
            kept.write_text(f"{32 << 20}\n")
            assert result(await bench.run("small")) == first
            kept.write_text(f"{(32 << 20) + 1}\n")
            assert result(await bench.run("large")) == first
            assert result(await bench.run("small")) != first
            processes.wait_until_gone(first)

    asyncio.run(scenario())


def test_processor_time_is_counted_for_all_processes_of_a_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"burn": shell("exec sleep 1000", Limits(cpu_s=1))}, groups=Played(tmp_path)) as bench:
            token = bench.start("burn")
            with (tmp_path / "handler-1" / "cpu.stat").open("r+") as counted:
                counted.write("usage_usec 1500000")
            assert failure(await bench.end(token), Outcome.TIMED_OUT) == "CPU limit of 1 s exceeded"

    asyncio.run(scenario())
