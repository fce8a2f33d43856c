"""Runs the demo, and always cleans up after it."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from demo.scenario import play
from demo.screen import Screen
from stockworker.errors import StockworkerError
from tests.harness.broker import BrokerFailed
from tests.harness.fleet import ServiceFailed

_ROOT: Final = Path(__file__).parents[1]
_INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; return its exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Shows stockworker at work on this machine.")
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), help="the folder for the charts: %(default)s"
    )
    output: Path = parser.parse_args().output
    screen = Screen(sys.stdout)
    return asyncio.run(_interruptible(lambda: play(screen, output), screen))


async def _interruptible(show: Callable[[], Coroutine[Any, Any, bool]], screen: Screen) -> int:
    """Run the demo until it ends or a signal arrives.

    The first signal cancels the demo, which then cleans up; further signals have no effect. Steps that block the event
    loop (starting the fleet, drawing) take a second or two and always complete.
    """
    loop = asyncio.get_running_loop()
    shown = loop.create_task(show())
    received: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        if not received:
            shown.cancel()
        received.append(number)

    for number in _INTERRUPTIONS:
        loop.add_signal_handler(number, interrupt, number)
    try:
        return 0 if await shown else 1
    except asyncio.CancelledError:
        screen.say("\nInterrupted: everything that was started has been stopped.")
        return 128 + received[0]
    except (StockworkerError, ServiceFailed, BrokerFailed, TimeoutError) as error:
        screen.say(f"\nThe demo has failed: {error}")
        return 1
