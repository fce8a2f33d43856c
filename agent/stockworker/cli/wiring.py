"""From the configuration to the settings that a worker shares with the dispatcher or with `check`."""

# Machines, shells and handlers do not import the configuration: they get settings of their own types. So their tests
# need no configuration, and a renamed key changes only this module. The settings of a connection, which clients need as
# well, come from `client.settings`, and the keys of a client from `client.sealing`.

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stockworker.adapters import clock
from stockworker.adapters.client_ids import private_client_id
from stockworker.adapters.delivery import Recipient
from stockworker.adapters.metrics_file import MetricsFile
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.systemd import runtime_folder, watchdog_s
from stockworker.client import link_settings
from stockworker.config import Config, Handler
from stockworker.config.monitoring import NotificationsConfig
from stockworker.errors import ConfigError
from stockworker.handlers import BUILT_IN, BUILT_IN_MEMORY, MARKET_DATA
from stockworker.handlers.discovery import check_settings, discover
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Isolation, Limits, PythonHandler
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobType

if TYPE_CHECKING:
    from stockworker.sealing.worker_seal import WorkerSeal

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


def metrics_file(config: Config, name: str) -> MetricsFile | None:
    """Where a service writes its metrics; None if they are not wanted.

    Raises:
        ConfigError: a library is missing, or no folder is known.
    """
    if not config.metrics.enabled:
        return None
    folder = config.metrics.folder or runtime_folder()
    if folder is None:
        raise ConfigError("metrics.folder is required for a service that systemd has not started; set it")
    return MetricsFile(folder / f"stockworker-{name}.prom", config.metrics.interval_s)


def has_recipient(notifications: NotificationsConfig) -> bool:
    """Whether notifications go anywhere."""
    return any((notifications.command, notifications.webhook, notifications.webhook_file))


def recipient(notifications: NotificationsConfig) -> Recipient:
    """Where notifications go.

    Raises:
        ConfigError: the file with the address is not usable.
    """
    return Recipient(notifications.command or (), notifications.read_webhook())


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


def announced_market_data(config: Config, specs: Mapping[JobType, HandlerSpec]) -> str | None:
    """The location of the market-data store whose identity a worker announces; None if none of its job types uses it.

    Raises:
        ConfigError: the file with the location is not usable.
    """
    built_in = {*BUILT_IN.values()}
    uses = any(isinstance(spec, PythonHandler) and spec.function in built_in for spec in specs.values())
    return config.market_data.read_location() if uses and not config.market_data.separate else None


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
    try:
        check_settings(function, settings)
    except FieldError as error:
        raise ConfigError(str(error.inside(f"handlers.{job_type}.settings"))) from error
    isolation = Isolation(handler.isolation)
    return PythonHandler(function, {MARKET_DATA: market_data, **settings}, limits, isolation, handler.concurrency)
