"""Reads the facts about a host. A fact that can't be read is left out."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from stockworker.adapters import clock, host_state
from stockworker.broker.host import CONFIG, SANDBOX
from stockworker.config import DEFAULT_PATH, client_path, instances
from stockworker.doctor.facts import DiskFacts, NameFacts, UnitFacts
from stockworker.doctor.roles import Traces
from stockworker.doctor.units import BROKER_UNIT, PROPERTIES, STRICT

_STATE: Final = Path("/var/lib/stockworker")
_JOURNAL: Final = "journal.sqlite3"
_UNITS: Final = ("stockworker@*.service", "stockworker-dispatcher.service", "stockworker-web.service")


def traces(root: Path = Path("/")) -> Traces:
    """What shows the parts of this host. `root`: the folder in place of the root of the file system."""
    state = root / _STATE.relative_to("/")
    return Traces(
        units=frozenset(host_state.unit_names(_UNITS)),
        instances=frozenset(instances(root / DEFAULT_PATH.relative_to("/"))),
        journals=frozenset(file.parent.name for file in _found(state, f"*/{_JOURNAL}")),
        has_store=bool(_found(state, "dispatcher/jobs.sqlite3")),
        has_broker=(root / CONFIG.relative_to("/")).exists(),
        client=client_path(),
    )


def _found(folder: Path, pattern: str) -> list[Path]:
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def name_facts(host: str, port: int) -> NameFacts:
    """Resolve the name of the broker."""
    began = clock.monotonic()
    try:
        addresses = host_state.resolve(host, port)
    except (OSError, UnicodeError) as error:
        return NameFacts(host, error=getattr(error, "strerror", None) or str(error))
    return NameFacts(host, addresses, clock.monotonic() - began)


def disk_facts(key: str, folder: Path, least_bytes: int) -> DiskFacts | None:
    """Look at the disk of a store; None if its folder does not exist, or is closed to this user."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    files = disk.f_favail if disk.f_files else None
    return DiskFacts(key, folder, free, total, least_bytes, files, read_only=bool(disk.f_flag & os.ST_RDONLY))


def unit_facts(unit: str) -> UnitFacts | None:
    """Ask systemd about a unit; None without systemd, or if the unit does not exist."""
    properties = host_state.unit_properties(unit, (*PROPERTIES, *STRICT))
    if properties.get("LoadState") in {None, "not-found"}:
        return None
    file = str(SANDBOX) if unit == BROKER_UNIT else properties.get("FragmentPath", "")
    process = properties.get("MainPID", "")
    opened = host_state.open_files(int(process)) if process.isdecimal() else None
    return UnitFacts(unit, properties, _text(Path(file)), opened)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def configuration_files(given: Iterable[Path]) -> list[Path]:
    """The configuration files of this host: the main ones with their parts, and those of commands."""
    found: list[Path] = []
    for file in given:
        folder = file.parent
        found += [file, *sorted(file.with_suffix(".d").glob("*.yml")), *sorted((folder / "instances").glob("*.yml"))]
    return [file for file in dict.fromkeys(found) if file.is_file()]
