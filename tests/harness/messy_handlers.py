"""Python handlers that leave something behind in their process."""

# ruff: noqa: T201, PTH109, PTH208, S311 (handlers print, and look at the system, for the tests)

import asyncio
import decimal
import faulthandler
import gc
import locale
import logging
import logging.config
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stockworker.handlers.api import Context, Job, PermanentError

os.environ["SET_BY_THE_MODULE"] = "kept"


class Tee:
    """A stream without `flush`."""

    def write(self, text: str) -> int:
        return len(text)


def _chdir() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def _loop_handler() -> None:
    asyncio.new_event_loop().add_signal_handler(signal.SIGTERM, print)


def _idle_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def _hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard - 1))


MESS: dict[str, Callable[[], object]] = {
    "working folder": _chdir,
    "umask": lambda: os.umask(0),
    "environment": lambda: os.environ.update({"LEFT": "behind", "TZ": "Asia/Tokyo"}),
    "alarm": lambda: signal.alarm(1000),
    "interval timer": lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
    "traceback later": lambda: faulthandler.dump_traceback_later(1000, exit=True),
    "SIGTERM": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "SIGTERM of asyncio": _loop_handler,
    "SIGCHLD": lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    "SIGALRM": lambda: signal.signal(signal.SIGALRM, print),
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1}),
    "open files": lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    ),
    "processors": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "stdout": lambda: setattr(sys, "stdout", Tee()),
    "no stdout": lambda: setattr(sys, "stdout", None),
    "stderr": lambda: setattr(sys, "stderr", Tee()),
    "disabled loggers": lambda: logging.config.dictConfig({"version": 1}),
    "removed handlers": lambda: logging.basicConfig(force=True),
    "level of the root": lambda: logging.getLogger().setLevel(logging.CRITICAL),
    "level of all": lambda: logging.disable(logging.CRITICAL),
    "level of the job": lambda: logging.getLogger("stockworker.job").setLevel(logging.CRITICAL),
    "filter": lambda: logging.getLogger("stockworker.job").addFilter(lambda _: False),
    "new logger": lambda: logging.getLogger("library").addHandler(logging.StreamHandler()),
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "import path": lambda: sys.path.insert(0, "/nowhere"),
    "importer": sys.meta_path.clear,
    "excepthook": lambda: setattr(sys, "excepthook", print),
    "tracing": lambda: sys.setprofile(lambda *_: None),
    "recursion": lambda: sys.setrecursionlimit(5000),
    "garbage": gc.disable,
    "socket timeout": lambda: socket.setdefaulttimeout(0.001),
    "warnings": lambda: warnings.simplefilter("error"),
    "decimal": lambda: setattr(decimal.getcontext(), "prec", 3),
}
"""Changes that are restored, by kind."""

LASTING: dict[str, Callable[[], object]] = {
    "child processes": lambda: subprocess.Popen(["sleep", "1000"]),
    "threads": _idle_thread,
    "descriptors 0, 1 and 2": lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 1),
    "sys.stdin, sys.stdout, sys.stderr": sys.stdout.close,
    "replaced or removed modules": lambda: sys.modules.update(json=logging),
    "resource limits": _hard_limit,
    "process group, priority, user and groups": lambda: os.nice(1),
}
"""What makes a new process run the next job, by the name that is logged."""


def mess(job: Job, _context: Context) -> int:
    (MESS | LASTING)[job.payload]()
    return os.getpid()


def look(_job: Job, context: Context) -> Any:
    """Everything that a job before may have changed, and the number of the process."""
    context.log.info("seen")
    print("printed")
    mask = os.umask(0)
    os.umask(mask)
    children = subprocess.run(["false"], check=False).returncode
    try:
        warnings.warn("harmless", stacklevel=1)
        warned = "accepted"
    except UserWarning as error:
        warned = repr(error)
    return os.getpid(), [
        os.getcwd(), mask, dict(os.environ), time.tzname, children, warned, str(decimal.Decimal(1) / 3),
        [signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        [repr(signal.getsignal(number)).partition(" at 0x")[0] for number in signal.valid_signals()],
        sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        resource.getrlimit(resource.RLIMIT_NOFILE), len(os.sched_getaffinity(0)),
        locale.setlocale(locale.LC_ALL), sys.path, len(sys.meta_path), sys.excepthook is sys.__excepthook__,
        sys.getprofile(), sys.getrecursionlimit(), gc.isenabled(), socket.getdefaulttimeout(),
        len(logging.getLogger("library").handlers), logging.getLogger("other").isEnabledFor(logging.WARNING),
        json_is_json(), os.nice(0), threading.active_count(), os.fstat(1).st_ino == os.fstat(2).st_ino,
    ]  # fmt: skip


def json_is_json() -> bool:
    return hasattr(sys.modules["json"], "loads")


def drawn(job: Job, _context: Context) -> float:
    """A random number; the job before has set the seed."""
    number = random.random()
    random.seed(job.payload)
    return number


# --- forks ---


def fork_and_return(job: Job, _context: Context) -> str:
    """Both sides end the handler in the same way; the copy is the first."""
    pid = os.fork()
    if pid == 0:
        if job.payload == "exit":
            sys.exit(3)
        if job.payload == "raise":
            raise ValueError("of the copy")
        return "from the copy"
    _, status = os.waitpid(pid, 0)
    return f"the copy exited with {os.waitstatus_to_exitcode(status)}"


def fork_and_log(_job: Job, context: Context) -> None:
    pid = os.fork()
    if pid == 0:
        context.progress(0.5, "progress of the copy")
        context.log.warning("logged by the copy")
        os._exit(0)
    os.waitpid(pid, 0)


def stop_children(_job: Job, _context: Context) -> int:
    """The usual ways to stop processes that were forked."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.apply_async(time.sleep, (1000,))
    assert process.exitcode is not None
    return process.exitcode


def keep_a_copy(_job: Job, _context: Context) -> str:
    """The copy returns later than the handler itself."""
    if os.fork() == 0:
        time.sleep(0.1)
        return "from the copy"
    return "from the handler"


# --- streams, logs and texts ---


def replace_stdout(job: Job, _context: Context) -> str:
    sys.stdout = Tee() if job.payload == "Tee" else None
    return "done"


class Mute:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def log_badly(_job: Job, context: Context) -> str:
    context.log.info("imported %d rows", "many")
    context.log.warning("of %s", Mute())
    record = logging.makeLogRecord({"levelno": 20.5, "msg": "between two levels"})
    context.log.handle(record)
    sys.stderr.close()
    context.log.info("imported %d rows", "many")
    return "done"


class Broken(PermanentError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(str):
    __slots__ = ()

    def strip(self, _characters: str | None = None) -> str:
        raise RuntimeError("no text")

    def __getitem__(self, _index: Any) -> str:
        raise RuntimeError("no text")


class BrokenText(PermanentError):
    def __str__(self) -> str:
        return Odd("x")


class BrokenClass(Exception):
    __module__ = 5  # type: ignore[assignment]


def raise_badly(job: Job, _context: Context) -> None:
    raise {"no text": Broken, "an odd text": BrokenText, "an odd class": BrokenClass}[job.payload]


async def coroutine(_job: Job, _context: Context) -> Any:
    async def never_run() -> int:
        return 1

    return never_run()


def generator(_job: Job, _context: Context) -> Iterator[int]:
    yield 1


async def asynchronous_generator(_job: Job, _context: Context) -> Any:
    yield 1


# --- the channel ---


def close_low_descriptors(job: Job, _context: Context) -> str:
    """As libraries for daemons do."""
    os.closerange(3, 256)
    with Path(job.payload).open("wb") as own:
        own.write(f"{own.fileno()}\n".encode())
        own.flush()
        return "done"


def take_the_channel(job: Job, context: Context) -> None:
    """Close everything, and open files until one of them gets the number of the channel."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    os.closerange(3, highest + 1)
    for number in range(highest):
        os.open(f"{job.payload}/{number}", os.O_WRONLY | os.O_CREAT)
    context.log.info("into a file?")
