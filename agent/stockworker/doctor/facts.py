"""What `stockworker doctor` learns about a host. Values only: `probes` reads them, and `judgement` and `units` judge them."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class NameFacts:
    """How the name of the broker resolves.

    Attributes:
        host: the name or address in the configuration.
        addresses: what it resolves to.
        took_s: how long that took.
        error: why it does not resolve.
    """

    host: str
    addresses: tuple[str, ...] = ()
    took_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """The clock of the host.

    Attributes:
        synchronized: whether time servers set it; None if systemd does not know.
        ahead_s: how far the dispatcher's clock is ahead of it; None if it did not send its time.
    """

    synchronized: bool | None = None
    ahead_s: float | None = None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk of a store.

    Attributes:
        key: the configuration key that names the store.
        folder: the folder of the store.
        free_bytes: free for its user.
        total_bytes: its size.
        least_bytes: with less free space, the service works only in part.
        free_files: how many files can still be created; None if the file system has no such limit.
        read_only: whether it is mounted read-only.
    """

    key: str
    folder: Path
    free_bytes: int
    total_bytes: int
    least_bytes: int
    free_files: int | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """Versions of the parts of the fleet.

    Attributes:
        own: of the code on this host.
        dispatcher: of the running dispatcher.
        broker: of Mosquitto on this host.
        workers: of each worker that is online.
    """

    own: str
    dispatcher: str | None = None
    broker: str | None = None
    workers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit of systemd.

    Attributes:
        name: such as stockworker@1.service.
        properties: as `systemctl show` prints them.
        shipped: the text of the unit file, or of the sandbox, as its package has it.
        open_files: how many files its main process has open; None if that can't be read.
    """

    name: str
    properties: Mapping[str, str]
    shipped: str = ""
    open_files: int | None = None

    def value(self, name: str) -> str:
        """A property; empty if it is not known."""
        return self.properties.get(name, "")

    def number(self, name: str) -> int | None:
        """A property that is a number; None without a limit, or if it is not known."""
        text = self.value(name)
        return int(text) if text.isdecimal() and int(text) < _INFINITY else None


_INFINITY = 2**64 - 1
"""systemd's number for `infinity`."""
