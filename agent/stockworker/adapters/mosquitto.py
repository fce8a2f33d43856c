"""Tests whether Mosquitto starts with a configuration, for which Mosquitto 2.0 has no option, and whether it hangs."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from stockworker.adapters import clock
from stockworker.adapters.tls import client_context
from stockworker.errors import ConfigError

USER: Final = "mosquitto"
_LOOPBACK: Final = "127.0.0.1"
_PATIENCE_S: Final = 20.0
_LOOK_EVERY_S: Final = 0.02
_RUNNING: Final = " running\n"
_SHOWN_LINES: Final = 3
_MOST_LOGGED: Final = 1024 * 1024
_CONNECTIONS: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_LISTENS: Final = "0A"
_LOOKS: Final = 3


def try_out(config: Path, folder: Path, tls: tuple[int, Path] | None) -> None:
    """Start Mosquitto with a configuration, and stop it. As root, start it as its own user.

    Args:
        config: the main file; it must log to stderr, because other destinations are buffered.
        folder: its working directory. Its user can change it, so nothing is read or written there by name.
        tls: the port for TLS, and the authority that must have issued its certificate.

    Raises:
        ConfigError: Mosquitto does not start, or clients of the authority don't trust it. With its last messages.
    """
    with TemporaryFile() as log, _running(config, folder, log) as process:  # a file without a name
        deadline = clock.monotonic() + _PATIENCE_S
        while _RUNNING not in _text_of(log):
            if process.poll() is not None or clock.monotonic() > deadline:
                raise ConfigError(f"Mosquitto does not start with it: {_last_words(_text_of(log))}")
            time.sleep(_LOOK_EVERY_S)
        if tls is not None:
            _shake_hands(*tls)


def free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def hangs(address: str, port: int, *, between_looks_s: float = 5.0, patience_s: float = 15.0) -> bool:
    """Whether Mosquitto accepts no connections though it listens.

    Clients that have noticed a hang connect again, and their connections wait in the kernel's queue. To look at that
    queue makes no connection, which Mosquitto would log. Only if connections keep waiting, this makes one. Mosquitto
    answers a TLS client before it knows who that is, and closes the connection if its listener has no TLS. So a
    certificate is not needed.
    """
    for _ in range(_LOOKS):
        if not any(waiting_connections(file.read_text(), port) for file in _CONNECTIONS if file.exists()):
            return False
        time.sleep(between_looks_s)
    received, hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(received, hello, server_hostname=address)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    try:
        with socket.create_connection((address, port), patience_s) as connection:
            connection.sendall(hello.read())
            connection.recv(1)
    except TimeoutError:
        return True
    except OSError:  # it closes connections, so it reacts; or it does not listen any more
        return False
    return False


def waiting_connections(table: str, port: int) -> int:
    """How many connections to a port wait to be accepted, by a table of the kernel (proc_pid_net(5), tcp)."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(
        int(queues.partition(":")[2], 16)
        for _, local, _, state, queues, *_ in rows
        if state == _LISTENS and int(local.rpartition(":")[2], 16) == port
    )


@contextmanager
def _running(config: Path, folder: Path, log: BinaryIO) -> Iterator["subprocess.Popen[bytes]"]:
    # Debian installs it in a folder that is not in an ordinary user's PATH.
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ConfigError("Mosquitto is not installed: install the package 'mosquitto'")
    user = USER if os.geteuid() == 0 else None
    process = subprocess.Popen(  # noqa: S603 (all words are constants or paths of the product)
        [program, "-v", "-c", str(config)],
        cwd=folder,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _text_of(log: BinaryIO) -> str:
    # Mosquitto writes at the offset of the same open file, so this must not move it.
    return os.pread(log.fileno(), _MOST_LOGGED, 0).decode(errors="replace")


def _last_words(log: str) -> str:
    lines = log.splitlines()
    messages = [line.partition(": ")[2] if line.partition(":")[0].isdecimal() else line for line in lines]
    troubles = [line for line in messages if "Error" in line] or messages
    return "; ".join(troubles[-_SHOWN_LINES:]) or "without a message"


def _shake_hands(port: int, authority: Path) -> None:
    context = client_context(authority)
    context.check_hostname = False  # the name under which clients connect is not known here
    try:
        with (
            socket.create_connection((_LOOPBACK, port), _PATIENCE_S) as plain,
            context.wrap_socket(plain),
        ):
            pass
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error
        raise ConfigError(f"clients would not trust the broker's certificate: {reason}") from error
