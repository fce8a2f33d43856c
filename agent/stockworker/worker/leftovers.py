"""What one job leaves behind in its process, and what is done about it before the next one."""

# A process runs one job after another (`stockworker.worker.children`), so everything that belongs to the process as a
# whole could travel from one job to the next. `KEPT` lists it. A `ProcessState` reads all of it when a handler has been
# imported, because what a module sets while it is imported is meant for all of its jobs. After each job it compares,
# and puts back what differs. Where that is impossible, the process does not run another job.
#
# Context variables, the decimal context and filters of warnings need no comparison: `isolated` gives each job its own.
#
# Python sees only what Python has changed: a signal handler that C code installs, or a native thread, stays unnoticed.
# Modules stay imported, and keep their variables, connections and open files: that is what a process is reused for.

import contextvars
import faulthandler
import gc
import logging
import operator
import os
import resource
import signal
import sys
import threading
import time
import warnings
from _locale import LC_ALL, setlocale  # `locale` takes a millisecond to import
from _signal import getsignal  # type: ignore[import-not-found] # `signal` makes an enumeration of each answer: slow
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")


def _impossible(_value: Any) -> None:
    raise ValueError("can't be restored")


class Kept(NamedTuple):
    """One kind of state that belongs to the whole process.

    Attributes:
        name: for people.
        read: reads it.
        restore: sets it to what `read` returned before.
        is_same: whether a later value (the first argument) is as good as an earlier one.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object] = _impossible
    is_same: Callable[[Any, Any], bool] = operator.eq

    @property
    def is_restored(self) -> bool:
        """Whether it can be restored at all."""
        return self.restore is not _impossible


_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_SIGNALS: Final = tuple(map(int, signal.valid_signals()))
_LIMITS: Final = tuple({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_UNREADABLE: Final = object()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _environment() -> dict[bytes, bytes]:
    variables: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined] # noqa: SLF001 (not decoded: 10 times as fast)
    return variables.copy()


def _set_environment(variables: Mapping[bytes, bytes]) -> None:
    os.environ.clear()
    os.environb.update(variables)
    time.tzset()


def _armed() -> list[bool]:
    """Which timers run; the time that is left differs each time."""
    faulthandler.cancel_dump_traceback_later()
    return [signal.getitimer(which)[0] > 0 for which in _TIMERS]


def _disarm(before: Sequence[bool]) -> None:
    for which, armed in zip(_TIMERS, before, strict=True):
        if not armed:
            signal.setitimer(which, 0)


def _signal_handlers() -> list[Any]:
    signal.set_wakeup_fd(-1)  # the loop of asyncio that it belonged to is closed
    return [getsignal(number) for number in _SIGNALS]


def _set_signal_handlers(handlers: Sequence[Any]) -> None:
    # A loop of asyncio that was never closed resets its handlers when it is collected: now, and not during a later job.
    gc.collect()
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if getsignal(number) != handler:
            signal.signal(number, handler)


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(kind) for kind in _LIMITS]


def _set_limits(limits: Sequence[tuple[int, int]]) -> None:
    for kind, pair in zip(_LIMITS, limits, strict=True):
        if resource.getrlimit(kind) != pair:
            resource.setrlimit(kind, pair)


def _streams() -> list[Any]:
    return [(stream, getattr(stream, "closed", True)) for stream in (sys.stdin, sys.stdout, sys.stderr)]


def _set_streams(streams: Sequence[Any]) -> None:
    (sys.stdin, _), (sys.stdout, _), (sys.stderr, _) = streams


def _identities() -> list[tuple[int, int]]:
    """What the descriptors of standard input, output and error belong to."""
    return [(status.st_dev, status.st_ino) for status in map(os.fstat, (0, 1, 2))]


def _import_paths() -> list[list[Any]]:
    return [list(sys.path), list(sys.meta_path), list(sys.path_hooks)]


def _set_import_paths(paths: Sequence[list[Any]]) -> None:
    sys.path[:], sys.meta_path[:], sys.path_hooks[:] = paths


def _hooks() -> list[Any]:
    return [sys.excepthook, sys.unraisablehook, threading.excepthook, sys.gettrace(), sys.getprofile()]


def _set_hooks(hooks: Sequence[Any]) -> None:
    sys.excepthook, sys.unraisablehook, threading.excepthook, trace, profile = hooks
    sys.settrace(trace)
    sys.setprofile(profile)


def _tuning() -> list[Any]:
    return [sys.getrecursionlimit(), gc.isenabled(), gc.get_threshold()]


def _set_tuning(values: Sequence[Any]) -> None:
    depth, collects, thresholds = values
    sys.setrecursionlimit(depth)
    (gc.enable if collects else gc.disable)()
    gc.set_threshold(*thresholds)


_UNTOUCHED: Final = (logging.NOTSET, False, True, (), ())


def _loggers() -> dict[str, logging.Logger]:
    known = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {"root": logging.root, **known}


def _logging() -> tuple[int, dict[str, Any]]:
    """The state of all loggers that differ from a new one."""
    states = {
        name: (each.level, each.disabled, each.propagate, tuple(each.handlers), tuple(each.filters))
        for name, each in _loggers().items()
    }
    return logging.root.manager.disable, {name: each for name, each in states.items() if each != _UNTOUCHED}


def _set_logging(state: tuple[int, Mapping[str, Any]]) -> None:
    logging.disable(state[0])
    for name, each in _loggers().items():
        level, each.disabled, each.propagate, handlers, filters = state[1].get(name, _UNTOUCHED)
        each.setLevel(level)
        each.handlers[:], each.filters[:] = handlers, filters


def _socket_timeout() -> Any:
    module: Any = sys.modules.get("socket")
    return module and module.getdefaulttimeout()


def _set_socket_timeout(timeout_s: float | None) -> None:
    sys.modules["socket"].setdefaulttimeout(timeout_s)


def _identity() -> list[Any]:
    return [os.getpgrp(), os.getpriority(os.PRIO_PROCESS, 0), os.getresuid(), os.getresgid(), os.getgroups()]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _still_has(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return before.items() <= now.items()


KEPT: Final = (
    Kept("working folder", os.getcwd, os.chdir),
    Kept("umask", _umask, os.umask),
    Kept("environment variables", _environment, _set_environment),
    Kept("timers and alarms", _armed, _disarm),
    Kept("signal handlers", _signal_handlers, _set_signal_handlers),
    Kept(
        "blocked signals",
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        lambda blocked: signal.pthread_sigmask(signal.SIG_SETMASK, blocked),
    ),
    Kept("resource limits", _limits, _set_limits),
    Kept("processors", lambda: os.sched_getaffinity(0), lambda processors: os.sched_setaffinity(0, processors)),
    Kept("sys.stdin, sys.stdout, sys.stderr", _streams, _set_streams),
    Kept("loggers", _logging, _set_logging),
    Kept("locale", lambda: setlocale(LC_ALL, None), lambda name: setlocale(LC_ALL, name)),
    Kept("import paths", _import_paths, _set_import_paths),
    Kept("hooks of the interpreter", _hooks, _set_hooks),
    Kept("recursion limit and garbage collection", _tuning, _set_tuning),
    Kept("default timeout of sockets", _socket_timeout, _set_socket_timeout),
    Kept("descriptors 0, 1 and 2", _identities),
    Kept("process group, priority, user and groups", _identity),
    Kept("replaced or removed modules", sys.modules.copy, is_same=_still_has),
    Kept("child processes", _has_children, is_same=lambda now, _: not now),
    Kept("threads", threading.active_count, is_same=operator.le),
)
"""All of it, in the order in which it is restored."""


def _set_filters(filters: Sequence[Any]) -> None:
    warnings.resetwarnings()
    for each in reversed(filters):
        warnings.filters.insert(0, each)  # type: ignore[attr-defined] # it is a list


_POOL: Final = "asyncio_"
"""What the names of the threads of an event loop begin with."""

KEPT_TOGETHER: Final = (
    *(kept for kept in KEPT if kept.name != "threads"),
    Kept("filters of warnings", lambda: warnings.filters[:], _set_filters),
    Kept(
        "threads", lambda: sum(not each.name.startswith(_POOL) for each in threading.enumerate()), is_same=operator.le
    ),
)
"""All of it in a process whose jobs run at the same time: `isolated` gives them no filters, and their loop has threads."""


class ProcessState:
    """The state of this process, as each job of its handlers must find it."""

    def __init__(self, kinds: Sequence[Kept] = KEPT) -> None:
        self._before = [(kept, _read(kept)) for kept in kinds]

    def restore(self) -> list[str]:
        """Put back what a job has changed; return the names of what can't be put back."""
        return [kept.name for kept, before in self._before if not _is_restored(kept, before)]


def _read(kept: Kept) -> Any:
    try:
        return kept.read()
    except Exception:  # noqa: BLE001 (a folder that was deleted, an object that a handler has put there)
        return _UNREADABLE


def _is_restored(kept: Kept, before: Any) -> bool:
    try:
        if kept.is_same(_read(kept), before):
            return True
        kept.restore(before)
        return kept.is_same(_read(kept), before)
    except Exception:  # noqa: BLE001 (the same)
        return False


def isolated(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function with context variables, a decimal context, warning filters and random numbers of its own."""
    decimal: Any = sys.modules.get("decimal")
    random: Any = sys.modules.get("random")
    if random is not None:
        random.seed()  # a seed of the last job would make this one predictable
    with warnings.catch_warnings():
        if decimal is None:
            return contextvars.copy_context().run(function, *arguments)
        with decimal.localcontext():
            return contextvars.copy_context().run(function, *arguments)
