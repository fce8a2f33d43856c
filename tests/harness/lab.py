"""A fleet of booted machines that Ansible can reach by SSH, in a network of its own, with a repository of packages.

    desk     Debian 12   authority, operator; also has Debian's own Ansible
    hub      Debian 12   broker, dispatcher
    edge-1   Debian 12   worker
    edge-2   Debian 13   worker
    edge-3   Debian 13   worker

The machines are bare: they have SSH, Python and the dependencies of the packages, because the network leads nowhere else.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.harness.guest import RELEASES, Guest, Overlay, Release, base_root, cached, installation, rpm_layer
from tests.harness.network import ADDRESSES, HERE, PrivateNetwork
from tests.harness.publishing import ROOT, Key, publish
from tests.harness.waiting import wait_until

BOOKWORM, TRIXIE = RELEASES


@dataclass(frozen=True, slots=True)
class Kind:
    """What a machine has before any playbook has run.

    Attributes:
        release: of Debian.
        packages: besides those of every machine.
        is_rpm: whether Ansible takes it for a Fedora: its packages come from dnf.
    """

    release: Release
    packages: tuple[str, ...] = ()
    is_rpm: bool = False

    def layers(self) -> tuple[Path, ...]:
        """The layers of its root, the topmost first; created on first use."""
        base = base_root(self.release)
        below = (rpm_layer(self.release), base) if self.is_rpm else (base,)
        needed = (
            "openssh-server",
            "python3-prometheus-client",
            "sudo",
            *self.packages,
            *(() if self.is_rpm else ("nftables", "python3-apt")),
        )
        recipe = ("lab", "fedora" if self.is_rpm else "debian", *(layer.name for layer in below), *needed)
        return cached(self.release, recipe, partial(_make_layer, below, needed, as_fedora=self.is_rpm)), *below


_BOOKWORM, _TRIXIE = Kind(BOOKWORM), Kind(TRIXIE)
MACHINES: Final[Mapping[str, Kind]] = {
    "desk": Kind(BOOKWORM, ("ansible-core", "openssh-client")),
    "hub": _BOOKWORM,
    "edge-1": _BOOKWORM,
    "edge-2": _TRIXIE,
    "edge-3": _TRIXIE,
}
WORKERS: Final = ("edge-1", "edge-2", "edge-3")
DOMAIN: Final = "lab.example"
TOOLS: Final = ROOT / ".venv-ansible" / "bin"

_FEDORA: Final = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=43\nVERSION="43"\nPRETTY_NAME="Fedora Linux 43"\n'
_PORT: Final = 8000
_ADMIN: Final = "admin"
_PLAY_S: Final = 1800.0
"""Longest time of a playbook; only a test that fails waits this long."""

_INVENTORY: Final = """\
all:
  vars:
    ansible_user: admin
    ansible_become: true
    ansible_ssh_private_key_file: {key}
    ansible_ssh_common_args: -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
    ansible_python_interpreter: /usr/bin/python3
    repo_url: http://{here}:{port}
    repo_key: "{{{{ lookup('ansible.builtin.file', '{public}') }}}}"
    worker_settings: {{worker: {{drain_timeout: 5, poll_interval: 1}}}}
    worker_start_timeout_s: 240
    worker_connect_timeout_s: 240
    worker_canary_timeout_s: 120
    worker_steady_s: 3
    dispatcher_steady_s: 3
    broker_hosts: [mq.{domain}, hub.{domain}]
  hosts:
{hosts}
"""


_FLEET: Final = """\
  children:
    authority: {{hosts: {{desk: }}}}
    operator: {{hosts: {{desk: }}}}
    broker: {{hosts: {{hub: }}, vars: {{broker_allowed_networks: [{addresses}]}}}}
    dispatcher: {{hosts: {{hub: }}}}
    workers: {{hosts: {{edge-1: , edge-2: , edge-3: }}}}
    prometheus: {{hosts: {{desk: }}}}
"""
"""The groups of the inventory, after its hosts."""


def address(machine: str, machines: Mapping[str, Kind] = MACHINES) -> str:
    """The address of a machine in the lab's network."""
    return f"10.99.0.{10 + list(machines).index(machine)}"


def _make_layer(below: Sequence[Path], packages: Sequence[str], fresh: Path, *, as_fedora: bool) -> None:
    work = fresh.with_name(f"{fresh.name}.work")
    with Overlay(below, work) as image:
        for step in installation(packages):
            image.run(*step)
        image.run("useradd", "--create-home", "--shell", "/bin/bash", _ADMIN)
        image.run("systemctl", "enable", "systemd-networkd")
        sudo = image.root / "etc" / "sudoers.d" / _ADMIN
        sudo.write_text(f"{_ADMIN} ALL=(ALL) NOPASSWD: ALL\n")
        sudo.chmod(0o440)
        for source in (image.root / "etc" / "apt").glob("sources.list*"):
            image.run("rm", "-rf", f"/etc/apt/{source.name}")  # the network does not lead there
        image.run("mkdir", "/etc/apt/sources.list.d")
        if as_fedora:
            image.run("rm", "/etc/os-release", "/etc/debian_version")
            (image.root / "etc" / "os-release").write_text(_FEDORA)
            (image.root / "etc" / "redhat-release").write_text("Fedora release 43 (Forty Three)\n")
            image.run("mkdir", "-p", "/etc/pki/rpm-gpg", "/etc/yum.repos.d")
    work.joinpath("upper").rename(fresh)
    shutil.rmtree(work)


class Lab:
    """The fleet. It runs while the context is entered; nothing of it remains afterwards.

    Args:
        folder: for all of its files.
        packages: folder of the packages that the repository publishes from the start.
        key: signs the repository.
        kinds: its machines.
        groups: the end of the inventory.
    """

    def __init__(
        self,
        folder: Path,
        packages: Path,
        key: Key,
        *,
        kinds: Mapping[str, Kind] = MACHINES,
        groups: str = _FLEET,
    ) -> None:
        self.folder = folder
        self.machines: dict[str, Guest] = {}
        self.network = PrivateNetwork(f"stockworker-{os.getpid()}")
        self._packages = packages
        self._kinds = kinds
        self._groups = groups
        self._key = key
        self.ssh_key = folder / "ssh"
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder.mkdir(exist_ok=True)
            self.publish(self._packages)
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.ssh_key)]
            subprocess.run(generate, check=True)
            stack.enter_context(self.network)
            stack.enter_context(self._repository_server())
            self._start_all(stack)
            self.inventory.write_text(self._inventory())
            self._install_collection()
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    @property
    def inventory(self) -> Path:
        """The inventory of the fleet."""
        return self.folder / "inventory.yml"

    def publish(self, packages: Path) -> None:
        """Add packages to the repository."""
        publish(packages, self.folder / "repository", self._key, "--url", f"http://{HERE}:{_PORT}")

    def command(self, tool: str, *arguments: str) -> list[str]:
        """The command that runs a tool of Ansible in the network of the lab."""
        environment = ["env", *(f"{name}={value}" for name, value in self.environment().items())]
        return self.network.command(*environment, str(TOOLS / tool), "-i", str(self.inventory), *arguments)

    def environment(self) -> dict[str, str]:
        """The environment variables with which Ansible finds the collection."""
        return {
            "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=20s",
            # Another lab has the same addresses. Its shared connections lead nowhere once it is gone.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }

    def start(self, playbook: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a playbook of the collection."""
        return subprocess.Popen(
            self.command("ansible-playbook", f"stockworker.edge.{playbook}", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            start_new_session=True,
        )

    def try_play(self, playbook: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a playbook of the collection; return its exit status and output."""
        with self.start(playbook, *arguments) as process:
            output, _ = process.communicate(timeout=_PLAY_S)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def try_run(self, tool: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a tool of Ansible; return its exit status and output."""
        return subprocess.run(
            self.command(tool, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PLAY_S,
            cwd=self.folder,
            check=False,
        )

    def play(self, playbook: str, *arguments: str) -> str:
        """Run a playbook that must succeed; return its output."""
        done = self.try_play(playbook, *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def copy_collection(self, folder: Path) -> None:
        """Copy the installed collection."""
        shutil.copytree(self.folder / "collections" / "ansible_collections" / "stockworker" / "edge", folder)

    def _start_all(self, stack: ExitStack) -> None:
        for kind in dict.fromkeys(self._kinds.values()):
            kind.layers()  # one after the other: the first run makes them
        # The threads stay: a machine shuts down when the thread that started it ends (PR_SET_PDEATHSIG).
        threads = stack.enter_context(ThreadPoolExecutor(len(self._kinds)))
        starting = {name: threads.submit(self._start_one, name, kind) for name, kind in self._kinds.items()}
        for start in starting.values():
            if start.exception() is None:
                stack.push(start.result())
        self.machines = {name: start.result() for name, start in starting.items()}

    def _start_one(self, name: str, kind: Kind) -> Guest:
        network = (self.network, address(name, self._kinds))
        folder = self.folder / name
        guest = Guest(kind.layers(), folder, name, network=network, unique_name=f"{self.network.name}-{name}")
        guest.__enter__()
        guest.write("/etc/hosts", self._hosts(name))
        guest.write(f"/home/{_ADMIN}/.ssh/authorized_keys", self.ssh_key.with_suffix(".pub").read_text())
        wait_until(partial(_accepts_ssh, guest), f"{name} accepts SSH", _PLAY_S)
        return guest

    @contextmanager
    def _repository_server(self) -> Iterator[None]:
        command = ["python3", "-m", "http.server", "--bind", HERE, str(_PORT), "-d", str(self.folder / "repository")]
        with (self.folder / "repository.log").open("w") as log:
            server = subprocess.Popen(
                self.network.command("setpriv", "--pdeathsig", "TERM", *command), stdout=log, stderr=log
            )
        try:
            yield
        finally:
            server.terminate()
            server.wait()

    def _inventory(self) -> str:
        hosts = "\n".join(f"    {name}: {{ansible_host: {address(name, self._kinds)}}}" for name in self._kinds)
        public = self.folder / "repository" / "stockworker-archive-keyring.asc"
        machines = _INVENTORY.format(key=self.ssh_key, here=HERE, port=_PORT, public=public, domain=DOMAIN, hosts=hosts)
        return machines + self._groups.format(addresses=ADDRESSES)

    def _hosts(self, name: str) -> str:
        places = {each: address(each, self._kinds) for each in self._kinds}
        known = [f"{place} {each}.{DOMAIN} {each}" for each, place in places.items() if each != name]
        known += [f"{places['hub']} mq.{DOMAIN}"] if "hub" in places else []
        return "\n".join(("127.0.0.1 localhost", f"127.0.1.1 {name}", *known, ""))

    def _install_collection(self) -> None:
        command = [str(TOOLS / "ansible-galaxy"), "collection", "install", str(ROOT / "ansible")]
        command += ["-p", str(self.folder / "collections"), "--force", "--offline"]
        done = subprocess.run(
            command, env={**os.environ, **self.environment()}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def _accepts_ssh(guest: Guest) -> bool:
    return guest.try_run("ss", "-ltnH", "sport", "=", ":22").stdout.strip() != ""
