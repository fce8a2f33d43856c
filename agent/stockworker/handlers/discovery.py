"""Finds and imports Python handlers: the built-in ones, those of installed packages, and any that a configuration names."""

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, Final

from stockworker import handlers
from stockworker.errors import ConfigError
from stockworker.handlers.api import Handler
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobType, check_id

ENTRY_POINTS: Final = "stockworker.handlers"
"""The entry-point group in which an installed package offers handlers: job type = ``package.module:function``."""


def discover() -> Mapping[JobType, str]:
    """The handler function of each job type that is built in or installed; an installed one replaces a built-in one.

    Raises:
        ConfigError: an installed package offers a type with an invalid name, or two packages offer the same type.
    """
    if not _may_offer():
        return handlers.BUILT_IN
    from importlib.metadata import entry_points  # noqa: PLC0415 (see `_may_offer`)

    installed: dict[JobType, str] = {}
    for entry_point in entry_points(group=ENTRY_POINTS):
        origin = f"entry point {ENTRY_POINTS!r}: {entry_point.name} = {entry_point.value}"
        try:
            job_type = JobType(check_id(entry_point.name))
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}. Correct or uninstall the package") from None
        other = installed.setdefault(job_type, entry_point.value)
        if other != entry_point.value:
            raise ConfigError(f"{origin}: {other} is installed for this type too. Uninstall one of the two packages")
    return {**handlers.BUILT_IN, **installed}


def _may_offer() -> bool:
    """Whether an installed package may offer handlers.

    `importlib.metadata` knows, but its import takes 10 ms, and most machines have no such package.
    """
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return True
    return any(map(_may_offer_in, sys.path))


def _may_offer_in(place: str) -> bool:
    try:
        names = os.listdir(place or ".")  # noqa: PTH208 (pathlib would take several times as long)
    except FileNotFoundError:
        return False
    except OSError:  # an archive, for example
        return True
    folders = [f"{place or '.'}/{name}" for name in names if name.lower().endswith((".dist-info", ".egg-info", ".egg"))]
    return any(folder.lower().endswith(".egg") or _names_group(folder) for folder in (*folders, place))


def _names_group(folder: str) -> bool:
    try:
        with open(f"{folder}/entry_points.txt", "rb") as file:  # noqa: PTH123 (as above)
            return ENTRY_POINTS.encode() in file.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def check_settings(function: str, settings: Mapping[str, Any]) -> None:
    """Check the settings of a built-in handler; those of others are their own affair.

    Raises:
        FieldError: a setting is unknown, missing or wrong.
    """
    if not settings or function not in handlers.BUILT_IN.values():
        return
    from stockworker.handlers.payload import parse_settings  # noqa: PLC0415 (most workers have no settings to check)

    definition = import_module(function.partition(":")[0]).DEFINITION
    if definition.settings is None:
        raise FieldError(f"unknown setting {next(iter(settings))!r}; this job type has none")
    parse_settings(settings, definition.settings)


def check_coroutine(function: str, handler: Handler) -> None:
    """Check that a handler can run beside others in one process.

    Raises:
        TypeError: it is not an ``async def`` function.
    """
    import inspect  # noqa: PLC0415 (slow to import, and few handlers are coroutines)

    plain = inspect.unwrap(handler)
    if not inspect.iscoroutinefunction(plain) and not inspect.iscoroutinefunction(getattr(plain, "__call__", None)):  # noqa: B004 (not whether it is callable)
        raise TypeError(
            f"{function} is not an `async def` function, so one process can't run several of its jobs at the same time: "
            "remove 'concurrency', or write `async def`"
        )


def load(function: str) -> Handler:
    """Import the function that ``package.module:function`` names.

    Raises:
        Exception: any exception that the module raises while it is imported; ImportError or AttributeError if the
            module or function does not exist, ValueError if the name has another form.
    """
    module, separator, name = function.partition(":")
    if not separator:
        raise ValueError(f"{function!r} is not of the form package.module:function")
    found: object = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{function} is not callable")
    return found
