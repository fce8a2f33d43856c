"""The limits of this machine: commits of SQLite, messages through the same broker with TLS, and a bare child process."""

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import uvloop

from stockworker.adapters.mqtt import Delivery, Link, LinkItem, LinkUp
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.sqlite import open_database, transaction
from stockworker.protocol.packet import Packet
from tests.harness.broker import Broker

_ROW = "x" * 300


def sqlite_commits(rows: int, seconds: float = 1.5) -> float:
    """Rows of 300 bytes per second, `rows` in each durable commit."""
    with tempfile.TemporaryDirectory() as folder:
        connection = open_database(
            Path(folder) / "ceiling.sqlite3", application_id=1, migrations=("CREATE TABLE row (body TEXT);",)
        )
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            with transaction(connection):
                connection.executemany("INSERT INTO row VALUES (?)", [(_ROW,)] * rows)
            done += rows
        elapsed = time.perf_counter() - began
        connection.close()
    return done / elapsed


def measure_ceilings() -> dict[str, float]:
    """Each limit, by its title."""
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder)) as broker:
        rate, trips = uvloop.run(mqtt_ceilings(broker, 40_000))
    return {
        "SQLite, 1 row of 300 bytes a commit, rows/s": sqlite_commits(1),
        "SQLite, 64 rows a commit, rows/s": sqlite_commits(64),
        "MQTT with TLS, one client to another, messages/s": rate,
        "MQTT with TLS, one way, p50 ms": median(trips) * 1e3,
        "a child process, one round trip over a socket, p50 ms": median(child_trips(2000)) * 1e3,
    }


_ECHO = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\nwhile b := s.recv(4096): s.send(b)"


def child_trips(count: int) -> list[float]:
    """Times in seconds to send 300 bytes to a child process of Python, and to receive them again."""
    here, there = socket.socketpair()
    body, trips = _ROW.encode(), []
    with here, there:
        command = [sys.executable, "-I", "-c", _ECHO, str(there.fileno())]
        with subprocess.Popen(command, pass_fds=[there.fileno()]) as child:
            there.close()
            for _ in range(count):
                began = time.perf_counter()
                here.sendall(body)
                here.recv(4096)
                trips.append(time.perf_counter() - began)
            here.close()
            child.wait()
    return trips[count // 10 :]  # the first ones wait for its start


class _End:
    """A link that counts messages, and can wait for a number of them."""

    def __init__(self, broker: Broker, name: str, topic: str | None) -> None:
        self.received = 0
        self.up = asyncio.Event()
        self._enough = asyncio.Event()
        self._wanted = 0
        filters = () if topic is None else (topic,)
        settings = LinkSettings(broker.host, broker.port, name, filters, tls=broker.tls("bench"))
        self.link = Link(settings, self._deliver)
        self._pending: list[Delivery] = []

    def _deliver(self, item: LinkItem) -> None:
        if isinstance(item, LinkUp):
            self.up.set()
        elif isinstance(item, Delivery):
            self.received += 1
            self._pending.append(item)
            if len(self._pending) == 1:
                asyncio.get_running_loop().call_soon(self._acknowledge)
            if self.received >= self._wanted:
                self._enough.set()

    def _acknowledge(self) -> None:
        self.link.acknowledge(self._pending)
        self._pending.clear()

    async def wait_for(self, count: int) -> None:
        """Wait until `count` messages have arrived since the start."""
        self._wanted = count
        self._enough.clear()
        if self.received < count:
            await self._enough.wait()


async def mqtt_ceilings(broker: Broker, messages: int) -> tuple[float, list[float]]:
    """Messages of 300 bytes per second from one client to another, and one-way times in seconds, one at a time."""
    sender, receiver = _End(broker, "bench-sender", None), _End(broker, "bench-receiver", "bench/stream")
    packet = Packet("bench/stream", _ROW.encode())
    async with asyncio.TaskGroup() as group:
        for end in (sender, receiver):
            group.create_task(end.link.run())
            await end.up.wait()
        began = time.perf_counter()
        await sender.link.send([packet] * messages)
        await receiver.wait_for(messages)
        rate = messages / (time.perf_counter() - began)
        trips = []
        for number in range(300):
            began = time.perf_counter()
            await sender.link.send([packet])
            await receiver.wait_for(messages + number + 1)
            trips.append(time.perf_counter() - began)
        await sender.link.close()
        await receiver.link.close()
    return rate, trips
