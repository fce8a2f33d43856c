"""Texts of others reach the terminal of a person: no command prints a character that a terminal obeys.

Each message is made from its class, with every such character in each of its texts, so a new field is covered by itself.
"""

import dataclasses
import io
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from json import dumps as json_text
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Self, TypeVar, cast, get_type_hints

import pytest

from stockworker.cli import main
from stockworker.cli.commands import COMMANDS
from stockworker.cli.probe import Probed
from stockworker.client import Completion, Output
from stockworker.client.fleet_events import KIND_OF, EventFilter, FleetEvent
from stockworker.doctor.facts import UnitFacts
from stockworker.doctor.roles import Part, PartRole
from stockworker.errors import StockworkerError
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import Order, Progress, ReceiptEntry, ReceiptStatus, Stats, Submission
from stockworker.protocol.views import Explanation, JobDetails, JobView, WorkerView
from stockworker.protocol.wire import (
    Choice,
    Flag,
    Identifier,
    Integer,
    Items,
    JobIdentifier,
    Kind,
    Label,
    Number,
    Object,
    Table,
    Text,
    Unordered,
    plan_of,
)
from stockworker.terminal.findings import Finding, Severity

T = TypeVar("T")

CONTROLS: Final = "".join(
    map(
        chr,
        [
            *range(0x20),  # C0
            *range(0x7F, 0xA0),  # DEL, C1
            *(0x61C, 0x200B, 0x200E, 0x200F, 0xFEFF),  # marks of direction and of no width
            *(0x2028, 0x2029),  # separators of lines and paragraphs
            *range(0x202A, 0x202F),  # embeddings and overrides of the direction
            *range(0x2066, 0x206A),  # isolates
            *(0xE0041, 0xD800, 0xDC80),  # a tag, halves of pairs
        ],
    )
)
EVIL: Final = f"evil{CONTROLS}\x1b[2J\x1b]0;title\x07\x9b2J\r\nforged"
EVIL_NAME: Final = EVIL.replace("\0", "").replace("\ud800", "")
"""What a file or an argument may be called."""

OF_COMMANDS: Final = ("\r\x1b[K", "\x1b[H\x1b[2J")
"""What commands themselves order a terminal to do: erase a line, clear the screen."""


def evil(cls: type[T], **fixed: object) -> T:
    """A message, or a part of one, with `EVIL` in every text."""
    plan = plan_of(cls)
    fields: dict[str, Any] = {each.attribute: evil_value(each.kind) for each in plan.fields}
    hints = get_type_hints(cls)
    for each in dataclasses.fields(cast("Any", cls)):
        if each.name not in fields:
            fields[each.name] = None if "Reply" in str(hints[each.name]) else EVIL
    return cls(**{**fields, **fixed})


def evil_value(kind: Kind) -> Any:
    match kind:
        case Text() | Identifier() | JobIdentifier():
            return EVIL
        case Integer(lowest=lowest) | Number(lowest=lowest):
            return max(lowest, 1)
        case Flag():
            return True
        case Choice(of=words) | Label(of=words):
            return next(iter(words))
        case Items(item=item):
            return (evil_value(item),)
        case Unordered(item=item):
            return frozenset({evil_value(item)})
        case Table(key=key, value=value):
            return ((evil_value(key), evil_value(value)),)
        case Object(plan=plan):
            return evil(plan.cls)
        case _:
            raise AssertionError(f"no value for {kind}")


def evil_event(name: str) -> FleetEvent:
    return FleetEvent(name, cast("Any", EVIL), cast("Any", EVIL), cast("Any", EVIL), 1, EVIL)


class EvilClient:
    """A client whose dispatcher is compromised."""

    state = State.FAILED
    status = ReceiptStatus.STORED
    error: type[StockworkerError] | None = None
    problem = EVIL

    def __init__(self, *_: object, on_progress: Callable[[Progress], None] | None = None, **__: object) -> None:
        self._on_progress = on_progress
        self._looks = 0

    async def __aenter__(self) -> Self:
        if self.error is not None:
            error = StockworkerError(EVIL)
            error.__class__ = self.error
            raise error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def query(self, job_ids: Iterable[str], *, with_results: bool = False) -> Sequence[JobView]:
        assert with_results in {True, False}
        return [evil(JobView, job_id=job_id, state=self.state) for job_id in job_ids]

    async def resolve(self, job_ids: Iterable[str]) -> Sequence[str]:
        return list(job_ids)

    async def search(self, wanted: JobFilter, most: int | None = None) -> AsyncIterator[JobView]:
        assert wanted.limit
        assert most != 0
        for _ in range(2):
            yield evil(JobView, state=self.state)

    async def list(self, _wanted: JobFilter) -> Sequence[JobView]:
        return [evil(JobView, state=self.state)] * 2

    async def workers(self, _after: str = "") -> AsyncIterator[WorkerView]:
        for _ in range(2):
            yield evil(WorkerView)

    async def details(self, job_id: str) -> JobDetails:
        return evil(JobDetails, job_id=job_id)

    async def outputs(self, _job_id: str, _attempt: int | None = None) -> Sequence[Output]:
        return [Output(number, text, 1, EVIL) for number, text in enumerate([EVIL, None], 1)]

    async def explain(self, _job_id: str) -> Explanation:
        return evil(Explanation)

    async def stats(self) -> Stats:
        self._looks += 1
        if self._looks > 2:
            raise KeyboardInterrupt
        return evil(Stats)

    async def events(self, wanted: EventFilter) -> AsyncIterator[FleetEvent]:
        assert wanted.matches(evil_event("failed"))
        for name in KIND_OF:
            yield evil_event(name)

    async def order(self, _order: Order) -> ReceiptEntry:
        return evil(ReceiptEntry, status=self.status)

    async def cancel(self, _job_id: str) -> ReceiptEntry:
        return evil(ReceiptEntry, status=self.status)

    retry = cancel

    async def submit_many(
        self,
        submissions: Iterable[Submission],
        on_receipts: Callable[[Sequence[ReceiptEntry]], None] | None = None,
    ) -> Sequence[ReceiptEntry]:
        entries = [evil(ReceiptEntry, status=self.status) for _ in submissions]
        if on_receipts is not None:
            on_receipts(entries)
        return entries

    async def wait(self, job_ids: Iterable[str], _timeout_s: float | None = None) -> AsyncIterator[Completion]:
        for job_id in job_ids:
            if self._on_progress is not None:
                self._on_progress(evil(Progress, job_id=job_id))
            yield Completion(cast("Any", job_id), self.state, EVIL, None if self.state is State.COMPLETED else EVIL)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal that shows standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.setenv("NO_COLOR", "1")  # so each escape sequence is that of a peer
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    return Terminal()


def run(screen: Terminal, *words: str) -> int:
    """Run a command on the terminal."""
    with redirect_stdout(screen), redirect_stderr(screen):
        return main(words)


@pytest.fixture
def evil_dispatcher(monkeypatch: pytest.MonkeyPatch) -> type[EvilClient]:
    """The commands speak to an `EvilClient`; the returned class decides what it answers."""

    class Client(EvilClient):
        pass

    config = SimpleNamespace(encryption=None)
    monkeypatch.setattr("stockworker.cli.connection.load", lambda _: config)
    monkeypatch.setattr("stockworker.cli.connection.identify", lambda *_: Finding(Severity.WARN, "identity", EVIL))
    monkeypatch.setattr("stockworker.cli.connection.client_name", lambda _: "alice")
    monkeypatch.setattr("stockworker.cli.connection.link_settings", lambda *_: None)
    monkeypatch.setattr("stockworker.cli.connection.Client", Client)
    monkeypatch.setattr("stockworker.cli.operator_commands.instances", lambda _: ())
    return Client


def assert_harmless(screen: Terminal) -> None:
    shown = screen.getvalue()
    assert shown, "nothing was printed"
    for own in OF_COMMANDS:
        shown = shown.replace(own, "")
    harmful = {character for character in shown if character != "\n" and not character.isprintable()}
    assert harmful == set()
    assert not set(CONTROLS) & set(shown) - {"\n"}


REMOTE: Final = {
    "submit": [["submit", "echo", "1"], ["submit", "echo", "1", "--wait"]],
    "status": [["status", "job"]],
    "wait": [["wait", "job"]],
    "result": [["result", "job"], ["result", "job", "--wait"]],
    "list": [["list"], ["list", "--limit", "1"]],
    "workers": [["workers"], ["workers", "--limit", "1"]],
    "cancel": [["cancel", "job"], ["cancel", "--all", "--type", "echo", "--dry-run"]],
    "retry": [["retry", "job"], ["retry", "--all"], ["retry", "--all", "--expect", "7"]],
    "show": [["show", "job"]],
    "why": [["why", "job"]],
    "logs": [["logs", "job"], ["logs", "job", "--follow"]],
    "words": [["words", kind] for kind in ("jobs", "types", "workers")],
    "pause": [["pause", "echo"]],
    "resume": [["resume", "echo"]],
    "drain": [["drain", "host-1"]],
    "undrain": [["undrain", "host-1"]],
    "events": [["events"], ["events", "--count", "2"]],
    "stats": [["stats"], ["stats", "--watch", "1ms"]],
    "top": [["top", "--once"]],
}
"""Commands that print what the dispatcher sends."""

LINES: Final = [line for lines in REMOTE.values() for line in lines]
WITHOUT_JSON: Final = {"result", "top", "words"}


def test_every_command_that_talks_to_the_dispatcher_is_covered() -> None:
    modules = {command.complete.partition(":")[0] for name, command in COMMANDS.items() if name in REMOTE}
    talking = {name for name, command in COMMANDS.items() if command.complete.partition(":")[0] in modules}
    connecting = {
        f"cli.{file.stem}" for file in Path("agent/stockworker/cli").glob("*.py") if "converse(" in file.read_text()
    }
    assert talking == set(REMOTE)
    # Tests of its own, below, cover `migrate`.
    assert connecting - {"cli.connection", "cli.migrate"} <= modules


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_no_message_of_the_dispatcher_controls_a_terminal(
    screen: Terminal, evil_dispatcher: type[EvilClient], words: list[str], json: list[str]
) -> None:
    if words[0] not in WITHOUT_JSON:
        words = [*words, *json]
    states = sorted(TERMINAL) if words[0] in {"submit", "wait", "result", "status"} else [State.FAILED]
    for evil_dispatcher.state in states:
        for evil_dispatcher.status in ReceiptStatus:
            run(screen, *words)
    assert_harmless(screen)
    if words[0] not in {"result", "logs"} and "--wait" not in words:  # a result and a log may have lines of their own
        assert not any(line.startswith("forged") for line in screen.getvalue().splitlines())


def test_no_receipt_of_a_batch_controls_a_terminal(
    screen: Terminal, evil_dispatcher: type[EvilClient], tmp_path: Path
) -> None:
    batch = tmp_path / "jobs"
    batch.write_text('{"type": "echo"}\n' * 2)
    for evil_dispatcher.status in ReceiptStatus:
        run(screen, "submit", "--batch", str(batch))
        run(screen, "submit", "--batch", str(batch), "--wait")
    assert_harmless(screen)


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_no_error_controls_a_terminal(screen: Terminal, evil_dispatcher: type[EvilClient], words: list[str]) -> None:
    evil_dispatcher.error = StockworkerError
    assert run(screen, *words) != 0
    assert_harmless(screen)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_argument_controls_a_terminal(
    screen: Terminal, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockworker.pki.arguments._FOLDER", tmp_path / "ca")  # `pki init` makes an authority
    assert run(screen, *name.split(), f"--{EVIL_NAME}") != 0
    assert run(screen, *name.split(), EVIL_NAME, EVIL_NAME, EVIL_NAME) != 0
    run(screen, "--config", EVIL_NAME, *name.split())
    assert_harmless(screen)


@pytest.mark.parametrize(
    "words",
    [
        ["check", "--offline"],
        ["doctor", "--offline"],
        ["keys", "list"],
        ["pki", "list", "--folder"],
        ["backup"],
        ["submit", "--batch"],
    ],
    ids=" ".join,
)
def test_no_name_or_content_of_a_file_controls_a_terminal(screen: Terminal, tmp_path: Path, words: list[str]) -> None:
    named = tmp_path / EVIL_NAME[:60]
    named.write_text(EVIL, errors="replace")
    config = tmp_path / "config.yml"
    config.write_text('job_processor:\n  worker: {id: "\\e[2J\\x9b\\u202e"}\n  "\\e]0;": {}\n')
    if words[0] in {"backup", "submit"} or words[-1] == "--folder":
        words = [*words, str(named)]
    run(screen, "--config", str(config), *words)
    run(screen, "--config", str(named), *words)
    assert_harmless(screen)


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_no_answer_to_a_probe_controls_a_terminal(
    screen: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, json: list[str]
) -> None:
    async def probe(*_: object, **__: object) -> Probed:
        found = [Finding(severity, EVIL, EVIL) for severity in Severity]
        return Probed(found, version=EVIL, ahead_s=100.0, workers={EVIL: EVIL})

    monkeypatch.setattr(f"stockworker.cli.{command}.probe", probe)
    config = tmp_path / "client.yml"
    config.write_text(
        "job_processor:\n  queue: {backend: mqtt, mqtt: {host: localhost, port: 1883}}\n  client: {id: ann}\n"
    )
    run(screen, command, "--config", str(config), *json)
    assert "evil" in screen.getvalue()
    assert_harmless(screen)


def test_no_fact_about_this_host_controls_a_terminal(screen: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = dict.fromkeys(("ActiveState", "SubState", "Result", "UnitFileState"), EVIL)
    facts = UnitFacts(EVIL, properties | {"LoadState": "loaded"}, EVIL, 1)
    monkeypatch.setattr("stockworker.doctor.probes.unit_facts", lambda _unit: facts)
    monkeypatch.setattr("stockworker.cli.doctor.parts", lambda _traces: [Part(PartRole.WORKER, EVIL)])
    run(screen, "doctor", "--offline")
    assert "evil" in screen.getvalue()
    assert_harmless(screen)


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("mode", ["--inspect", "--dry-run", ""])
def test_no_record_of_an_old_queue_controls_a_terminal(
    screen: Terminal, evil_dispatcher: type[EvilClient], tmp_path: Path, mode: str, json: list[str]
) -> None:
    old = tmp_path / "old.sqlite3"
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(
            "CREATE TABLE jobs (id, type, payload, priority, status, attempts, max_attempts, scheduled_at)"
        )
        text = EVIL_NAME.encode(errors="replace").decode()
        records = [(text[:60], text, text), ("1", "echo", json_text({text: EVIL_NAME})), ("2", text, "1")]
        connection.executemany("INSERT INTO jobs VALUES (?, ?, ?, 5, 'pending', 0, 3, NULL)", records)
    evil_dispatcher.status = ReceiptStatus.REJECTED
    words = ["migrate", f"sqlite://{old}", "--preset", "jobs", "--report", str(tmp_path / "report"), *json]
    run(screen, *words, *filter(None, [mode]))
    assert_harmless(screen)


def test_no_warning_of_a_library_controls_a_terminal(screen: Terminal) -> None:
    run(screen, "--version")
    with redirect_stderr(screen):
        record = logging.makeLogRecord({"name": "gmqtt", "levelno": logging.WARNING, "msg": f"the broker sent {EVIL}"})
        cast("logging.Handler", logging.lastResort).handle(record)
    assert "the broker sent" in screen.getvalue()
    assert_harmless(screen)
