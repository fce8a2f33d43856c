"""The queue of an old `job_processor.yml`: the command that moves its waiting jobs."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote as in_shell
from typing import Final
from urllib.parse import quote

from stockworker.config import DEFAULT_PATH
from stockworker.config.document import Node, Problem, ScalarNode, TableNode, Unreadable, find, read
from stockworker.terminal.findings import Finding, warn

_DRIVERS: Final = {
    "mysql": "mysql",
    "mariadb": "mysql",
    "pgsql": "postgresql",
    "postgres": "postgresql",
    "sqlite": "sqlite",
}
"""A driver of PDO, or the name of a database → the scheme of a URL."""


def check_old_backend(path: Path | None) -> Finding | None:
    """How to move the waiting jobs of a configuration whose backend is not `mqtt`; None for any other one."""
    file = path or DEFAULT_PATH
    problems: list[Problem] = []
    try:
        document = read(file / DEFAULT_PATH.name if file.is_dir() else file, problems)
    except (OSError, Unreadable):
        return None
    queue = find(document, "job_processor.queue")
    backend = _text(queue, "backend").lower()
    if backend not in _URLS:
        return None
    url = _URLS[backend](find(queue, backend))
    if url is None:
        text = f"queue.{backend} does not name its database; name it in place of URL: stockworker migrate URL --inspect"
    else:
        text = (
            f"move the jobs that wait in the old queue: stockworker migrate {in_shell(url)} --inspect > mapping.yml && "
            f"stockworker migrate {in_shell(url)} --mapping mapping.yml --dry-run. Add --password-file FILE if it needs a "
            "password: docs/migrating.md"
        )
    return warn("migration", text)


def _database(node: Node | None) -> str | None:
    """The URL of a database, without its password."""
    dsn = _text(node, "dsn") or _text(node, "url") or (node.text if isinstance(node, ScalarNode) else "")
    driver, _, rest = dsn.partition(":")
    parts: dict[str, str] = {}
    if rest.startswith("//") and driver != "sqlite":
        found = re.fullmatch(r"//(?:([^:@/]*)(?::[^@]*)?@)?([^:/?]*)(?::(\d+))?/?([^?]*).*", rest)
        names = ("user", "host", "port", "database")
        parts = {} if found is None else dict(zip(names, (each or "" for each in found.groups()), strict=True))
    else:  # of PDO: mysql:host=db;dbname=shop
        parts = dict(each.split("=", 1) for each in rest.split(";") if "=" in each)
    scheme = _DRIVERS.get(driver or _first(node, "driver", "type", "connection"))
    own = {name: _text(node, name) or parts.get(name, "") for name in _PLACES}
    if scheme == "sqlite":
        file = rest.removeprefix("//") or own["path"] or own["database"] or own["file"]
        return f"sqlite://{file}" if file.startswith("/") else None
    name = own["database"] or own["dbname"] or own["name"]
    if scheme is None or not name:
        return None
    return f"{scheme}://{_authority(own)}/{quote(name, safe='')}"


def _redis(node: Node | None) -> str:
    """The URL of a server of Redis."""
    number = _first(node, "database", "db")
    return f"redis://{_authority(_texts(node) | {'user': '', 'username': ''})}{number and '/' + number}"


def _rabbitmq(node: Node | None) -> str:
    """The URL of a server of RabbitMQ, with the queue."""
    host, queue = _first(node, "vhost", "virtual_host").removeprefix("/"), _first(node, "queue", "queue_name")
    parameter = queue and f"?queue={quote(queue, safe='')}"
    return f"amqp://{_authority(_texts(node))}{host and '/' + quote(host, safe='')}{parameter}"


def _authority(own: Mapping[str, str]) -> str:
    """User, host and port."""
    user, host, port = own["username"] or own["user"], own["host"] or own["hostname"] or "localhost", own["port"]
    return f"{user and quote(user, safe='') + '@'}{host}{port and ':' + port}"


_PLACES: Final = ("host", "hostname", "port", "user", "username", "database", "dbname", "name", "path", "file")

_URLS: Final[Mapping[str, Callable[[Node | None], str | None]]] = {
    "database": _database,
    "redis": _redis,
    "rabbitmq": _rabbitmq,
}
"""The backends whose jobs `stockworker migrate` moves."""


def _texts(node: Node | None) -> dict[str, str]:
    return {name: _text(node, name) for name in _PLACES}


def _first(node: Node | None, *names: str) -> str:
    return next((text for name in names if (text := _text(node, name))), "")


def _text(node: Node | None, name: str) -> str:
    found = find(node, name) if isinstance(node, TableNode) else None
    return found.text if isinstance(found, ScalarNode) else ""
