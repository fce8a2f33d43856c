"""Nothing that one job leaves behind in its process reaches the next job, or takes away its result."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from stockworker.handlers.spec import HandlerSpec, Isolation, PythonHandler
from stockworker.protocol.job import Outcome
from stockworker.worker.work import HandlerLogged
from tests.harness import messy_handlers
from tests.harness.executor import Bench, failure, python, result


def messy(*names: str) -> dict[str, HandlerSpec]:
    """Functions of `tests.harness.messy_handlers`, by their names, in processes that they share."""
    return {name: PythonHandler(f"messy_handlers:{name}", isolation=Isolation.SHARED) for name in names}


def said(bench: Bench) -> list[str]:
    return [event.text for event in bench.events if isinstance(event, HandlerLogged)]


def test_what_a_job_has_changed_is_put_back_before_the_next_one() -> None:
    async def scenario() -> dict[str, Any]:
        found = {}
        async with Bench(messy("look", "mess"), slots=1) as bench:
            found["nothing"] = result(await bench.run("look"))
            for kind in messy_handlers.MESS:
                bench.events.clear()
                changed = result(await bench.run("mess", json.dumps(kind)))
                found[kind] = result(await bench.run("look"))
                assert found[kind][0] == changed, f"{kind}: a new process"
                assert {"seen", "printed"} <= set(said(bench)), kind
        return found

    found = asyncio.run(scenario())
    _, before = found.pop("nothing")
    assert before[2]["SET_BY_THE_MODULE"] == "kept"
    assert {kind: seen for kind, (_, seen) in found.items() if seen != before} == {}


def test_a_process_that_cannot_be_put_back_runs_no_other_job() -> None:
    async def scenario() -> dict[str, Any]:
        found = {}
        async with Bench(messy("look", "mess"), slots=1) as bench:
            found["nothing"] = result(await bench.run("look"))
            for kind in messy_handlers.LASTING:
                bench.events.clear()
                changed = result(await bench.run("mess", json.dumps(kind)))
                found[kind] = result(await bench.run("look"))
                assert found[kind][0] != changed, f"{kind}: the same process"
                assert any(kind in text for text in said(bench)), said(bench)
        return found

    found = asyncio.run(scenario())
    _, before = found.pop("nothing")
    assert {kind: seen for kind, (_, seen) in found.items() if seen != before} == {}


def test_a_module_that_silences_the_loggers_when_it_is_imported_does_not_silence_the_jobs(tmp_path: Path) -> None:
    text = "import logging.config\nlogging.config.dictConfig({'version': 1})\n"
    (tmp_path / "silent.py").write_text(text + "def handle(job, context):\n    context.log.info('logged')\n")

    async def scenario() -> None:
        async with Bench({"silent": PythonHandler("silent:handle")}, module_paths=[str(tmp_path)]) as bench:
            result(await bench.run("silent"))
            result(await bench.run("silent"))
            assert said(bench) == ["logged", "logged"]

    asyncio.run(scenario())


def test_a_module_that_fails_while_it_is_imported_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\nos.environ['LEFT'] = 'behind'\nraise OSError('no library')\n")

    async def scenario() -> None:
        broken = PythonHandler("broken:handle", isolation=Isolation.SHARED)
        handlers = {"broken": broken, "environment": python("environment")}
        harness = str(Path(messy_handlers.__file__).parent)
        async with Bench(handlers, module_paths=[str(tmp_path), harness], slots=1) as bench:
            failure(await bench.run("broken"), Outcome.REFUSED)
            assert "LEFT" not in result(await bench.run("environment"))

    asyncio.run(scenario())


def test_a_seed_of_one_job_does_not_make_the_next_one_predictable() -> None:
    async def scenario() -> None:
        async with Bench(messy("drawn"), slots=1) as bench:
            drawn = [result(await bench.run("drawn", "7")) for _ in range(4)]
        assert len(set(drawn)) == 4

    asyncio.run(scenario())


# --- forks ---


@pytest.mark.parametrize(("way", "status"), [("return", 0), ("exit", 3), ("raise", 1)])
def test_a_forked_copy_that_leaves_the_handler_ends(way: str, status: int) -> None:
    async def scenario() -> None:
        async with Bench(messy("fork_and_return"), slots=1) as bench:
            finished = await bench.run("fork_and_return", json.dumps(way))
            assert result(finished) == f"the copy exited with {status}"
            assert any("of the copy" in text for text in said(bench)) is (way == "raise")

    asyncio.run(scenario())


def test_a_forked_copy_that_outlives_its_job_takes_nothing_from_the_next_one() -> None:
    payload = json.dumps("x" * 150_000)

    async def scenario() -> None:
        async with Bench({**messy("keep_a_copy"), "length": python("length")}, slots=1) as bench:
            for _ in range(3):
                assert result(await bench.run("keep_a_copy")) == "from the handler"
                assert result(await bench.run("length", payload)) == 150_000

    asyncio.run(scenario())


def test_a_forked_copy_logs_through_the_output_and_not_into_the_channel() -> None:
    async def scenario() -> None:
        async with Bench(messy("fork_and_log"), slots=1) as bench:
            result(await bench.run("fork_and_log"))
            logged = [event for event in bench.events if isinstance(event, HandlerLogged)]
            assert [(each.level, each.text) for each in logged] == [(logging.INFO, "logged by the copy")]

    asyncio.run(scenario())


def test_forked_children_can_be_stopped_as_usual() -> None:
    async def scenario() -> None:
        async with Bench(messy("stop_children"), slots=1) as bench:
            assert result(await bench.run("stop_children", timeout_s=20.0)) == -15

    asyncio.run(scenario())


# --- a result that exists is not lost ---


@pytest.mark.parametrize("stream", ["Tee", "None"])
def test_a_replaced_stdout_does_not_lose_the_result(stream: str) -> None:
    async def scenario() -> None:
        async with Bench(messy("replace_stdout"), slots=1) as bench:
            assert result(await bench.run("replace_stdout", json.dumps(stream))) == "done"

    asyncio.run(scenario())


def test_a_log_record_that_cannot_be_shown_does_not_fail_the_job() -> None:
    async def scenario() -> None:
        async with Bench(messy("log_badly"), slots=1) as bench:
            assert result(await bench.run("log_badly")) == "done"
            texts = said(bench)
        assert "between two levels" in texts
        hidden = [text for text in texts if "messy_handlers.py" in text and "can't be shown" in text]
        assert len(hidden) == 3, texts
        assert "a real number is required, not str" in hidden[0]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("way", "permanent", "text"),
    [
        ("no text", True, "Broken (its text can't be shown)"),
        ("an odd text", True, "BrokenText (its text can't be shown)"),
        ("an odd class", False, "BrokenClass"),
    ],
)
def test_an_exception_without_a_text_fails_the_attempt_as_any_other(way: str, permanent: bool, text: str) -> None:  # noqa: FBT001
    async def scenario() -> None:
        async with Bench(messy("raise_badly"), slots=1) as bench:
            assert text in failure(await bench.run("raise_badly", json.dumps(way)), permanent=permanent)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("coroutine", "use `return await ...`"),
        ("generator", "use `return`"),
        ("asynchronous_generator", "a plain function that returns the result"),
    ],
)
def test_a_handler_that_returns_before_it_has_run_is_told_what_to_do(name: str, advice: str) -> None:
    async def scenario() -> None:
        async with Bench(messy(name, "look"), slots=1) as bench:
            assert advice in failure(await bench.run(name), permanent=True)
            result(await bench.run("look"))
            assert [text for text in said(bench) if "never awaited" in text] == []

    asyncio.run(scenario())


# --- the channel ---


def test_a_handler_that_closes_low_descriptors_keeps_its_channel(tmp_path: Path) -> None:
    own = tmp_path / "own"

    async def scenario() -> None:
        async with Bench(messy("close_low_descriptors"), slots=1) as bench:
            assert result(await bench.run("close_low_descriptors", json.dumps(str(own)))) == "done"

    asyncio.run(scenario())
    assert own.read_text() == "3\n"


def test_nothing_is_written_into_a_file_that_has_the_number_of_the_channel(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Bench(messy("take_the_channel"), slots=1) as bench:
            error = failure(await bench.run("take_the_channel", json.dumps(str(tmp_path))), Outcome.CRASHED)
            assert "the handler has closed the channel between its process and the worker" in error

    asyncio.run(scenario())
    files = list(tmp_path.iterdir())
    assert len(files) > 100
    assert [file for file in files if file.stat().st_size] == []
