"""Reads docs/operations.md and docs/tutorial.md: their commands, and the symptoms that the first one lists."""

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
TUTORIAL: Final = PAGE.with_name("tutorial.md")
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE: Final = re.compile(r"`([^`]+)`")


def sections(page: Path = PAGE) -> dict[str, str]:
    """The sections of a page, by their headings."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(section: str, page: Path = PAGE) -> list[str]:
    """The shell blocks of a section."""
    return _BLOCK.findall(sections(page)[section])


def rows() -> list[list[str]]:
    """The rows of the tables of symptoms: symptom, cause, command."""
    lines = sections()["When something is wrong"].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] != "Symptom"]


def quoted(text: str) -> list[str]:
    """The texts between back-quotes."""
    return _CODE.findall(text)
