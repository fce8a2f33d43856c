"""The pages for man(1): one of the program, one of each command, and one of the configuration file.

Packages make them from the parsers and from the schema of the configuration (`packaging/builder`), so no copy is kept here.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from docs.pages import configuration
from docs.pages.commands import EXAMPLES, JSON_OUTPUT, NOTATION, OUTPUT, Chapter, Entry, chapters
from stockworker.cli.commands import COMMANDS, DESCRIPTION, PROGRAM
from stockworker.terminal.exits import Exit

_SHARED_BY: Final = 10
"""What this many commands have in common is described once, on the page of the program."""

_FILES: Final = (
    ("/etc/stockworker/job_processor.yml", "The configuration: job_processor.yml(5)."),
    ("~/.config/stockworker/client.yml", "The configuration of one user's commands. Services do not read it."),
    (
        "/etc/stockworker/client.yml",
        "The configuration of the commands of users who have none of their own. Services do not read it.",
    ),
)
_MARKS: Final = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\([^)]*\)")
_ITEM: Final = re.compile(r"(-|\d+\.) +")


@dataclass(frozen=True, slots=True)
class _Page:
    """One page: its name and section, its one-line summary, and its lines after NAME."""

    name: str
    section: int
    summary: str
    lines: Iterator[str]

    def text(self) -> str:
        manual = {1: "User Commands", 5: "File Formats"}[self.section]
        title = f'.TH "{_roff(self.name.upper())}" {self.section} "" stockworker "{manual}"'
        return "\n".join([title, ".SH NAME", f"{_roff(self.name)} \\- {_roff(self.summary)}", *self.lines]) + "\n"


def man_pages() -> dict[str, str]:
    """The text of each page by its file name, such as `stockworker-submit.1`, for man(7)."""
    found = list(chapters())
    counted = Counter(entry for chapter in found for entry in chapter.entries)
    shared = frozenset(entry for entry, count in counted.items() if count >= _SHARED_BY)
    pages = [
        _Page(PROGRAM, 1, "job processing for fleets of Linux machines over MQTT", _program(found, shared)),
        *(_Page(_page_name(each.name), 1, COMMANDS[each.name].summary, _command(each, shared)) for each in found),
        _Page("job_processor.yml", 5, "configuration of stockworker", _configuration()),
    ]
    return {f"{page.name}.{page.section}": page.text() for page in pages}


def _page_name(command: str) -> str:
    return f"{PROGRAM}-{command.replace(' ', '-')}"


def _program(found: list[Chapter], shared: frozenset[Entry]) -> Iterator[str]:
    yield from (".SH SYNOPSIS", ".B stockworker", "[\\-\\-config PATH] COMMAND [ARGUMENT]...")
    yield from (".SH DESCRIPTION", _roff(DESCRIPTION), ".PP", _roff(OUTPUT))
    yield from (".SH COMMANDS", "Each command has a page of its own, such as stockworker\\-submit(1).")
    yield from _terms((chapter.name, COMMANDS[chapter.name].summary) for chapter in found)
    in_order = dict.fromkeys(entry for chapter in found for entry in chapter.entries if entry in shared)
    yield from (".SH COMMON OPTIONS", "The page of a command names those that it has.", *_entries(in_order))
    yield from (".SH VALUES", *_terms(NOTATION), ".SH JSON OUTPUT", *_terms(JSON_OUTPUT))
    yield from (".SH EXIT STATUS", *_terms((str(status), status.meaning) for status in Exit), ".SH EXAMPLES")
    for title, example in EXAMPLES:
        yield from (".PP", f"{_roff(title)}:", *_example(example))
    yield from (".SH FILES", *_terms(_FILES), ".SH ENVIRONMENT")
    yield from _terms(
        [("STOCKWORKER_CONFIG", "The configuration of commands, in place of all these files. Services ignore it.")]
    )
    yield from (".SH SEE ALSO", "job_processor.yml(5), mosquitto(8), mosquitto.conf(5)")


def _command(chapter: Chapter, shared: frozenset[Entry]) -> Iterator[str]:
    yield from (".SH SYNOPSIS", f".B {_roff(chapter.usage)}", ".SH DESCRIPTION", _roff(chapter.description))
    own = [entry for entry in chapter.entries if entry not in shared]
    if own:
        yield from (".SH OPTIONS", *_entries(own))
    common = [entry.terms[-1].split()[0] for entry in chapter.entries if entry in shared]
    if common:
        yield f".SH COMMON OPTIONS\n{_roff(', '.join(common))}: see stockworker(1)."
    yield from (".SH EXAMPLE", *_example(chapter.example))
    yield ".SH SEE ALSO\nstockworker(1) has the values, the fields of JSON output and the exit statuses. job_processor.yml(5)"


def _configuration() -> Iterator[str]:
    yield from (".SH DESCRIPTION", *_paragraphs(configuration.INTRODUCTION), ".SH KEYS")
    for chapter in configuration.chapters():
        yield from (f".SS {_roff(chapter.path)}", *_paragraphs(chapter.meaning))
        for row in configuration.rows(chapter):
            value = f"{_text(row.allowed)}; default: {_text(row.default)}" if row.default else _text(row.allowed)
            yield from (".TP", f"\\fB{_roff(row.name)}\\fR ({value})", _text(row.meaning))
    yield from (".SH SEE ALSO", "stockworker(1), stockworker\\-check(1)")


def _entries(entries: Mapping[Entry, None] | list[Entry]) -> Iterator[str]:
    return _terms((", ".join(entry.terms), entry.meaning) for entry in entries)


def _terms(rows: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in rows:
        yield from (".TP", f"\\fB{_roff(term)}\\fR", _roff(meaning))


def _example(example: str) -> tuple[str, ...]:
    return (".PP", ".nf", f"    {_roff(example)}", ".fi")


def _paragraphs(markdown: str) -> Iterator[str]:
    """Paragraphs and lists of Markdown, as the pages have them."""
    for block in markdown.strip().split("\n\n"):
        if block.startswith("#"):
            continue
        items = re.split(r"\n(?=(?:-|\d+\.) )", block)
        for item in items:
            found = _ITEM.match(item)
            mark = "\\(bu" if found is None or found[1] == "-" else found[1]
            yield ".PP" if found is None else f'.IP "{mark}" 4'
            yield _text(" ".join((item if found is None else item[found.end() :]).split()))


def _text(markdown: str) -> str:
    """A line of Markdown: code and bold text are bold, and a link is its text."""
    pieces, end = [], 0
    for found in _MARKS.finditer(markdown):
        shown = _roff(found[1] or found[2] or found[3])
        pieces += [_roff(markdown[end : found.start()]), shown if found[3] else f"\\fB{shown}\\fR"]
        end = found.end()
    return "".join([*pieces, _roff(markdown[end:])])


def _roff(text: str) -> str:
    """Escape text for roff, so that nothing in it is a request or an escape sequence."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
