"""Runs a module of this package in a process of its own, for what could harm the process that needs it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

_PACKAGE_PARENT: Final = str(Path(__file__).parents[2])
_START: Final = "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module; import_module(sys.argv[2]).main()"
"""`-I` ignores PYTHONPATH and the current folder, so the process gets the location of this package."""


def run_apart(module: str, argument: str, timeout_s: float) -> tuple[list[str], list[str]]:
    """Run the function `main` of a module, with `argument` as ``sys.argv[3]``; return the lines that it prints.

    Returns:
        The lines on standard output, and those on standard error.

    Raises:
        TimeoutError: it took too long, and was killed.
    """
    program = (sys.executable, "-I", "-X", "utf8", "-c", _START, _PACKAGE_PARENT, module, argument)
    try:
        done = subprocess.run(  # noqa: S603 (this package in this interpreter)
            program, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"took longer than {timeout_s:g} s") from None
    return done.stdout.decode(errors="replace").splitlines(), done.stderr.decode(errors="replace").splitlines()
