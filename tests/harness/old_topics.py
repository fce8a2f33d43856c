"""The topics of an old worker, on a Mosquitto of their own: its session, and retained messages."""

import json
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_visit import EVERYTHING, NEVER_EXPIRES, Arrival, BrokerVisit
from stockworker.migration.mapping_file import read_mapping
from stockworker.protocol.packet import Packet
from tests.harness.servers import HOST, Server, program

if TYPE_CHECKING:
    from tests.harness.old_queues import OldJob  # as the other kinds of old queues

WORKER: Final = "old-worker-1"
_WINDOW: Final = 65_535


class OldMosquitto(Server):
    """mosquitto as the old guide has it, with room for more than 1,000 messages of a session."""

    name = "mosquitto"
    lines: tuple[str, ...] = ("max_queued_messages 0", "max_inflight_messages 20", "allow_anonymous true")

    @property
    def url(self) -> str:
        return self.url_on(self.port)

    def url_on(self, port: int) -> str:
        return f"mqtt://{HOST}:{port}"

    def _prepare(self) -> None:
        files = (f"persistence_location {self.folder}/", "persistence true", "user root")
        text = "\n".join((f"listener {self.port} {HOST}", *files, *self.lines))
        (self.folder / "mosquitto.conf").write_text(f"{text}\n")

    def _command(self) -> Sequence[str]:
        return [program("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]


def tool(server: Server, name: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Run one of Mosquitto's tools with MQTT 3.1.1, as an old program."""
    command = [program(name), "-h", HOST, "-p", str(server.port), "-V", "311", "-q", "1", *words]
    return subprocess.run(command, check=True, capture_output=True, timeout=60)


def open_session(server: Server, worker: str = WORKER) -> None:
    """What an old worker leaves that has subscribed and stopped."""
    tool(server, "mosquitto_sub", "-i", worker, "-c", "-t", "jobs/#", "-E")


def visit(server: Server, client_id: str, *, keep: bool = False) -> BrokerVisit:
    """A connection of an old program, which acknowledges what it wants."""
    expiry_s = NEVER_EXPIRES if keep else 0
    return BrokerVisit(
        LinkSettings(
            HOST,
            server.port,
            client_id,
            clean_start=not keep,
            session_expiry_s=expiry_s,
            receive_maximum=_WINDOW,
            accepted=EVERYTHING,
        )
    )


def envelope(job: "OldJob") -> bytes:
    """The message of an old producer. A payload that is not JSON makes it malformed."""
    head = {"id": job.number, "type": job.type, "attempts": job.attempts, "scheduled_at": job.scheduled_at}
    return json.dumps(head)[:-1].encode() + b', "payload": ' + job.payload + b"}"


class TopicQueue:
    """The jobs of an old worker.

    Args:
        folder: for the files of the broker.
        retained: the jobs are retained messages, each with a topic of its own; otherwise they wait for a worker.
    """

    options: tuple[str, ...] = ("--preset", "mqtt")
    keeps_moved = False

    def __init__(self, folder: Path, *, retained: bool) -> None:
        self.mapping = read_mapping(None, "mqtt")
        self.server = OldMosquitto(folder / "mosquitto")
        self.retained = retained
        self.url = self.server.url if retained else f"{self.server.url}?session={WORKER}"

    def add(self, jobs: "Iterable[OldJob]") -> None:
        with closing(visit(self.server, "old-producer")) as producer:
            producer.publish(self._packet(job) for job in jobs)

    def _packet(self, job: "OldJob") -> Packet:
        own = f"/{job.number}" if self.retained else ""
        return Packet(f"jobs/queue/{job.priority}/{job.type}{own}", envelope(job), retain=self.retained)

    def there(self) -> list[Arrival]:
        """The jobs that are at the broker, which stay there."""
        with closing(visit(self.server, "reader" if self.retained else WORKER, keep=not self.retained)) as reader:
            if self.retained:
                reader.subscribe(["jobs/#"])
            return reader.arrivals()

    def waiting(self) -> Collection[int]:
        return [json.loads(each.packet.body)["id"] for each in self.there()]

    def take(self) -> int | None:
        """As an old worker: the first job, for good."""
        with closing(visit(self.server, "reader" if self.retained else WORKER, keep=not self.retained)) as worker:
            if self.retained:
                worker.subscribe(["jobs/#"])
            first = next(iter(worker.arrivals()), None)
            if first is None:
                return None
            worker.acknowledge([first])
            if self.retained:
                worker.publish([Packet(first.packet.topic, b"", retain=True)])
        number: int = json.loads(first.packet.body)["id"]
        return number


@contextmanager
def _topics(folder: Path, *, retained: bool) -> Iterator[TopicQueue]:
    queue = TopicQueue(folder, retained=retained)
    queue.server.start()
    try:
        if not retained:
            open_session(queue.server)
        yield queue
    finally:
        queue.server.close()


def session_queue(folder: Path) -> AbstractContextManager[TopicQueue]:
    """The session of an old worker that is stopped."""
    return _topics(folder, retained=False)


def retained_queue(folder: Path) -> AbstractContextManager[TopicQueue]:
    """Retained jobs."""
    return _topics(folder, retained=True)


TOPIC_QUEUES: Final[dict[str, Callable[[Path], AbstractContextManager[TopicQueue]]]] = {
    "mqtt-session": session_queue,
    "mqtt-retained": retained_queue,
}
"""Each kind of old topics: given a folder for its files, yields one that is empty."""
