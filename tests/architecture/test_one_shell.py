"""Decide, commit, perform is written once: in the two turns. Tests and the simulation drive those, and no copies of them.

A copy of a turn decodes packets, calls a machine and commits its decisions. A driver may do none of these, except in an
override that only watches (`super().handle`, `super().commit`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, imports, parse

DISPATCHER, WORKER = "stockworker.dispatcher.turn", "stockworker.worker.turn"
DRIVERS = {
    "tests/simulation/dispatcher.py": {DISPATCHER},
    "tests/simulation/worker.py": {WORKER},
    "tests/simulation/test_offline.py": {DISPATCHER, WORKER},
    "tests/harness/dispatching.py": {DISPATCHER},
    "tests/harness/working.py": {WORKER},
    "tests/property/test_dispatcher_machine.py": {DISPATCHER},
    "tests/property/test_worker_machine.py": {WORKER},
}
"""The code that runs a service without its shell, and the turns that it must run."""

SHARED_DRIVER = "tests/simulation/process.py"
READERS = {"tests/simulation/test_offline.py", "tests/harness/working.py", "tests/property/test_worker_machine.py"}
"""Drivers that decode packets, but only those that a turn has returned, for assertions."""


def calls(path: Path) -> Iterator[ast.Attribute]:
    """The methods that a file calls, except on `super()`."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called_on = node.func.value
            if not (isinstance(called_on, ast.Call) and getattr(called_on.func, "id", "") == "super"):
                yield node.func


def machines_created(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Machine"):
            yield node.func.id


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_runs_the_turns_that_ship(driver: str) -> None:
    path = ROOT / driver
    assert DRIVERS[driver] <= imports(path)
    assert "take" in {call.attr for call in calls(path)}


@pytest.mark.parametrize("driver", [*DRIVERS, SHARED_DRIVER])
def test_a_driver_neither_asks_the_machine_nor_commits(driver: str) -> None:
    assert [f"line {call.lineno}" for call in calls(ROOT / driver) if call.attr in {"handle", "commit"}] == []


@pytest.mark.parametrize("driver", sorted({*DRIVERS, SHARED_DRIVER} - READERS))
def test_a_driver_decodes_no_message(driver: str) -> None:
    assert [f"line {call.lineno}" for call in calls(ROOT / driver) if ast.unparse(call) == "codec.decode"] == []


def test_nothing_else_in_the_simulation_runs_a_machine() -> None:
    """A file that creates a machine without being listed above would escape the tests above."""
    simulation = sorted((ROOT / "tests" / "simulation").glob("*.py"))
    creators = {str(path.relative_to(ROOT)) for path in simulation if list(machines_created(path))}
    assert creators <= DRIVERS.keys()
