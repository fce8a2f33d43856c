"""A network between a service and the broker that can delay, drop, cut and forget."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536
_PUBACK: Final = 0x40
_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: closing sends a reset, socket(7)."""


class _Gate:
    """One direction of all connections."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.delay_s = 0.0
        self.withholds_confirmations = False

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets = _Packets()
        while chunk := await reader.read(_CHUNK_BYTES):
            await self.open.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.withholds_confirmations or packets.partial:
                confirmed = self.withholds_confirmations
                chunk = b"".join(packet for packet in packets.feed(chunk) if not (confirmed and packet[0] == _PUBACK))
            writer.write(chunk)
            await writer.drain()


class _Packets:
    """Cuts a stream into MQTT packets (MQTT 5.0, section 2.1); the stream must start with a packet.

    Attributes:
        partial: the beginning of a packet whose end has not arrived.
    """

    def __init__(self) -> None:
        self.partial = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        self.partial += chunk
        packets = []
        while (size := self._size()) is not None and size <= len(self.partial):
            packets.append(self.partial[:size])
            self.partial = self.partial[size:]
        return packets

    def _size(self) -> int | None:
        """The size of the first packet: a byte, the length of the rest in base 128, the rest."""
        length = 0
        for index, byte in enumerate(self.partial[1:5]):
            length |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return 2 + index + length
        return None


class Proxy:
    """Forwards connections from a port of its own to the broker, in a thread of its own.

    All methods are thread-safe, and take effect before they return.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._forgotten: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._await(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def delay(self, delay_s: float) -> None:
        """Delay everything, in both directions."""

        def slow_down() -> None:
            self._up.delay_s = self._down.delay_s = delay_s

        self._do(slow_down)

    def swallow(self, *, up: bool = True, down: bool = True) -> None:
        """Stop forwarding to the broker (`up`) or from it (`down`): TCP buffers the data, and neither end notices."""

        def shut() -> None:
            for gate, shuts in ((self._up, up), (self._down, down)):
                if shuts:
                    gate.open.clear()

        self._do(shut)

    def withhold_confirmations(self) -> None:
        """Forward everything from the broker but PUBACK. For connections without TLS that are idle at this moment."""

        def withhold() -> None:
            self._down.withholds_confirmations = True

        self._do(withhold)

    def heal(self) -> None:
        """Forward what was held back, and everything else, without delay."""

        def restore() -> None:
            for gate in (self._up, self._down):
                gate.delay_s = 0.0
                gate.withholds_confirmations = False
                gate.open.set()

        self._do(restore)

    def reset(self) -> None:
        """Reset every connection at both ends."""
        self._do(lambda: self._end(both=True))

    def forget(self) -> None:
        """Reset every connection at the broker's end only: the service keeps a dead connection."""

        def forget() -> None:
            self._forgotten.update(self._connections)
            self._end(both=False)

        self._do(forget)

    async def _open(self) -> None:
        self._up, self._down = _Gate(), _Gate()
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _close(self) -> None:
        self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = [writer]
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._connect(task, reader, writer)
        finally:
            self._forgotten.discard(task)
            for end in self._connections.pop(task):
                end.transport.abort()

    async def _connect(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_broker, to_broker = await asyncio.open_connection(_HOST, self._target_port)
        self._connections[task].append(to_broker)
        ways = {
            asyncio.create_task(self._up.pass_on(reader, to_broker)),
            asyncio.create_task(self._down.pass_on(from_broker, writer)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        while task in self._forgotten and await reader.read(_CHUNK_BYTES):
            pass  # no answer, until the service closes the connection

    def _end(self, *, both: bool) -> None:
        for ends in self._connections.values():
            for writer in ends if both else ends[1:]:
                if writer.is_closing():
                    continue  # it was reset before
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                writer.transport.abort()

    def _do(self, act: Callable[[], None]) -> None:
        async def run() -> None:
            act()

        self._await(run())

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
