"""Finds and imports Python handlers: the built-in ones, those of installed packages, and any that a configuration names."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from stockworker import handlers
from stockworker.errors import ConfigError
from stockworker.handlers.api import Handler
from stockworker.protocol.ids import JobType, check_id

ENTRY_POINTS: Final = "stockworker.handlers"
"""The entry-point group in which an installed package offers handlers: job type = ``package.module:function``."""


def discover() -> Mapping[JobType, str]:
    """Say which function runs which type where the configuration names none: the built-in ones and those installed.

    Raises:
        ConfigError: an installed package offers a type with an invalid name, or two packages offer the same type.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow to import, and child processes don't need it)

    installed: dict[JobType, str] = {}
    for entry_point in entry_points(group=ENTRY_POINTS):
        origin = f"entry point {ENTRY_POINTS!r}: {entry_point.name} = {entry_point.value}"
        try:
            job_type = JobType(check_id(entry_point.name))
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}: correct or uninstall the package") from None
        other = installed.setdefault(job_type, entry_point.value)
        if other != entry_point.value:
            raise ConfigError(f"{origin}: {other} is installed for this type too: uninstall one of the two")
    return {**handlers.BUILT_IN, **installed}


def load(function: str) -> Handler:
    """Import the function that ``package.module:function`` names.

    Raises:
        Exception: whatever the module raises while it is imported; ImportError, AttributeError or ValueError if there
            is no such module or function, or if that is not how a function is named.
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
