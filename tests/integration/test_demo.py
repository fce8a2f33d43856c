"""Runs `make demo` as a newcomer does: to its end, again, and interrupted at any step."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo import prices
from demo.program import main
from tests.harness.sample_data import SAMPLE_FILE

ROOT = SAMPLE_FILE.parents[1]
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
TIMEOUT_S = 60.0
SERVICES = 4  # broker, dispatcher, two workers


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo. Its temporary folder identifies its processes."""
    (folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "demo", "--output", str(folder / "charts")]
    environment = {**os.environ, "TMPDIR": str(folder / "tmp")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_to_the_end(folder: Path) -> str:
    with started(folder) as demo:
        output, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, output
    return output


def processes(folder: Path) -> dict[int, str]:
    """All processes of the demo: its folder is in their environment or command line."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in (process / "environ").read_bytes() + command:
                found[int(process.name)] = command.replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def assert_nothing_left(folder: Path) -> None:
    assert processes(folder) == {}
    assert list((folder / "tmp").iterdir()) == []


def curves(path: Path) -> set[str]:
    """The legend of a chart: names, each with its newest value."""
    return {text.rpartition(" ")[0] for text in re.findall("<text .*?>(.*?)</text>", path.read_text())}


def job_rows(output: str) -> dict[str, list[str]]:
    """The rows of the table of jobs, by job ID."""
    lines = output.partition("\nJobs\n")[2].partition("\n\n")[0].splitlines()[1:]
    return {cells[0]: cells[1:] for cells in map(str.split, lines)}


def test_shows_everything_and_can_be_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        output = run_to_the_end(tmp_path)
        rows = job_rows(output)
        assert set(rows) == {f"{verb}-{symbol}" for verb in ("import", "update", "analyse") for symbol in SYMBOLS}
        assert {row[3] for row in rows.values()} == {"completed"}
        assert {row[4] for row in rows.values()} == {"1"}
        assert {row[5] for row in rows.values()} == {"host-1", "host-2"}
        assert {rows[f"analyse-{symbol}"][2] for symbol in SYMBOLS} == {"high", "normal", "low"}
        for symbol in SYMBOLS:
            assert f"   {symbol:<6}  2013-03-01  " in output
            chart = tmp_path / "charts" / f"{symbol}.svg"
            assert str(chart) in output
            assert {"close", "sma_50", "bollinger_20_2 upper", "rsi_14", "macd_12_26_9 signal"} <= curves(chart)
            chart.unlink()
        assert "\x1b" not in output
        assert_nothing_left(tmp_path)


@pytest.mark.parametrize("moment", ["stockworker at work", "1. import", "update-AAPL", "Latest indicators"])
def test_leaves_nothing_behind_when_interrupted(tmp_path: Path, moment: str) -> None:
    with started(tmp_path) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if moment in line:
                break
        if moment != "stockworker at work":
            assert len(processes(tmp_path)) > SERVICES
        demo.send_signal(signal.SIGINT)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 130, rest
    assert "Interrupted" in rest
    assert "Traceback" not in rest
    assert_nothing_left(tmp_path)


def test_a_failed_job_is_shown_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {symbol: of_symbol for symbol, of_symbol in prices.sample_rows().items() if symbol in {"AAPL", "FB"}}
    rows["FB"][0]["Low"] = "1000"
    monkeypatch.setattr(prices, "sample_rows", lambda: rows)
    monkeypatch.setattr(sys, "argv", ["demo", "--output", str(tmp_path)])
    assert main() == 1
    output = capsys.readouterr().out
    states = {job_id: cells[3] for job_id, cells in job_rows(output).items()}
    assert states["import-FB"] == "failed"
    assert states["import-AAPL"] == states["update-FB"] == states["analyse-AAPL"] == "completed"
    assert "   import-FB: 1 of 155 rows are not valid bars" in output
    assert (tmp_path / "AAPL.svg").exists()
