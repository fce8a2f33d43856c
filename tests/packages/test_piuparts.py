"""Debian's test of package scripts: after installing, removing and purging a package, nothing is left."""

import subprocess
from pathlib import Path

import pytest

from tests.harness.package_tools import WITH_APT, System
from tests.packages.conftest import on

pytestmark = on(*WITH_APT)


@pytest.mark.timeout(600)
def test_piuparts_finds_nothing(bare: tuple[Path, ...], system: System, packages: Path, tmp_path: Path) -> None:
    options = ["--existing-chroot", str(bare[0]), "--distribution", system.release.codename, "--tmpdir", str(tmp_path)]
    options += ["--no-eatmydata", "--no-upgrade-test", "--warn-on-leftovers-after-purge"]
    done = subprocess.run(
        ["piuparts", *options, *sorted(packages.glob("*.deb"))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = [
        line for line in done.stdout.splitlines() if any(word in line for word in (" ERROR: ", " FAIL: ", " WARN: "))
    ]
    assert done.returncode == 0, "\n".join(said)
    assert "PASS: All tests." in done.stdout
