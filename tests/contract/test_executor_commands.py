"""What the executor promises about commands, with real ones."""

import asyncio
import os
import sys

import pytest

from stockworker.handlers.spec import CommandHandler, HandlerSpec
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT
from stockworker.protocol.job import Outcome
from stockworker.worker import children
from tests.harness.executor import Bench, failure, python, result, shell


@pytest.mark.parametrize(
    ("script", "payload", "expected"),
    [
        ("cat", '{"ticker": "ACME"}', {"ticker": "ACME"}),
        ("true", "null", None),
        ("echo; echo ' [1]'", "null", [1]),
        ("cat >/dev/null; echo 1", "not JSON, and no result", 1),
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
    program = """
import json, os
file = os.environ.get("STOCKWORKER_SETTINGS_FILE")
print(json.dumps({**os.environ, "settings": open(file).read() + open(file).read() if file else None}))
"""
    show = (sys.executable, "-I", "-c", program)

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
        assert without_own(plain) == without_own(common | job) | {"settings": None}
        assert settings["settings"] == 2 * '{"depth": 2}'
        assert "depth" not in str({name: value for name, value in settings.items() if name != "settings"})
        assert without_own(seen) == without_own(common)

    asyncio.run(scenario())


def without_own(environment: dict[str, str]) -> dict[str, str]:
    """Python sets LC_CTYPE by itself where the locale is the C locale (PEP 538), and the shell that starts it the others."""
    own = {"LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"}
    return {name: value for name, value in environment.items() if name not in own}
