"""How a job type is handled: a Python function or a command, with its settings and limits. PURE."""

from collections.abc import Collection, Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may use; None means no limit.

    Attributes:
        memory_bytes: memory of the whole attempt in a control group with that controller. Elsewhere private memory of
            each process: RLIMIT_DATA, not RLIMIT_AS, because address space that is only reserved (by PHP, Java or Go)
            costs nothing.
        cpu_s: processor time of each process, in seconds; in a control group also of the whole attempt.
        open_files: file descriptors of each process.
        processors: how many processors the whole attempt may use, in a control group with that controller.
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None
    open_files: int | None = None
    processors: float | None = None

    def of_each_process(self, controllers: Collection[str]) -> "Limits":
        """The limits to set for each process, if a control group with these `controllers` enforces the others."""
        return replace(self, memory_bytes=None) if "memory" in controllers else self


class Isolation(StrEnum):
    """Which jobs may run one after another in the same process."""

    SHARED = "shared"
    PER_TYPE = "per_type"
    PER_JOB = "per_job"


@dataclass(frozen=True, slots=True)
class PythonHandler:
    """A function ``package.module:function``, called as a `stockworker.handlers.api.Handler`.

    Attributes:
        concurrency: how many jobs one process runs at the same time; more than one needs an ``async def`` function.
            `limits` then apply to the process, for all its jobs together.
    """

    function: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold an API key
    limits: Limits = Limits()
    isolation: Isolation = Isolation.PER_TYPE
    concurrency: int = 1


@dataclass(frozen=True, slots=True)
class CommandHandler:
    """A program: payload on standard input, JSON result on standard output. Exit code 65 means: don't retry.

    The program finds `settings`, if any, as JSON in the file that the variable ``STOCKWORKER_SETTINGS_FILE`` names.
    """

    argv: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold an API key
    limits: Limits = Limits()


HandlerSpec = PythonHandler | CommandHandler
