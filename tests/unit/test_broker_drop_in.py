"""The drop-in for Mosquitto: it starts again after any end, and after some of them without its data."""

import shlex
import subprocess
from pathlib import Path

import pytest

DROP_IN = Path(__file__).parents[2] / "systemd" / "mosquitto.service.d" / "stockworker.conf"


def test_the_broker_starts_again_after_any_number_of_crashes() -> None:
    lines = DROP_IN.read_text().splitlines()
    service = lines.index("[Service]")
    assert "StartLimitIntervalSec=0" in lines[:service]
    assert "Restart=always" in lines[service:]
    assert "RestartSec=2s" in lines[service:]


def after_end(result: str, folder: Path) -> None:
    """Run what systemd runs when the service has ended (systemd.exec(5), SERVICE_RESULT)."""
    (line,) = [line for line in DROP_IN.read_text().splitlines() if line.startswith("ExecStopPost=")]
    environment = {"SERVICE_RESULT": result, "STATE_DIRECTORY": str(folder)}
    subprocess.run(shlex.split(line.removeprefix("ExecStopPost=")), env=environment, check=True)


@pytest.mark.parametrize(
    ("result", "kept"),
    [("success", True), ("exit-code", True), ("timeout", True), ("oom-kill", False), ("signal", False), ("core-dump", False)],
)  # fmt: skip
def test_data_are_deleted_after_an_end_that_they_may_have_caused(tmp_path: Path, result: str, *, kept: bool) -> None:
    data = tmp_path / "mosquitto.db"
    data.touch()
    after_end(result, tmp_path)
    assert data.exists() == kept
