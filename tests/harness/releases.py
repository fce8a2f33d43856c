"""Releases of the packages to roll out: a good one, and bad ones that must not get beyond the canary."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.harness.publishing import ROOT

_SOURCES: Final = ("agent", "docs", "etc", "packaging", "requirements", "sample-data", "systemd", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Release:
    """A release.

    Attributes:
        version: of all packages.
        file: the file that differs from the sources, below agent/stockworker; empty for none.
        before: its original text.
        after: the text of the release.
    """

    version: str
    file: str = ""
    before: str = ""
    after: str = ""


_START: Final = '"""Run a worker until a signal stops it."""\n'
FIRST: Final = Release("0.1.0")
GOOD: Final = Release("0.2.0")
CRASHES: Final = Release("0.3.0", "cli/worker.py", _START, f'{_START}    raise RuntimeError("a bad release")\n')
NEVER_REGISTERS: Final = Release("0.4.0", "cli/worker.py", _START, f"{_START}    __import__('time').sleep(100_000)\n")
FAILS_JOBS: Final = Release(
    "0.5.0",
    "market/technical_analysis.py",
    '"""Compute the indicators that the payload names."""\n',
    '"""Compute nothing."""\n    raise RuntimeError("a bad release")\n',
)


def build(release: Release, folder: Path) -> Path:
    """Build the packages of a release, as `make packages` does; return their folder."""
    source = folder / "source"
    documents = (file.name for file in ROOT.glob("*.md"))
    for name in (*_SOURCES, *documents, "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, source / name)
    if release.file:
        file = source / "agent" / "stockworker" / release.file
        text = file.read_text()
        assert release.before in text, f"{release.file} has changed: adapt tests/harness/releases.py"
        file.write_text(text.replace(release.before, release.after))
    environment = {
        **os.environ,
        "PATH": f"{ROOT / '.venv-packaging' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{source / 'packaging'}:{source / 'agent'}",
        "SOURCE_DATE_EPOCH": "1767225600",
    }
    command = [sys.executable, "-m", "builder", "--out", str(folder / "dist"), "--version", release.version]
    done = subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "dist"
