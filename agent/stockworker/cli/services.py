"""``stockworker worker`` (alias ``agent``) and ``stockworker dispatcher``: the two services."""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from stockworker.adapters.cgroup import Delegation, take_over
from stockworker.adapters.journal import JournalHandler
from stockworker.adapters.process import forbid_core_dumps, keep_exit_statuses, reap_orphans
from stockworker.adapters.sqlite import free_bytes
from stockworker.adapters.standard_streams import never_waiting
from stockworker.adapters.start_mark import StartMark
from stockworker.adapters.systemd import Notifier
from stockworker.cli import hangup
from stockworker.cli.defects import report
from stockworker.cli.identity import identify
from stockworker.cli.wiring import dispatcher_settings, worker_settings
from stockworker.config import Config, load, problems
from stockworker.dispatcher.service import EXHAUSTED_BYTES, DispatcherService
from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.stores import open_store
from stockworker.errors import AccessDenied, ConfigError, ConnectionFailed, StoreError, StoreFull
from stockworker.logs import configure, detach, log_event
from stockworker.logs.events import ConfigWarning, IdentityDiffers, StoreDiskFull, StoreFailed
from stockworker.logs.worker_events import Confined
from stockworker.protocol.topics import Role
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.terminal.findings import Finding
from stockworker.worker.journal import open_journal
from stockworker.worker.service import WorkerService

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_FOR_ROOM_S: Final = 1.0
_STILL_STARTING_S: Final = 10.0
"""Interval at which a slow start extends the start timeout of systemd."""


class _Service(Protocol):
    async def run(self) -> None: ...

    def stop(self) -> None: ...

    def reload(self) -> None: ...


def worker(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker worker``."""
    parser.description = (
        "Run a worker in the foreground. SIGTERM drains and stops it. SIGHUP reloads the configuration. "
        "`stockworker agent` is the same command."
    )
    add_config(parser)
    parser.add_argument("--instance", default="1", help="instance of the worker on this machine (default: 1)")
    parser.set_defaults(run=run_worker, is_service=True)


def dispatcher(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker dispatcher``."""
    parser.description = (
        "Run the dispatcher in the foreground. SIGTERM stops it; all jobs stay on disk. SIGHUP reloads the list of denied "
        "workers and the dispatcher's own certificate or password."
    )
    add_config(parser)
    parser.set_defaults(run=run_dispatcher, is_service=True)


def run_worker(arguments: argparse.Namespace) -> int:
    """Run a worker until a signal stops it."""
    _become_service()
    path, instance = arguments.config, arguments.instance
    config = load(path, instance)
    _prepare(config, path, instance, Role.WORKER)
    settings = worker_settings(path, instance)

    async def run() -> None:
        with closing(Notifier()) as notifier:
            journal = open_journal(config.worker.journal)
            groups = _confine()
            service = WorkerService(settings, journal, lambda: worker_settings(path, instance), notifier, groups)
            await _until_stopped(service)

    _run(run)
    return Exit.OK


def run_dispatcher(arguments: argparse.Namespace) -> int:
    """Run the dispatcher until a signal stops it."""
    _become_service()
    config = load(arguments.config)
    _prepare(config, arguments.config, None, Role.DISPATCHER)
    path = arguments.config
    settings = dispatcher_settings(path)

    async def run() -> None:
        with closing(Notifier()) as notifier:
            store = await _patiently(lambda: _open_when_there_is_room(config.dispatcher.store), notifier)
            mark = StartMark(config.dispatcher.store)
            await _until_stopped(DispatcherService(settings, store, mark, lambda: dispatcher_settings(path), notifier))

    _run(run)
    return Exit.OK


def _confine() -> Delegation | None:
    try:
        groups = take_over()
    except OSError as error:
        log_event(_log, Confined(by="process groups", reason=str(error)))
        return None
    log_event(_log, Confined(by="control groups", controllers=" ".join(sorted(groups.controllers)) or "none"))
    return groups


def _open_when_there_is_room(path: Path) -> JobStore:
    """Open the job store. With a full disk, wait: the next process could not open it either."""
    waits = False
    while True:
        try:
            return open_store(path)
        except StoreError:
            if not path.parent.is_dir() or free_bytes(path) >= EXHAUSTED_BYTES:
                raise
        if not waits:
            waits = True
            log_event(_log, StoreDiskFull())
        time.sleep(_LOOK_FOR_ROOM_S)


async def _patiently(prepare: Callable[[], T], notifier: Notifier) -> T:
    """Run a slow step of the start in a thread, and extend the start timeout of systemd until it is done."""
    preparing = asyncio.create_task(asyncio.to_thread(prepare))
    while not preparing.done():
        notifier.extend_timeout(2 * _STILL_STARTING_S)
        await asyncio.wait({preparing}, timeout=_STILL_STARTING_S)
    return preparing.result()


async def _until_stopped(service: _Service) -> None:
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


def _become_service() -> None:
    # systemd stops a hung service with SIGABRT; faulthandler then writes its stacks to the systemd journal.
    faulthandler.enable(never_waiting(sys.stderr))
    detach()


def _prepare(config: Config, path: Path | None, instance: str | None, role: Role) -> None:
    forbid_core_dumps()
    keep_exit_statuses()
    fixed = {"worker": config.worker.id} if role is Role.WORKER else {}
    configure(config.log.level, config.log.format, journal=partial(JournalHandler, fixed))
    for problem in problems(path, instance):
        log_event(_log, ConfigWarning(problem=problem.show()))
    who = identify(config, role)
    if isinstance(who, Finding):
        log_event(_log, IdentityDiffers(problem=who.text))


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
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
