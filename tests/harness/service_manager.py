"""A replacement for systemd: sd_notify(3) over a real socket, and a watchdog that only records."""

import re
import socket
import threading
from types import TracebackType
from typing import Self

from stockworker.adapters import clock
from tests.harness.waiting import TIMEOUT_S, wait_until

_PING = "WATCHDOG=1"
_TRIGGER = "WATCHDOG=trigger"
_END = b"END"


class ServiceManager:
    """Receives the notifications of one service, in a thread of its own, so that the service never blocks.

    Args:
        watchdog_s: the longest time between two pings; nothing happens when the service exceeds it.
    """

    def __init__(self, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self._received: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # to a name that the kernel chooses, unix(7); a path may be too long
        self._address = self._socket.getsockname()
        self._thread = threading.Thread(target=self._listen, name="service manager", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(_END, self._address)
        self._thread.join()
        self._socket.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for the service."""
        name = self._address.replace(b"\0", b"@").decode()
        return {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(self.watchdog_s * 1_000_000))}

    @property
    def assignments(self) -> list[str]:
        """All `NAME=value` lines that the service has sent, in order."""
        return [line for _at, text in self._received for line in text.splitlines()]

    @property
    def status(self) -> str:
        """The status text that `systemctl status` would show."""
        lines = [line for line in self.assignments if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    @property
    def pings(self) -> int:
        """The number of watchdog pings."""
        return self.assignments.count(_PING)

    @property
    def silent_s(self) -> float:
        """The time since the last ping, in seconds; READY=1 counts as a ping."""
        fed = self._fed()
        return clock.monotonic() - fed[-1] if fed else 0.0

    @property
    def would_restart(self) -> bool:
        """Whether systemd would restart the service now: its pings stopped, or it asked for a restart."""
        signs = [line for line in self.assignments if line in {_PING, _TRIGGER}]
        return self.silent_s > self.watchdog_s or signs[-1:] == [_TRIGGER]

    def await_assignment(self, beginning: str, times: int = 1) -> str:
        """Wait until assignments with this beginning have arrived `times` times; return the last one."""

        def found() -> list[str]:
            return [line for line in self.assignments if line.startswith(beginning)]

        wait_until(lambda: len(found()) >= times, f"{beginning} arrives {times} times", TIMEOUT_S)
        return found()[-1]

    def await_status(self, pattern: str) -> None:
        """Wait until the status begins with something that this regular expression matches."""
        wait_until(lambda: re.match(pattern, self.status), f"the status matches {pattern!r}", TIMEOUT_S)

    def _fed(self) -> list[float]:
        return [at for at, text in self._received if _PING in text or "READY=1" in text]

    def _listen(self) -> None:
        while (datagram := self._socket.recv(4096)) != _END:
            self._received.append((clock.monotonic(), datagram.decode()))
