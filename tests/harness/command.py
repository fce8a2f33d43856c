"""The `stockworker` command as users run it: in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has exited."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        """The output, which must be one line."""
        (line,) = self.output.splitlines()
        return json.loads(line)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.output.splitlines()]


def arguments(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "stockworker", "--config", str(config), *words]


def run(config: Path, *words: str, stdin: bytes = b"") -> Finished:
    """Run the command until it exits; it must never print a traceback."""
    environment = {**os.environ, "TZ": "UTC", "COLUMNS": "100"}
    done = subprocess.run(
        arguments(config, *words), input=stdin, capture_output=True, check=False, timeout=TIMEOUT_S, env=environment
    )
    finished = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in finished.errors, finished.errors
    return finished


def changed(config: Path, name: str, **sections: Mapping[str, Any] | None) -> Path:
    """A copy of a configuration file with some keys of some sections replaced, or sections removed (None)."""
    tree = yaml.safe_load(config.read_text())["job_processor"]
    for section, keys in sections.items():
        tree[section] = None if keys is None else {**tree.get(section, {}), **keys}
    file = config.with_name(f"{name}.yml")
    file.write_text(yaml.safe_dump({"job_processor": tree}))
    return file
