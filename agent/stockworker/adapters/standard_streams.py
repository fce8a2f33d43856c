"""A standard stream whose reader may have stopped reading."""

import os
import socket
import stat
import struct
from typing import Final, Protocol

_SEND_TIMEOUT: Final = struct.pack("ll", 1, 0)
"""One second, as `struct timeval`."""


class _File(Protocol):
    def fileno(self) -> int: ...


def never_waiting(stream: _File) -> int:
    """A descriptor of the same file, on which a write does not wait for a reader that stopped reading.

    The mode of the stream itself stays: it may be shared with other programs, even with the user's shell.
    """
    descriptor = stream.fileno()
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        with socket.socket(fileno=os.dup(descriptor)) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        return descriptor
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:  # another user's pipe, or no /proc
        return descriptor
