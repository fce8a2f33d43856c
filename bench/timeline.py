"""The timeline of one job on an idle system: when each of its messages passes the broker, and when its handler runs.

An observer reads all messages of the fleet. So a moment "at the broker" has one delivery of the broker in it. The handler
and the submitting process note their own moments. All of them read the same clock. Nothing inside the product is touched.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.moments import medians
from bench.peers.own import Product
from bench.peers.setup import Driver
from stockworker.adapters import clock
from stockworker.adapters.mqtt import Delivery, Link, LinkItem, LinkUp
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.broker.acl import acl

_OBSERVER: Final = "observer"
_GAP_S: Final = 0.05
_WARM_UP: Final = 20
_AT_BROKER: Final = {
    "queue": "the submission is at the broker",
    "receipt": "the receipt is at the broker",
    "assign": "the assignment is at the broker",
    "report": "the report is at the broker",
    "notice": "the notice to the client is at the broker",
    "completed": "the public notice is at the broker",
    "ack": "the acknowledgement of the report is at the broker",
    "request": "a request of the worker is at the broker",
}
"""Second level of a topic to the moment."""


class ObservedProduct(Product):
    """A fleet with an observer that may read every message."""

    def _fleet_options(self) -> Mapping[str, Any]:
        rules = self.folder / "observed.acl"
        rules.write_text(f"{acl(operators=('operator',), clients=('client',))}\nuser {_OBSERVER}\ntopic read #\n")
        return {"broker_changes": {"acl_file": str(rules)}}


async def _observe(setup: ObservedProduct, driver: Driver, jobs: int) -> tuple[dict[str, Any], list[tuple[float, str]]]:
    """Let the driver submit jobs one at a time; return its moments, and those of all messages with their topics."""
    broker = setup.fleet.broker
    seen: list[tuple[float, str]] = []
    up = asyncio.Event()

    def take(item: LinkItem) -> None:
        if isinstance(item, LinkUp):
            up.set()
        elif isinstance(item, Delivery):
            seen.append((clock.monotonic(), item.packet.topic))
            link.acknowledge([item])

    link = Link(LinkSettings(broker.host, broker.port, f"{_OBSERVER}-1", ("#",), tls=broker.tls(_OBSERVER)), take)
    running = asyncio.create_task(link.run())
    await up.wait()
    answer = await asyncio.to_thread(driver.ask, "latency", first=0, count=jobs + _WARM_UP, gap_s=_GAP_S)
    await asyncio.sleep(_GAP_S)
    await link.close()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return answer, seen


def measure_timeline(jobs: int = 200) -> tuple[dict[str, float], dict[str, float]]:
    """The moments of one job in microseconds, and the number of messages of each kind per job."""
    with tempfile.TemporaryDirectory() as folder:
        setup = ObservedProduct(Path(folder, "setup"))
        try:
            setup.open()
            setup.start_worker()
            answer, seen = uvloop.run(_observe(setup, setup.driver, jobs))
            records = setup.records.all()
        finally:
            setup.close()
    began = answer["began"][_WARM_UP:]
    moments = [(at, "`submit()` returns") for at in answer["confirmed"][_WARM_UP:]]
    moments += [(at, "`result()` returns") for at in answer["ended"][_WARM_UP:]]
    for record in records:
        moments += [(record.started, "the handler starts"), (record.ended, "the handler ends")]
    levels = [(at, topic.split("/")[1]) for at, topic in seen if topic.startswith("jobs/")]
    moments += [(at, _AT_BROKER[level]) for at, level in levels if level in _AT_BROKER]
    counts = Counter(topic.split("/")[0] + "/" + topic.split("/")[1] for at, topic in seen if at >= began[0])
    return medians(began, moments), {topic: count / len(began) for topic, count in sorted(counts.items())}
