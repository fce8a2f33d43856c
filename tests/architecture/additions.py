"""Rows of ARCHITECTURE.md as a developer follows them: in a copy of the repository, exactly their files are edited."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.source import ROOT

COPIED = ("agent", "ansible", "docs", "etc", "packaging", "systemd", "tests")


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit that a developer makes.

    Attributes:
        file: from the root of the repository.
        inserted: new text, by the text in front of which it is inserted; that occurs once.
        missed_by: a test that fails without this edit; None is the addition's round trip.
    """

    file: str
    inserted: Mapping[str, str]
    missed_by: str | None = None

    def apply(self, root: Path) -> None:
        """Edit the file below `root`."""
        file = root / self.file
        text = file.read_text(encoding="utf-8")
        for before, new in self.inserted.items():
            assert text.count(before) == 1, f"{self.file} has changed around {before!r}"
            text = text.replace(before, new + before)
        file.write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Addition:
    """One thing that a developer adds.

    Attributes:
        row: the first column of its row in ARCHITECTURE.md.
        edits: by what each of them adds.
        round_trip: a program that uses the addition, and fails if it does not work.
    """

    row: str
    edits: Mapping[str, Edit]
    round_trip: str

    def named_files(self) -> set[str]:
        """The files that the row names, from the root of the repository."""
        page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {self.row} |"))
        named = {path for path in re.findall(r"`([\w./-]+)`", row) if "/" in path}
        return {path if (ROOT / path).exists() else f"agent/stockworker/{path}" for path in named}


class Copy:
    """A copy of the repository that has all of some additions.

    Args:
        root: where to make it.
        additions: what it has.
    """

    def __init__(self, root: Path, *additions: Addition) -> None:
        self._root = root
        self._edits = [edit for addition in additions for edit in addition.edits.values()]
        for folder in COPIED:
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "Makefile", *(path.name for path in ROOT.glob("*.md"))):
            shutil.copy(ROOT / file, root / file)
        for edit in self._edits:
            edit.apply(root)

    @contextmanager
    def without(self, left_out: Edit) -> Iterator[None]:
        """Leave one edit out for a while."""
        file = self._root / left_out.file
        complete = file.read_text(encoding="utf-8")
        shutil.copy(ROOT / left_out.file, file)
        for edit in self._edits:
            if edit.file == left_out.file and edit is not left_out:
                edit.apply(self._root)
        yield
        file.write_text(complete, encoding="utf-8")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self._root / 'agent'}:{self._root}",
            "PYTHONPYCACHEPREFIX": str(self._root / "compiled"),
        }
        return subprocess.run(
            [sys.executable, *arguments], cwd=self._root, env=environment, capture_output=True, text=True, check=False
        )

    def check(self, *tests: str) -> subprocess.CompletedProcess[str]:
        """Run tests of the copy."""
        return self.run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile=few", *tests)

    def use(self, addition: Addition) -> subprocess.CompletedProcess[str]:
        """Run the round trip of an addition."""
        return self.run("-c", addition.round_trip)
