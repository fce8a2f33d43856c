"""The `stockworker` command on a terminal of its own."""

import os
import pty
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.harness.command import TIMEOUT_S, arguments


def on_terminal(config: Path, *words: str, columns: int = 80, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command shows on a terminal of this width."""
    ours, its = pty.openpty()
    variables = {**os.environ, "TZ": "UTC", "COLUMNS": str(columns), "TERM": "xterm", **(environment or {})}
    shown = b""
    try:
        with subprocess.Popen(
            arguments(config, *words),
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        ) as process:
            os.close(its)
            while chunk := _read(ours):
                shown += chunk
            process.communicate(timeout=TIMEOUT_S)
    finally:
        os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def until_closed(descriptor: int) -> str:
    """What a terminal shows until the last program on it has ended; the terminal is closed then."""
    shown = b""
    while chunk := _read(descriptor):
        shown += chunk
    os.close(descriptor)
    return shown.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side is closed
        return b""
