"""docs/glossary.md: one word per thing. Each term is used, and no word that a term replaced is left."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness import prose

GLOSSARY: Final = Path("docs/glossary.md")


def tables() -> dict[str, list[list[str]]]:
    """The rows of each section, cell by cell."""
    parts = re.split(r"^## (.+)$", (prose.ROOT / GLOSSARY).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        title: [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


STAYS: Final = [
    (word, where.strip("`"))
    for words, places, _ in tables()["Words that stay"][1:]
    for word in words.split(", ")
    for where in places.split("`, `")
]
"""Replaced words with the places where they stay: a phrase, or a path that ends in a slash or in ``.py``."""
PHRASES: Final = [where for _, where in STAYS if not where.endswith(("/", ".py"))]
GROUPS: Final = {title: rows[1:] for title, rows in tables().items() if title != "Words that stay"}
TERMS: Final = [term for rows in GROUPS.values() for row in rows for term in row[0].split(", ")]
REPLACED: Final = {word for rows in GROUPS.values() for row in rows for word in row[2].split(", ") if word}
IN_NAMES: Final = {word.strip("`").lower() for word in REPLACED}
IN_SENTENCES: Final = re.compile(
    r"(?<![\w/.-])(?:" + "|".join(sorted(word for word in REPLACED if "`" not in word)) + r")s?(?![\w/-])",
    re.IGNORECASE,
)


def replaced(path: Path) -> Iterator[str]:
    """Each replaced word that is left in a file."""
    stays = {word for word, where in STAYS if path.as_posix().startswith(where)}
    for line, name in prose.names(path):
        # The name of a test is a sentence.
        for word in () if name.startswith("test_") else (IN_NAMES - stays) & set(prose.words(name)):
            yield f"{path}:{line}: {word!r} in the name {name!r}"
    for passage in prose.passages(path):
        text = re.sub("|".join(["`[^`]+`", *PHRASES]), lambda found: "`" * len(found[0]), passage.text)
        for found in IN_SENTENCES.finditer(text):
            yield f"{path}:{passage.line_at(found.start())}: {found[0]!r}"


def test_each_term_is_defined_once() -> None:
    assert len(TERMS) == len({term.lower() for term in TERMS})


@pytest.mark.parametrize("title", GROUPS)
def test_a_group_is_sorted(title: str) -> None:
    terms = [row[0].lower() for row in GROUPS[title]]
    assert terms == sorted(terms)


@pytest.mark.parametrize("title", GROUPS)
def test_a_definition_is_short(title: str) -> None:
    for term, meaning, _ in GROUPS[title]:
        assert 1 <= len(re.findall(r"\.(?: |$)", meaning)) <= 2, term


def test_each_term_is_used() -> None:
    used = " ".join(
        passage.text.lower()
        for path in prose.files()
        if path != GLOSSARY and path.parts[0] != "tests"
        for passage in prose.passages(path)
    )
    assert [term for term in TERMS if not re.search(rf"\b{re.escape(term.lower())}", used)] == []


@pytest.mark.parametrize(
    "path",
    [path for path in prose.files() if path != GLOSSARY],
    ids=lambda path: path.as_posix(),
)
def test_no_replaced_word_is_left(path: Path) -> None:
    assert list(replaced(path)) == []
