"""From the configuration to the settings of each part: the only place that knows both."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockworker.adapters import clock
from stockworker.adapters.client_ids import private_client_id
from stockworker.adapters.mqtt import LinkSettings
from stockworker.adapters.systemd import watchdog_s
from stockworker.client import link_settings
from stockworker.config import Config, Handler, load
from stockworker.dispatcher.policy import JobDefaults, Policy, Prefetch
from stockworker.dispatcher.service import DispatcherSettings
from stockworker.errors import ConfigError
from stockworker.handlers.discovery import discover
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Limits, PythonHandler
from stockworker.protocol.ids import JobType, WorkerId, check_id
from stockworker.worker.machine import Intervals
from stockworker.worker.service import WorkerSettings

if TYPE_CHECKING:
    from stockworker.sealing.worker_seal import WorkerSeal

MARKET_DATA: Final = "market_data"
"""The setting in which every Python handler finds where the market-data store is."""

SERVICE_KEEPALIVE_S: Final = 10
"""The longest silence that a service puts up with, whatever clients do: jobs wait for it to notice that it was cut off.
A worker that was told to speak more rarely than that, over a metered line perhaps, may be silent for as long."""

_LEAST_KEEPALIVE_S: Final = 5
_KEEPALIVES_PER_WATCHDOG: Final = 3
"""A connection that is dead is given up within four keepalives: in time to be back before `WatchdogSec=` is over twice."""


def service_link(config: Config, name: str, speaks_every_s: float = 0.0) -> LinkSettings:
    """How a service reaches the broker: under a client id that nobody else can take, where it has a key.

    Raises:
        ConfigError: a certificate, key or password file can't be used.
    """
    settings = link_settings(config, f"{config.queue.mqtt.client_id_prefix}{name}")
    longest_s = SERVICE_KEEPALIVE_S
    if (watched_s := watchdog_s()) is not None:
        longest_s = min(longest_s, max(_LEAST_KEEPALIVE_S, int(watched_s / _KEEPALIVES_PER_WATCHDOG)))
    longest_s = max(longest_s, int(speaks_every_s))
    settings = replace(settings, keepalive_s=min(settings.keepalive_s, longest_s))
    key_file = None if config.tls is None else config.tls.key_file
    if key_file is None:
        return settings
    return replace(settings, client_id=private_client_id(settings.client_id, key_file.read_bytes()))


def worker_settings(path: Path | None, instance: str | None) -> WorkerSettings:
    """Everything that a worker needs to know.

    Raises:
        ConfigError: the configuration can't be used.
    """
    config = load(path, instance)
    worker = config.worker
    return WorkerSettings(
        worker_id=worker.id,
        link=service_link(config, worker.id, worker.poll_interval_s),
        slots=worker.slots,
        tags=worker.tags,
        handlers=handler_specs(config),
        handler_paths=tuple(map(str, worker.handler_paths)),
        rhythm=Intervals(worker.poll_interval_s, worker.heartbeat_interval_s),
        drain_timeout_s=worker.drain_timeout_s,
        stop_grace_s=worker.stop_grace_s,
        recycle_after=worker.recycle_after_jobs,
        quota_bytes=worker.journal_quota_bytes,
        seal=worker_seal(config),
    )


def worker_seal(config: Config) -> "WorkerSeal | None":
    """What the worker opens jobs and seals results with; None where nothing is sealed.

    Raises:
        ConfigError: a file can't be used, or the keyring does not list our key.
    """
    encryption = config.encryption
    if encryption is None:
        return None
    from stockworker.sealing import keyring, keys  # noqa: PLC0415 (without sealing the cryptography is not loaded)
    from stockworker.sealing.worker_seal import WorkerSeal  # noqa: PLC0415 (for the same reason)

    if encryption.sign and encryption.key is None:
        raise ConfigError("encryption.key: is needed to sign results: make one with 'stockworker keys generate'")
    seal = WorkerSeal(
        config.worker.id,
        keyring.load(encryption.keyring),
        [keys.load(file) for file in encryption.group_keys],
        None if encryption.key is None else keys.load(encryption.key),
        required=encryption.required,
        sign=encryption.sign,
    )
    seal.check(clock.wall())
    return seal


def handler_specs(config: Config) -> dict[JobType, HandlerSpec]:
    """What runs which job type on this machine: built in, installed, configured; in rising order of precedence.

    Raises:
        ConfigError: a type is configured or asked for that nothing runs, or a file with a secret can't be used.
    """
    functions = discover()
    wanted = config.worker.types or tuple({*functions, *config.handlers})
    location = config.market_data.read_location()
    specs: dict[JobType, HandlerSpec] = {}
    for job_type in wanted:
        handler = config.handlers.get(job_type, Handler())
        if handler.enabled:
            specs[job_type] = _spec(job_type, handler, functions, location)
    if not specs:
        raise ConfigError("handlers: every job type is switched off, so this worker could run nothing")
    return specs


def _spec(job_type: JobType, handler: Handler, functions: Mapping[JobType, str], market_data: str) -> HandlerSpec:
    allowed = handler.limits
    cpu_s = None if allowed.cpu_s is None else max(1, round(allowed.cpu_s))
    limits = Limits(allowed.memory_bytes, cpu_s, allowed.open_files, allowed.processors)
    settings = handler.read_settings(job_type)
    if handler.command is not None:
        return CommandHandler(handler.command, settings, limits)  # no program of others gets our database
    function = handler.python or functions.get(job_type)
    if function is None:
        raise ConfigError(
            f"handlers.{job_type}: nothing runs this type: name its 'python: module:function' or its 'command: [...]' "
            f"(built in or installed are {', '.join(sorted(functions))})"
        )
    return PythonHandler(function, {MARKET_DATA: market_data, **settings}, limits)


def dispatcher_settings(path: Path | None) -> DispatcherSettings:
    """Everything that the dispatcher needs to know.

    Raises:
        ConfigError: the configuration, or a file that it names, can't be used.
    """
    config = load(path)
    own = config.dispatcher
    return DispatcherSettings(own.id, service_link(config, own.id), policy(config), denied_workers(config))


def denied_workers(config: Config) -> frozenset[WorkerId]:
    """The workers to which the dispatcher does not listen.

    Raises:
        ConfigError: the file can't be read, or holds what is no id.
    """
    file = config.dispatcher.denied_workers_file
    return frozenset(config.dispatcher.denied_workers) | (frozenset() if file is None else _ids_in(file))


def _ids_in(file: Path) -> frozenset[WorkerId]:
    where = f"dispatcher.denied_workers_file: {file}"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{where} can't be read: {reason}") from None
    ids = {number: line.partition("#")[0].strip() for number, line in enumerate(lines, 1)}
    try:
        return frozenset(WorkerId(check_id(name)) for name in ids.values() if name)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}; one per line") from None


def policy(config: Config) -> Policy:
    """The numbers that the dispatcher decides by."""
    dispatcher = config.dispatcher
    return Policy(
        lease_s=dispatcher.lease_s,
        max_wait_s=dispatcher.max_wait_s,
        worker_timeout_s=dispatcher.worker_timeout_s,
        keep_ended_s=dispatcher.keep_ended_s,
        defaults=JobDefaults(**asdict(dispatcher.job_defaults)),
        prefetch={
            job_type: Prefetch(each.prefetch, each.prefetch_validity_s)
            for job_type, each in dispatcher.types.items()
            if each.prefetch
        },
    )
