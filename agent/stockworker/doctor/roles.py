"""Which parts of the fleet a host has, judged by its units, configuration and files. Pure."""

import re
from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from stockworker.protocol.frozen import dataclass

_WORKER: Final = re.compile(r"stockworker@(.+)\.service")


class PartRole(StrEnum):
    """What a part of the fleet on a host does."""

    WORKER = "worker"
    DISPATCHER = "dispatcher"
    BROKER = "broker"
    CLIENT = "client"
    WEB = "web"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the fleet on this host: an instance of a worker, or the one of another role."""

    role: PartRole
    instance: str | None = None

    @property
    def unit(self) -> str | None:
        """Its unit of systemd; None for a client."""
        match self.role:
            case PartRole.WORKER:
                return f"stockworker@{self.instance}.service"
            case PartRole.BROKER:
                return "mosquitto.service"
            case PartRole.CLIENT:
                return None
            case _:
                return f"stockworker-{self.role}.service"

    def __str__(self) -> str:
        return self.role if self.instance is None else f"{self.role} {self.instance}"


@dataclass(frozen=True, slots=True)
class Traces:
    """What shows the parts of a host.

    Attributes:
        units: names of the units that are enabled, or that systemd has loaded.
        instances: the worker instances that have a configuration file.
        journals: the worker instances that have a journal.
        has_store: whether the dispatcher's store exists.
        has_broker: whether Mosquitto is set up as a broker of the fleet.
        client: the configuration of the commands of this user.
    """

    units: Collection[str] = ()
    instances: Collection[str] = ()
    journals: Collection[str] = ()
    has_store: bool = False
    has_broker: bool = False
    client: Path | None = None


def parts(traces: Traces) -> list[Part]:
    """The parts of a host: the broker first, because all others need it."""
    return list(dict.fromkeys(_parts(traces)))


def _parts(traces: Traces) -> Iterator[Part]:
    if traces.has_broker:
        yield Part(PartRole.BROKER)
    if traces.has_store or "stockworker-dispatcher.service" in traces.units:
        yield Part(PartRole.DISPATCHER)
    named = {found[1] for unit in traces.units if (found := _WORKER.fullmatch(unit))}
    for instance in sorted({*named, *traces.instances, *traces.journals}):
        yield Part(PartRole.WORKER, instance)
    if "stockworker-web.service" in traces.units:
        yield Part(PartRole.WEB)
    if traces.client is not None:
        yield Part(PartRole.CLIENT)
