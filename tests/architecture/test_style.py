"""Plain English: subject, verb, object, and none of the constructions that readers have to decode.

CONTRIBUTING.md has the rules. This test finds what a pattern can find: words out of use, negated nouns ("is no
program"), clauses without a head ("Who is stuck is healed."), verbs of speech for programs, and "we" for a process.
To see what it finds in some files: ``python -m tests.architecture.test_style FILE…``.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness import prose

LONGEST_SENTENCE: Final = 25
QUOTES: Final = {"tests/architecture/test_style.py"}
"""Files that quote what no other may contain."""

RULES: Final = {
    r"(?i)\bwhoever\b": "every …, any …, the … that",
    r"(?i)\b(?:some|no)body\b": "the program or the person: an operator, another client, no worker",
    r"(?i)\banew\b": "again",
    r"(?i)\blikewise\b": "also, in the same way",
    r"\bstands?\b": "is, exists, means",
    r"(?i)\bin vain\b": "without success",
    r"(?i)\ball the same\b": "still",
    r"(?i)\bhad better\b": "should",
    r"(?i)\bso many\b": "a number, or 'this many'",
    r"(?i)\bat once\b": "immediately, or together",
    r"(?i)\bwhatever it is\b": "any …",
    r"(?<![Tt]here )\b(?:is|are|was|were) no\b(?! (?:longer|more|less|fewer|later|earlier|larger|smaller)\b)": "is not a …",
    r"\b(?:is|are|was|were) none of\b": "is not one of",
    r"\b(?:is|are|was|were) to be\b": "must be, will be",
    r"\b(?:is|are) there\b(?! (?:a|an|any|no)\b)": "exists",
    r"\b(?:says?|said|tells?|told|hears?|heard|believes?|believed|dies)\b": "logs, reports, receives, accepts, exits",
    r"\b(?:[Ww]e|us|[Oo]urs?|theirs)\b": "the worker, the dispatcher, the service",
    r"(?:^|[.!?]['\"`]? )(?:Who|Whose|What (?:is|are|was|were|has|had|can|may|must|will|would|does))\b[^.?!]*\.": (
        "a sentence with a subject"
    ),
}
"""A pattern, and what to write instead."""

EXEMPT: Final = {
    r"``[^`]+``|`[^`]+`": "quotations: code, and texts of other programs",
}
"""A pattern of what no rule applies to, with the reason."""

_COMPILED: Final = {re.compile(pattern): instead for pattern, instead in RULES.items()}
_EXEMPT: Final = re.compile("|".join(EXEMPT))
_EXAMPLES: Final = (
    "Whoever needs an answer repeats.",
    "Nobody is ill.",
    "It is no program.",
    "The job is to be run.",
    "The file is there: move it.",
    "The worker says what it holds.",
    "We may have started since.",
    "Ready. Who is stuck is healed.",
    "What is there stays.",
)
_PLAIN: Final = (
    "There is no such job.",
    "Is there a dispatcher? Who decides?",
    "It is no longer valid.",
    "The default is to wait.",
    "US stocks. `is there`: a quotation. Standby.",
)


def findings(path: Path) -> Iterator[str]:
    """Each passage of a file that breaks a rule, with what to write instead."""
    for passage in prose.passages(path):
        for position, found, instead in breaks(passage.text):
            yield f"{path}:{passage.line_at(position)}: {found!r}: write {instead}"


def long_sentences(path: Path) -> Iterator[str]:
    """Each sentence of a document with too many words. Code counts as one word; tables and blocks of code are left out."""
    text = re.sub(r"^```.*?^```$", "", (prose.ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?:\||    |<!--).*$", "", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) |\n#+ ", text):
        bare = re.sub(r"`[^`]*`|\]\([^)]*\)", " x ", " ".join(paragraph.split()))
        for sentence in re.split(r"(?<=[.!?:])[*_)\"]* +(?=\W*[A-Zx])", bare):
            if (count := len(re.findall(r"[^\W_]+(?:['.,/-][^\W_]+)*", sentence))) > LONGEST_SENTENCE:
                yield f"{path}: {count} words: {sentence}"


def breaks(text: str) -> list[tuple[int, str, str]]:
    """Where a text breaks a rule, the words that do, and what to write instead."""
    text = _EXEMPT.sub(lambda quotation: "`" * len(quotation[0]), text.replace("\n", " "))
    return [(found.start(), found[0], instead) for rule, instead in _COMPILED.items() for found in rule.finditer(text)]


@pytest.mark.parametrize("text", _EXAMPLES)
def test_a_rule_finds_its_example(text: str) -> None:
    assert breaks(text)


@pytest.mark.parametrize("text", _PLAIN)
def test_plain_english_passes(text: str) -> None:
    assert breaks(text) == []


@pytest.mark.parametrize(
    "path",
    [path for path in prose.files() if path.as_posix() not in QUOTES],
    ids=lambda path: path.as_posix(),
)
def test_a_file_is_plain_english(path: Path) -> None:
    assert list(findings(path)) == []


@pytest.mark.parametrize(
    "path",
    [path for path in prose.files() if path.suffix == ".md"],
    ids=lambda path: path.as_posix(),
)
def test_sentences_are_short(path: Path) -> None:
    assert list(long_sentences(path)) == []


if __name__ == "__main__":
    chosen = sys.argv[1:]
    sys.stdout.writelines(
        f"{finding}\n"
        for path in prose.files()
        if path.as_posix().startswith(tuple(chosen) or "") and path.as_posix() not in QUOTES
        for finding in [*findings(path), *(long_sentences(path) if path.suffix == ".md" else ())]
    )
