"""The documents in the packages: every one that a text names is installed, and every link leads somewhere."""

import os
import re
from pathlib import Path

import pytest

from builder.documents import installed
from builder.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    (source, target) for recipe in RECIPES for target, source in recipe.files.items() if source.endswith(".md")
]
PLACES = {target for recipe in RECIPES for target in recipe.files}
LINK = re.compile(r"\]\(([^)#\s:]+)")


@pytest.mark.parametrize(("source", "target"), DOCUMENTS)
def test_each_link_leads_to_a_document_that_is_installed(source: str, target: str) -> None:
    links = LINK.findall(installed(ROOT, source, target))
    dead = [link for link in links if os.path.normpath(Path(target).parent / link) not in PLACES]
    assert dead == []


@pytest.mark.parametrize(("source", "target"), DOCUMENTS)
def test_a_document_keeps_its_words(source: str, target: str) -> None:
    """Only links change. Those to documents that are installed stay links."""
    words = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")
    text = (ROOT / source).read_text()
    assert words.sub(r"\1", installed(ROOT, source, target)) == words.sub(r"\1", text)
    if source == "docs/operations.md":
        assert "[changelog](CHANGELOG.md)" in installed(ROOT, source, target)
        assert "(packages.md#go-back)" in installed(ROOT, source, target)


def named() -> set[str]:
    """The documents that the texts of the product name."""
    files = [*(ROOT / "agent").rglob("*.py"), *(ROOT / "systemd").rglob("*"), *(ROOT / "etc").rglob("*")]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    return {name for text in texts for name in re.findall(r"\b([a-z-]+\.md)\b", text)}


def test_each_document_that_a_text_names_is_installed() -> None:
    assert named()
    assert named() - {Path(place).name for place in PLACES} == set()
