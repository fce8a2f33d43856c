"""docs/handlers.md: its examples run, and its tables are those of the code."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stockworker.handlers import api
from stockworker.protocol.body import MAX_CONTENT, MAX_TEXT
from stockworker.protocol.lifecycle import State
from stockworker.worker import attempt_log, output
from tests.harness.fleet import HANDLERS, Fleet, python_handlers
from tests.harness.jobs import run_job

PAGE = (Path(__file__).parents[2] / "docs/handlers.md").read_text()
FILES = dict(re.findall(r"^<!-- /opt/jobs/(\S+) -->\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
CONFIGURATION = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
WAYS = python_handlers(
    "echo", "fail_for_good", "not_json", "not_finite", "large", "fail", "leave", "die", "wait_for_cancel"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, instead of in `/opt/jobs`."""
    folder = tmp_path_factory.mktemp("jobs")
    for name, text in FILES.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Fleet]:
    (text,) = CONFIGURATION
    handlers: dict[str, Any] = yaml.safe_load(text.replace("/opt/jobs", str(folder)))["job_processor"]["handlers"]
    handlers |= {"report": {"python": "report:handle", "settings": {"folder": str(folder)}}, **WAYS}
    handlers["version"] = {"python": "version:handle"}
    settings = {"handlers": handlers, "worker": {"handler_paths": [str(folder), str(HANDLERS)]}}
    (folder / "version.py").write_text("def handle(job, context):\n    return 1\n")
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        yield fleet


def test_the_program_repeats_a_text_and_refuses_another_payload(fleet: Fleet) -> None:
    ended, _ = run_job(fleet, "repeat", "ab")
    assert ended.result == '"ababab"'
    ended, outcomes = run_job(fleet, "repeat", 7)
    assert (ended.state, outcomes) == (State.FAILED, ["error"])
    assert "the payload must be a string" in str(ended.reason)
    assert '`"ababab"`' in PAGE


def test_the_report_is_written(fleet: Fleet, folder: Path) -> None:
    ended, _ = run_job(fleet, "report", {"lines": ["a", "b"]}, id="first")
    assert ended.result == '{"file":"client_first.txt"}'
    assert (folder / "client_first.txt").read_text() == "a\nb\n"


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_report.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the tests need none, and they start slowly
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    ("job_type", "payload", "outcomes"),
    [
        ("echo", 1, ["ok"]),
        ("fail_for_good", None, ["error"]),
        ("not_json", None, ["error"]),
        ("not_finite", None, ["error"]),
        ("large", MAX_CONTENT, ["error"]),
        ("fail", None, ["error", "error"]),
        ("leave", None, ["error", "error"]),
        ("die", 1, ["crashed", "crashed"]),
        ("wait_for_cancel", None, ["timed_out", "timed_out"]),
    ],
)
def test_an_attempt_ends_as_the_page_explains(
    fleet: Fleet, job_type: str, payload: object, outcomes: list[str]
) -> None:
    options = {"max_attempts": 2, "max_crashes": 2, "backoff_s": 0.0, "timeout_s": 0.3 if "wait" in job_type else 30.0}
    assert run_job(fleet, job_type, payload, **options)[1] == outcomes
    assert {f"| `{each}` |" in PAGE for each in outcomes} == {True}


def test_a_reload_runs_new_code(fleet: Fleet, folder: Path) -> None:
    assert run_job(fleet, "version")[0].result == "1"
    (folder / "version.py").write_text("def handle(job, context):\n    return 'the second'\n")
    worker = fleet.workers[0]
    worker.send_signal(signal.SIGHUP)
    worker.await_event("config_reloaded")
    assert run_job(fleet, "version")[0].result == '"the second"'


def test_the_figures_are_those_of_the_code() -> None:
    assert f"{MAX_CONTENT // 1024} KiB each" in PAGE
    assert f"{MAX_TEXT:,} characters" in PAGE
    assert f"one message in {attempt_log._PROGRESS_INTERVAL_S:g} s" in PAGE
    rate = f"{output.LONGEST_LINE:,} characters each; {output._BURST} lines, and {output._PER_S:g} more a second"
    assert rate in PAGE
    for attribute in (*api.Job.__slots__, *api.Context.__slots__):
        assert re.search(rf"`(?:job|context)\.{attribute}\b", PAGE) or attribute == "log", attribute
