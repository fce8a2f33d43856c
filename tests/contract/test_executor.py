"""What the executor promises about jobs that end by themselves, with real processes."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stockworker.agent import children
from stockworker.agent.executor import Executor
from stockworker.agent.work import ExecutorEvent, Finished, HandlerLogged, Progressed, Work
from stockworker.errors import ConfigError, ProtocolMisuse
from stockworker.handlers.spec import CommandHandler, HandlerSpec, PythonHandler
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from tests.harness import processes
from tests.harness.executor import HANDLERS, Bench, python, shell, typed

Scenario = Callable[[], Coroutine[Any, Any, None]]


def result(finished: Finished) -> Any:
    assert finished.outcome is Outcome.OK, finished
    assert finished.error is None
    assert finished.result is not None
    return json.loads(finished.result)


def failure(finished: Finished, outcome: Outcome = Outcome.ERROR, *, permanent: bool = False) -> str:
    assert (finished.outcome, finished.permanent, finished.result) == (outcome, permanent, None), finished
    assert finished.error is not None
    return finished.error


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
        assert finished.ran_s > 0

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
            bench.executor.reload(typed({"one": python("echo", depth=2), "two": python("pid")}))
            assert result(await bench.run("one"))["settings"] == {"depth": 2}
            gate.touch()
            was_busy = result(await bench.end(busy))
            assert result(await bench.run("two")) not in {idle, was_busy}
            processes.wait_until_gone(idle, was_busy)

    asyncio.run(scenario())


def test_settings_that_json_cannot_hold_are_refused_and_change_nothing() -> None:
    async def scenario() -> None:
        async with Bench({"pid": python("pid")}) as bench:
            with pytest.raises(ConfigError, match=r"handlers\.pid\.settings: .*set is not JSON serializable"):
                bench.executor.reload(typed({"pid": python("pid", tickers={"ACME"})}))
            result(await bench.run("pid"))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("nowhere:handle", "ModuleNotFoundError: No module named 'nowhere'"),
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


def test_a_type_without_a_handler_is_refused() -> None:
    async def scenario() -> None:
        async with Bench() as bench:
            token = bench.start("unheard-of")
            assert bench.events == []  # never from within the call
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
            while before in processes.children():  # noqa: ASYNC110 (the kernel sets no asyncio.Event)
                await asyncio.sleep(0.005)
            assert result(await bench.run("pid")) != before

    asyncio.run(scenario())


# --- commands ---


@pytest.mark.parametrize(
    ("script", "payload", "expected"),
    [
        ("cat", '{"ticker": "ACME"}', {"ticker": "ACME"}),
        ("true", "null", None),
        ("echo; echo ' [1]'", "null", [1]),
        ("cat >/dev/null; echo 1", "not JSON, and none of our business", 1),
        ("echo 2", "x" * MAX_CONTENT, 2),  # never reads it
    ],
)
def test_a_command_gets_its_payload_and_prints_its_result(script: str, payload: str, expected: object) -> None:
    async def scenario() -> None:
        async with Bench({"command": shell(script)}) as bench:
            assert result(await bench.run("command", payload)) == expected

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("script", "outcome", "permanent", "text"),
    [
        ("echo 'no such ticker' >&2; exit 3", Outcome.ERROR, False, "exit code 3\nno such ticker"),
        ("echo 'no such ticker' >&2; exit 65", Outcome.ERROR, True, "exit code 65\nno such ticker"),
        ("echo '<b>Warning</b>'", Outcome.ERROR, True, "it is not JSON: Expecting value"),
        ("echo NaN", Outcome.ERROR, True, "it is not JSON: NaN"),
        ("printf '\"\\344\"'", Outcome.ERROR, True, "not UTF-8"),
        ("echo oops >&2; kill -SEGV $$", Outcome.CRASHED, False, "the process was killed by SIGSEGV\noops"),
    ],
)
def test_the_exit_code_of_a_command_decides(script: str, outcome: Outcome, text: str, *, permanent: bool) -> None:
    async def scenario() -> None:
        async with Bench({"command": shell(script)}) as bench:
            assert text in failure(await bench.run("command"), outcome, permanent=permanent)

    asyncio.run(scenario())


def test_an_error_text_is_the_end_of_a_long_complaint() -> None:
    async def scenario() -> None:
        async with Bench({"command": shell("seq 1 100000 >&2; exit 1")}) as bench:
            error = failure(await bench.run("command"))
        assert error.startswith("exit code 1\n")
        assert error.endswith("\n99999\n100000")
        assert MAX_TEXT // 2 < len(error) <= MAX_TEXT

    asyncio.run(scenario())


def test_a_command_that_prints_without_end_is_killed() -> None:
    async def scenario() -> None:
        async with Bench({"command": shell("yes")}) as bench:
            assert f"larger than {MAX_CONTENT} bytes" in failure(await bench.run("command"), permanent=True)

    asyncio.run(scenario())


def test_no_shell_sees_the_arguments_of_a_command() -> None:
    async def scenario() -> None:
        handler = CommandHandler(
            (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))", "$HOME; *")
        )
        async with Bench({"command": handler}) as bench:
            assert result(await bench.run("command")) == ["$HOME; *"]

    asyncio.run(scenario())


@pytest.mark.parametrize("program", ["no-such-program", "/nowhere/program", "/etc/passwd"])
def test_a_program_that_cannot_be_run_here_is_no_fault_of_the_job(program: str) -> None:
    async def scenario() -> None:
        async with Bench({"command": CommandHandler((program,))}) as bench:
            assert program in failure(await bench.run("command"), Outcome.REFUSED)

    asyncio.run(scenario())


def test_secrets_in_our_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    show = (sys.executable, "-I", "-c", "import json, os; print(json.dumps(dict(os.environ)))")

    async def scenario() -> None:
        handlers: dict[str, HandlerSpec] = {
            "plain": CommandHandler(show),
            "set": CommandHandler(show, {"depth": 2}),
            "python": python("environment"),
        }
        async with Bench(handlers) as bench:
            plain, settings, seen = [result(await bench.run(name)) for name in handlers]
        common = {name: os.environ[name] for name in children._PASSED_ON if name in os.environ}
        job = {"STOCKWORKER_JOB_ID": "job-1", "STOCKWORKER_JOB_TYPE": "plain", "STOCKWORKER_ATTEMPT": "1"}
        assert "PATH" in common
        assert without_locale(plain) == without_locale(common | job)
        assert settings["STOCKWORKER_SETTINGS"] == '{"depth": 2}'
        assert without_locale(seen) == without_locale(common)

    asyncio.run(scenario())


def without_locale(environment: dict[str, str]) -> dict[str, str]:
    """Python sets LC_CTYPE by itself where the locale is the C locale (PEP 538)."""
    return {name: value for name, value in environment.items() if name != "LC_CTYPE"}


# --- what they say ---


def test_what_a_handler_prints_and_logs_is_told_in_order_of_its_source_before_its_end() -> None:
    async def scenario() -> None:
        async with Bench({"print": python("print_things"), "nothing": python("nothing")}) as bench:
            token = bench.start("print")
            result(await bench.end(token))
            result(await bench.run("nothing"))
        logged = [e for e in bench.events if isinstance(e, HandlerLogged)]
        printed = [e.text for e in logged if e.level == logging.INFO]
        forged = '["ended","t1","ok","forged",null,false,true]'
        assert printed == ["printed", forged, "complained", "from C code", "without an end"]
        assert [(e.level, e.text) for e in logged if e.level != logging.INFO] == [
            (logging.WARNING, "logged 1"),
            (logging.ERROR, "by a library"),
        ]
        assert {e.token for e in logged} == {token}
        assert [type(e) for e in bench.events[-2:]] == [Finished, Finished]

    asyncio.run(scenario())


def test_too_much_output_is_left_out_and_counted() -> None:
    async def scenario() -> None:
        async with Bench({"print": python("print_much")}) as bench:
            token = bench.start("print")
            result(await bench.end(token))
        texts = bench.texts(token)
        assert texts[0] in {"line 0", "record 0"}
        assert len(texts) < 1000
        assert any("lines left out" in text for text in texts)
        assert max(map(len, texts)) <= 2000

    asyncio.run(scenario())


def test_what_a_command_complains_about_is_told() -> None:
    async def scenario() -> None:
        async with Bench({"command": shell("echo one >&2; echo >&2; printf two >&2; echo 3")}) as bench:
            token = bench.start("command")
            assert result(await bench.end(token)) == 3
        assert [e for e in bench.events if isinstance(e, HandlerLogged)] == [
            HandlerLogged(token, logging.WARNING, "one"),
            HandlerLogged(token, logging.WARNING, "two"),
        ]

    asyncio.run(scenario())


def test_progress_is_told_now_and_then_and_within_bounds() -> None:
    async def scenario() -> None:
        async with Bench({"progress": python("report_progress")}) as bench:
            first = bench.start("progress", json.dumps([7.0] + [0.5] * 1000))
            await bench.end(first)
            second = bench.start("progress", "[-1]")
            await bench.end(second)
        progress = [(e.token, e.fraction, len(e.text)) for e in bench.events if isinstance(e, Progressed)]
        assert progress[0] == (first, 1.0, MAX_TEXT)
        assert progress[-1] == (second, 0.0, MAX_TEXT)
        assert len(progress) < 10

    asyncio.run(scenario())


def test_a_thread_that_a_job_left_behind_says_nothing_about_the_next_one() -> None:
    async def scenario() -> None:
        async with Bench({"leave": python("leave_a_thread"), "wait": python("wait_for_cancel")}) as bench:
            await bench.run("leave")
            token = bench.start("wait")
            await bench.said(token)
            bench.executor.stop(token)
            await bench.end(token)
        assert bench.texts(token) == ["started"]

    asyncio.run(scenario())


def test_a_handler_may_close_its_streams_and_has_no_input() -> None:
    async def scenario() -> None:
        async with Bench({"close": python("close_streams"), "pid": python("pid")}) as bench:
            assert result(await bench.run("close")) == ""
            result(await bench.run("pid"))

    asyncio.run(scenario())


# --- the pool ---


def test_more_jobs_than_slots_are_a_misuse() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("wait_for_cancel")}, slots=1) as bench:
            token = bench.start("wait")
            with pytest.raises(ProtocolMisuse, match="1 of 1 slots"):
                bench.start("wait")
            assert bench.executor.running == {token}

    asyncio.run(scenario())


def test_jobs_can_be_started_from_the_end_of_others_without_end() -> None:
    count = 3000  # far deeper than the interpreter's stack

    async def scenario() -> None:
        done = asyncio.Event()
        finished: list[Finished] = []
        names = ["nothing", "unheard-of"]

        def deliver(event: ExecutorEvent) -> None:
            assert isinstance(event, Finished)
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
    before, files = processes.children(), processes.descriptors()

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
            await bench.said(stopped)
            bench.executor.stop(stopped)
            await bench.end(stopped)
            hanging = [bench.start("hang"), bench.start("sleep")]
            said = [await bench.said(token) for token in hanging]
            ends = len([event for event in bench.events if isinstance(event, Finished)])
        assert len([event for event in bench.events if isinstance(event, Finished)]) == ends
        assert bench.executor.running == frozenset()
        with pytest.raises(ProtocolMisuse):
            bench.start("pid")
        await bench.executor.close()
        processes.wait_until_gone(int(said[1]))

    runner(scenario())
    assert processes.children() <= before
    assert processes.descriptors() <= files
