"""``stockworker worker`` (alias ``agent``): from the configuration to a running worker."""

import argparse
import logging
from contextlib import closing
from pathlib import Path

from stockworker.adapters.cgroup import Delegation, take_over
from stockworker.adapters.systemd import Notifier
from stockworker.cli.services import become_service, prepare, run_main, until_stopped
from stockworker.cli.wiring import announced_market_data, handler_specs, metrics_file, service_link, worker_seal
from stockworker.config import Config, load, load_with_warnings
from stockworker.logs import log_event
from stockworker.logs.worker_events import Confined
from stockworker.protocol.topics import Role
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit
from stockworker.worker.journal import open_journal
from stockworker.worker.machine import Intervals
from stockworker.worker.service import WorkerService, WorkerSettings

_log = logging.getLogger(__name__)


def worker(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker worker``."""
    parser.description = (
        "Run a worker in the foreground. SIGTERM drains and stops it. SIGHUP reloads the configuration. "
        "`stockworker agent` is the same command."
    )
    add_config(parser)
    parser.add_argument("--instance", default="1", help="instance of the worker on this machine (default: 1)")
    parser.set_defaults(run=run_worker, is_service=True)


def run_worker(arguments: argparse.Namespace) -> int:
    """Run a worker until a signal stops it."""
    become_service()
    path, instance = arguments.config, arguments.instance
    config, warnings = load_with_warnings(path, instance)
    prepare(config, warnings, Role.WORKER)
    settings = _settings(config)

    async def run() -> None:
        with closing(Notifier()) as notifier:
            journal = open_journal(config.worker.journal, config.worker.id)
            groups = _confine()
            service = WorkerService(settings, journal, lambda: worker_settings(path, instance), notifier, groups)
            await until_stopped(service)

    run_main(run)
    return Exit.OK


def _confine() -> Delegation | None:
    try:
        groups = take_over()
    except OSError as error:
        log_event(_log, Confined(by="process groups", reason=str(error)))
        return None
    log_event(_log, Confined(by="control groups", controllers=" ".join(sorted(groups.controllers)) or "none"))
    return groups


def worker_settings(path: Path | None, instance: str | None) -> WorkerSettings:
    """The settings of a worker.

    Raises:
        ConfigError: the configuration is not usable.
    """
    return _settings(load(path, instance))


def _settings(config: Config) -> WorkerSettings:
    worker, handlers = config.worker, handler_specs(config)
    return WorkerSettings(
        worker_id=worker.id,
        link=service_link(config, worker.id, worker.poll_interval_s),
        slots=worker.slots,
        tags=worker.tags,
        handlers=handlers,
        handler_paths=tuple(map(str, worker.handler_paths)),
        intervals=Intervals(worker.poll_interval_s, worker.heartbeat_interval_s),
        drain_timeout_s=worker.drain_timeout_s,
        stop_grace_s=worker.stop_grace_s,
        recycle_after=worker.recycle_after_jobs,
        quota_bytes=worker.journal_quota_bytes,
        output_bytes=worker.output_bytes,
        seal=worker_seal(config),
        market_data=announced_market_data(config, handlers),
        metrics=metrics_file(config, worker.id),
    )
