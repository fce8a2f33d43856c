"""Reads the state of a host, for its diagnosis: units, clock, names, limits. An answer is empty if it can't be read."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

_PATIENCE_S: Final = 15.0
_LARGEST: Final = 4 * 1024 * 1024


def unit_names(patterns: Sequence[str]) -> set[str]:
    """The units that are loaded or enabled. Templates are left out."""
    loaded = _output("systemctl", "list-units", "--all", "--plain", "--no-legend", *patterns)
    enabled = _output("systemctl", "list-unit-files", "--state=enabled", "--plain", "--no-legend", *patterns)
    names = {line.split()[0] for line in f"{loaded}\n{enabled}".splitlines() if line.strip()}
    return {name for name in names if "@." not in name}


def unit_properties(unit: str, names: Sequence[str]) -> dict[str, str]:
    """Properties of a unit."""
    return _assignments(_output("systemctl", "show", unit, f"--property={','.join(names)}"))


def clock_is_synchronized() -> bool | None:
    """Whether time servers set the clock; None if systemd does not know."""
    known = _assignments(_output("timedatectl", "show", "--property=NTPSynchronized")).get("NTPSynchronized")
    return None if known is None else known == "yes"


def journal_entries(unit: str, most: int) -> Iterator[dict[str, Any]]:
    """The newest entries of a unit in the systemd journal, oldest first."""
    for line in _output("journalctl", "--unit", unit, f"--lines={most}", "--output=json", "--no-pager").splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                yield entry


def mosquitto_version() -> str | None:
    """The version of the Mosquitto that is installed here."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    words = [] if program is None else _output(program, "-h", anyway=True).split()
    return words[2] if words[:2] == ["mosquitto", "version"] else None


def resolve(host: str, port: int) -> tuple[str, ...]:
    """The addresses of a host.

    Raises:
        OSError: it has none, or no name server answers.
        UnicodeError: the name is not valid.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def open_files(process: int) -> int | None:
    """How many files a process has open; None if that can't be read."""
    try:
        return len(os.listdir(f"/proc/{process}/fd")) if process else None  # noqa: PTH208 (only the number)
    except OSError:
        return None


def _assignments(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name: value for name, _, value in pairs}


def _output(program: str, *words: str, anyway: bool = False) -> str:
    """What a program prints; empty if it fails, is missing or takes too long. `anyway`: whatever its exit status is."""
    try:
        done = subprocess.run(  # noqa: S603 (all words are constants of the product, or names of its units)
            [program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_PATIENCE_S,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[-_LARGEST:].decode(errors="replace") if anyway or done.returncode == 0 else ""
