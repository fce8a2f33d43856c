"""What is logged is in the catalogue."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.logs import Event

RESERVED = {"time", "level", "logger", "event", "text", "exception"}
OPTIONS = {"level", "exc_info", "stack"}


@pytest.mark.parametrize("event", Event)
def test_no_field_hides_what_every_line_has(event: Event) -> None:
    assert not RESERVED & set(event.value.fields)


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(Path("agent/stockworker").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "log_event":
                yield f"{file}:{node.lineno}", node


def test_calls_use_the_fields_of_the_catalogue() -> None:
    for place, call in calls():
        event = call.args[1]
        if isinstance(event, ast.Attribute) and ast.unparse(event.value) == "Event":
            names = {keyword.arg for keyword in call.keywords if keyword.arg} - OPTIONS
            unknown = names - set(Event[event.attr].value.fields)
            assert not unknown, f"{place}: {sorted(unknown)} missing in the catalogue for {event.attr}"
