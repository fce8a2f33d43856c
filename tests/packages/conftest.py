"""Guests with the packages that `make packages` has built."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import site
from tests.harness.guest import RELEASES, Guest, Overlay, Release, base_root

ROOT = Path(__file__).resolve().parents[2]

NewGuest = Callable[..., Guest]
"""Boots a machine over layers, the topmost first; it is gone after the test."""


@pytest.fixture(scope="session")
def packages() -> Path:
    """The packages."""
    assert list((ROOT / "dist").glob("*.deb")), "no packages in dist/: run 'make packages', or 'make test-packages'"
    return ROOT / "dist"


@pytest.fixture(scope="session")
def newer_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same code under a version that has not been."""
    out = tmp_path_factory.mktemp("newer") / "dist"
    build(ROOT, out, "--version", "99.0.0")
    return out


@pytest.fixture(scope="session", params=RELEASES, ids=lambda release: f"debian-{release.number}")
def release(request: pytest.FixtureRequest) -> Release:
    """Each release that the packages are for."""
    found: Release = request.param
    return found


@pytest.fixture(scope="session")
def host(release: Release) -> str:
    """Name of the machine; the names of workers begin with it."""
    return f"debian{release.number}-{os.getpid()}"


@pytest.fixture(scope="session")
def bare(release: Release) -> tuple[Path, ...]:
    """A machine without our packages, but with all that they depend on."""
    return (base_root(release),)


@pytest.fixture(scope="session")
def configured(
    bare: tuple[Path, ...], host: str, packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ...]:
    """A machine on which everything is installed, configured and enabled: an image that has not booted yet."""
    with Overlay(bare, tmp_path_factory.mktemp("configured") / host) as image:
        image.run(*site.install_command(site.offer(image.root, packages)))
        site.set_up(image, host, site.SETTINGS)
    return (image.upper, *bare)


@pytest.fixture
def new_guest(host: str, tmp_path: Path) -> Iterator[NewGuest]:
    """Boots machines."""
    with ExitStack() as stack:

        def boot(layers: tuple[Path, ...]) -> Guest:
            return stack.enter_context(Guest(layers, tmp_path / host, host))

        yield boot


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
