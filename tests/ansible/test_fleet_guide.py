"""The commands of docs/fleet.md, run unchanged and in their order, on a lab with the host names of the page."""

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.ansible.conftest import Releases
from tests.ansible.observed import drained, keys, online, run_on, version
from tests.harness import releases
from tests.harness.lab import WORKERS, Lab
from tests.harness.publishing import ROOT

pytestmark = pytest.mark.timeout(3600)

PAGE = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def follow(lab: Lab, block: str) -> str:
    """Run a block of the page unchanged; return its output."""
    environment = {**lab.environment(), "ANSIBLE_INVENTORY": str(lab.inventory), "HOME": str(lab.folder)}
    settings = [f"{name}={value}" for name, value in environment.items()]
    command = lab.network.command("env", *settings, "bash", "-euc", block)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(lab: Lab, playbook: str, output: str) -> None:
    """Check what a playbook was for."""
    hub, backups = lab.machines["hub"], "ls /var/backups/stockworker/jobs-*.sqlite3"
    checks: dict[str, Callable[[], object]] = {
        "status": lambda: all(f"{worker}-1" in output for worker in WORKERS),
        "rollout": lambda: {version(machine) for machine in lab.machines.values()} == {"0.2.0"},
        "rollback": lambda: {version(lab.machines[name]) for name in ("hub", *WORKERS)} == {"0.1.0"},
        "drain": lambda: drained(lab) == ["edge-2-1"],
        "undrain": lambda: drained(lab) == [],
        "revoke": lambda: online(lab) == ["edge-1-1", "edge-3-1"],
        "readmit": lambda: online(lab) == list(map("{}-1".format, WORKERS)),
        "remove_machine": lambda: online(lab) == ["edge-1-1", "edge-2-1"],
        "backup": lambda: hub.try_run("sh", "-c", backups).returncode == 0,
    }
    if playbook in checks:
        hub.wait_until(checks[playbook], f"the effect of {playbook}")


def test_the_commands_of_the_page_work(bare: Lab, published: Releases) -> None:
    for block in BLOCKS:
        if "edge.rollout " in block:
            published.publish(releases.GOOD)  # not earlier: the first playbook installs the newest release
        former_keys = keys(bare)
        output = follow(bare, block)
        for playbook in re.findall(r"stockworker\.edge\.(\w+)", block):
            check(bare, playbook, output)
            if playbook == "rotate_keys":
                assert not former_keys & keys(bare)
    for worker in ("edge-1", "edge-2"):
        run_on(bare, worker)
