"""A row of ARCHITECTURE.md, followed: in a copy of the repository, exactly the files of the row get a job option `weight`.

The option then works from Python and the command line through the wire to the store and back, and the suites pass. Each
edit is needed: without it, a suite fails.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

pytestmark = pytest.mark.timeout(300)

OPTION = "a job option"
COPIED = ("agent", "docs", "etc", "packaging", "systemd", "tests")


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit that a developer makes.

    Attributes:
        file: from the root of the repository.
        before: the text in front of which `text` is inserted; it occurs once.
        text: the new lines.
        missed_by: a test that fails without this edit.
    """

    file: str
    before: str
    text: str
    missed_by: str


EDITS = {
    "the option": Edit(
        file="agent/stockworker/protocol/job.py",
        before="\n\nclass JobArguments(",
        text='    weight: Annotated[int | None, Integer(0, 9), Wire("the weight of the job in reports")] = None\n',
        missed_by="tests/unit/test_codec.py::test_every_message_is_recorded",
    ),
    "its keyword argument": Edit(
        file="agent/stockworker/protocol/job.py",
        before="\n\n@dataclass(frozen=True, slots=True, kw_only=True)\nclass JobSpec(",
        text="    weight: int | None\n",
        missed_by="tests/unit/test_job_options.py::test_keyword_arguments_are_the_options",
    ),
    "its column": Edit(
        file="agent/stockworker/dispatcher/store_sqlite.py",
        before=")\n\n_SELECT_JOB: Final",
        text='    "ALTER TABLE job ADD COLUMN weight INTEGER",\n',
        missed_by="tests/contract/test_job_store.py::test_a_new_job_comes_back_with_its_payload",
    ),
    "its recorded message": Edit(
        file="tests/unit/test_codec.py",
        before='    "cancel": messages.CancelJob(J, R),\n',
        text='    "weight": messages.Submit((messages.Submission(None, TA, job.Priority.LOW, "", weight=7),), None),\n',
        missed_by="tests/unit/test_codec.py::test_every_message_is_recorded",
    ),
    "its recorded bytes": Edit(
        file="tests/vectors/schema-1.json",
        before=' {\n  "name": "cancel",',
        text=' {\n  "name": "weight",\n  "topic": "jobs/queue/low/technical_analysis",\n  "retain": false,\n'
        '  "properties": {"user": [["weight", "7"]]},\n  "body": ""\n },\n',
        missed_by="tests/unit/test_codec.py::test_every_message_is_recorded",
    ),
}
SUITES = [
    "tests/unit/test_codec.py",
    "tests/unit/test_codec_submit.py",
    "tests/unit/test_job_options.py",
    "tests/unit/test_rows.py",
    "tests/contract/test_job_store.py",
]
DOCUMENTS = ["tests/architecture/test_generated_docs.py", "-k", "current"]

ROUND_TRIP = """
import argparse
from stockworker.adapters.sqlite import MEMORY
from stockworker.cli.job_options import add_job_options, option_values
from stockworker.client import make_submission
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.protocol import codec
from stockworker.protocol.messages import Submit
from stockworker.shell.turn import Now
from tests.harness.dispatching import MIDDAY, POLICY, PRESENCE
from tests.harness.entropy import Counting

parser = argparse.ArgumentParser()
add_job_options(parser)
options = option_values(parser.parse_args(["--weight", "7"]))
packet = codec.encode(Submit((make_submission("echo", id="job-1", **options),), None))
assert ("weight", "7") in packet.properties.user, packet
store, now = SqliteJobStore(MEMORY), Now(MIDDAY, MIDDAY)
machine = DispatcherMachine(POLICY, Counting(), PRESENCE, store.load(), now)
DispatcherTurns(machine, store, POLICY.lease_s).take([packet], now)
job = store.find(["job-1"])["job-1"]
assert job.spec.weight == 7, job
"""


def apply(root: Path, left_out: str = "") -> None:
    for name, edit in EDITS.items():
        if name != left_out:
            file = root / edit.file
            text = file.read_text(encoding="utf-8")
            assert text.count(edit.before) == 1, f"{edit.file} has changed around {edit.before!r}"
            file.write_text(text.replace(edit.before, edit.text + edit.before), encoding="utf-8")


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{root / 'agent'}:{root}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def pytest_in(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(root, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "Makefile", *(path.name for path in ROOT.glob("*.md"))):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def test_the_row_names_the_files_that_change() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {OPTION} |"))
    named = {path for path in re.findall(r"`([\w./-]+)`", row) if "/" in path}
    full = {path if (ROOT / path).exists() else f"agent/stockworker/{path}" for path in named}
    assert full == {edit.file for edit in EDITS.values()}


def test_the_option_works_and_the_suites_pass(copy: Path) -> None:
    apply(copy)
    assert (written := run(copy, "-m", "docs.generate")).returncode == 0, written.stderr
    assert (trip := run(copy, "-c", ROUND_TRIP)).returncode == 0, trip.stderr
    for suite in (SUITES, DOCUMENTS):
        assert (tests := pytest_in(copy, *suite)).returncode == 0, tests.stdout[-3000:]


@pytest.mark.parametrize("left_out", EDITS)
def test_a_suite_fails_without_an_edit(copy: Path, left_out: str) -> None:
    apply(copy, left_out)
    assert (tests := pytest_in(copy, EDITS[left_out].missed_by)).returncode != 0, tests.stdout


def test_documents_must_be_generated_again(copy: Path) -> None:
    apply(copy)
    assert (tests := pytest_in(copy, *DOCUMENTS)).returncode != 0, tests.stdout
