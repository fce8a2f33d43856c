"""The files of a package at their places, and their description for nfpm."""

import gzip
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_COMPRESSED: Final = ("/usr/share/man/",)
_EXECUTABLE: Final = ("/usr/bin/",)
_OWN: Final = re.compile(r"^/(etc|usr/share|usr/share/doc|usr/share/licenses)/stockworker")


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder with each file of one package at its place, and with its final mode.

    Attributes:
        folder: takes the place of `/`.
        mtime: of every file, in seconds since 1970, so that the same input gives the same package.
    """

    folder: Path
    mtime: int

    def add(self, target: str, content: bytes) -> None:
        """Put a file at its place. Man pages are compressed."""
        if target.startswith(_COMPRESSED):
            target, content = f"{target}.gz", gzip.compress(content, 9, mtime=0)
        file = self.folder / target.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def copy(self, source: Path, target: str, without: Collection[str] = ()) -> None:
        """Put a file, or the files in a folder, at their place: of a folder, not those of its folders that have a place in `without`."""
        if source.is_dir():
            for file in sorted(source.rglob("*")):
                inside = file.relative_to(source)
                elsewhere = any(f"{target}/{folder}" in without for folder in inside.parents)
                if file.is_file() and file.suffix != ".pyc" and not elsewhere:
                    self.add(f"{target}/{inside}", file.read_bytes())
        else:
            self.add(target, source.read_bytes())

    def contents(self, folders: tuple[str, ...], packager: str) -> list[dict[str, Any]]:
        """The entries for nfpm in one of its formats: every file, and the folders that only this package owns."""
        found = sorted(self.folder.rglob("*"))
        own = {f"/{each.relative_to(self.folder)}" for each in found if each.is_dir()}
        folders = tuple(sorted({*folders, *(folder for folder in own if _OWN.search(folder))}))
        info = {"owner": "root", "group": "root", "mode": 0o755, "mtime": self._time}
        entries = [{"dst": folder, "type": "dir", "file_info": info} for folder in folders]
        return entries + [self._entry(file, packager) for file in found if file.is_file()]

    @property
    def _time(self) -> str:
        return datetime.fromtimestamp(self.mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _entry(self, file: Path, packager: str) -> dict[str, Any]:
        target = f"/{file.relative_to(self.folder)}"
        mode = 0o755 if target.startswith(_EXECUTABLE) else 0o644
        info = {"owner": "root", "group": "root", "mode": mode, "mtime": self._time}
        entry: dict[str, Any] = {"src": str(file), "dst": target, "file_info": info}
        kind = _kind(target, packager)
        return entry if kind is None else {**entry, "type": kind}


def _kind(target: str, packager: str) -> str | None:
    if target.startswith("/etc/"):
        return "config|noreplace"
    if packager == "rpm" and target.startswith("/usr/share/licenses/"):
        return "license"
    if packager == "rpm" and target.startswith(("/usr/share/doc/", "/usr/share/man/")):
        return "doc"
    return None


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with the values of its package in place of the names between at signs."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
