"""docs/operations.md quotes texts of the code, and commands that exist."""

import ast
import re
import shlex
from collections.abc import Iterator

import pytest

from stockworker.cli.commands import make_parser
from stockworker.terminal.exits import Exit
from tests.harness import operations_guide

ROOT = operations_guide.PAGE.parents[1]
PLAIN = "STOCKWORKER"  # in place of what a shell would insert: a name


def commands() -> Iterator[str]:
    """Each stockworker command, from blocks, indented lines and sentences."""
    text = operations_guide.PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.sub(r"\$\([^)]*\)", PLAIN, text)
    for found in re.finditer(r"^(?: {4})?(stockworker (?:[^'\n]|'[^']*')+)$", blocks, re.MULTILINE):
        yield found[1]
    sentences = re.sub(r"^```.*?^```$", "", blocks, flags=re.DOTALL | re.MULTILINE)
    yield from (code for code in operations_guide.quoted(sentences) if code.startswith("stockworker "))


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_each_command_is_one(command: str) -> None:
    parser, parsers = make_parser()
    words = shlex.split(command)[1:]
    if " ".join(words) not in parsers:  # else the text only names the command
        parser.parse_args(words)


def texts_of_the_code() -> list[str]:
    """Every string of the code, with `…` for the parts that vary."""
    texts = []
    for file in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


TEXTS = texts_of_the_code()
SYMPTOMS = sorted(
    {
        code
        for row in operations_guide.rows()
        for code in operations_guide.quoted(row[0])
        if "stockworker " not in code[:12]
    }
)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_each_symptom_is_a_text_of_the_code(symptom: str) -> None:
    words = symptom.strip(": …")
    assert any(words in text for text in TEXTS), f"no text of the code has {words!r}"


def test_each_exit_status_is_one() -> None:
    numbers = {
        int(number) for row in operations_guide.rows() for number in re.findall(r"(?:status |\()(\d+)\b", row[0])
    }
    assert len(numbers) > 4
    assert numbers <= set(map(int, Exit))


def test_each_row_has_a_remedy() -> None:
    rows = operations_guide.rows()
    assert len(rows) > 30
    assert all(len(row) == 3 and all(row) for row in rows), [row for row in rows if len(row) != 3]


@pytest.mark.parametrize(
    "link", sorted(set(re.findall(r"\]\(([^)]+)\)", operations_guide.PAGE.read_text(encoding="utf-8"))))
)
def test_each_link_leads_somewhere(link: str) -> None:
    name, _, anchor = link.partition("#")
    file = operations_guide.PAGE if not name else operations_guide.PAGE.parent / name
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not anchor or anchor in anchors
