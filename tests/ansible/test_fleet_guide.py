"""The commands of docs/fleet.md, run unchanged and in their order, on a lab with the host names of the page."""

import re
import subprocess

import pytest

from tests.ansible.conftest import Releases
from tests.ansible.observed import check_effect, keys, run_on
from tests.harness import releases
from tests.harness.lab import Lab
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


def test_the_commands_of_the_page_work(bare: Lab, published: Releases) -> None:
    for block in BLOCKS:
        if "edge.rollout " in block:
            published.publish(releases.GOOD)  # not earlier: the first playbook installs the newest release
        former_keys = keys(bare)
        output = follow(bare, block)
        for playbook in re.findall(r"stockworker\.edge\.(\w+)", block):
            check_effect(bare, playbook, output)
            if playbook == "rotate_keys":
                assert not former_keys & keys(bare)
    for worker in ("edge-1", "edge-2"):
        run_on(bare, worker)
