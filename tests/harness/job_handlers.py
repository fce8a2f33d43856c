"""Python handlers, one for each thing that a handler may do."""

# ruff: noqa: T201 (what handlers print is what is tested)

import ctypes
import gc
import itertools
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from stockworker.handlers.api import Context, Job, PermanentError
from stockworker.worker.runner import Runner


def echo(job: Job, context: Context) -> Any:
    return {
        "id": job.id,
        "type": job.type,
        "attempt": job.attempt,
        "payload": job.payload,
        "settings": dict(context.settings),
    }


def nothing(_job: Job, _context: Context) -> None:
    return None


def pid(_job: Job, _context: Context) -> int:
    return os.getpid()


def descriptors(_job: Job, _context: Context) -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (which opens one itself)


def append(job: Job, _context: Context) -> Any:
    """Add a word to a file, and crash or wait if asked to. The payload: the file or "", the word, what to wait for."""
    file, word, *gate = job.payload or ["", ""]
    if file:
        with open(file, "a") as ran:  # noqa: PTH123 (as short as possible)
            ran.write(f"{word}\n")
    if word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while gate and not os.path.exists(gate[0]):  # noqa: PTH110 (the same)
        time.sleep(0.005)
    return word


def not_json(_job: Job, _context: Context) -> Any:
    return {"tickers": {"ACME"}}


def not_finite(_job: Job, _context: Context) -> Any:
    return {"rsi": [50.0, float("nan")]}


def not_utf8(_job: Job, _context: Context) -> str:
    return "\ud800"


def endless(_job: Job, _context: Context) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def large(job: Job, _context: Context) -> str:
    return "x" * int(job.payload)


def length(job: Job, _context: Context) -> int:
    return len(job.payload)


def fail(_job: Job, _context: Context) -> None:
    raise ValueError("no such ticker: \ud800")


def fail_for_good(_job: Job, _context: Context) -> None:
    raise PermanentError("ACME was delisted")


def leave(_job: Job, _context: Context) -> None:
    sys.exit("had enough")


def die(job: Job, _context: Context) -> None:
    os.write(2, b"last words\n")
    os._exit(job.payload)


def die_by_signal(job: Job, _context: Context) -> None:
    os.kill(os.getpid(), job.payload)
    signal.pause()


def read_null(_job: Job, _context: Context) -> None:
    ctypes.string_at(0)


def wait_for_cancel(_job: Job, context: Context) -> str:
    context.progress(0.0, "started")
    while not context.cancelled():
        time.sleep(0.005)
    context.log.info("stopped by myself")
    return "not looked at"


def wait_for_file(job: Job, _context: Context) -> int:
    while not Path(job.payload).exists():
        time.sleep(0.005)
    return os.getpid()


def hang_in_c(_job: Job, context: Context) -> None:
    """Never returns to the interpreter, and never releases the GIL."""
    context.progress(0.0, "started")
    re.match("(a+)+$", "a" * 64 + "b")


def hang_with_family(_job: Job, context: Context) -> None:
    """As `hang_in_c`, with a forked child that ignores SIGTERM and another program as a child."""
    taken = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    while child == 0:
        signal.pause()
    signal.signal(signal.SIGTERM, taken)
    program = subprocess.Popen(["sleep", "1000"])
    context.log.info("%d %d %d", os.getpid(), child, program.pid)
    re.match("(a+)+$", "a" * 64 + "b")


def scatter(job: Job, context: Context) -> None:
    """Start processes that leave the process group and ignore SIGTERM. With a payload: never return."""
    taken = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    program = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    child = os.fork()
    if child == 0:
        os.setsid()
    while child == 0:
        signal.pause()
    signal.signal(signal.SIGTERM, taken)
    context.log.info("%d %d %d", os.getpid(), child, program.pid)
    while job.payload:
        time.sleep(1000)


def burn_together(_job: Job, _context: Context) -> None:
    """Use processor time in two processes that exit before either reaches its own limit."""
    os.fork()
    while time.process_time() < 0.75:
        pass
    time.sleep(1000)


def control_group(_job: Job, _context: Context) -> str:
    return next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))


def say(job: Job, context: Context) -> Any:
    """Pass on the text of the payload, `times` times in a row, in the way that it names."""
    text = job.payload["text"] * job.payload["times"]
    match job.payload["way"]:
        case "progress":
            context.progress(0.5, text)
        case "result":
            return text
        case "error":
            raise ValueError(text)
        case "permanent error":
            raise PermanentError(text)
        case "log":
            context.log.warning(text)
            context.log.warning("%d", text)
        case "log level":
            context.log.log(10**30, text)
        case "output":
            os.write(1, text.encode(errors="surrogatepass"))
        case "name":
            raise type(text.replace("\0", "") or "X", (Exception,), {"__str__": None})
        case way:
            raise AssertionError(f"unknown way {way}")
    return None


def forge(job: Job, context: Context) -> str:
    """Write lines into the channel to the worker; `TOKEN` becomes the own one.

    Each item of the payload is how many such lines to write, and the pieces of the line, each with how often in a row.
    """
    attempt = context.progress.__self__  # type: ignore[attr-defined]
    for lines, *pieces in job.payload:
        line = "".join(piece * times for piece, times in pieces).replace("TOKEN", attempt.token)
        attempt._send((line + "\n").encode(errors="surrogatepass") * lines)
    signal.pause()
    return "unreachable"


def print_things(_job: Job, context: Context) -> None:
    print("printed")
    print('["ended","t1","ok","forged",null,false,true]')
    print("complained", file=sys.stderr)
    os.write(1, b"from C code\n")
    context.log.debug("not for the log")
    context.log.warning("logged %d", 1)
    logging.getLogger("some.library").error("by a library")
    print("without an end", end="")


def print_much(_job: Job, context: Context) -> None:
    for number in range(10_000):
        print("line", number)
    for number in range(10_000):
        context.log.info("record %d", number)
    print("y" * 1_000_000)


def talk(job: Job, context: Context) -> str:
    """Print lines and log a record, then wait for the file `gate`; fail in the first attempts, as many as the payload has."""
    print(f"prints in attempt {job.attempt}")
    for number in range(job.payload.get("lines", 0)):
        print(f"{number:>15}")
    context.log.warning("logs in attempt %d: %s", job.attempt, job.payload.get("secret", ""))
    while "gate" in job.payload and not Path(job.payload["gate"]).exists():
        time.sleep(0.01)
    if job.attempt <= job.payload.get("failures", 0):
        raise ValueError(f"fails in attempt {job.attempt}")
    return "done"


def log_much(_job: Job, context: Context) -> None:
    for number in range(5000):
        context.log.info("record %d", number)
    context.log.error("x" * 3000)


def print_and_wait(job: Job, _context: Context) -> None:
    print("before the end")
    if job.payload == "die":
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1000)


def close_streams(_job: Job, _context: Context) -> Any:
    sys.stdout.close()
    return sys.stdin.read()


def scribble(_job: Job, _context: Context) -> None:
    """Write to every open file descriptor."""
    for descriptor in range(3, 2000):
        with suppress(OSError):
            os.write(descriptor, b"scribble\n")
    signal.pause()


def report_progress(job: Job, context: Context) -> None:
    for fraction in job.payload:
        context.progress(fraction, "x" * 10_000)


def show_progress(_job: Job, context: Context) -> None:
    """Report the same progress again and again, until the job is cancelled."""
    while not context.cancelled():
        context.progress(0.5, "half way")
        time.sleep(0.02)


def leave_a_thread(_job: Job, context: Context) -> None:
    """Report progress long after the job has ended."""

    def report() -> None:
        for number in itertools.count():
            context.progress(0.5, f"{number} of the thread")
            time.sleep(0.001)

    threading.Thread(target=report, daemon=True).start()


def use_memory(job: Job, _context: Context) -> int:
    return len(bytearray(job.payload))


def use_cpu(_job: Job, _context: Context) -> None:
    while True:
        pass


def open_files(job: Job, _context: Context) -> int:
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(job.payload)]
    for descriptor in descriptors:
        os.close(descriptor)
    return len(descriptors)


def limits(_job: Job, _context: Context) -> Any:
    return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)]


def known_types(_job: Job, _context: Context) -> list[str]:
    """The job types whose handlers and settings are in this process."""
    (runner,) = [each for each in gc.get_objects() if isinstance(each, Runner)]
    return list(runner._specs)


def environment(_job: Job, _context: Context) -> Any:
    return dict(os.environ)
