"""Machines with the packages that `make packages` has built."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.booted_machine import BootedMachine
from tests.harness.guest import Guest, Overlay
from tests.harness.package_tools import System
from tests.harness.publishing import ROOT, Key, make_key

NewGuest = Callable[..., Guest]
"""Boots a machine over layers, the topmost first; it is removed after the test."""


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder of the packages."""
    assert list((ROOT / "dist").glob("*.deb")), "no packages in dist/: run 'make packages', or 'make test-packages'"
    return ROOT / "dist"


@pytest.fixture(scope="session")
def newer_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same code as packages of a later version."""
    out = tmp_path_factory.mktemp("newer") / "dist"
    build(ROOT, out, "--version", "99.0.0")
    return out


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The key that signs the repository."""
    return make_key(tmp_path_factory.mktemp("keys") / "ours")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """The key of another publisher, or the next key."""
    return make_key(tmp_path_factory.mktemp("keys") / "other")


@pytest.fixture(scope="session")
def expired_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """An expired key."""
    return make_key(tmp_path_factory.mktemp("keys") / "expired", expired=True)


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> System:
    """The releases of Debian to test: a module may select some of them (`on`)."""
    found: System = request.param
    return found


def on(*systems: System) -> pytest.MarkDecorator:
    """Run the tests on each of the systems."""
    return pytest.mark.parametrize("system", systems, indirect=True, scope="session", ids=str)


@pytest.fixture(scope="session")
def host(system: System) -> str:
    """Name of the machine; the names of workers begin with it."""
    return f"{system}-{os.getpid()}"


@pytest.fixture(scope="session")
def bare(system: System) -> tuple[Path, ...]:
    """The layers of a machine without the packages but with their dependencies."""
    return system.layers()


@pytest.fixture(scope="session")
def configured(
    system: System, bare: tuple[Path, ...], host: str, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """The layers of a machine on which everything is installed, configured and enabled; it has not booted yet."""
    with Overlay(bare, tmp_path_factory.mktemp("configured") / host) as image:
        system.tool.install(image, packages)
        site.set_up(image, host, site.SETTINGS)
    return (image.upper, *bare)


@pytest.fixture
def new_guest(host: str, tmp_path: Path) -> Iterator[NewGuest]:
    """Boots machines."""
    with ExitStack() as stack:

        def boot(layers: tuple[Path, ...]) -> Guest:
            return stack.enter_context(Guest(layers, tmp_path / host, host))

        yield boot


def exposure(machine: BootedMachine, unit: str, *options: str) -> float:
    """The exposure level of a unit, from `systemd-analyze security`: lower is better."""
    said = machine.run("systemd-analyze", "security", "--no-pager", *options, unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def build(source: Path, out: Path, *options: str) -> None:
    """Build the packages of a source tree, as `make packages` does."""
    tools = ROOT / ".venv-packaging" / "bin"
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": f"{source / 'packaging'}:{source / 'agent'}",
    }
    command = [sys.executable, "-m", "builder", "--out", str(out), *options]
    done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
