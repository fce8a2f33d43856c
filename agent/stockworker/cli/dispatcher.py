"""``stockworker dispatcher``: from the configuration to a running dispatcher."""

import argparse
import asyncio
import logging
from contextlib import closing
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.collector import keep_pauses_short
from stockworker.adapters.sqlite import free_bytes
from stockworker.adapters.start_mark import StartMark
from stockworker.adapters.systemd import Notifier
from stockworker.cli.services import become_service, patiently, prepare, run_main, until_stopped
from stockworker.cli.wiring import has_recipient, metrics_file, recipient, service_link
from stockworker.config import Config, load, load_with_warnings
from stockworker.config.schema import DispatcherConfig, TypePolicy
from stockworker.dispatcher.notification_sender import NotificationSettings
from stockworker.dispatcher.notifications import NotificationSubject
from stockworker.dispatcher.policy import Allowance, JobDefaults, JobLimits, LiveLimits, Policy, Prefetch
from stockworker.dispatcher.service import EXHAUSTED_BYTES, DispatcherService, DispatcherSettings
from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.stores import open_store
from stockworker.errors import ConfigError, StoreError, unread
from stockworker.logs import log_event
from stockworker.logs.events import StoreDiskFull
from stockworker.protocol.ids import WorkerId, check_id
from stockworker.protocol.topics import Role
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.trusted_files import read_trusted

_log = logging.getLogger(__name__)

_LOOK_FOR_ROOM_S: Final = 1.0


def dispatcher(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker dispatcher``."""
    parser.description = (
        "Run the dispatcher in the foreground. SIGTERM stops it; all jobs stay on disk. SIGHUP reloads the list of denied "
        "workers and the dispatcher's own certificate or password."
    )
    add_config(parser)
    parser.set_defaults(run=run_dispatcher, is_service=True)


def run_dispatcher(arguments: argparse.Namespace) -> int:
    """Run the dispatcher until a signal stops it."""
    become_service()
    path = arguments.config
    config, warnings = load_with_warnings(path, None)
    prepare(config, warnings, Role.DISPATCHER)
    settings = _settings(config)

    async def run() -> None:
        with closing(Notifier()) as notifier:
            store = await _open_when_there_is_room(config.dispatcher.store, notifier)
            mark = StartMark(config.dispatcher.store)
            service = DispatcherService(settings, store, mark, lambda: dispatcher_settings(path), notifier)
            keep_pauses_short()
            await until_stopped(service)

    run_main(run)
    return Exit.OK


async def _open_when_there_is_room(path: Path, notifier: Notifier) -> JobStore:
    """Open the job store. With a full disk, wait: the next process could not open it either."""
    waits = False
    while True:
        try:
            return await patiently(lambda: open_store(path), notifier)
        except StoreError:
            if not path.parent.is_dir() or free_bytes(path) >= EXHAUSTED_BYTES:
                raise
        if not waits:
            waits = True
            log_event(_log, StoreDiskFull())
        await asyncio.sleep(_LOOK_FOR_ROOM_S)  # here, and not in a thread: Ctrl-C would wait for that


def dispatcher_settings(path: Path | None) -> DispatcherSettings:
    """The settings of the dispatcher.

    Raises:
        ConfigError: the configuration, or a file that it names, is not usable.
    """
    return _settings(load(path))


def _settings(config: Config) -> DispatcherSettings:
    own, metrics, notifications = config.dispatcher, metrics_file(config, config.dispatcher.id), _notifications(config)
    reports_losses = notifications is not None and NotificationSubject.LOSSES in notifications.subjects
    return DispatcherSettings(
        own.id,
        service_link(config, own.id),
        policy(config),
        denied_workers(config),
        metrics,
        tracers=config.metrics.tracers and (metrics is not None or reports_losses),
        notifications=notifications,
    )


def _notifications(config: Config) -> NotificationSettings | None:
    own = config.notifications
    if own is None or not has_recipient(own):
        return None
    subjects = frozenset(map(NotificationSubject, own.subjects))
    return NotificationSettings(recipient(own), subjects, own.most_per_hour, own.missing_after_s)


def denied_workers(config: Config) -> frozenset[WorkerId]:
    """The workers whose messages the dispatcher ignores.

    Raises:
        ConfigError: the file is not readable, or contains an invalid ID.
    """
    file = config.dispatcher.denied_workers_file
    return frozenset(config.dispatcher.denied_workers) | (frozenset() if file is None else _ids_in(file))


def _ids_in(file: Path) -> frozenset[WorkerId]:
    where = f"dispatcher.denied_workers_file: {file}"
    try:
        lines = read_trusted(file).decode("utf-8").splitlines()
    except ConfigError as error:
        raise ConfigError(f"dispatcher.denied_workers_file: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = unread(error) if isinstance(error, OSError) else "it is not UTF-8; save it as UTF-8"
        raise ConfigError(f"{where} can't be read: {reason}") from None
    ids = {number: line.partition("#")[0].strip() for number, line in enumerate(lines, 1)}
    try:
        return frozenset(WorkerId(check_id(name)) for name in ids.values() if name)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; write one ID per line") from None


def _job_limits(dispatcher: DispatcherConfig) -> JobLimits:
    """The limits for jobs of all types. A default of the operator is never beyond its limit."""
    limits, defaults = asdict(dispatcher.job_limits), asdict(dispatcher.job_defaults)
    return JobLimits(**{name: max(most, defaults.get(name, most)) for name, most in limits.items()})


def _limits_of_type(of_type: TypePolicy) -> dict[str, Any]:
    names = {each.name for each in fields(JobLimits)} & {each.name for each in fields(TypePolicy)}
    return {name: most for name in names if (most := getattr(of_type, name)) is not None}


def policy(config: Config) -> Policy:
    """The policy of the dispatcher."""
    dispatcher = config.dispatcher
    return Policy(
        lease_s=dispatcher.lease_s,
        max_wait_s=dispatcher.max_wait_s,
        timeout_grace_s=dispatcher.timeout_grace_s,
        worker_timeout_s=dispatcher.worker_timeout_s,
        keep_ended_s=dispatcher.keep_ended_s,
        accept_shared_jobs=dispatcher.accept_shared_jobs,
        notice_result_bytes=dispatcher.notice_result_bytes,
        defaults=JobDefaults(**asdict(dispatcher.job_defaults)),
        job_limits=_job_limits(dispatcher),
        job_limits_of_type={
            job_type: replace(_job_limits(dispatcher), **asked)
            for job_type, each in dispatcher.types.items()
            if (asked := _limits_of_type(each))
        },
        limits=LiveLimits(
            live_jobs=dispatcher.limits.live_jobs,
            payload_bytes=dispatcher.limits.payloads_bytes,
            output_bytes=dispatcher.limits.outputs_bytes,
            submitter_share=dispatcher.limits.submitter_share,
            combinations=dispatcher.limits.combinations,
            free_bytes=dispatcher.limits.free_space_bytes,
            live_jobs_of_type={
                job_type: each.live_jobs for job_type, each in dispatcher.types.items() if each.live_jobs is not None
            },
        ),
        workers={
            name: Allowance(
                types=None if each.types is None else frozenset(each.types),
                tags=None if each.tags is None else frozenset(each.tags),
                slots=each.slots,
            )
            for name, each in dispatcher.workers.items()
        },
        prefetch={
            job_type: Prefetch(each.prefetch, each.prefetch_validity_s)
            for job_type, each in dispatcher.types.items()
            if each.prefetch
        },
        dispatcher_id=dispatcher.id,
    )
