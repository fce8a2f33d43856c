"""What the commands of both services have in common: a process that runs a service until a signal stops it."""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from stockworker.adapters.journal import JournalHandler
from stockworker.adapters.process import forbid_core_dumps, keep_exit_statuses, reap_orphans
from stockworker.adapters.standard_streams import never_waiting
from stockworker.adapters.systemd import Notifier
from stockworker.cli import hangup
from stockworker.cli.defects import report
from stockworker.cli.identity import identify
from stockworker.config import Config, Problem
from stockworker.errors import AccessDenied, ConfigError, ConnectionFailed, StoreError, StoreFull
from stockworker.logs import configure, detach, log_event
from stockworker.logs.events import ConfigWarning, IdentityDiffers, StoreFailed
from stockworker.protocol.topics import Role
from stockworker.terminal.findings import Finding

_log = logging.getLogger(__name__)

T = TypeVar("T")

_STILL_STARTING_S: Final = 10.0
"""Interval at which a slow start extends the start timeout of systemd."""


class _Service(Protocol):
    async def run(self) -> None: ...

    def stop(self) -> None: ...

    def reload(self) -> None: ...


async def patiently(slow: Callable[[], T], notifier: Notifier) -> T:
    """Run a slow step of the start in a thread, and extend the start timeout of systemd until it is done."""
    step = asyncio.create_task(asyncio.to_thread(slow))
    while not step.done():
        notifier.extend_timeout(2 * _STILL_STARTING_S)
        await asyncio.wait({step}, timeout=_STILL_STARTING_S)
    return step.result()


async def until_stopped(service: _Service) -> None:
    """Run a service, and pass signals on to it."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    if hangup.has_arrived():
        service.reload()
    if os.getpid() == 1:  # in a container
        reap_orphans()
    try:
        await service.run()
    except StoreError as error:
        log_event(_log, StoreFailed(problem=str(error)), exc_info=None if isinstance(error, StoreFull) else error)
        raise


def become_service() -> None:
    """First of all: a hang must leave its stacks, and the log must not wait for its reader."""
    # systemd stops a hung service with SIGABRT; faulthandler then writes its stacks to the systemd journal.
    faulthandler.enable(never_waiting(sys.stderr))
    detach()


def prepare(config: Config, warnings: Iterable[Problem], role: Role) -> None:
    """Set up the process and its log, and log what is doubtful in the configuration."""
    forbid_core_dumps()
    keep_exit_statuses()
    fixed = {"worker": config.worker.id} if role is Role.WORKER else {}
    configure(config.log.level, config.log.format, journal=partial(JournalHandler, fixed))
    for warning in warnings:
        log_event(_log, ConfigWarning(problem=warning.show()))
    who = identify(config, role)
    if isinstance(who, Finding):
        log_event(_log, IdentityDiffers(problem=who.text))


def run_main(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the event loop.

    Raises:
        AccessDenied: the broker refuses the service for good.
        ServiceFault: a defect, which is logged.
    """
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        try:
            runner.run(main())
        except ConnectionFailed as error:
            # A service ends over its connection only when the broker refuses it for good: a restart does not help.
            raise AccessDenied(str(error)) from None
        except (ConfigError, StoreError):
            raise
        except Exception as error:
            # Anything else, also an error that means something to a command, such as a TimeoutError, is a defect here.
            raise report(error) from error


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop if it is installed: it is a third faster and otherwise the same."""
    try:
        import uvloop  # noqa: PLC0415 (optional)
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return] # mypy does not see the types of uvloop
