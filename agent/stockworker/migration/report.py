"""The report of a migration: one JSON object per line, on disk before a record leaves its source."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, TextIO

from stockworker.adapters import clock
from stockworker.errors import ConfigError

MOVED: Final = "moved"
REFUSED: Final = "refused"
REJECTED: Final = "rejected"
RETURNED: Final = "returned"


class MigrationReport:
    """An open report. It is appended to, and never replaced.

    Attributes:
        path: of the file; None keeps no report.
        moved: the records of this source that an earlier run has moved, and their jobs.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self.path = path
        self._identity = identity
        self._file: TextIO | None = None
        self.moved: dict[str, str] = {}
        self._refused: set[str | None] = set()
        if path is None:
            return
        try:
            if path.exists():
                self._read(path)
            self._file = path.open("a", encoding="utf-8")
            path.chmod(0o600)
        except OSError as error:
            raise ConfigError(f"--report: {path} can't be written: {error.strerror}. Name another file") from None

    def moves(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Record moved records and their jobs."""
        pairs = dict(jobs)
        self.moved |= pairs
        self._append([{"result": MOVED, "record": record, "job": job} for record, job in pairs.items()])

    def refuses(self, records: Iterable[tuple[str | None, str]], result: str = REFUSED) -> None:
        """Record what stays in the source, and why; each record once in one run."""
        new = [(record, reason) for record, reason in records if record is None or record not in self._refused]
        self._refused.update(record for record, _ in new)
        self._append([{"result": result, "record": record, "reason": reason} for record, reason in new])

    def returns(self, records: Iterable[str]) -> None:
        """Record what has returned to the source."""
        listed = list(records)
        for record in listed:
            self.moved.pop(record, None)
        self._append([{"result": RETURNED, "record": record} for record in listed])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        shared = {"source": self._identity, "at": round(clock.wall(), 3)}
        text = "".join(f"{json.dumps({**line, **shared})}\n" for line in lines)
        if self._file is None or not text:
            return
        try:
            self._file.write(text)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ConfigError(
                f"--report: {self.path} can't be written: {error.strerror}. Make room, then run the command again"
            ) from None

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                fields = _fields(line)
                if fields.get("source") != self._identity:
                    continue
                record = str(fields.get("record"))
                if fields.get("result") == MOVED:
                    self.moved[record] = str(fields.get("job"))
                elif fields.get("result") == RETURNED:
                    self.moved.pop(record, None)


def _fields(line: str) -> dict[str, Any]:
    """The fields of a line; none of one that a crash has cut."""
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
