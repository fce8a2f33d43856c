"""What the executor promises about jobs that end by themselves, with real processes."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stockworker.errors import ConfigError, ProtocolMisuse
from stockworker.handlers.spec import PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import children
from stockworker.worker.executor import Executor
from stockworker.worker.work import Began, ExecutorEvent, Work
from tests.harness import processes
from tests.harness.executor import HANDLERS, Bench, failure, python, result, shell, typed

KILLED_WHEN_FORKED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from stockworker.adapters.fork_loop import serve
if serve(0):
    os.kill(os.getpid(), signal.SIGKILL)
"""

# --- Python handlers ---


def test_a_handler_gets_its_job_and_settings_and_returns_a_result() -> None:
    async def scenario() -> None:
        async with Bench({"echo": python("echo", source="http://[::1]/")}) as bench:
            finished = await bench.run("echo", '{"ticker": "ÄCME", "close": [1.5, null]}')
        assert result(finished) == {
            "id": "job-1",
            "type": "echo",
            "attempt": 1,
            "payload": {"ticker": "ÄCME", "close": [1.5, None]},
            "settings": {"source": "http://[::1]/"},
        }
        assert (finished.ran_s or 0.0) > 0

    asyncio.run(scenario())


def test_a_child_is_used_again_until_it_has_done_enough_jobs() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}, recycle_after=3) as bench:
            pids = [result(await bench.run("pid")) for _ in range(7)]
        assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6]

    asyncio.run(scenario())


def test_new_handlers_are_for_jobs_started_from_now_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def scenario() -> None:
        async with Bench({"one": python("pid"), "two": python("wait_for_file")}) as bench:
            busy = bench.start("two", json.dumps(str(gate)))
            idle = result(await bench.run("one"))
            bench.executor.reload(typed({"one": python("echo", depth=2), "two": python("pid")}), [HANDLERS])
            assert result(await bench.run("one"))["settings"] == {"depth": 2}
            gate.touch()
            was_busy = result(await bench.end(busy))
            assert result(await bench.run("two")) not in {idle, was_busy}
            processes.wait_until_gone(idle, was_busy)

    asyncio.run(scenario())


def test_a_reload_finds_handlers_in_new_folders() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}, module_paths=[]) as bench:
            assert "worker.handler_paths" in failure(await bench.run("pid"), Outcome.REFUSED)
            bench.executor.reload(typed({"pid": python("pid")}), [HANDLERS])
            result(await bench.run("pid"))

    asyncio.run(scenario())


def test_settings_that_json_cannot_hold_are_refused_and_change_nothing() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            with pytest.raises(ConfigError, match=r"handlers\.pid\.settings: .*set is not JSON serializable"):
                bench.executor.reload(typed({"pid": python("pid", tickers={"ACME"})}), [HANDLERS])
            result(await bench.run("pid"))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            "nowhere:handle",
            "ModuleNotFoundError: No module named 'nowhere'. Install it, or add its folder to worker.handler_paths",
        ),
        ("job_handlers:nowhere", "AttributeError"),
        ("broken_handlers:handle", "RuntimeError: a library is missing here"),
        ("job_handlers", "is not of the form package.module:function"),
        ("job_handlers:__name__", "is not callable"),
    ],
)
def test_a_handler_that_cannot_be_loaded_is_no_fault_of_the_job(function: str, reason: str) -> None:
    async def scenario() -> None:
        async with Bench({"broken": PythonHandler(function), "pid": python("pid")}) as bench:
            error = failure(await bench.run("broken"), Outcome.REFUSED)
            assert error.startswith("handler can't be loaded here: ")
            assert reason in error
            result(await bench.run("pid"))

    asyncio.run(scenario())


def test_a_worker_that_cannot_start_processes_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            monkeypatch.setattr(children, "_PACKAGE_PARENT", "/nowhere")
            monkeypatch.setattr(children, "_START", "import stockworker_is_not_here")
            error = failure(await bench.run("pid"), Outcome.REFUSED)
            assert "No module named 'stockworker_is_not_here'" in error
            monkeypatch.setattr(sys, "executable", "/nowhere/python")
            error = failure(await bench.run("pid"), Outcome.REFUSED)
            assert "/nowhere/python" in error

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_worker_that_is_short_of_something_for_a_moment_gives_the_job_back(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def start(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    async def scenario() -> None:
        async with Bench({"python": python("pid"), "command": shell("true")}) as bench:
            with monkeypatch.context() as patch:
                patch.setattr(children, "Process", start)
                patch.setattr(children, "Forked", start)
                for name in ("python", "command"):
                    assert os.strerror(number) in failure(await bench.run(name), Outcome.RELEASED)
            result(await bench.run("python"))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "start",
    [
        "raise MemoryError",
        "import errno, os; raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))",
        "import os; os.execvp('sh', ['sh', '-c', 'echo sh: 1: Cannot fork >&2; exit 2'])",
    ],
)
def test_a_process_that_is_short_of_something_while_it_starts_gives_the_job_back(
    monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            monkeypatch.setattr(children, "_START", start)
            failure(await bench.run("pid"), Outcome.RELEASED)

    asyncio.run(scenario())


def test_a_process_that_is_killed_while_it_starts_has_crashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves nothing about this machine: a moment later it would have been the job's crash."""

    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            monkeypatch.setattr(children, "_START", KILLED_WHEN_FORKED)
            assert "killed by SIGKILL" in failure(await bench.run("pid"), Outcome.CRASHED)

    asyncio.run(scenario())


def test_a_type_without_a_handler_is_refused() -> None:
    async def scenario() -> None:
        async with Bench() as bench:
            token = bench.start("unheard-of")
            assert bench.events == [Began(token)]  # the end never comes from within the call
            assert bench.executor.running == {token}
            assert "unheard-of" in failure(await bench.end(token), Outcome.REFUSED)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{'a': 1}", "payload is not JSON: Expecting property name"),
        ("", "payload is not JSON: Expecting value"),
        ("[NaN]", "payload is not JSON: NaN"),
        ("[" * 100_000, "payload is nested too deeply"),
    ],
)
def test_a_payload_that_is_no_json_fails_for_good(payload: str, reason: str) -> None:
    async def scenario() -> None:
        async with Bench({"echo": python("echo")}) as bench:
            assert reason in failure(await bench.run("echo", payload), permanent=True)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not_json", "the result is not JSON: Object of type set is not JSON serializable"),
        ("not_finite", "the result is not JSON: result['rsi'][1] is nan, and JSON has no such number"),
        ("not_utf8", "the result is not JSON: 'utf-8' codec can't encode"),
        ("endless", "the result is not JSON: Circular reference"),
    ],
)
def test_a_result_that_is_no_json_fails_for_good(name: str, reason: str) -> None:
    async def scenario() -> None:
        async with Bench({"handler": python(name)}) as bench:
            assert reason in failure(await bench.run("handler"), permanent=True)

    asyncio.run(scenario())


def test_the_largest_result_passes_and_a_larger_one_fails_for_good() -> None:
    quotes = len(json.dumps(json.dumps("")))  # a string inside a string

    async def scenario() -> None:
        async with Bench({"large": python("large")}) as bench:
            largest = MAX_CONTENT - quotes
            assert len(result(await bench.run("large", str(largest)))) == largest
            error = failure(await bench.run("large", str(largest + 1)), permanent=True)
            assert f"larger than {MAX_CONTENT} bytes" in error

    asyncio.run(scenario())


def test_the_largest_payload_reaches_a_child_that_is_not_yet_reading() -> None:
    payload = json.dumps("\\" * (MAX_CONTENT // 4))

    async def scenario() -> None:
        async with Bench({"python": python("length"), "command": shell("wc -c")}) as bench:
            tokens = [bench.start("python", payload), bench.start("command", payload)]
            lengths = [result(await bench.end(token)) for token in tokens]
        assert lengths == [len(json.loads(payload)), len(payload)]

    asyncio.run(scenario())


def test_an_exception_is_told_with_the_lines_that_led_to_it() -> None:
    async def scenario() -> None:
        async with Bench({"fail": python("fail"), "pid": python("pid")}) as bench:
            before = result(await bench.run("pid"))
            error = failure(await bench.run("fail"))
            after = result(await bench.run("pid"))
        assert error.startswith("ValueError: no such ticker: ?\n")
        assert 'job_handlers.py", line' in error
        assert "runner.py" not in error
        assert before == after

    asyncio.run(scenario())


def test_a_handler_can_say_that_trying_again_is_of_no_use() -> None:
    async def scenario() -> None:
        async with Bench({"fail": python("fail_for_good")}) as bench:
            assert failure(await bench.run("fail"), permanent=True) == "ACME was delisted"

    asyncio.run(scenario())


def test_exit_is_an_error_like_any_other() -> None:
    async def scenario() -> None:
        async with Bench({"leave": python("leave"), "pid": python("pid")}) as bench:
            before = result(await bench.run("pid"))
            assert failure(await bench.run("leave")).startswith("SystemExit: had enough")
            assert result(await bench.run("pid")) == before

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "payload", "texts"),
    [
        ("die", "7", ["the process exited with code 7", "last words"]),
        ("die", "0", ["the process exited with code 0"]),
        ("die_by_signal", str(int(signal.SIGKILL)), ["killed by SIGKILL, and not by this worker: out of memory?"]),
        ("die_by_signal", str(signal.SIGRTMIN + 1), [f"killed by signal {signal.SIGRTMIN + 1}"]),
        ("read_null", "null", ["killed by SIGSEGV", "Segmentation fault", "in read_null"]),
        ("scribble", "null", ["channel"]),
    ],
)
def test_a_job_that_takes_its_process_down_has_crashed_and_the_next_gets_a_new_one(
    name: str, payload: str, texts: list[str]
) -> None:
    async def scenario() -> None:
        async with Bench({"crash": python(name), "pid": python("pid")}, slots=1) as bench:
            before = result(await bench.run("pid"))
            error = failure(await bench.run("crash", payload), Outcome.CRASHED)
            after = result(await bench.run("pid"))
        assert [text for text in texts if text not in error] == []
        assert before != after

    asyncio.run(scenario())


def test_an_idle_child_that_dies_is_not_missed() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            before = result(await bench.run("pid"))
            os.kill(before, signal.SIGTERM)
            while before in processes.descendants():  # noqa: ASYNC110 (the kernel sets no asyncio.Event)
                await asyncio.sleep(0.005)
            assert result(await bench.run("pid")) != before

    asyncio.run(scenario())


# --- the pool ---


def test_more_jobs_than_slots_wait_for_their_turn() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel"), "pid": python("pid")}, slots=1) as bench:
            running = bench.start("wait")
            waiting = [bench.start(name) for name in ("pid", "unheard-of", "pid")]
            await bench.first_text(running)
            assert bench.executor.running == {running}
            bench.executor.stop(running)
            await bench.end(waiting[-1])
        steps = [(type(e), e.token) for e in bench.events if isinstance(e, Began | AttemptResult)]
        assert steps == [(kind, token) for token in [running, *waiting] for kind in (Began, AttemptResult)]

    asyncio.run(scenario())


def test_a_job_that_waits_for_its_turn_can_be_cancelled() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel")}, slots=1) as bench:
            running, waiting = bench.start("wait"), bench.start("wait")
            bench.executor.stop(waiting)
            assert [
                event for event in bench.events if getattr(event, "token", None) == waiting
            ] == []  # never from within the call
            finished = await bench.end(waiting)
            failure(finished, Outcome.CANCELLED)
            assert finished.ran_s == 0.0
            assert [event for event in bench.events if getattr(event, "token", None) == waiting] == [finished]
            assert bench.executor.running == {running}

    asyncio.run(scenario())


def test_an_attempt_cannot_be_started_twice() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel")}, slots=1) as bench:
            for token in (Token("running"), Token("waiting")):
                work = Work(token, JobId("j"), JobType("wait"), 1, "null", 60.0)
                bench.executor.start(work)
                with pytest.raises(ProtocolMisuse, match=token):
                    bench.executor.start(work)

    asyncio.run(scenario())


def test_jobs_can_be_started_from_the_end_of_others_without_end() -> None:
    count = 3000  # far deeper than the interpreter's stack

    async def scenario() -> None:
        done = asyncio.Event()
        finished: list[AttemptResult] = []
        names = ["nothing", "unheard-of"]

        def deliver(event: ExecutorEvent) -> None:
            if not isinstance(event, AttemptResult):
                return
            finished.append(event)
            if len(finished) == count:
                done.set()
            start()

        def start() -> None:
            number = len(finished)
            work = Work(Token(f"{number}"), JobId("j"), JobType(names[number % 2]), 1, "null", 60.0)
            executor.start(work)

        executor = Executor(
            typed({"nothing": python("nothing")}),
            1,
            deliver,
            module_paths=[HANDLERS],
        )
        start()
        async with asyncio.timeout(60):
            await done.wait()
        await executor.close()
        assert [event.outcome for event in finished[:count]] == [Outcome.OK, Outcome.REFUSED] * (count // 2)

    asyncio.run(scenario())


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_nothing_is_left_after_closing_on_either_event_loop(
    runner: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    runner(asyncio.sleep(0))  # uvloop opens some files for the whole life of the process
    before, files = processes.descendants(), processes.descriptors()

    async def scenario() -> None:
        handlers = {
            "pid": python("pid"),
            "large": python("large"),
            "die": python("die"),
            "hang": python("hang_in_c"),
            "wait": python("wait_for_cancel"),
            "cat": shell("cat"),
            "sleep": shell("trap '' TERM; sleep 1000 & echo $! >&2; wait"),
        }
        async with Bench(handlers, slots=4) as bench:
            for name, payload in [("pid", "null"), ("large", "200000"), ("cat", '"x"'), ("die", "1"), ("pid", "null")]:
                await bench.run(name, payload)
            stopped = bench.start("wait")
            await bench.first_text(stopped)
            bench.executor.stop(stopped)
            await bench.end(stopped)
            hanging = [bench.start("hang"), bench.start("sleep")]
            said = [await bench.first_text(token) for token in hanging]
            ends = len([event for event in bench.events if isinstance(event, AttemptResult)])
        assert len([event for event in bench.events if isinstance(event, AttemptResult)]) == ends
        assert bench.executor.running == frozenset()
        with pytest.raises(ProtocolMisuse):
            bench.start("pid")
        await bench.executor.close()
        processes.wait_until_gone(int(said[1]))

    runner(scenario())
    assert processes.descendants() <= before
    assert processes.descriptors() <= files
