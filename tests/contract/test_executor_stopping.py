"""What the executor promises about jobs that must be ended: cancelled, out of time, over their limits, orphaned."""

import asyncio
import multiprocessing
import sys
from multiprocessing.connection import Connection

import pytest

from stockworker.adapters import clock
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Limits
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker.work import Began
from tests.harness import processes
from tests.harness.executor import Bench, failure, python, shell

GRACE_S = 0.2
FAMILY = "trap '' TERM; sleep 1000 & echo $$ $! >&2; wait"


# --- time-outs ---


def test_a_handler_that_looks_is_not_killed_when_its_time_is_up() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel"), "pid": python("pid")}, slots=1) as bench:
            await bench.run("pid")  # the process is up
            token = bench.start("wait", timeout_s=1.0)
            assert failure(await bench.end(token), Outcome.TIMED_OUT) == "not done after 1 s"
            assert bench.texts(token) == ["started", "stopped by myself"]

    asyncio.run(scenario())


def test_it_is_known_when_an_attempt_has_ended_at_the_latest() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel")}, stop_grace_s=50.0) as bench:
            before = clock.monotonic()
            bench.start("wait", timeout_s=1000.0)
            token = bench.start("wait", timeout_s=400.0)
            await bench.first_text(token)
            assert before + 450.0 <= (bench.executor.must_exit_by or 0.0) <= clock.monotonic() + 450.0
            bench.executor.stop(token)
            assert before < (bench.executor.must_exit_by or 0.0) <= clock.monotonic() + 50.0
            await bench.end(token)
            assert (bench.executor.must_exit_by or 0.0) > before + 1000.0

    asyncio.run(scenario())


DEAF = [
    pytest.param(python("hang_in_c"), id="holds the interpreter's lock"),
    pytest.param(shell("trap '' TERM; echo started >&2; while :; do :; done"), id="ignores SIGTERM"),
]


@pytest.mark.parametrize("handler", DEAF)
def test_what_does_not_listen_is_killed_when_its_time_is_up(handler: HandlerSpec) -> None:
    async def scenario() -> None:
        async with Bench({"hang": handler, "pid": python("pid")}, stop_grace_s=GRACE_S, slots=1) as bench:
            failure(await bench.run("hang", timeout_s=0.3), Outcome.TIMED_OUT)
            assert (await bench.run("pid")).outcome is Outcome.OK

    asyncio.run(scenario())


@pytest.mark.parametrize("handler", DEAF)
def test_what_does_not_listen_is_killed_when_it_is_cancelled(handler: HandlerSpec) -> None:
    async def scenario() -> None:
        async with Bench({"hang": handler}, stop_grace_s=GRACE_S) as bench:
            token = bench.start("hang")
            await bench.first_text(token)
            bench.executor.stop(token)
            error = failure(await bench.end(token), Outcome.CANCELLED)
            assert error == f"stopped on request; killed, because it did not stop within {GRACE_S} s"

    asyncio.run(scenario())


def test_what_a_job_has_started_dies_with_it() -> None:
    async def scenario() -> list[int]:
        async with Bench(
            {"python": python("hang_with_family"), "command": shell(FAMILY)}, stop_grace_s=GRACE_S
        ) as bench:
            tokens = [bench.start("python"), bench.start("command")]
            pids = " ".join([await bench.first_text(token) for token in tokens]).split()
            for token in tokens:
                bench.executor.stop(token)
                await bench.end(token)
            processes.wait_until_gone(*map(int, pids))
            return [*map(int, pids)]

    assert len(asyncio.run(scenario())) == 5


LEAVE_OPEN = shell("sleep 1000 & echo $!")
LEAVE_CLOSED = CommandHandler(
    (
        sys.executable,
        "-c",
        "import subprocess as s; print(s.Popen(['sleep', '1000'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)",
    )
)


@pytest.mark.parametrize("handler", [LEAVE_OPEN, LEAVE_CLOSED], ids=["with its files", "without any of its files"])
def test_what_a_command_leaves_behind_dies_at_its_end(handler: HandlerSpec) -> None:
    async def scenario() -> None:
        async with Bench({"command": handler}) as bench:
            finished = await bench.run("command")
            assert finished.outcome is Outcome.OK
            processes.wait_until_gone(int(finished.result or ""))

    asyncio.run(scenario())


def test_a_command_is_asked_to_stop_with_sigterm() -> None:
    async def scenario() -> None:
        script = "trap 'echo asked >&2; exit 0' TERM; echo started >&2; sleep 1000 & wait"
        async with Bench({"command": shell(script)}) as bench:
            token = bench.start("command")
            await bench.first_text(token)
            bench.executor.stop(token)
            assert failure(await bench.end(token), Outcome.CANCELLED) == "stopped on request"
            assert bench.texts(token) == ["started", "asked"]

    asyncio.run(scenario())


# --- cancelling ---


def test_a_cancelled_job_is_cancelled_whatever_it_returns() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel"), "pid": python("pid")}, slots=1) as bench:
            before = await bench.run("pid")
            token = bench.start("wait")
            await bench.first_text(token)
            bench.executor.stop(token)
            bench.executor.stop(token)
            assert failure(await bench.end(token), Outcome.CANCELLED) == "stopped on request"
            assert (await bench.run("pid")).result != before.result  # the signal could have hit the next job

    asyncio.run(scenario())


@pytest.mark.parametrize("handler", [python("hang_in_c"), shell("exec sleep 1000")])
def test_a_job_can_be_cancelled_before_its_process_is_up(handler: HandlerSpec) -> None:
    async def scenario() -> None:
        async with Bench({"hang": handler}, stop_grace_s=GRACE_S) as bench:
            token = bench.start("hang")
            bench.executor.stop(token)
            failure(await bench.end(token), Outcome.CANCELLED)

    asyncio.run(scenario())


@pytest.mark.parametrize("handler", [python("hang_in_c"), shell("exec sleep 1000")])
def test_a_job_can_be_cancelled_as_soon_as_it_begins(handler: HandlerSpec) -> None:
    async def scenario() -> None:
        async with Bench({"hang": handler}, stop_grace_s=GRACE_S) as bench:
            bench.reaction = lambda event: bench.executor.stop(event.token) if isinstance(event, Began) else None
            failure(await bench.run("hang"), Outcome.CANCELLED)

    asyncio.run(scenario())


def test_stopping_what_does_not_run_is_no_matter() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            bench.executor.stop(Token("unknown"))
            token = bench.start("pid")
            before = await bench.end(token)
            bench.executor.stop(token)
            assert (await bench.run("pid")).result == before.result
            refused = bench.start("unheard-of")
            bench.executor.stop(refused)
            failure(await bench.end(refused), Outcome.CANCELLED)

    asyncio.run(scenario())


# --- limits ---


def test_memory_beyond_the_limit_is_an_error_of_the_job() -> None:
    limits = Limits(memory_bytes=200 << 20)

    async def scenario() -> None:
        handlers = {"python": python("use_memory", limits), "pid": python("pid")}
        async with Bench(handlers, slots=1) as bench:
            before = await bench.run("pid")
            assert (await bench.run("python", str(1 << 20))).result == str(1 << 20)
            error = failure(await bench.run("python", str(400 << 20)), Outcome.ERROR)
            assert error.startswith(f"MemoryError: limit of {200 << 20} bytes exceeded\n")
            assert "in use_memory" in error
            assert (await bench.run("pid")).result != before.result  # what leaks is gone

    asyncio.run(scenario())


def test_processor_time_beyond_the_limit_ends_the_job() -> None:
    limits = Limits(cpu_s=1)

    async def scenario() -> None:
        handlers = {"python": python("use_cpu", limits), "command": shell("while :; do :; done", limits)}
        async with Bench(handlers) as bench:
            tokens = [bench.start(name) for name in handlers]
            for token in tokens:
                assert "CPU limit of 1 s exceeded" in failure(await bench.end(token), Outcome.TIMED_OUT)

    asyncio.run(scenario())


def test_open_files_beyond_the_limit_are_an_error_of_the_job() -> None:
    async def scenario() -> None:
        async with Bench({"python": python("open_files", Limits(open_files=50))}) as bench:
            assert (await bench.run("python", "10")).outcome is Outcome.OK
            assert "Too many open files" in failure(await bench.run("python", "50"), Outcome.ERROR)

    asyncio.run(scenario())


def test_limits_hold_for_one_job_and_not_for_the_next() -> None:
    limits = Limits(memory_bytes=1 << 30, cpu_s=100, open_files=50)

    async def scenario() -> None:
        async with Bench({"free": python("limits"), "limited": python("limits", limits)}) as bench:
            before, within, after = [(await bench.run(name)).result or "" for name in ("free", "limited", "free")]
        assert before == after
        assert within in {f"[{1 << 30},{100 + used},50]" for used in range(1, 10)}

    asyncio.run(scenario())


def test_limits_reach_a_command_and_it_leaves_no_core_file() -> None:
    limits = Limits(memory_bytes=64 << 20, cpu_s=100, open_files=50)

    async def scenario() -> None:
        script = 'echo "[$(ulimit -d), $(ulimit -t), $(ulimit -n), $(ulimit -c)]"'
        async with Bench({"command": shell(script, limits)}) as bench:
            assert (await bench.run("command")).result == f"[{64 << 10}, 100, 50, 0]"

    asyncio.run(scenario())


# --- the death of the worker ---


def be_a_worker(connection: Connection) -> None:
    """Run jobs that hang, send the processes of all, and wait for SIGKILL."""

    async def serve() -> None:
        handlers = {"python": python("hang_with_family"), "command": shell(FAMILY), "idle": python("pid")}
        async with Bench(handlers, slots=4) as bench:
            tokens = [bench.start(name) for name in handlers]
            idle = (
                await bench.end(tokens.pop())
            ).result or ""  # this child has nothing to do when the worker is killed
            said = " ".join([idle, *[await bench.first_text(token) for token in tokens]])
            connection.send([int(pid) for pid in said.split()])
            await asyncio.Event().wait()

    asyncio.run(serve())


def test_everything_dies_with_the_agent() -> None:
    own_end, other_end = multiprocessing.Pipe()
    worker = multiprocessing.get_context("fork").Process(target=be_a_worker, args=(other_end,))
    worker.start()
    other_end.close()
    with own_end:
        pids = own_end.recv()
    assert [processes.is_alive(pid) for pid in pids] == [True] * 6
    worker.kill()
    worker.join()
    processes.wait_until_gone(*pids)
    worker.close()
