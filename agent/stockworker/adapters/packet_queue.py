"""A queue of packets from one process to another one. Either of them can take a packet out, and each packet is taken once."""

# Both processes have the reading end of one socket pair (SOCK_SEQPACKET), so the kernel decides who gets a packet. What
# the writer can take back, the reader has not begun. In the other direction the reader rings: it sends a byte to wake the
# writer, which therefore need not watch any other channel.

import socket
from contextlib import suppress
from typing import Final

_LONGEST: Final = 64 * 1024
_WAKE_UP: Final = b"!"


class QueueWriter:
    """The end of the process that fills the queue. It never waits."""

    def __init__(self) -> None:
        self._own, self._other = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._own.setblocking(False)  # noqa: FBT003 (it has no name)

    @property
    def reading_end(self) -> int:
        """The descriptor that the reader needs a copy of."""
        return self._other.fileno()

    @property
    def bell(self) -> int:
        """The descriptor that becomes readable when the reader rings."""
        return self._own.fileno()

    def put(self, packet: bytes) -> bool:
        """Append a packet; return False if the queue is full."""
        try:
            self._own.send(packet)
        except (BlockingIOError, ConnectionError):  # full, or the reader has ended
            return False
        return True

    def take_back(self) -> list[bytes]:
        """Take out everything that the reader has not taken."""
        taken = []
        with suppress(OSError):
            while packet := self._other.recv(_LONGEST, socket.MSG_DONTWAIT):
                taken.append(packet)
        return taken

    def close(self) -> None:
        """Close both descriptors of this process."""
        self._own.close()
        self._other.close()


class QueueReader:
    """The end of the process that empties the queue."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def take_now(self) -> bytes | None:
        """The next packet; None if the queue is empty, b"" if the writer has closed it."""
        try:
            return self._socket.recv(_LONGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def take(self) -> bytes:
        """Wait for the next packet; b"" if the writer has closed the queue."""
        return self._socket.recv(_LONGEST)

    def ring(self) -> None:
        """Wake the writer."""
        with suppress(OSError):  # it was woken often enough, or has ended
            self._socket.send(_WAKE_UP, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close the descriptor."""
        self._socket.close()
