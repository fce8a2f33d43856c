"""What the executor promises about `async def` handlers: many jobs in one process, each as if it were alone."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from stockworker.handlers.spec import HandlerSpec, Isolation, Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.work import Blocked, Printed, Work
from tests.harness.executor import Bench, failure, result

GRACE_S = 0.2
NO_LIMITS = Limits()


def coroutine(name: str, concurrency: int = 100, limits: Limits = NO_LIMITS, **settings: object) -> HandlerSpec:
    """One of the functions in `tests.harness.coroutine_handlers`."""
    return PythonHandler(f"coroutine_handlers:{name}", settings, limits, Isolation.PER_TYPE, concurrency)


def start_alone(bench: Bench, job_type: str, payload: str = "null") -> Token:
    """Start a job that one more crash would fail."""
    token = Token(f"alone-{len(bench.events)}")
    bench.executor.start(Work(token, JobId(token), JobType(job_type), 1, payload, 1000.0, alone=True))
    return token


async def ends(bench: Bench, tokens: Iterable[Token]) -> list[AttemptResult]:
    return [await bench.end(token) for token in tokens]


# --- processes ---


def test_jobs_run_at_the_same_time_in_one_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"meet": coroutine("meet")}, slots=200) as bench:
            tokens = [bench.start("meet", json.dumps(str(tmp_path / "gate"))) for _ in range(100)]
            for token in tokens:
                assert await bench.first_text(token) == "waits for gate"
            (tmp_path / "gate").touch()
            assert len({result(each) for each in await ends(bench, tokens)}) == 1

    asyncio.run(scenario())


def test_a_process_has_no_more_jobs_than_its_concurrency_and_a_worker_no_more_than_its_slots(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"meet": coroutine("meet", concurrency=2)}, slots=5) as bench:
            tokens = [bench.start("meet", json.dumps(str(tmp_path / "gate"))) for _ in range(6)]
            for token in tokens[:5]:
                await bench.first_text(token)
            assert (len(bench.executor.running), bench.executor.waiting) == (5, 1)
            (tmp_path / "gate").touch()
            pids = [result(each) for each in await ends(bench, tokens)]
            assert [pids.count(each) for each in dict.fromkeys(pids[:5])] in ([2, 2, 2], [3, 2, 1], [2, 3, 1])
            assert len(set(pids)) == 3

    asyncio.run(scenario())


def test_an_async_handler_without_concurrency_runs_one_job_at_a_time() -> None:
    async def scenario() -> None:
        handlers = {name: coroutine(name, 1) for name in ("pid", "fail", "leave_tasks", "wait_and_tidy")}
        async with Bench(handlers, slots=1) as bench:
            assert result(await bench.run("pid")) == result(await bench.run("pid"))
            assert failure(await bench.run("fail")).startswith("ValueError: no such ticker: ?\n")
            token = bench.start("leave_tasks")
            await bench.end(token)
            assert "cancelled tasks that the job left behind: leave_tasks.<locals>.poll_prices" in bench.texts(token)
            token = bench.start("wait_and_tidy")
            await bench.first_text(token)
            bench.executor.stop(token)
            assert failure(await bench.end(token), Outcome.CANCELLED) == "stopped on request"
            assert bench.texts(token) == ["waits", "tidies up, cancelled: True"]

    asyncio.run(scenario())


def test_a_plain_function_can_not_have_concurrency() -> None:
    async def scenario() -> None:
        async with Bench({"plain": coroutine("plain")}) as bench:
            error = failure(await bench.run("plain"), Outcome.REFUSED)
            assert "coroutine_handlers:plain is not an `async def` function" in error
            assert "remove 'concurrency', or write `async def`" in error

    asyncio.run(scenario())


def test_a_process_is_replaced_after_its_jobs_without_a_pause() -> None:
    async def scenario() -> None:
        async with Bench({"pid": coroutine("pid", 10)}, slots=10, recycle_after=30) as bench:
            pids = [result(each) for each in await ends(bench, [bench.start("pid") for _ in range(100)])]
            assert all(pids.count(each) <= 30 + 10 for each in pids)
            assert len(set(pids)) >= 3

    asyncio.run(scenario())


# --- jobs ---


def test_each_job_has_its_own_input_and_result() -> None:
    async def scenario() -> None:
        async with Bench({"echo": coroutine("echo", key="value")}, slots=50) as bench:
            tokens = [bench.start("echo", json.dumps(number)) for number in range(300)]
            for number, ended in enumerate(await ends(bench, tokens)):
                assert result(ended) == {
                    "id": f"job-{number + 1}",
                    "attempt": 1,
                    "payload": number,
                    "settings": {"key": "value"},
                }

    asyncio.run(scenario())


def test_payloads_of_any_size_arrive() -> None:
    async def scenario() -> None:
        async with Bench({"length": coroutine("length")}, slots=50) as bench:
            sizes = [1, 15_000, 17_000, 200_000, 5] * 8
            tokens = [bench.start("length", json.dumps("x" * size)) for size in sizes]
            assert [result(each) for each in await ends(bench, tokens)] == sizes

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "permanent", "error"),
    [
        ("fail", False, "ValueError: no such ticker: ?\n"),
        ("fail_for_good", True, "ACME was delisted"),
        ("not_json", True, "the result is not JSON: Object of type set is not JSON serializable"),
        ("leave", False, "SystemExit: had enough"),
        ("leave_in_task", False, "SystemExit: had enough"),
        ("forget_memory", False, "MemoryError: limit exceeded"),
    ],
)
def test_a_failure_is_that_of_one_job(name: str, permanent: bool, error: str, tmp_path: Path) -> None:  # noqa: FBT001 (a case)
    async def scenario() -> None:
        # One type for both would need one function, so this one chooses by its payload.
        async with Bench({"any": coroutine("by_name")}, slots=3) as bench:
            neighbour = bench.start("any", json.dumps(["meet", str(tmp_path / "gate")]))
            await bench.first_text(neighbour)
            assert failure(await bench.run("any", json.dumps([name, None])), permanent=permanent).startswith(error)
            (tmp_path / "gate").touch()
            assert isinstance(result(await bench.end(neighbour)), int)

    asyncio.run(scenario())


def test_the_traceback_of_a_failure_begins_in_the_handler() -> None:
    async def scenario() -> None:
        async with Bench({"fail": coroutine("fail")}) as bench:
            _, first, *_ = failure(await bench.run("fail")).splitlines()
            assert "coroutine_handlers.py" in first

    asyncio.run(scenario())


def test_log_records_and_printed_lines_have_an_owner() -> None:
    async def scenario() -> None:
        async with Bench({"speak": coroutine("speak")}, slots=10) as bench:
            words = ["one", "two", "three"]
            tokens = {word: bench.start("speak", json.dumps(word)) for word in words}
            await ends(bench, tokens.values())
            for word, token in tokens.items():
                assert [text for text in bench.texts(token) if not text.startswith("writes")] == [
                    text
                    for number in range(3)
                    for text in (
                        f"logs {word} {number}",
                        f"prints {word} {number}",
                        f"prints {word} {number} in a thread",
                    )
                ]
            written = [each.text for each in bench.events if isinstance(each, Printed)]
            own = [text for token in tokens.values() for text in bench.texts(token) if text.startswith("writes")]
            assert sorted(written + own) == sorted(f"writes {word}" for word in words)

    asyncio.run(scenario())


def test_what_a_job_wrote_before_its_end_is_not_logged_as_that_of_the_job_that_is_left() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            left = bench.start("any", '["wait", null]')
            await bench.first_text(left)
            await bench.end(bench.start("any", '["speak", "hello"]'))
            assert (await bench.happens(Printed)).text == "writes hello"
            assert bench.texts(left) == ["waits"]

    asyncio.run(scenario())


def test_decimal_contexts_are_not_shared() -> None:
    async def scenario() -> None:
        async with Bench({"round": coroutine("round_numbers")}, slots=10) as bench:
            precisions = [3, 5, 7]
            tokens = [bench.start("round", json.dumps(each)) for each in precisions]
            assert [result(each) for each in await ends(bench, tokens)] == precisions

    asyncio.run(scenario())


def test_state_of_the_process_is_restored_when_no_job_runs() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=1) as bench:
            pid = result(await bench.run("any", '["change_signals", null]'))
            assert result(await bench.run("any", '["surroundings", null]')) == [pid, True, True, True]

    asyncio.run(scenario())


# --- tasks and copies that stay behind ---


def test_tasks_that_a_job_leaves_behind_are_cancelled_and_named() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=1) as bench:
            token = bench.start("any", '["leave_tasks", null]')
            pid = result(await bench.end(token))
            assert "cancelled tasks that the job left behind: leave_tasks.<locals>.poll_prices" in bench.texts(token)
            assert result(await bench.run("any", '["left_tasks", null]')) == [True]
            assert result(await bench.run("any", '["pid", null]')) == pid

    asyncio.run(scenario())


def test_a_task_that_does_not_end_costs_the_process() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=1) as bench:
            pid = result(await bench.run("any", '["leave_stubborn_task", null]'))
            assert result(await bench.run("any", '["pid", null]')) != pid

    asyncio.run(scenario())


def test_a_forked_copy_runs_no_job_of_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            counted = tmp_path / "counted"
            others = [bench.start("any", json.dumps(["count_up", str(counted)])) for _ in range(3)]
            assert result(await bench.run("any", '["fork", null]')) == 0
            await ends(bench, others)
            assert counted.read_text() == "ran\n" * 3

    asyncio.run(scenario())


# --- stopping ---


def test_a_job_that_is_cancelled_ends_alone() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            first, second = (bench.start("any", '["wait_and_tidy", null]') for _ in range(2))
            await bench.first_text(first)
            bench.executor.stop(first)
            assert failure(await bench.end(first), Outcome.CANCELLED) == "stopped on request"
            assert bench.texts(first) == ["waits", "tidies up, cancelled: True"]
            assert second in bench.executor.running

    asyncio.run(scenario())


def test_a_job_that_is_cancelled_before_it_began_ends() -> None:
    async def scenario() -> None:
        async with Bench({"wait": coroutine("wait")}, slots=5) as bench:
            token = bench.start("wait")
            bench.executor.stop(token)
            assert failure(await bench.end(token), Outcome.CANCELLED) == "stopped on request"

    asyncio.run(scenario())


def test_a_job_has_a_time_out_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            other = bench.start("any", json.dumps(["meet", str(tmp_path / "gate")]))
            await bench.first_text(other)
            ended = await bench.run("any", '["wait", null]', timeout_s=0.2)
            assert failure(ended, Outcome.TIMED_OUT) == "not done after 0.2 s"
            (tmp_path / "gate").touch()
            assert isinstance(result(await bench.end(other)), int)

    asyncio.run(scenario())


def test_a_job_that_does_not_end_when_cancelled_costs_its_process_and_others_nothing() -> None:
    async def scenario() -> None:
        grace_s = 5.0  # enough for the process to take notice on a busy machine
        async with Bench({"any": coroutine("by_name")}, slots=5, stop_grace_s=grace_s) as bench:
            stays, other = (bench.start("any", '["ignore_cancellation", null]') for _ in range(2))
            for token in (stays, other):
                await bench.first_text(token)
            bench.executor.stop(stays)
            error = failure(await bench.end(stays), Outcome.CANCELLED)
            assert error == f"stopped on request; killed, because it did not stop within {grace_s:g} s"
            ended = failure(await bench.end(other), Outcome.RELEASED)
            assert ended == "the process was killed because of another job in it"

    asyncio.run(scenario())


# --- a job that keeps the event loop ---


def test_a_job_that_keeps_the_loop_is_named_and_jobs_that_have_not_begun_run_elsewhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            token = bench.start("any", json.dumps(["block_for_a_while", str(tmp_path / "gate")]))
            await bench.first_text(token)
            behind = bench.start("any", '["pid", null]')
            assert isinstance(result(await bench.end(behind)), int)
            blocked = await bench.happens(Blocked)
            assert blocked.token == token
            assert blocked.place.endswith(" in block_for_a_while")
            (tmp_path / "gate").touch()
            assert result(await bench.end(token)) is None

    asyncio.run(scenario())


def test_who_keeps_the_loop_is_to_blame_and_not_who_had_to_stop() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5, stop_grace_s=GRACE_S) as bench:
            waits, other = (bench.start("any", '["wait", null]') for _ in range(2))
            blocks = bench.start("any", '["block", null]')
            for token in (waits, other, blocks):
                await bench.first_text(token)
            await bench.happens(Blocked)
            bench.executor.stop(waits)
            error = failure(await bench.end(blocks), Outcome.CRASHED)
            assert error.startswith("it kept the event loop of the jobs beside it: ")
            assert error.endswith(" in block. Use `await asyncio.to_thread(...)`")
            failure(await bench.end(waits), Outcome.CANCELLED)
            failure(await bench.end(other), Outcome.RELEASED)

    asyncio.run(scenario())


def test_where_nothing_shows_who_keeps_the_loop_all_are_lost() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5, stop_grace_s=GRACE_S) as bench:
            waits, other = (bench.start("any", '["wait", null]') for _ in range(2))
            blocks = bench.start("any", '["hold_interpreter", null]')
            for token in (waits, other, blocks):
                await bench.first_text(token)
            bench.executor.stop(waits)
            failure(await bench.end(waits), Outcome.CANCELLED)
            for token in (other, blocks):
                error = failure(await bench.end(token), Outcome.LOST)
                assert error.startswith(
                    "one of 3 jobs in the same process has ended it, it is not known which: stopped on"
                )

    asyncio.run(scenario())


def test_alone_a_job_that_keeps_the_loop_has_timed_out() -> None:
    async def scenario() -> None:
        async with Bench({"hold": coroutine("hold_interpreter")}, slots=5, stop_grace_s=GRACE_S) as bench:
            failure(await bench.run("hold", timeout_s=0.3), Outcome.TIMED_OUT)

    asyncio.run(scenario())


# --- crashes ---


def test_a_crash_with_one_job_is_that_of_the_job() -> None:
    async def scenario() -> None:
        async with Bench({"die": coroutine("die")}) as bench:
            assert failure(await bench.run("die"), Outcome.CRASHED).startswith("the process was killed by SIGSEGV")

    asyncio.run(scenario())


def test_a_crash_with_several_jobs_is_shared_by_those_that_ran() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            tokens = [bench.start("any", '["wait", null]') for _ in range(2)]
            for token in tokens:
                await bench.first_text(token)
            tokens.append(bench.start("any", '["die", null]'))
            for ended in await ends(bench, tokens):
                error = failure(ended, Outcome.LOST)
                assert error.startswith("one of 3 jobs in the same process has ended it, it is not known which: ")
                assert "SIGSEGV" in error
            assert isinstance(result(await bench.run("any", '["pid", null]')), int)

    asyncio.run(scenario())


def test_a_job_that_one_more_crash_would_fail_runs_alone() -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name")}, slots=5) as bench:
            together = [bench.start("any", '["wait", null]') for _ in range(2)]
            for token in together:
                await bench.first_text(token)
            alone = start_alone(bench, "any", '["wait", null]')
            await bench.first_text(alone)
            dies = bench.start("any", '["die", null]')
            for ended in await ends(bench, [*together, dies]):
                failure(ended, Outcome.LOST)
            assert alone in bench.executor.running
            poison = start_alone(bench, "any", '["die", null]')
            failure(await bench.end(poison), Outcome.CRASHED)
            assert alone in bench.executor.running

    asyncio.run(scenario())


def test_garbage_in_the_channel_is_a_crash() -> None:
    async def scenario() -> None:
        async with Bench({"garbage": coroutine("write_garbage"), "pid": coroutine("pid")}) as bench:
            error = failure(await bench.run("garbage"), Outcome.CRASHED)
            assert error.startswith("the handler wrote into the channel between its process and the worker")
            assert isinstance(result(await bench.run("pid")), int)

    asyncio.run(scenario())


def test_a_limit_of_memory_is_one_of_the_process() -> None:
    async def scenario() -> None:
        limits = Limits(memory_bytes=64 * 1024**2)
        async with Bench({"hoard": coroutine("hoard", limits=limits)}, slots=2) as bench:
            assert result(await bench.run("hoard", "1000")) == 1000
            error = failure(await bench.run("hoard", str(1024**3)))
            assert error.startswith("MemoryError: limit of 67108864 bytes exceeded")
            assert result(await bench.run("hoard", "1000")) == 1000

    asyncio.run(scenario())


# --- reload and close ---


def test_after_a_reload_new_jobs_run_with_new_settings_beside_old_ones(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench({"any": coroutine("by_name", key=1)}, slots=5) as bench:
            old = bench.start("any", json.dumps(["meet", str(tmp_path / "gate")]))
            await bench.first_text(old)
            bench.executor.reload({JobType("any"): coroutine("by_name", key=2)}, bench_paths())
            assert result(await bench.run("any", '["echo", null]'))["settings"] == {"key": 2}
            (tmp_path / "gate").touch()
            assert isinstance(result(await bench.end(old)), int)

    asyncio.run(scenario())


def bench_paths() -> list[str]:
    return [str(Path(__file__).parents[1] / "harness")]


# --- what is kept with the attempts ---


def test_each_job_keeps_what_it_prints_and_logs_itself() -> None:
    async def scenario() -> None:
        async with Bench({"speak": coroutine("speak"), "nothing": coroutine("nothing")}, slots=3) as bench:
            tokens = [bench.start("speak", json.dumps(word)) for word in ("one", "two", "three")]
            spoken = await ends(bench, tokens)
            assert (await bench.run("nothing")).output is None
        for word, each in zip(("one", "two", "three"), spoken, strict=True):
            assert each.output is not None
            lines = each.output.text.splitlines()
            others = {"one", "two", "three"} - {word}
            assert not [line for line in lines if others & {*line.split()}]
            assert [line for line in lines if line == f"prints {word} 2 in a thread"]
            assert [line for line in lines if line.endswith(f"Z INFO logs {word} 0")]

    asyncio.run(scenario())


def test_a_job_alone_in_its_process_keeps_what_c_code_writes_and_what_a_killed_one_printed() -> None:
    async def scenario() -> None:
        async with Bench({"speak": coroutine("speak"), "block": coroutine("block")}, stop_grace_s=0.05) as bench:
            spoken = await bench.run("speak", '"one"')
            token = bench.start("block", timeout_s=0.3)
            blocked = await bench.end(token)
        assert spoken.output is not None
        assert "writes one\n" in spoken.output.text
        assert blocked.outcome is Outcome.TIMED_OUT
        assert blocked.output is None or blocked.output.omitted == 0

    asyncio.run(scenario())
