"""The images of the documents: small, shown by a document, and in the package of the documents."""

import re
from pathlib import Path

import pytest

from builder.recipes import DOCUMENTS

MOST_BYTES = 100_000
ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = sorted((ROOT / "docs/images").glob("*.png"))


@pytest.mark.parametrize("file", SCREENSHOTS, ids=lambda file: file.name)
def test_a_screenshot_is_small_and_packaged(file: Path) -> None:
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size <= MOST_BYTES
    assert f"docs/images/{file.name}" in DOCUMENTS.files.values()


def test_a_document_shows_each_screenshot_with_a_text_for_it() -> None:
    shown = re.findall(r"!\[([^\]]{10,})\]\((images/[^)]+)\)", (ROOT / "docs/web.md").read_text(encoding="utf-8"))
    assert sorted(name for _, name in shown) == [f"images/{file.name}" for file in SCREENSHOTS]
