"""systemd, as far as a service talks to it: sd_notify(3) over a real socket, and a watchdog that only takes notes."""

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
    """Hears one service, in a thread of its own: nobody's datagram waits.

    Args:
        watchdog_s: how often it wants a sign of life; it never does anything about one that is missing.
    """

    def __init__(self, watchdog_s: float) -> None:
        self.watchdog_s = watchdog_s
        self._told: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # to a name that the kernel finds, unix(7); one in the file system may be too long
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
        """What the service is to find in its environment."""
        name = self._address.replace(b"\0", b"@").decode()
        return {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": str(int(self.watchdog_s * 1_000_000))}

    @property
    def told(self) -> list[str]:
        """Every assignment so far, in order."""
        return [line for _at, text in self._told for line in text.splitlines()]

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        lines = [line for line in self.told if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    @property
    def pings(self) -> int:
        """How often the watchdog was fed."""
        return self.told.count(_PING)

    @property
    def silent_s(self) -> float:
        """For how long it has not been fed; it is as good as fed when the service says that it is ready."""
        fed = self._fed()
        return clock.monotonic() - fed[-1] if fed else 0.0

    @property
    def condemned(self) -> bool:
        """Whether systemd would end the service by now: it gives no sign of life, or asks for it."""
        signs = [line for line in self.told if line in {_PING, _TRIGGER}]
        return self.silent_s > self.watchdog_s or signs[-1:] == [_TRIGGER]

    def await_told(self, beginning: str, times: int = 1) -> str:
        """Wait until an assignment that begins so has been heard so many times; returns the last."""

        def found() -> list[str]:
            return [line for line in self.told if line.startswith(beginning)]

        wait_until(lambda: len(found()) >= times, f"systemd is told {beginning} {times} times", TIMEOUT_S)
        return found()[-1]

    def await_status(self, text: str) -> None:
        """Wait until this is a part of the status."""
        wait_until(lambda: text in self.status, f"systemd is told the status {text!r}", TIMEOUT_S)

    def _fed(self) -> list[float]:
        return [at for at, text in self._told if _PING in text or "READY=1" in text]

    def _listen(self) -> None:
        while (datagram := self._socket.recv(4096)) != _END:
            self._told.append((clock.monotonic(), datagram.decode()))
