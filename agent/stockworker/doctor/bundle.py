"""Writes the support archive: what was found, versions, the configuration, units and logs, without secrets."""

import io
import os
import platform
import tarfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from stockworker import __version__
from stockworker.adapters import clock, host_state
from stockworker.config.document import Problem, Unreadable, read
from stockworker.doctor.facts import UnitFacts
from stockworker.doctor.redaction import REMOVED, redacted_configuration, redacted_entry, scrubbed
from stockworker.errors import ConfigError

_FOLDER: Final = "stockworker-support"
_MOST_ENTRIES: Final = 300


def configurations(files: Iterable[Path]) -> dict[str, str]:
    """The configuration files, without secrets, by their names in the archive."""
    return {f"configuration{file.absolute()}": _configuration(file) for file in files}


def _configuration(file: Path) -> str:
    problems: list[Problem] = []
    try:
        return redacted_configuration(read(file, problems))
    except Unreadable:
        return f"# {REMOVED}: the file can't be read, or is not valid YAML\n"


def units(facts: Iterable[UnitFacts]) -> dict[str, str]:
    """State and log of units, by their names in the archive."""
    found = {}
    for unit in facts:
        found[f"units/{unit.name}.txt"] = "".join(
            f"{name}={value}\n" for name, value in sorted(unit.properties.items())
        )
        entries = map(redacted_entry, host_state.journal_entries(unit.name, _MOST_ENTRIES))
        found[f"journal/{unit.name}.txt"] = "".join(f"{entry}\n" for entry in entries if entry is not None)
    return found


def versions() -> str:
    """Versions of the product and of what it runs on."""
    system = "unknown"
    with suppress(OSError):
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    lines = {
        "stockworker": __version__,
        "python": platform.python_version(),
        "system": system,
        "kernel": platform.release(),
        "mosquitto": host_state.mosquitto_version() or "not installed",
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items())


def write_bundle(file: Path, contents: Mapping[str, str]) -> None:
    """Write the archive: a new file that only this user can read. Every text loses what looks like a secret.

    Raises:
        ConfigError: the file exists, or can't be written.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{file} already exists; choose another name for the archive") from None
    except OSError as error:
        raise ConfigError(f"{file} can't be written: {error.strerror}; choose another folder") from error
    with os.fdopen(descriptor, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:
        for name, text in sorted(contents.items()):
            content = scrubbed(text).encode(errors="replace")
            entry = tarfile.TarInfo(f"{_FOLDER}/{name.lstrip('/')}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(clock.wall())
            archive.addfile(entry, io.BytesIO(content))
