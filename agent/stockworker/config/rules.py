"""Rules about several keys: contradictions are errors, risky settings are warnings."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from stockworker.config.document import Place, Problem, TableNode, find
from stockworker.config.key import keys
from stockworker.config.schema import Config, JobLimitsConfig
from stockworker.config.secrets import is_open_to_all

_HAS_PASSWORD: Final = re.compile(r"://[^/@]*:[^/@]+@|[?&](ssl)?password=")
"""A password in the address of a database: RFC 3986, section 3.2.1, or parameters of libpq."""

Rule = Callable[[Config, TableNode], Iterator[Problem]]


def check(config: Config, root: TableNode) -> Iterator[Problem]:
    """All problems that involve several keys or other files."""
    for rule in _RULES:
        yield from rule(config, root)


def _password_once(config: Config, root: TableNode) -> Iterator[Problem]:
    mqtt = config.queue.mqtt
    if mqtt.password and mqtt.password_file:
        yield _problem(root, "queue.mqtt.password", "set either 'password' or 'password_file', not both")
    if (mqtt.password or mqtt.password_file) and not mqtt.username:
        yield _problem(root, "queue.mqtt", "has a password but no 'username'; add it")


def _certificate_with_key(config: Config, root: TableNode) -> Iterator[Problem]:
    if config.tls and (config.tls.cert_file is None) != (config.tls.key_file is None):
        missing = "cert_file" if config.tls.cert_file is None else "key_file"
        yield _problem(root, "tls", f"'cert_file' and 'key_file' belong together; add {missing!r}")


def _one_way_to_run(config: Config, root: TableNode) -> Iterator[Problem]:
    for name, handler in config.handlers.items():
        if handler.python is not None and handler.command is not None:
            yield _problem(root, f"handlers.{name}", "set either 'python' or 'command', not both")
        if handler.command == ():
            yield _problem(root, f"handlers.{name}", "'command' is empty; name the program")
        if handler.command and handler.isolation == "shared":
            text = "each job of a command has its own process; remove 'isolation'"
            yield _problem(root, f"handlers.{name}.isolation", text)


def _many_at_once(config: Config, root: TableNode) -> Iterator[Problem]:
    for name, handler in config.handlers.items():
        key = f"handlers.{name}.concurrency"
        if handler.concurrency == 1:
            continue
        if handler.command:
            yield _problem(root, key, "each job of a command has its own process; remove 'concurrency'")
        if handler.isolation != "per_type":
            yield _problem(
                root, key, "jobs that run at the same time share a process of their type; remove 'isolation'"
            )
        if handler.limits.cpu_s is not None:
            text = "the processor time of one of several jobs in a process is not known; remove 'limits.cpu'"
            yield _problem(root, key, text)
        if handler.concurrency > config.worker.slots:
            text = (
                f"is more than 'worker.max_concurrent_jobs', so at most {config.worker.slots} jobs run at the "
                "same time; raise that"
            )
            yield _warning(root, key, text)


def _backoff_in_order(config: Config, root: TableNode) -> Iterator[Problem]:
    defaults = config.dispatcher.job_defaults
    if defaults.backoff_s > defaults.backoff_max_s:
        yield _problem(root, "dispatcher.job_defaults", "'backoff' is longer than 'backoff_max'; change one of them")


def _defaults_within_limits(config: Config, root: TableNode) -> Iterator[Problem]:
    section = config.dispatcher
    for name, _, each in keys(JobLimitsConfig):
        default, most = getattr(section.job_defaults, each.name), getattr(section.job_limits, each.name)
        key = f"dispatcher.job_limits.{name}"
        if default > most and find(root, key):
            yield _problem(root, key, f"is less than 'dispatcher.job_defaults.{name}'; change one of them")


def _validity_longer_than_lease(config: Config, root: TableNode) -> Iterator[Problem]:
    for name, each in config.dispatcher.types.items():
        if each.prefetch_validity_s < config.dispatcher.lease_s:
            text = "is shorter than 'dispatcher.lease'; make it longer"
            yield _problem(root, f"dispatcher.types.{name}.prefetch_validity", text)


def _heartbeats_in_time(config: Config, root: TableNode) -> Iterator[Problem]:
    if config.dispatcher.worker_timeout_s < 2 * config.worker.heartbeat_interval_s:
        yield _warning(
            root,
            "worker.heartbeat_interval",
            "is longer than half of 'dispatcher.worker_timeout'; after one late heartbeat the worker would get no new jobs",
        )


def _secrets_kept_secret(config: Config, root: TableNode) -> Iterator[Problem]:
    for key, secret, way_out in (
        ("queue.mqtt.password", config.queue.mqtt.password, "password_file"),
        ("market_data.location", _HAS_PASSWORD.search(config.market_data.location), "location_file"),
        ("notifications.webhook", config.notifications and config.notifications.webhook, "webhook_file"),
    ):
        file = _place(root, key).file
        if secret and is_open_to_all(file):
            text = f"every user of this machine can read it. Run 'chmod o-rw {file}', or use '{way_out}'"
            yield _warning(root, key, text)
    key_file = config.tls and config.tls.key_file
    if key_file and is_open_to_all(key_file):
        text = f"every user of this machine can read {key_file}. Run 'chmod o-rw {key_file}', and replace the key"
        yield _warning(root, "tls.key_file", text)


def _location_once(config: Config, root: TableNode) -> Iterator[Problem]:
    if config.market_data.location_file and find(root, "market_data.location"):
        yield _problem(root, "market_data.location", "set either 'location' or 'location_file', not both")


def _notified_in_one_way(config: Config, root: TableNode) -> Iterator[Problem]:
    found = config.notifications
    recipients = 1 if found is None else sum(map(bool, (found.command, found.webhook, found.webhook_file)))
    if recipients > 1:
        yield _problem(root, "notifications", "set only one of 'command', 'webhook' and 'webhook_file'")
    if not recipients:
        yield _warning(
            root, "notifications", "names no recipient, so nothing is sent; add 'command', 'webhook' or 'webhook_file'"
        )


def _encrypted_on_the_way(config: Config, root: TableNode) -> Iterator[Problem]:
    if config.tls is None and not _is_loopback(config.queue.mqtt.host):
        text = (
            "is another machine, and 'tls' is not set, so jobs and passwords are sent unencrypted; add a 'tls' section"
        )
        yield _warning(root, "queue.mqtt.host", text)


def _web_page_protected(config: Config, root: TableNode) -> Iterator[Problem]:
    page = config.web
    if (page.cert_file is None) != (page.key_file is None):
        missing = "cert_file" if page.cert_file is None else "key_file"
        yield _problem(root, "web", f"'cert_file' and 'key_file' belong together; add {missing!r}")
    if not _is_loopback(page.address):
        missing_keys = [name for name in ("accounts", "cert_file", "key_file") if getattr(page, name) is None]
        if missing_keys:
            text = (
                f"is not a loopback address, so 'web' also needs {', '.join(map(repr, missing_keys))}; add them, or listen at "
                "127.0.0.1 and put a proxy in front of it (docs/web.md)"
            )
            yield _problem(root, "web.address", text)


_RULES: tuple[Rule, ...] = (
    _password_once,
    _certificate_with_key,
    _one_way_to_run,
    _many_at_once,
    _backoff_in_order,
    _defaults_within_limits,
    _validity_longer_than_lease,
    _heartbeats_in_time,
    _secrets_kept_secret,
    _location_once,
    _notified_in_one_way,
    _encrypted_on_the_way,
    _web_page_protected,
)


def _problem(root: TableNode, key: str, text: str) -> Problem:
    return Problem(_place(root, key), key, text)


def _warning(root: TableNode, key: str, text: str) -> Problem:
    return Problem(_place(root, key), key, text, "warning")


def _place(root: TableNode, path: str) -> Place:
    """The place of a key; if it is missing, the place of its section."""
    while path:
        if node := find(root, path):
            return node.place
        path = path.rpartition(".")[0]
    return root.place


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
