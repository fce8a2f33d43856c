"""Defects planted in a service of a fleet: a method that raises or hangs, in the real process."""

import sys
from dataclasses import dataclass
from typing import Final

from tests.harness.fleet import Service

_PROGRAM: Final = """
import sys
from importlib import import_module
from threading import Event
from stockworker.cli import main

module, owner, method, kind = sys.argv.pop(1).split(":")

def fail(*_arguments, **_options):
    if kind == "hangs":
        Event().wait()
    raise TimeoutError("planted")

setattr(getattr(import_module(module), owner), method, fail)
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A method that raises TimeoutError, which a command would take for a job that has not ended in time; or hangs."""

    module: str
    owner: str
    method: str
    hangs: bool = False

    def __str__(self) -> str:
        return f"{self.module}:{self.owner}:{self.method}:{'hangs' if self.hangs else 'raises'}"


def start_with_fault(service: Service, fault: PlantedFault) -> None:
    """Start a service with a defect; the next start is without it."""
    command = service.command
    python, _module_flag, _package, *words = command
    assert python == sys.executable
    service.command = [python, "-c", _PROGRAM, str(fault), *words]
    service.start()
    service.command = command
