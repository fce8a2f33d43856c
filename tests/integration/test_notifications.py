"""Notifications of a real dispatcher to a real program."""

import json
import sys
from pathlib import Path

from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import run_job
from tests.harness.waiting import wait_until

PROGRAM = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


def test_a_failed_job_is_reported_and_so_is_a_test(tmp_path: Path) -> None:
    file = tmp_path / "notifications"
    settings = {
        "handlers": python_handlers("say"),
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "notifications": {"command": [sys.executable, "-c", PROGRAM, str(file)]},
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        run_job(fleet, "say", {"way": "permanent error", "text": "no such symbol", "times": 1})
        wait_until(file.exists, "a notification arrives")
        checked = fleet.command("dispatcher", "check", "--role", "dispatcher", "--notify", "--json")
        checked.start()
        assert checked.wait() == 0, checked.log
    first, test = map(json.loads, file.read_text().splitlines())
    (failed,) = first["occurrences"]
    assert (failed["subject"], failed["type"], failed["reason"]) == ("jobs", "say", "no such symbol")
    assert test["text"] == "This is a test."
    assert "sent a test notification" in checked.log
