"""The queues by the names that the command line and the tables use."""

from dataclasses import dataclass, fields
from typing import Final

from bench.peers.external import BatchedPgQueuerPeer, DramatiqPeer, HueyPeer, NatsPeer, PgQueuerPeer, TaskiqPeer
from bench.peers.own import AsyncProduct, Product, SealedProduct
from bench.peers.setup import Setup
from stockworker.config.schema import Handler


@dataclass(frozen=True, slots=True)
class Contestant:
    """A queue, and how it is used.

    Attributes:
        setup: runs it.
        title: for tables.
        only: the only workloads that it runs; all unless given.
        without: workloads that it cannot run.
    """

    setup: type[Setup]
    title: str
    only: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    def can_run(self, name: str, needs: str | None) -> bool:
        """Whether it runs this workload."""
        able = needs is None or needs in self.setup.faults
        return able and name not in self.without and (not self.only or name in self.only)


_DRAINS: Final = frozenset({"drain", "drain-2"})

_ASYNC: Final = Contestant(
    AsyncProduct, "stockworker, async handlers", only=_DRAINS | {"naps", "latency", "killed-draining"}
)
_RUNS_COROUTINES: Final = "concurrency" in {field.name for field in fields(Handler)}

CONTESTANTS: Final[dict[str, Contestant]] = {
    "stockworker": Contestant(Product, "stockworker"),
    **({"stockworker-async": _ASYNC} if _RUNS_COROUTINES else {}),
    "stockworker-sealed": Contestant(SealedProduct, "stockworker, sealed", only=_DRAINS),
    "nats": Contestant(NatsPeer, "NATS JetStream, bare", without=frozenset({"urgent"})),
    "pgqueuer": Contestant(PgQueuerPeer, "pgqueuer"),
    "pgqueuer-250": Contestant(BatchedPgQueuerPeer, "pgqueuer, batches of 250", only=_DRAINS | {"killed-draining"}),
    "dramatiq": Contestant(DramatiqPeer, "dramatiq on RabbitMQ"),
    "huey": Contestant(HueyPeer, "huey on Redis"),
    "taskiq": Contestant(TaskiqPeer, "taskiq on RabbitMQ"),
}
