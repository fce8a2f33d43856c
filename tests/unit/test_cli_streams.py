"""Commands whose standard streams are closed, full, or can't show every character."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stockworker.terminal.exits import Exit

COMMAND = f"{sys.executable} -m stockworker"


def shell(line: str) -> tuple[int, str]:
    """Run a line of a shell; return its exit status and standard error."""
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", ["acl", "--help", "stats --help", "check --offline --json", "--version"])
def test_a_full_disk_has_a_status_of_its_own(words: str) -> None:
    status, errors = shell(f"{COMMAND} {words} >/dev/full")
    assert status == Exit.OUTPUT_LOST
    assert errors == (
        "stockworker: error: standard output can't be written: No space left on device. Correct that; do not repeat an "
        "order that was done\n"
    )


def test_a_failure_is_told_before_lost_output() -> None:
    assert shell(f"{COMMAND} --config /nonexistent check --offline >/dev/full")[0] == Exit.FAILED


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_like_empty_ones(closed: str) -> None:
    assert shell(f"{COMMAND} acl {closed} {'>/dev/null' if closed == '2>&-' else ''}") == (0, "")


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_an_error_that_nobody_can_read_keeps_its_status(redirect: str) -> None:
    assert shell(f"{COMMAND} --config /nonexistent stats {redirect}") == (Exit.CONFIG, "")


@pytest.mark.parametrize("service", ["worker", "dispatcher"])
def test_a_service_starts_without_standard_error(service: str, tmp_path: Path) -> None:
    """It comes to the point where it misses its folder."""
    config = tmp_path / "job_processor.yml"
    keys = {"worker": {"journal": "/nonexistent/journal"}, "dispatcher": {"store": "/nonexistent/store"}}
    config.write_text(json.dumps({"job_processor": keys}))
    assert shell(f"{COMMAND} --config {config} {service} 2>&-") == (Exit.STORE, "")


def test_a_file_that_is_opened_later_is_no_standard_stream(tmp_path: Path) -> None:
    """A message for the user must never land in the file that got the number of a closed stream."""
    program = (
        "import os, sys; from stockworker.terminal.output import open_streams; open_streams();"
        f"number = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY); print('text', flush=True);"
        "sys.exit(number)"
    )
    status, _ = shell(f'{sys.executable} -c "{program}" <&- >&- 2>&-')
    assert status > 2
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii", "utf-8"])
def test_a_terminal_that_can_not_show_a_character_shows_it_escaped(encoding: str) -> None:
    program = (
        r"from stockworker.terminal.output import *; open_streams(); print_line('12 \u20ac \udce9'); complain('\u20ac')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    shown = "\u20ac".encode(encoding, errors="backslashreplace")
    assert done.stdout.startswith(b"12 " + shown)
    assert done.stderr == b"stockworker: error: " + shown + b"\n"


def test_an_unexpected_exception_is_a_defect_and_no_failed_job() -> None:
    program = "import sys, stockworker.cli.stats as stats; stats._run = lambda _: 1 / 0; from stockworker.cli import main; sys.exit(main(['stats']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == Exit.SOFTWARE
    assert "ZeroDivisionError: division by zero" in done.stderr, "the traceback, to report it"
    assert done.stderr.splitlines()[-1].startswith("stockworker: error: internal error in ")
