"""ARCHITECTURE.md is one page, and each file and name in its table exists."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LONGEST_PAGE: Final = 130
TABLE: Final = PAGE.partition("## To change X, open Y")[2]
ROWS: Final = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")][1:]


def found(name: str) -> list[Path]:
    """The files or folders that a name in the table means: a path, or the name of a file whose folder precedes it."""
    places = [ROOT / name, ROOT / "agent" / "stockworker" / name]
    existing = [place for place in places if place.exists()]
    return existing or [path for folder in ("agent", "packaging") for path in (ROOT / folder).rglob(f"*/{name}")]


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= LONGEST_PAGE


@pytest.mark.parametrize(("subject", "where"), ROWS, ids=lambda text: str(text)[:40])
def test_each_row_names_what_exists(subject: str, where: str) -> None:
    quoted = re.findall(r"`([^`]+)`", where)
    paths = {name: found(name) for name in quoted if "/" in name or "." in name}
    files = [file for each in paths.values() for place in each for file in ([place] if place.is_file() else [])]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)

    assert paths, subject
    assert [name for name, places in paths.items() if not places] == []
    assert [name for name in quoted if name not in paths and name not in text] == []
