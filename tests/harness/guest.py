"""A booted Debian in a container, with systemd, over a cached root that it can't change.

Needs root, `systemd-nspawn` and `debootstrap`. A guest has a cgroup of its own, so that several can run the same units side
by side. Its only network is its own loopback, unless it is on a `tests.harness.network.PrivateNetwork`.
"""

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.harness.booted_machine import CLEAN, PATIENCE_S, BootedMachine
from tests.harness.network import PrivateNetwork
from tests.harness.waiting import wait_until

CACHE: Final = Path("/var/tmp/stockworker-roots")  # noqa: S108 (outlives a reboot; root's alone)
_ARCHIVE: Final = "http://deb.debian.org/debian"
_SYSTEM: Final = ("dbus", "iproute2", "systemd", "systemd-sysv", "udev")
_DEPENDENCIES: Final = (
    "mosquitto",
    "python3",
    "python3-aiohttp",
    "python3-cryptography",
    "python3-jinja2",
    "python3-yaml",
)
"""Dependencies of the packages: a guest has no network to fetch them from."""

_RPM: Final = ("dnf", "rpm")
_AS_RPM: Final = {
    "mosquitto": "mosquitto",
    "python3": "python3",
    "python3-aiohttp": "python3-aiohttp",
    "python3-cryptography": "python3-cryptography",
    "python3-jinja2": "python3-jinja2",
    "python3-pyyaml": "python3-yaml",
    "systemd": "systemd",
    "util-linux": "util-linux",
}
"""Dependencies of the packages by their names in .rpm distributions, with the Debian package that provides each."""

_STAND_IN: Final = """\
Name: debian
Version: {}
Release: 1
Summary: Names the Debian packages of this machine to rpm
License: various
BuildArch: noarch
Provides: system-release
{}

%description
Lets rpm resolve dependencies on Debian packages.

%files
"""

_LONG_S: Final = 900.0

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NEW_NETWORK: Final = 0x40000000
"""CLONE_NEWNET, from linux/sched.h: a namespace of this kind. The module `os` has it from Python 3.12 on."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of Debian, with its version of systemd."""

    number: int
    codename: str
    systemd: int


RELEASES: Final = (Release(12, "bookworm", 252), Release(13, "trixie", 257))


def base_root(release: Release) -> Path:
    """The root of a release with the dependencies of the packages; created on first use (about a minute)."""
    return cached(release, (*_SYSTEM, *_DEPENDENCIES), partial(_make_root, release))


def rpm_layer(release: Release) -> Path:
    """The layer above `base_root` for .rpm packages: rpm, dnf, and a database of the installed packages."""
    return cached(release, ("over", base_root(release).name, *_RPM, *_AS_RPM), partial(_make_rpm_layer, release))


def cached(release: Release, recipe: Sequence[str], make: Callable[[Path], None]) -> Path:
    """The folder that `make` has filled: once for each recipe, also if several processes ask at the same time."""
    folder = CACHE / f"{release.codename}-{hashlib.sha256(' '.join(recipe).encode()).hexdigest()[:12]}"
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
            make(fresh)
            fresh.rename(folder)
    return folder


def _make_root(release: Release, fresh: Path) -> None:
    _execute(["debootstrap", "--variant=minbase", f"--include={','.join(_SYSTEM)}", release.codename, fresh, _ARCHIVE])
    for step in installation(_DEPENDENCIES):
        _execute(["chroot", fresh, *CLEAN, *step])
    (fresh / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")


def _make_rpm_layer(release: Release, fresh: Path) -> None:
    work = fresh.with_name(f"{fresh.name}.work")
    with Overlay((base_root(release),), work) as image:
        macros = image.root / "etc" / "rpm" / "macros"
        macros.parent.mkdir()
        macros.write_text("%_dbpath /var/lib/rpm\n")  # the default of every distribution but Debian 12
        for step in installation(_RPM):
            image.run(*step)
        show = ("dpkg-query", "-W", "-f", "${source:Upstream-Version}")
        provided = [f"Provides: {name} = {image.run(*show, deb)}" for name, deb in _AS_RPM.items()]
        (image.root / "root" / "debian.spec").write_text(_STAND_IN.format(release.number, "\n".join(provided)))
        image.run("rpmbuild", "-bb", "--quiet", "--define", "_topdir /root/rpm", "/root/debian.spec")
        image.run("dnf", "install", "-q", "-y", f"/root/rpm/RPMS/noarch/debian-{release.number}-1.noarch.rpm")
    work.joinpath("upper").rename(fresh)
    shutil.rmtree(work)


def installation(packages: Sequence[str]) -> list[tuple[str, ...]]:
    """The commands that install from the archive, on a root that has not booted."""
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q")
    return [(*apt, "update"), (*apt, "install", "-y", "--no-install-recommends", *packages), (*apt, "clean")]


def _execute(command: Sequence[str | Path]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONG_S, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


class Overlay:
    """A writable root over read-only layers (the topmost first); `upper` has what was written."""

    def __init__(self, layers: Sequence[Path], folder: Path) -> None:
        self._layers = layers
        self._work = folder / "work"
        self.upper = folder / "upper"
        self.root = folder / "root"

    def __enter__(self) -> Self:
        for each in (self.upper, self._work, self.root):
            each.mkdir(parents=True)
            each.chmod(0o755)  # the guest's users enter through it
        layers = ":".join(map(str, self._layers))
        options = f"lowerdir={layers},upperdir={self.upper},workdir={self._work}"
        _execute(["mount", "-t", "overlay", "-o", options, "overlay", self.root])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _execute(["umount", "--lazy", self.root])

    def run(self, *command: str, timeout_s: float = _LONG_S) -> str:
        """Run a command in a root that has not booted: without services and without /proc."""
        done = subprocess.run(
            ["chroot", self.root, *CLEAN, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}"
        return done.stdout


class Guest(BootedMachine):
    """A machine that boots when the context is entered, and is removed when it is left.

    Args:
        layers: of its root, the topmost first.
        folder: for what it writes.
        name: its host name.
        network: with the address of the machine there; without it, the machine has only its loopback.
        unique_name: for its cgroup, if other machines may have the same host name.
    """

    def __init__(
        self,
        layers: Sequence[Path],
        folder: Path,
        name: str,
        *,
        network: tuple[PrivateNetwork, str] | None = None,
        unique_name: str | None = None,
    ) -> None:
        super().__init__(name)
        self._overlay = Overlay(layers, folder)
        self._console = folder / "console"
        self._network = network
        self._unique_name = unique_name or name
        self._exits = ExitStack()
        self._running = ExitStack()
        self._leader = 0

    @property
    def root(self) -> Path:
        """Where its files are."""
        return self._overlay.root

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._overlay)
            self.write("/etc/hostname", f"{self.name}\n")
            if self._network is not None:
                network, address = self._network
                self.write("/etc/systemd/network/10-host0.network", network.settings(address))
            self._power_on()
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
        self._exits.close()

    def power_cycle(self) -> None:
        """Shut the machine down and boot it again, with its files."""
        self._running.close()
        self._power_on()

    def command(self, *command: str) -> list[str]:
        """The command that runs a command inside, as root."""
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*enter, *CLEAN, "TERM=dumb", *command]

    def join_network(self) -> None:
        """Move the calling thread, and the threads that it starts, to the network of the guest."""
        with Path(f"/proc/{self._leader}/ns/net").open() as network:
            if _LIBC.setns(network.fileno(), _NEW_NETWORK) == -1:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), f"setns to the network of {self.name}")

    def try_run(self, *command: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def _power_on(self) -> None:
        with ExitStack() as stack:
            nspawn = self._start(stack)
            wait_until(lambda: self._find_leader(nspawn), f"{self.name} starts", PATIENCE_S)
            wait_until(self.has_booted, f"{self.name} boots: {self._said()}", PATIENCE_S)
            self._running = stack.pop_all()

    def _start(self, stack: ExitStack) -> "subprocess.Popen[bytes]":
        command = ["systemd-nspawn", "-q", "-D", str(self.root), "-M", self.name, "--register=no"]
        command += ["--link-journal=no", "--console=pipe", "--boot"]
        groups: list[Path] = []
        if not Path("/run/systemd/system").exists():
            # Without a systemd around it all guests would share the caller's cgroup.
            command.insert(1, "--keep-unit")
            groups = _make_cgroups(self._unique_name)
        if self._network is None:
            command.append("--private-network")
        else:
            command = self._network[0].command(*command, f"--network-bridge={self._network[0].bridge}")
        # It shuts down when the test process exits, for any reason.
        enter = 'for group in $GROUPS_; do echo $$ > $group/cgroup.procs; done; exec setpriv --pdeathsig TERM "$@"'
        console = stack.enter_context(self._console.open("wb"))
        stack.callback(_remove_cgroups, groups)
        nspawn = subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "GROUPS_": " ".join(map(str, groups))},
        )
        stack.callback(self._halt, nspawn)
        return nspawn

    def _find_leader(self, nspawn: "subprocess.Popen[bytes]") -> bool:
        assert nspawn.poll() is None, self._said()
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        found = [pid for pid in children if _name_of(pid) == "systemd"]
        self._leader = int(found[0]) if found else 0
        return bool(found)

    def _halt(self, nspawn: "subprocess.Popen[bytes]") -> None:
        nspawn.terminate()  # the guest shuts down
        try:
            nspawn.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.kill(self._leader or nspawn.pid, signal.SIGKILL)
            nspawn.wait()

    def _said(self) -> str:
        return self._console.read_text(errors="replace")[-2000:] if self._console.exists() else ""


def _name_of(pid: str) -> str:
    """The name of a process; empty once it has exited, as the helpers of nspawn soon do."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _make_cgroups(name: str) -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    tops = [Path(where) for _, where, kind, options, *_ in mounts if kind == "cgroup2" or "name=systemd" in options]
    groups = [top / f"stockworker-{name}" for top in tops]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def _remove_cgroups(groups: Sequence[Path]) -> None:
    for kill in (group / "cgroup.kill" for group in groups):  # cgroups(7): where it is of version 2
        if kill.exists():
            kill.write_text("1")  # an nspawn that is stopped before it has begun leaves its guest behind
    for group in groups:
        for folder, _, _ in os.walk(group, topdown=False):
            wait_until(partial(_remove, Path(folder)), f"{folder} is empty")


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
