"""The web page as a process of its own."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness.command import arguments, changed
from tests.harness.command import run as run_command
from tests.harness.fleet import Fleet, Service

PASSWORD = "a long password"  # noqa: S105 (of accounts that only tests have)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is served."""

    url: str
    service: Service
    accounts: Path | None


def make_accounts(folder: Path) -> Path:
    """Accounts of a viewer and an operator, made by the command."""
    accounts = folder / "accounts"
    for name, role in (("vera", "viewer"), ("oscar", "operator")):
        words = ("web", "account", name, "--role", role, "--file", str(accounts))
        made = run_command(folder / "absent.yml", *words, stdin=f"{PASSWORD}\n".encode())
        assert made.status == 0, made.errors
    return accounts


@contextmanager
def serving(
    fleet: Fleet, folder: Path, *, accounts: Path | None = None, identity: str = "operator", **settings: Any
) -> Iterator[Page]:
    """Serve the page of a fleet, with the rights of `identity`, until the context is left."""
    port = free_port()
    section: Mapping[str, Any] = {"port": port, **({} if accounts is None else {"accounts": str(accounts)}), **settings}
    config = changed(
        fleet.config_file(identity),
        f"web-{port}",
        web=section,
        market_data={"location": str(fleet.market_data)},
        log={"format": "json"},
    )
    service = Service("web", arguments(config, "web", "serve"), folder / f"web-{port}.log")
    service.start()
    try:
        ready = service.await_event("ready")
        yield Page(str(ready["id"]).rstrip("/"), service, accounts)
    finally:
        service.stop()


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
