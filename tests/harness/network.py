"""A network of booted machines that leads nowhere else: a bridge in a network namespace. Needs root and `iproute2`."""

import json
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

HERE: Final = "10.99.0.1"
"""The address of programs that the caller starts in the network, see `PrivateNetwork.command`."""

ADDRESSES: Final = "10.99.0.0/24"
"""The addresses of the network."""

_SETTINGS: Final = """\
[Match]
Name=host0

[Network]
Address={}/24
LinkLocalAddressing=no
"""


@dataclass(frozen=True, slots=True)
class PrivateNetwork:
    """The network; it exists while the context is entered.

    Attributes:
        name: of the namespace.
        bridge: the interface that connects the machines.
    """

    name: str
    bridge: str = "br0"

    def __enter__(self) -> Self:
        _run("ip", "netns", "add", self.name)
        for command in (
            ("link", "set", "lo", "up"),
            ("link", "add", self.bridge, "type", "bridge"),
            ("address", "add", f"{HERE}/24", "dev", self.bridge),
            ("link", "set", self.bridge, "up"),
        ):
            self._ip(*command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _run("ip", "netns", "delete", self.name)

    def command(self, *command: str) -> list[str]:
        """The command that runs a command in the network. Not `ip netns exec`, because that mounts another /sys."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def settings(self, address: str) -> str:
        """The configuration of systemd-networkd for a machine."""
        return _SETTINGS.format(address)

    def add_address(self, address: str) -> None:
        """Give the caller a second address in the network.

        Args:
            address: with the length of its prefix, such as 10.98.0.1/24.
        """
        self._ip("address", "add", address, "dev", self.bridge)

    def set_cable(self, port: int, state: str) -> None:
        """Unplug the cable of a machine (`down`) or plug it in (`up`).

        Args:
            port: index of the bridge's end of the cable; the machine has it in /sys/class/net/host0/iflink.
            state: `down` or `up`.
        """
        (interface,) = [link["ifname"] for link in json.loads(self._ip("-json", "link")) if link["ifindex"] == port]
        self._ip("link", "set", interface, state)

    def _ip(self, *arguments: str) -> str:
        return _run(*self.command("ip", *arguments))


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
