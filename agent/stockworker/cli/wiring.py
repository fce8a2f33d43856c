"""From the configuration to the settings of both services."""

# Machines, shells and handlers do not import the configuration: they get settings of their own types. So their tests
# need no configuration, and a renamed key changes only this module. The settings of a connection, which clients need as
# well, come from `client.settings`, and the keys of a client from `client.sealing`.

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockworker.adapters import clock
from stockworker.adapters.client_ids import private_client_id
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.systemd import watchdog_s
from stockworker.client import link_settings
from stockworker.config import Config, Handler, load
from stockworker.config.schema import DispatcherConfig, TypePolicy
from stockworker.dispatcher.policy import Allowance, JobDefaults, JobLimits, LiveLimits, Policy, Prefetch
from stockworker.dispatcher.service import DispatcherSettings
from stockworker.errors import ConfigError, unread
from stockworker.handlers import BUILT_IN, BUILT_IN_MEMORY
from stockworker.handlers.discovery import discover
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Isolation, Limits, PythonHandler
from stockworker.protocol.ids import JobType, WorkerId, check_id
from stockworker.trusted_files import read_trusted
from stockworker.worker.machine import Intervals
from stockworker.worker.service import WorkerSettings

if TYPE_CHECKING:
    from stockworker.sealing.worker_seal import WorkerSeal

MARKET_DATA: Final = "market_data"
"""The setting that has the location of the market-data store for every Python handler."""

SERVICE_KEEPALIVE_S: Final = 10
"""Longest keepalive of a service: until it detects a dead connection, jobs wait for it. A worker with a longer
`poll_interval`, for example on a metered link, uses that instead."""

_LEAST_KEEPALIVE_S: Final = 5
_KEEPALIVES_PER_WATCHDOG: Final = 3
"""A dead connection is closed within four keepalives, so the service is connected again before two `WatchdogSec=`."""


def service_link(config: Config, name: str, speaks_every_s: float = 0.0) -> LinkSettings:
    """The connection settings of a service. With a private key, its client ID is secret, so no client can take it over.

    Raises:
        ConfigError: a certificate, key or password file is not usable.
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
    """The settings of a worker.

    Raises:
        ConfigError: the configuration is not usable.
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
        intervals=Intervals(worker.poll_interval_s, worker.heartbeat_interval_s),
        drain_timeout_s=worker.drain_timeout_s,
        stop_grace_s=worker.stop_grace_s,
        recycle_after=worker.recycle_after_jobs,
        quota_bytes=worker.journal_quota_bytes,
        seal=worker_seal(config),
    )


def worker_seal(config: Config) -> "WorkerSeal | None":
    """The keys of the worker for sealing; None without sealing.

    Raises:
        ConfigError: a file is not usable, or the keyring does not list the worker's key.
    """
    encryption = config.encryption
    if encryption is None:
        return None
    from stockworker.sealing import keyring, keys  # noqa: PLC0415 (only loads the cryptography package for sealing)
    from stockworker.sealing.worker_seal import WorkerSeal  # noqa: PLC0415 (for the same reason)

    if encryption.sign and encryption.key is None:
        raise ConfigError("encryption.key is required to sign results; create one with 'stockworker keys generate'")
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
    """The handler of each job type on this machine: built-in, installed or configured, in rising order of precedence.

    Raises:
        ConfigError: a configured type has no handler, or a secret file is not usable.
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
        raise ConfigError("handlers: all job types are disabled, so this worker could not run any job; enable one")
    return specs


def _spec(job_type: JobType, handler: Handler, functions: Mapping[JobType, str], market_data: str) -> HandlerSpec:
    allowed = handler.limits
    cpu_s = None if allowed.cpu_s is None else max(1, round(allowed.cpu_s))
    settings = handler.read_settings(job_type)
    function = handler.python or functions.get(job_type)
    memory_bytes = allowed.memory_bytes
    if memory_bytes is None and handler.command is None and function == BUILT_IN.get(job_type):
        memory_bytes = BUILT_IN_MEMORY.get(job_type)
    limits = Limits(memory_bytes, cpu_s, allowed.open_files, allowed.processors)
    if handler.command is not None:
        # External programs do not get the location of the database.
        return CommandHandler(handler.command, settings, limits)
    if function is None:
        raise ConfigError(
            f"handlers.{job_type}: this type has no handler. Set 'python: module:function' or 'command: [...]' "
            f"(built-in or installed types: {', '.join(sorted(functions))})"
        )
    return PythonHandler(function, {MARKET_DATA: market_data, **settings}, limits, Isolation(handler.isolation))


def dispatcher_settings(path: Path | None) -> DispatcherSettings:
    """The settings of the dispatcher.

    Raises:
        ConfigError: the configuration, or a file that it names, is not usable.
    """
    config = load(path)
    own = config.dispatcher
    return DispatcherSettings(own.id, service_link(config, own.id), policy(config), denied_workers(config))


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
    )
