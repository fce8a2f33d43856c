"""Coroutine handlers, one for each thing that one of them may do to those beside it."""

# ruff: noqa: T201, ASYNC110, ASYNC222, ASYNC230, ASYNC240, ASYNC251 (what handlers do wrong is what is tested)

import asyncio
import decimal
import os
import re
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stockworker.handlers.api import Context, Job, PermanentError


async def echo(job: Job, context: Context) -> Any:
    await asyncio.sleep(0)
    return {"id": job.id, "attempt": job.attempt, "payload": job.payload, "settings": dict(context.settings)}


async def nothing(_job: Job, _context: Context) -> None:
    return None


async def pid(_job: Job, _context: Context) -> int:
    return os.getpid()


def plain(_job: Job, _context: Context) -> int:
    return os.getpid()


async def meet(job: Job, context: Context) -> int:
    """Wait until a file exists; the payload is its path."""
    context.progress(0.5, f"waits for {Path(job.payload).name}")
    while not os.path.exists(job.payload):  # noqa: PTH110 (as short as possible)
        await asyncio.sleep(0.005)
    return os.getpid()


async def length(job: Job, _context: Context) -> int:
    return len(job.payload)


async def fail(_job: Job, _context: Context) -> None:
    await asyncio.sleep(0)
    raise ValueError("no such ticker: \ud800")


async def fail_for_good(_job: Job, _context: Context) -> None:
    raise PermanentError("ACME was delisted")


async def not_json(_job: Job, _context: Context) -> Any:
    return {"tickers": {"ACME"}}


async def leave(_job: Job, _context: Context) -> None:
    sys.exit("had enough")


async def leave_in_task(_job: Job, _context: Context) -> None:
    async def go() -> None:
        sys.exit("had enough")

    await asyncio.create_task(go())


async def forget_memory(_job: Job, _context: Context) -> None:
    raise MemoryError


async def hoard(job: Job, _context: Context) -> int:
    return len(bytearray(job.payload))


async def die(_job: Job, context: Context) -> None:
    context.progress(0.0, "dies")
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGSEGV)
    await asyncio.sleep(1000)


async def speak(job: Job, context: Context) -> None:
    """Log and print at the same time as others; the payload is a word."""
    for number in range(3):
        context.log.info("logs %s %d", job.payload, number)
        print(f"prints {job.payload} {number}")
        await asyncio.sleep(0)
        await asyncio.to_thread(print, f"prints {job.payload} {number} in a thread")
    os.write(1, f"writes {job.payload}\n".encode())


async def wait(_job: Job, context: Context) -> None:
    context.progress(0.0, "waits")
    await asyncio.sleep(1000)


async def wait_and_tidy(_job: Job, context: Context) -> str:
    context.progress(0.0, "waits")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        context.log.info("tidies up, cancelled: %s", context.cancelled())
    return "not looked at"


async def ignore_cancellation(_job: Job, context: Context) -> None:
    context.progress(0.0, "waits")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


async def block(_job: Job, context: Context) -> None:
    """Keep the loop in a call that other threads can run beside."""
    context.progress(0.0, "blocks")
    time.sleep(1000)


async def block_for_a_while(job: Job, context: Context) -> None:
    """Keep the loop until a file exists."""
    context.progress(0.0, "blocks")
    while not os.path.exists(job.payload):  # noqa: PTH110 (as short as possible)
        time.sleep(0.005)


async def hold_interpreter(_job: Job, context: Context) -> None:
    """Keep the loop and the interpreter's lock, as a bad regular expression does."""
    context.progress(0.0, "blocks")
    re.match(r"(a+)+$", "a" * 64 + "b")


async def leave_tasks(_job: Job, _context: Context) -> int:
    async def poll_prices() -> None:
        await asyncio.sleep(1000)

    task = asyncio.create_task(poll_prices())
    await asyncio.sleep(0)
    _left.append(task)
    return os.getpid()


async def left_tasks(_job: Job, _context: Context) -> list[bool]:
    return [task.cancelled() for task in _left]


_left: list[asyncio.Task[None]] = []


async def leave_stubborn_task(_job: Job, _context: Context) -> int:
    async def stay() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    _left.append(asyncio.create_task(stay()))
    await asyncio.sleep(0)
    return os.getpid()


async def change_signals(_job: Job, _context: Context) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
    os.chdir("/")
    return os.getpid()


async def surroundings(_job: Job, _context: Context) -> Any:
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)]
    return [os.getpid(), Path.cwd() != Path("/"), handlers[0] != signal.SIG_IGN, handlers[1] == signal.SIG_DFL]


async def round_numbers(job: Job, _context: Context) -> int:
    decimal.getcontext().prec = job.payload
    await asyncio.sleep(0.01)
    return decimal.getcontext().prec


async def fork(_job: Job, _context: Context) -> int:
    """Fork; the copy goes back to the loop of this process."""
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)
        os._exit(3)  # unreachable: the copy ends where it waits
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


async def count_up(job: Job, _context: Context) -> None:
    """Append to a file after others had their turn: the payload is its path."""
    for _ in range(20):
        await asyncio.sleep(0.001)
    with open(job.payload, "a") as file:  # noqa: PTH123 (as short as possible)
        file.write("ran\n")


async def write_garbage(_job: Job, _context: Context) -> None:
    for descriptor in range(3, 1024):
        with suppress(OSError):
            os.write(descriptor, b"garbage\n")
    await asyncio.sleep(1000)


async def by_name(job: Job, context: Context) -> Any:
    """Run one of the functions above: the payload is its name and its payload."""
    name, payload = job.payload
    return await globals()[name](replace(job, payload=payload), context)
