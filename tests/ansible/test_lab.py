"""`make lab`: the commands that it prints work, and `make lab-down` leaves nothing behind."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lab import MACHINES
from tests.harness.publishing import ROOT

pytestmark = pytest.mark.timeout(3600)

STATE = Path("/run/stockworker-lab")


def lab(action: str) -> "subprocess.CompletedProcess[str]":
    """What `make lab` and `make lab-down` run."""
    command = [sys.executable, "-m", "tests.ansible", action]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def bash(line: str) -> "subprocess.CompletedProcess[str]":
    """A line at the prompt of a person."""
    return subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def printed() -> Iterator[str]:
    """What `make lab` has printed."""
    assert list((ROOT / "dist").glob("*.deb")), "no packages in dist/: run 'make packages', or 'make test-ansible-full'"
    done = lab("up")
    assert done.returncode == 0, done.stderr
    yield done.stdout
    if STATE.exists():
        lab("down")


def test_the_lab_stays_and_can_be_entered(printed: str) -> None:
    (enter,) = [line.split("#")[0].strip() for line in printed.splitlines() if line.strip().startswith(". ")]
    pinged = bash(f"{enter}; lab ansible all -m ansible.builtin.ping")
    assert pinged.stdout.count("SUCCESS") == len(MACHINES), pinged.stdout + pinged.stderr
    assert bash(f"{enter}; lab ssh desk hostname").stdout.strip() == "desk"
    site = bash(f"{enter}; lab ansible-playbook stockworker.edge.site --check")
    assert site.returncode == 0, site.stdout
    assert "make lab-down removes it" in lab("up").stderr


def test_nothing_of_the_lab_remains(printed: str) -> None:
    assert "make lab-down" in printed
    (network,) = re.findall(r"/run/netns/(\S+)", (STATE / "enter").read_text())
    assert network in bash("ip netns list").stdout
    assert lab("down").returncode == 0
    assert not STATE.exists()
    assert network not in bash("ip netns list").stdout
    assert list(Path("/var/tmp").glob("stockworker-lab-*")) == []  # noqa: S108 (where the lab keeps its files)
    assert lab("down").returncode != 0, "no lab runs"
