"""The catalogue of log events is complete, and nothing in it is dead.

The type checker refuses a misspelt event or field; these tests check what it can't see.
"""

import ast
from pathlib import Path

import pytest

from stockworker.logs.events import EVENTS, LogEvent

RESERVED = {"time", "level", "logger", "event", "text", "exception", "muted_s"}
ABOUT_OTHERS = {"job", "type", "worker", "client", "sender", "topic"}
LOGS = Path("agent/stockworker/logs")
RENDERING = {"test_logs.py", "test_flood.py", "test_journal_entries.py"}
"""Tests of how an event is printed: they create events themselves, so they don't show that the product logs one."""


def created() -> set[str]:
    """The names of the classes of which product code creates instances."""
    calls = (
        node
        for file in Path("agent/stockworker").rglob("*.py")
        if file.name in {"detached.py", "flood.py"} or not file.is_relative_to(LOGS)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    )
    return {ast.unparse(call.func).split(".")[-1] for call in calls}


def named_in_tests() -> set[str]:
    """Each string and each name in the tests that trigger events."""
    found: set[str] = set()
    for file in Path("tests").rglob("test_*.py"):
        if file.name in RENDERING or file.is_relative_to("tests/architecture"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Constant(value=str(text)):
                    found.add(text)
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
                case _:
                    pass
    return found


CREATED = created()
NAMED = named_in_tests()


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_no_field_hides_what_every_line_has(event: type[LogEvent]) -> None:
    assert not RESERVED & set(event.field_names)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_lines_about_others_are_limited(event: type[LogEvent]) -> None:
    """A field that names a job, a type, a peer or a topic shows that others can cause the event."""
    assert not set(event.field_names) & ABOUT_OTHERS or event.cause.lines_a_minute is not None


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_lines_are_counted_by_fields_that_the_event_has(event: type[LogEvent]) -> None:
    assert set(event.cause.key) <= set(event.field_names)
    assert "job" not in event.cause.key, "a client chooses it: each job would have an allowance of its own"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_the_product_logs_the_event(event: type[LogEvent]) -> None:
    assert event.__name__ in CREATED, f"nothing logs {event.name}: delete it, or log it"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_test_triggers_the_event(event: type[LogEvent]) -> None:
    assert {event.name, event.__name__} & NAMED, f"no test expects {event.name}: add one that triggers it"


def test_every_event_is_in_the_catalogue_once() -> None:
    names = [event.name for event in EVENTS]
    assert sorted(set(names)) == sorted(names)
    assert {event for event in _leaves(LogEvent) if not event.__name__.startswith("_")} == set(EVENTS)


def _leaves(event: type[LogEvent]) -> set[type[LogEvent]]:
    subclasses = event.__subclasses__()
    return {leaf for subclass in subclasses for leaf in _leaves(subclass)} if subclasses else {event}
