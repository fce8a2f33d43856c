"""TCP connections to the broker's host: over the first of its addresses that answers."""

# A host name may have several addresses, and some may not work: IPv6 on a network that drops it, a record of a machine
# that was removed, a balancer whose server is down. So each address gets a short head start over the next one
# (RFC 8305), and the first TCP connection is used. TCP alone does not prove that an address works: the TLS handshake or
# the broker's answer may still be missing. So an address that failed is the last one in the next attempt.
#
# The system's resolver can't be interrupted, and may wait half a minute for a name server. It runs in a daemon thread,
# which no loop and no end of the process waits for. Its answer may be late: then it serves the next attempt.

import asyncio
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from stockworker.adapters.mqtt_reasons import explain_error

_HEAD_START_S: Final = 0.25
_ALL_STARTED_S: Final = 5.0
"""However many addresses there are, the last one is tried before this time is over."""

_SockAddress = tuple[Any, ...]
_Found = list[tuple[int, _SockAddress]]


class DialFailed(OSError):
    """No address accepts a TCP connection; the text has the reason of each."""

    def __init__(self, failures: Mapping[str, OSError]) -> None:
        by_reason: dict[str, list[str]] = {}
        for address, error in failures.items():
            by_reason.setdefault(explain_error(error), []).append(address)
        super().__init__("; ".join(f"{', '.join(those)}: {reason}" for reason, those in by_reason.items()))


class Dialer:
    """Opens connections to one host and port, one at a time.

    Attributes:
        address: the one of the latest connection; before there is one, the addresses that have not answered.
        step: what the attempt waits for.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = ""
        self.step = ""
        self._host = host
        self._port = port
        self._lookup: asyncio.Future[_Found | Exception] | None = None
        self._known: list[str] = []
        self._bad: list[str] = []

    @property
    def all_failed(self) -> bool:
        """Whether each address of the host has failed since it last worked."""
        return set(self._known) <= set(self._bad)

    def named(self, reason: str) -> str:
        """`reason` with the address that it is about, unless the host has only this one."""
        return f"{self.address}: {reason}" if len(self._known) > 1 and self.address else reason

    def works(self) -> None:
        """The latest connection serves its purpose."""
        self._bad = [address for address in self._bad if address != self.address]

    def fails(self) -> None:
        """The latest connection does not: prefer another address."""
        if self.address in self._known:
            self._put_last([self.address])

    async def dial(self) -> socket.socket:
        """Connect to one of the addresses.

        Raises:
            DialFailed: each of them refuses.
            OSError: the host name can't be resolved.
            UnicodeError: the host name is not valid.
        """
        self.address = ""
        self.step = "the name server (DNS)"
        found = await self._resolve()
        self.step = "the TCP connection"
        self._known = [str(address[0]) for _, address in found]
        self._bad = [address for address in self._bad if address in self._known]
        # Those that failed come last, the latest failure at the end. Otherwise the order of the resolver, RFC 6724.
        return await self._race(sorted(found, key=lambda each: _rank(self._bad, str(each[1][0]))))

    async def _resolve(self) -> _Found:
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_future()
            look_up = threading.Thread(
                target=_look_up, args=(self._host, self._port, self._lookup), name="resolver", daemon=True
            )
            look_up.start()
        found = await asyncio.shield(self._lookup)
        self._lookup = None
        if isinstance(found, Exception):
            raise found
        return found

    async def _race(self, addresses: _Found) -> socket.socket:
        head_start_s = min(_HEAD_START_S, _ALL_STARTED_S / len(addresses))
        attempts: dict[asyncio.Task[socket.socket], str] = {}
        failures: dict[str, OSError] = {}
        winner: asyncio.Task[socket.socket] | None = None
        waiting = list(reversed(addresses))
        try:
            while waiting or len(failures) < len(attempts):
                if waiting:
                    family, address = waiting.pop()
                    attempts[asyncio.create_task(_connect(family, address))] = str(address[0])
                running = [task for task, name in attempts.items() if name not in failures]
                self.address = ", ".join(attempts[task] for task in running)
                done, _ = await asyncio.wait(
                    running, timeout=head_start_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if (error := task.exception()) is None:
                        winner = task
                        self.address = attempts[task]
                        return task.result()
                    if not isinstance(error, OSError):
                        raise error
                    failures[attempts[task]] = error
            self.address = ""
            raise DialFailed(failures)
        finally:
            # Also those that were slower than their head start.
            self._put_last(name for task, name in attempts.items() if task is not winner)
            await _close([task for task in attempts if task is not winner])

    def _put_last(self, addresses: Iterable[str]) -> None:
        failed = list(addresses)
        self._bad = [*(address for address in self._bad if address not in failed), *failed]


def _rank(bad: list[str], address: str) -> int:
    return bad.index(address) if address in bad else -1


def _look_up(host: str, port: int, answer: "asyncio.Future[_Found | Exception]") -> None:
    found: _Found | Exception
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = list({str(address[0]): (int(family), address) for family, *_, address in answers}.values())
    except Exception as error:  # noqa: BLE001 (the waiting attempt raises it)
        found = error
    with suppress(RuntimeError):  # the loop is closed: no attempt waits any more
        answer.get_loop().call_soon_threadsafe(_settle, answer, found)


def _settle(answer: "asyncio.Future[_Found | Exception]", found: _Found | Exception) -> None:
    if not answer.done():
        answer.set_result(found)


async def _connect(family: int, address: _SockAddress) -> socket.socket:
    # asyncio sets TCP_NODELAY only on sockets that name TCP.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.settimeout(0)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


async def _close(attempts: list[asyncio.Task[socket.socket]]) -> None:
    for task in attempts:
        task.cancel()
    for end in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(end, socket.socket):
            end.close()
