"""Which handler runs which job type: what the configuration names, and what is installed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Final

from stockworker import handlers
from stockworker.errors import ConfigError
from stockworker.handlers.api import Handler, Json
from stockworker.protocol.ids import JobType, check_id

ENTRY_POINTS: Final = "stockworker.handlers"
"""The entry-point group in which an installed package offers handlers: job type = ``package.module:function``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may use; None is no limit.

    Attributes:
        memory_bytes: memory of the whole attempt in a control group with that controller, elsewhere private memory of
            each process (RLIMIT_DATA, not RLIMIT_AS: address space that is merely reserved, as by PHP, Java or Go,
            costs nothing).
        cpu_s: processor time of each process, in seconds; of the whole attempt too, in a control group.
        open_files: file descriptors of each process.
        processors: how many of them the whole attempt may keep busy, in a control group with that controller.
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None
    open_files: int | None = None
    processors: float | None = None

    def of_each_process(self, controllers: Collection[str]) -> "Limits":
        """What is left for each process to be limited by, where a control group has these `controllers`."""
        return replace(self, memory_bytes=None) if "memory" in controllers else self


@dataclass(frozen=True, slots=True)
class PythonHandler:
    """A function ``package.module:function`` that is called as `stockworker.handlers.api.Handler`."""

    function: str
    settings: Mapping[str, Json] = field(default_factory=dict, repr=False)  # may hold an API key
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class CommandHandler:
    """A program: payload on standard input, JSON result on standard output, exit code decides (65: don't retry).

    `settings`, if any, reach it as JSON in the file that the environment variable ``STOCKWORKER_SETTINGS_FILE`` names.
    """

    argv: tuple[str, ...]
    settings: Mapping[str, Json] = field(default_factory=dict, repr=False)  # may hold an API key
    limits: Limits = Limits()


HandlerSpec = PythonHandler | CommandHandler


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
