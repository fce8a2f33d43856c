"""The reports of the executor about a job while it runs."""

import asyncio
import json
import logging

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.body import MAX_TEXT
from stockworker.worker.work import HandlerLogged, Progressed
from tests.harness.executor import Bench, python, result, shell


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
        ends = [e.token for e in bench.events if isinstance(e, AttemptResult)]
        assert ends[0] == token
        assert bench.events.index(logged[-1]) < next(
            n for n, e in enumerate(bench.events) if isinstance(e, AttemptResult)
        )

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
            await bench.first_text(token)
            bench.executor.stop(token)
            await bench.end(token)
        assert bench.texts(token) == ["started", "stopped by myself"]

    asyncio.run(scenario())


def test_a_handler_may_close_its_streams_and_has_no_input() -> None:
    async def scenario() -> None:
        async with Bench({"close": python("close_streams"), "pid": python("pid")}) as bench:
            assert result(await bench.run("close")) == ""
            result(await bench.run("pid"))

    asyncio.run(scenario())
