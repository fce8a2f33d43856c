"""Imports handlers in a process of their own, to learn which of them can't be loaded."""

# A module may do anything while it is imported: exit, hang, print, change its process. So no service and no command
# imports a handler itself.

import json
import sys
from collections.abc import Collection, Sequence
from typing import Final

from stockworker.adapters.trial import run_apart
from stockworker.handlers.discovery import check_coroutine, load

_PATIENCE_S: Final = 30.0


def failed_imports(
    functions: Sequence[str], folders: Sequence[str], coroutines: Collection[str] = ()
) -> dict[str, str]:
    """Import functions as a child process of a worker does; return the errors of those that can't be loaded.

    Args:
        functions: as `package.module:function`.
        folders: more folders of modules.
        coroutines: those of `functions` that must be `async def`.
    """
    try:
        output, errors = run_apart(__name__, json.dumps([functions, folders, [*coroutines]]), _PATIENCE_S)
    except TimeoutError as error:
        return dict.fromkeys(functions, f"the import of the handlers {error}")
    try:
        failed: dict[str, str] = json.loads(output[-1])
    except (IndexError, ValueError):  # one of them ended the process: by itself each shows whether it was that one
        if len(functions) > 1:
            return {
                name: text for each in functions for name, text in failed_imports([each], folders, coroutines).items()
            }
        return dict.fromkeys(functions, f"its import ended the process: {(errors or ['without a message'])[-1]}")
    return failed


def main() -> None:
    """Import what the argument names, and print the errors."""
    functions, folders, coroutines = json.loads(sys.argv[3])
    sys.path += folders
    failed = {}
    for function in functions:
        try:
            handler = load(function)
            if function in coroutines:
                check_coroutine(function, handler)
        except BaseException as error:  # noqa: BLE001 (a module may raise anything while it is imported)
            failed[function] = f"{type(error).__name__}: {error}"
    print(f"\n{json.dumps(failed)}", file=sys.__stdout__, flush=True)
