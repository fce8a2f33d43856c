"""A fleet of booted machines, set up by the playbooks, for the tests of a module."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.observed import drained, run_on, versions
from tests.harness import releases
from tests.harness.fleet_load import Load
from tests.harness.lab import WORKERS, Lab
from tests.harness.publishing import make_key
from tests.harness.releases import Release


class Releases:
    """Builds and publishes releases when a test needs them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self._folder = folder
        self._published = {releases.FIRST.version}

    def publish(self, release: Release) -> str:
        """Publish a release; return its version."""
        if release.version not in self._published:
            self._lab.publish(releases.build(release, self._folder / release.version))
            self._published.add(release.version)
        return release.version


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The machines before any playbook has run."""
    folder = tmp_path_factory.mktemp("lab")
    packages = releases.build(releases.FIRST, folder / releases.FIRST.version)
    with Lab(folder, packages, make_key(folder / "key")) as lab:
        yield lab


@pytest.fixture(scope="module")
def fleet(bare: Lab) -> Lab:
    """The fleet, after the playbook `site`."""
    started = time.perf_counter()
    bare.play("site")
    print(f"from bare machines to a fleet: {time.perf_counter() - started:.0f} s")
    return bare


@pytest.fixture(scope="module")
def published(bare: Lab, tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """Releases for the fleet."""
    return Releases(bare, tmp_path_factory.mktemp("releases"))


@pytest.fixture
def load(fleet: Lab) -> Iterator[Load]:
    """Jobs that are submitted all the time, until the test asks what became of them."""
    with Load(fleet.machines["desk"]) as running:
        yield running


def play_until_task(lab: Lab, tasks: int, playbook: str, *options: str) -> bool:
    """Kill a playbook at the beginning of its task number `tasks`; whether it ran that long."""
    with lab.start(playbook, *options) as process:
        assert process.stdout is not None
        begun = 0
        for line in process.stdout:
            begun += line.startswith("TASK ")
            if begun == tasks:
                os.killpg(process.pid, signal.SIGKILL)
                return True
    return False


def changed(output: str) -> dict[str, int]:
    """The number of changes on each machine, from the output of a playbook."""
    return {name: int(count) for name, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)}


def check_contained(lab: Lab, published: Releases, release: Release, load: Load, *options: str) -> str:
    """Roll out a bad release: the canary is back at its version, and the others have never had another one."""
    before = versions(lab)
    others = {name: lab.machines[name].show("stockworker@1", "MainPID") for name in WORKERS[1:]}
    output, started = "", 0.0
    with lab.start("rollout", "-e", f"repo_version={published.publish(release)}", *options) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            if line.startswith("TASK [stockworker.edge.worker : Start the workers]"):
                started = started or time.perf_counter()
    print(
        f"{release.version}: from the start of the canary to the end of the play: {time.perf_counter() - started:.0f} s"
    )

    assert process.returncode != 0, output
    assert f"edge-1 did not prove that it works with {release.version}, and is back at" in output
    assert versions(lab) == before
    assert {name: lab.machines[name].show("stockworker@1", "MainPID") for name in WORKERS[1:]} == others
    assert set(load.outcomes()) == {"completed"}
    assert drained(lab) == []
    for worker in WORKERS:
        run_on(lab, worker)
    return output
