"""The page ``docs/cli.md``, generated from the parsers, so that it equals ``--help``. `man_pages` has the same for man."""

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stockworker.cli.commands import COMMANDS, DESCRIPTION, PROGRAM, make_parser
from stockworker.protocol.messages import ReceiptEntry, Stats
from stockworker.protocol.views import AttemptView, Explanation, JobView, QueueView, WorkerView
from stockworker.protocol.wire import plan_of
from stockworker.terminal.exits import Exit

OUTPUT: Final = (
    "Results go to standard output, everything else to standard error. An error message names the problem, its cause "
    "and the remedy, in one line. With --json, standard output has one JSON object per line and nothing else. Times in "
    "it are seconds since the epoch on the dispatcher's clock. Fields that end in _s are durations in seconds. Absent "
    "values are omitted."
)


def _fields(cls: type) -> str:
    """What `shown` prints of a message, with the names that programs of older versions read."""
    return ", ".join(
        each.attribute + ("" if each.name == each.attribute else f" (also as {each.name})")
        for each in plan_of(cls).fields
    )


JSON_OUTPUT: Final = (
    ("status, list", _fields(JobView)),
    ("wait", "job_id (also as id), state, and result (the JSON that the handler returned) or reason"),
    (
        "submit, cancel, retry",
        f"{_fields(ReceiptEntry)}; line with submit --batch; the fields of wait with submit --wait, on separate lines with --batch; job_id with --dry-run",
    ),
    ("show", "all fields of status, why and of the options of submit; payload, result, progress (fraction, text)"),
    ("logs", "job_id, attempt, worker, outcome, text (or refusal: why it can't be opened), omitted (a count of bytes)"),
    ("why", f"{_fields(Explanation)}; of each attempt: {_fields(AttemptView)}"),
    ("workers", _fields(WorkerView)),
    ("pause, resume", "type, status (paused, resumed), reason"),
    ("drain, undrain", "worker, status (drained, undrained), reason"),
    ("stats", f"{_fields(Stats)}; of each queue: {_fields(QueueView)}; of each worker: {_fields(WorkerView)}"),
    (
        "events",
        "at (of its arrival, on this machine's clock), kind (job, worker, dispatcher, stream), event, job_id, type, worker, attempt, text",
    ),
    ("check", "severity (ok, warn, fail), check, text"),
    ("doctor", "part, severity (ok, warn, fail), check, text, next (the commands in the text)"),
    (
        "migrate",
        "moved, known, refused, rejected (counts); --dry-run: type, priority, jobs, sample, then record, reason; --verify: source, moved, dispatcher, unknown",
    ),
    ("market symbols", "symbol, interval, bars (a count), first_day, last_day"),
    (
        "market show",
        "symbol, date, open, high, low, close, volume, adjusted_close; with --actions: symbol, date, kind, value",
    ),
    (
        "market quality",
        "symbol, bars, first_day, last_day, behind, holes, outside and still (first, last, days), closed_days, jumps and outliers (day, factor, split)",
    ),
    ("market inspect", "payload (of data_import), rows, rejected (counts), bars (those of market show)"),
    ("pki init", "authority and crl (paths)"),
    ("pki request", "request and key (paths)"),
    (
        "pki issue, pki sign, pki renew",
        "the fields of pki list, and the paths certificate and, if it is new, key; is_new (false if --folder kept a certificate)",
    ),
    ("pki revoke, pki list", "kind, name, serial, issued_at, until, standing (the state), hosts, revoked_at"),
    ("pki crl", "crl (a path)"),
    ("pki token", "create: id, invitation, until; list: id, pattern, created_at, until, state, used_by, used_at"),
    ("pki join", "name, and the paths authority, certificate, key and configuration"),
    ("keys list", "holder, name, signing, sealing, state, private, types, groups, created, not_before, not_after"),
)
NOTATION: Final = (
    ("DURATION", "a number of seconds, or a number with ms, s, m, h or d: 30, 1.5h"),
    ("WHEN", "RFC 3339 with Z or an offset (2026-05-01T09:30:00Z), or a duration with a unit, counted from now (5m)"),
    ("PAST", "as WHEN, but a duration counts back from now (2h)"),
    ("TYPE, WORKER, TAG, KEY, NAME", "1 to 64 of the characters A-Z a-z 0-9 . _ -"),
    (
        "JOB",
        "ID for a job of this client, OWNER:ID for one of another client, :ID for a shared job. A unique beginning is enough",
    ),
)
EXAMPLES: Final = (
    (
        "Submit a job and print its result",
        'stockworker submit technical_analysis \'{"symbol": "AAPL"}\' --wait',
    ),
    (
        "Submit at low priority, to run in an hour",
        "stockworker submit price_update @symbols.json --priority low --not-before 1h",
    ),
    (
        "Submit many and wait for all of them",
        "stockworker submit price_update --batch jobs.jsonl | xargs stockworker wait",
    ),
    (
        "Run failed jobs again",
        "stockworker retry --all --type price_update",
    ),
    (
        "Drain a machine before maintenance, and use it again",
        "stockworker drain 1 2; stockworker stats --watch; stockworker undrain 1 2",
    ),
    (
        "Replace the keys of a group; the old keys still open what was sealed to them",
        "stockworker keys rotate group prices",
    ),
    (
        "Draw a chart of stored prices, as the user of the worker",
        "stockworker market plot AAPL --indicators sma:50,rsi --out aapl.svg",
    ),
    (
        "Cancel all queued jobs of a type: first see which, then exactly as many",
        "stockworker cancel --all --state queued --type price_update --dry-run",
    ),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An option or argument: its spellings and its meaning."""

    terms: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One command: its name, usage, arguments and example."""

    name: str
    usage: str
    description: str
    entries: tuple[Entry, ...]
    example: str


def markdown() -> str:
    """The page ``docs/cli.md``."""
    return "\n".join(_markdown_lines()) + "\n"


def chapters() -> Iterator[Chapter]:
    """The chapters of all commands, in the order of the help."""
    _, parsers = make_parser()
    for name, parser in parsers.items():
        parser.complete()
        description = " ".join((parser.description or "").split())
        example = f"{PROGRAM} {COMMANDS[name].example}"
        yield Chapter(name, _usage(name, parser), description, tuple(_entries(parser)), example)


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of a parser without ``--help``; argparse has no public way to list them."""
    return [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001 (see above)


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    words = [PROGRAM, name]
    actions = _actions(parser)
    if any(action.option_strings for action in actions):
        words.append("[OPTION]...")
    for action in actions:
        if not action.option_strings:
            metavar = str(action.metavar)
            forms = {"?": f"[{metavar}]", "+": f"{metavar}...", "*": f"[{metavar}]..."}
            words.append(forms.get(str(action.nargs), metavar))
    return " ".join(words)


def _entries(parser: argparse.ArgumentParser) -> Iterator[Entry]:
    for action in _actions(parser):
        value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else "")
        if not value and action.nargs is None:
            value = action.dest.upper()
        if action.nargs == "?" and action.option_strings:
            value = f"[{value}]"
        names = action.option_strings or [""]
        yield Entry(tuple(f"{name} {value}".strip() for name in names), action.help or "")


def _markdown_lines() -> Iterator[str]:
    yield from ("# The command line", "", DESCRIPTION, "")
    yield from ("| Command | |", "|---|---|")
    for name, command in COMMANDS.items():
        aliases = "".join(f" (alias `{alias}`)" for alias in command.aliases)
        yield f"| [`{name}`](#stockworker-{name.replace(' ', '-')}){aliases} | {command.summary} |"
    yield from ("", "`--config PATH` is allowed before and after the command.", "")
    for title, example in EXAMPLES:
        yield from (f"{title}:", "", f"    {example}", "")
    yield from ("## Output", "", textwrap.fill(OUTPUT, 120), "", "| Command | Fields |", "|---|---|")
    yield from (f"| {names} | {fields} |" for names, fields in JSON_OUTPUT)
    yield from ("", "## Values", "", "| Value | |", "|---|---|")
    yield from (f"| `{name}` | {meaning} |" for name, meaning in NOTATION)
    yield from ("", "## Exit statuses", "", "| Status | Meaning |", "|---|---|")
    yield from (f"| {status} | {status.meaning} |" for status in Exit)
    for chapter in chapters():
        yield from ("", f"## stockworker {chapter.name}", "", f"    {chapter.usage}", "")
        yield from (textwrap.fill(chapter.description, 120), "")
        yield from ("| Argument | Meaning |", "|---|---|")
        for entry in chapter.entries:
            terms = ", ".join(f"`{term}`" for term in entry.terms)
            yield f"| {terms} | {entry.meaning} |"
        yield from ("", "Example:", "", f"    {chapter.example}")
