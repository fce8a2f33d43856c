"""A service without a broker: its real turns and machine, beside a link, a store and an executor that record what it does.

Every step has its place in one list. So a test sees which step came first, and that no step was left out.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeVar

import pytest

from stockworker.adapters.mqtt import Delivery, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.dispatcher.effects import Save
from stockworker.protocol import codec
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet
from stockworker.shell import service as shell
from stockworker.shell.service import Service
from stockworker.worker.effects import Entry
from tests.harness.memory_store import MemoryJobStore
from tests.harness.waiting import until
from tests.harness.working import MemoryJournal

MessageT = TypeVar("MessageT")


class Steps:
    """What a service has done, in order: `(kind, what)`.

    Attributes:
        links: each link that the service has made; it makes one.
        disk: while it is not set, no commit ends.
        broken: what the next commit raises.
    """

    def __init__(self) -> None:
        self.all: list[tuple[str, object]] = []
        self.links: list[RecordingLink] = []
        self.disk = Event()
        self.disk.set()
        self.broken: Exception | None = None

    def note(self, kind: str, what: object = None) -> None:
        self.all.append((kind, what))

    def of(self, *kinds: str) -> list[tuple[str, object]]:
        return [step for step in self.all if step[0] in kinds]

    def kinds(self, *kinds: str) -> list[str]:
        """The kinds of the steps of these kinds, each once where it is repeated."""
        found = [kind for kind, _ in self.of(*kinds)]
        return [kind for place, kind in enumerate(found) if not place or found[place - 1] != kind]

    def sent(self, kind: type[MessageT]) -> list[MessageT]:
        messages = [codec.decode(packet) for step, packet in self.all if step == "send" and isinstance(packet, Packet)]
        return [message for message in messages if isinstance(message, kind)]

    def commit(self) -> None:
        """What a store does before it writes."""
        self.note("commit begins")
        assert self.disk.wait(60)
        if self.broken is not None:
            raise self.broken

    async def until_sent(self, kind: type[MessageT], times: int = 1) -> MessageT:
        """Wait until messages of this kind were sent; return the last one."""
        await until(lambda: len(self.sent(kind)) >= times, f"{kind.__name__} is sent")
        return self.sent(kind)[-1]

    async def until_noted(self, kind: str) -> None:
        await until(lambda: bool(self.of(kind)), f"the step {kind!r}")

    @property
    def link(self) -> "RecordingLink":
        return self.links[0]


class RecordingLink:
    """Is connected, and records what it must do.

    Attributes:
        unreachable: messages to these topics reach no subscriber.
        refusal: instead of a connection.
    """

    give_up_at = None

    def __init__(self, steps: Steps, settings: LinkSettings, deliver: Callable[[LinkItem], None]) -> None:
        self.steps = steps
        self.settings = settings
        self.deliver = deliver
        self.unreachable: set[str] = set()
        self.refusal: Exception | None = None
        self._packet_ids = 0
        self._closed = asyncio.Event()
        steps.links.append(self)

    def receive(self, *messages: Message | Packet) -> list[Packet]:
        """Messages arrive; return their packets."""
        packets = [each if isinstance(each, Packet) else codec.encode(each) for each in messages]
        for packet in packets:
            self._packet_ids += 1
            self.deliver(Delivery(packet, self._packet_ids, 1))
        return packets

    async def run(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.deliver(LinkUp())
        await self._closed.wait()

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.steps.note("acknowledge", delivery.packet)

    async def send(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self.steps.note("send", packet)
            if packet.topic in self.unreachable:
                self.deliver(PublishRefused(packet, NO_MATCHING_SUBSCRIBERS))

    def renew(self, settings: LinkSettings) -> None:
        self.steps.note("renew", settings)

    async def drain(self, _timeout_s: float) -> bool:
        return True

    async def close(self) -> None:
        self.steps.note("link closed")
        self._closed.set()


class RecordingJobStore(MemoryJobStore):
    """Records its commits."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def commit(self, saves: Iterable[Save]) -> Mapping[State, int]:
        self._steps.commit()
        pruned = super().commit(saves)
        self._steps.note("commit")
        return pruned

    def close(self) -> None:
        self._steps.note("store closed")


class RecordingJournal(MemoryJournal):
    """Records its commits.

    Attributes:
        free: bytes on its disk.
    """

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps
        self.free = 1024**4

    def commit(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self._steps.commit()
        super().commit(entries)
        self._steps.note("commit", tuple(type(entry).__name__ for entry in entries))

    def free_bytes(self) -> int:
        return self.free

    def close(self) -> None:
        self._steps.note("store closed")


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Services get a recording link."""
    steps = Steps()

    def connect(settings: LinkSettings, deliver: Callable[[LinkItem], None]) -> RecordingLink:
        return RecordingLink(steps, settings, deliver)

    monkeypatch.setattr(shell, "Link", connect)
    yield steps
    steps.disk.set()  # no thread may wait for it longer than the test


async def play(
    service: Service[Any, Any], story: Callable[[], Coroutine[Any, Any, None]], *, stop: bool = True
) -> None:
    """Run a service during a story. Then stop it in good order, or else end it as a failure of another part does."""
    running = asyncio.create_task(service.run())
    telling = asyncio.create_task(story())
    await asyncio.wait({running, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    await asyncio.wait({telling})
    if not telling.cancelled():
        if not running.done():
            service.stop() if stop and telling.exception() is None else running.cancel()
            await asyncio.wait({running}, timeout=30)
        telling.result()
    if stop or not running.cancelled():
        running.result()
