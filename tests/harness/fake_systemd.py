"""Replacements for systemctl, timedatectl and journalctl: they answer from a state in a file, and change it when ordered to."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RUNS: Final = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "0",
    "NeedDaemonReload": "no",
    "MainPID": "0",
}
"""The properties of a unit that runs."""

_PROGRAM: Final = """#!{python}
import fnmatch, json, pathlib, sys
FILE = pathlib.Path({state!r})
STATE = json.loads(FILE.read_text())
UNITS, WORDS = STATE["units"], [word for word in sys.argv[1:] if not word.startswith("--")]
NAMES = [option for option in sys.argv[1:] if option.startswith("--property=")]

def shown(properties):
    for name in NAMES[0].partition("=")[2].split(","):
        if name in properties:
            print(f"{{name}}={{properties[name]}}")

def named(pattern):
    full = pattern if "." in pattern else pattern + ".service"
    return [unit for unit in UNITS if fnmatch.fnmatch(unit, full)] if full != "stockworker.target" else list(UNITS)

program, verb = pathlib.Path(sys.argv[0]).name, WORDS[0] if WORDS else ""
if program == "timedatectl":
    if verb == "set-ntp":
        STATE["clock"]["NTPSynchronized"] = "yes"
    elif verb == "show":
        shown(STATE["clock"])
elif program == "journalctl":
    for entry in STATE["journal"]:
        print(json.dumps(entry))
elif verb == "show":
    shown(UNITS.get(WORDS[1], {{"LoadState": "not-found"}}))
elif verb in ("list-units", "list-unit-files"):
    for pattern in WORDS[1:]:
        for unit in named(pattern):
            if verb == "list-units" or UNITS[unit]["UnitFileState"] == "enabled":
                print(unit, "loaded active running")
elif verb == "daemon-reload":
    for unit in UNITS.values():
        unit["NeedDaemonReload"] = "no"
else:
    for unit in (UNITS[name] for pattern in WORDS[1:] for name in named(pattern)):
        if verb == "unmask":
            unit.update(LoadState="loaded", UnitFileState="enabled")
        elif verb in ("start", "restart"):
            unit.update(ActiveState="active", SubState="running", NRestarts="0")
        elif verb == "enable":
            unit.update(UnitFileState="enabled")
            if "--now" in sys.argv:
                unit.update(ActiveState="active", SubState="running")
        elif verb == "edit":
            unit.update({{name: "infinity" for name in ("LimitNOFILE", "TasksMax", "MemoryMax") if name in unit}})
        elif verb == "revert":
            unit.update(STATE["shipped"])
FILE.write_text(json.dumps(STATE))
"""


@dataclass(frozen=True, slots=True)
class FakeSystemd:
    """The programs of systemd in a folder, for the beginning of PATH."""

    folder: Path

    @property
    def path(self) -> str:
        """The value of PATH with these programs first."""
        return f"{self.folder}:{os.environ['PATH']}"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def set(self, **sections: Any) -> None:
        """Replace sections: `units` (properties by name), `clock`, `journal` (entries), `shipped` (properties)."""
        self._state.write_text(json.dumps({**json.loads(self._state.read_text()), **sections}))


def fake_systemd(folder: Path) -> FakeSystemd:
    """Put the programs into a new folder."""
    folder.mkdir()
    state = folder / "state.json"
    state.write_text(json.dumps({"units": {}, "clock": {}, "journal": [], "shipped": {}}))
    for name in ("systemctl", "timedatectl", "journalctl"):
        program = folder / name
        program.write_text(_PROGRAM.format(python=sys.executable, state=str(state)))
        program.chmod(0o755)
    return FakeSystemd(folder)
