"""The reports of the executor about a job while it runs."""

import asyncio
import json
import logging
import re

from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.body import MAX_BODY, MAX_TEXT
from stockworker.protocol.codec import encode
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport, Report
from stockworker.worker.work import HandlerLogged, Progressed, Work
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


# --- what is kept with the attempt ---


def kept(attempt: AttemptResult) -> AttemptOutput:
    assert attempt.output is not None
    return attempt.output


def test_what_a_handler_prints_and_logs_ends_with_its_result() -> None:
    async def scenario() -> None:
        async with Bench({"talk": python("talk"), "nothing": python("nothing")}) as bench:
            first = await bench.run("talk", '{"lines": 2}')
            silent = await bench.run("nothing")
            failed = await bench.run("talk", '{"failures": 1}')
        assert silent.output is None
        assert (first.outcome, failed.outcome) == (Outcome.OK, Outcome.ERROR)
        lines = ["prints in attempt 1", f"{0:>15}", f"{1:>15}"]
        assert [line for line in kept(first).text.splitlines() if "WARNING" not in line] == lines
        assert re.search(r"^\d\d:\d\d:\d\dZ WARNING logs in attempt 1: $", kept(first).text, re.MULTILINE)
        assert kept(first).omitted == kept(failed).omitted == 0
        assert "logs in attempt 1" in kept(failed).text
        assert f"{0:>15}" not in kept(failed).text

    asyncio.run(scenario())


def test_the_last_64_kib_are_kept_and_the_rest_is_counted() -> None:
    async def scenario() -> None:
        async with Bench({"talk": python("talk"), "command": shell("seq 200000 >&2")}) as bench:
            talked = kept(await bench.run("talk", '{"lines": 65536}'))
            command = kept(await bench.run("command"))
        assert len(talked.text) == 64 * 1024
        written = len("prints in attempt 1\n") + 65536 * 16 + len("12:00:00Z WARNING logs in attempt 1: \n")
        assert talked.omitted == written - 64 * 1024
        assert f"\n{65535:>15}\n" in talked.text
        assert command.text.endswith("\n199999\n200000\n")
        assert (len(command.text), command.omitted) == (65536, sum(len(f"{n}\n") for n in range(1, 200_001)) - 65536)

    asyncio.run(scenario())


def test_all_of_a_long_record_and_the_last_of_many_records_are_kept() -> None:
    async def scenario() -> None:
        async with Bench({"log": python("log_much")}) as bench:
            token = bench.start("log")
            output = kept(await bench.end(token))
        records = [line.partition(" INFO ")[2] for line in output.text.splitlines() if " INFO " in line]
        assert records[-2:] == ["record 4998", "record 4999"]
        assert "x" * 3000 in output.text
        assert output.omitted > 0
        assert len(bench.texts(token)) < 1000

    asyncio.run(scenario())


def test_the_output_of_an_attempt_that_was_ended_is_kept() -> None:
    async def scenario() -> None:
        async with Bench({"wait": python("print_and_wait")}, stop_grace_s=0.01) as bench:
            died = await bench.run("wait", '"die"')
            token = bench.start("wait")
            await bench.first_text(token)
            bench.executor.stop(token)
            stopped = await bench.end(token)
        assert (died.outcome, kept(died).text) == (Outcome.CRASHED, "before the end\n")
        assert (stopped.outcome, kept(stopped).text) == (Outcome.CANCELLED, "before the end\n")

    asyncio.run(scenario())


def test_nothing_is_kept_where_that_is_switched_off() -> None:
    async def scenario() -> None:
        handlers = {"talk": python("talk"), "command": shell("echo text >&2")}
        async with Bench(handlers, output_bytes=0) as bench:
            assert (await bench.run("talk", "{}")).output is None
            assert (await bench.run("command")).output is None

    asyncio.run(scenario())


def test_the_output_that_has_no_room_beside_a_large_result_is_left_out() -> None:
    async def scenario() -> None:
        script = "yes | head -c 70000 >&2; head -c 245000 /dev/zero | tr '\\0' x | sed 's/.*/\"&\"/'"
        async with Bench({"command": shell(script)}) as bench:
            large = await bench.run("command")
        assert len(result(large)) == 245_000
        output = kept(large)
        assert output.omitted + len(output.text) == 70_000
        report = Report(
            WorkerId("w"), (AttemptReport(large.token, large.outcome, large.result, output=output, job_id=JobId("j")),)
        )
        assert 254 * 1024 < len(encode(report).body) <= MAX_BODY

    asyncio.run(scenario())


def test_no_submitter_gets_what_may_be_the_output_of_another_one() -> None:
    """A short job is in its process before the worker knows it. What it writes could be from the job before."""

    async def scenario(owners: tuple[str, str]) -> list[AttemptOutput | None]:
        async with Bench({"talk": python("talk"), "nothing": python("nothing")}, slots=1) as bench:
            for number in range(200):
                job_id = JobId(f"{owners[number % 2]}:job-{number}")
                kind, payload = ("talk", '{"secret": "S"}') if number == 150 else ("nothing", "null")
                bench.executor.start(Work(Token(f"n{number}"), job_id, JobType(kind), 1, payload, 60.0))
            return [(await bench.end(Token(f"n{number}"))).output for number in range(200)]

    found = {number: each for number, each in enumerate(asyncio.run(scenario(("a", "b")))) if each is not None}
    assert "logs in attempt 1: S" in found[150].text
    assert all(number % 2 == 0 or not each.text for number, each in found.items())
    found = {number: each for number, each in enumerate(asyncio.run(scenario(("a", "a")))) if each is not None}
    assert "prints in attempt 1\n" in "".join(each.text for each in found.values())
