"""apt and dnf, as far as the tests use them, and the machines that have one of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.harness.guest import RELEASES, Guest, Release, base_root, rpm_layer

OURS: Final = (
    "stockworker",
    "stockworker-agent",
    "stockworker-broker",
    "stockworker-dispatcher",
    "stockworker-doc",
    "stockworker-doctor",
    "stockworker-libraries",
    "stockworker-migrate",
    "stockworker-web",
)
_APT: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
_DNF: Final = ("dnf", "-q", "-y")
_LONG_S: Final = 300.0


class Machine(Protocol):
    """A machine that has booted, or an image that has not."""

    @property
    def root(self) -> Path:
        """The root of its files."""

    def run(self, *command: str, timeout_s: float) -> str:
        """Run a command that must succeed; return what it printed."""


@dataclass(frozen=True, slots=True)
class PackageTool:
    """A package manager, described by its commands.

    Attributes:
        suffix: of package files.
        install_command: precedes the names of files; dependencies must be installed already.
        downgrade_command: the same, for a version earlier than the installed one.
        remove_command: precedes the names of packages.
        force_remove_command: the same, although other packages may need these.
        query_command: the same; it prints a line for each, `installed` and the version.
        verify_command: the same; it prints a line for each file that is not as it was shipped.
        enablement_after_removal: whether removing and installing a service leaves it as enabled as it was.
    """

    suffix: str
    install_command: tuple[str, ...]
    downgrade_command: tuple[str, ...]
    remove_command: tuple[str, ...]
    force_remove_command: tuple[str, ...]
    query_command: tuple[str, ...]
    verify_command: tuple[str, ...]
    enablement_after_removal: str

    def install(self, machine: Machine, packages: Path) -> None:
        """Install all packages of a folder, or upgrade to them, without prompts."""
        machine.run(*self.install_command, *self._offer(machine, packages), timeout_s=_LONG_S)

    def downgrade(self, machine: Machine, packages: Path) -> None:
        """Downgrade to an earlier version."""
        machine.run(*self.downgrade_command, *self._offer(machine, packages), timeout_s=_LONG_S)

    def remove(self, machine: Machine) -> None:
        """Remove the packages; configuration and stored data stay."""
        machine.run(*self.remove_command, *OURS, timeout_s=_LONG_S)

    def versions(self, machine: Machine) -> set[str]:
        """The status of each package, such as `installed 0.1.0-0.1`."""
        return set(machine.run(*self.query_command, *OURS, timeout_s=_LONG_S).splitlines())

    def altered(self, machine: Guest) -> list[str]:
        """Files that differ from those in the packages."""
        return [line.split()[-1] for line in machine.try_run(*self.verify_command, *OURS).stdout.splitlines()]

    def _offer(self, machine: Machine, packages: Path) -> list[str]:
        """Put the packages into a folder on the machine; return their paths there."""
        folder = machine.root / "opt" / "packages"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = sorted(packages.glob(f"*.{self.suffix}"))
        for file in files:
            shutil.copy(file, folder)
        return [f"/opt/packages/{file.name}" for file in files]


APT: Final = PackageTool(
    suffix="deb",
    install_command=(*_APT, "install"),
    downgrade_command=(*_APT, "install", "--allow-downgrades"),
    remove_command=(*_APT, "remove"),
    force_remove_command=("dpkg", "--force-depends", "--remove"),
    query_command=("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}\n"),
    verify_command=("dpkg", "--verify"),
    enablement_after_removal="enabled",
)
DNF: Final = PackageTool(
    suffix="rpm",
    install_command=(*_DNF, "install"),
    downgrade_command=(*_DNF, "downgrade"),
    remove_command=(*_DNF, "remove"),
    force_remove_command=("rpm", "--erase", "--nodeps"),
    query_command=("rpm", "-q", "--queryformat", "installed %{VERSION}-%{RELEASE}\n"),
    verify_command=("rpm", "--verify"),
    enablement_after_removal="disabled",
)


@dataclass(frozen=True, slots=True)
class System:
    """A release of Debian that gets packages by one of the tools."""

    release: Release
    tool: PackageTool

    def __str__(self) -> str:
        """A name for tests and machines: debian-12, and debian-12-rpm for the other format."""
        return f"debian-{self.release.number}" + ("" if self.tool is APT else f"-{self.tool.suffix}")

    def layers(self) -> tuple[Path, ...]:
        """The layers of a machine without the packages but with their dependencies, the topmost first."""
        base = base_root(self.release)
        return (base,) if self.tool is APT else (rpm_layer(self.release), base)


WITH_APT: Final = tuple(System(release, APT) for release in RELEASES)
WITH_DNF: Final = tuple(System(release, DNF) for release in RELEASES)
