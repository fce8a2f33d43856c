"""The programs that do the work: gpg, dpkg, rpm, createrepo_c."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from repository.errors import Refused


def run(*command: str | Path, given: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    """Run a program that must succeed; return its output.

    Raises:
        Refused: it failed; the text has its error output.
    """
    done = attempt(*command, given=given, environment=environment)
    if done.returncode != 0:
        output = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise Refused(f"{' '.join(map(str, command))}: {output}")
    return done.stdout


def attempt(
    *command: str | Path, given: bytes = b"", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run a program that may fail.

    Raises:
        Refused: it is not installed.
    """
    settings = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    try:
        return subprocess.run(command, input=given, env=settings, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise Refused(f"{command[0]} is not installed. 'make repo' installs it") from error
