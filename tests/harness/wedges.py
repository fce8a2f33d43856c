"""Ways to get a service of a fleet stuck from outside: each is a context that inflicts it, and relieves it at its end.

What they yield says whether the service is done for as far as systemd knows (it feeds its watchdog no more, or has
ended), or has got itself out of it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness.fleet import Fleet, Service
from tests.harness.tracing import main_thread_held

Noticed = Callable[[], bool]


def is_given_up(service: Service) -> bool:
    """Whether systemd would start it anew."""
    if service.manager is None:
        raise ValueError(f"nobody watches {service.name}")
    return not service.alive or service.manager.condemned


@contextmanager
def blocked_loop(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """The event loop hangs in a call that does not return; other threads go on."""
    service = fleet.services[identity]
    with main_thread_held(service.pid):
        yield lambda: is_given_up(service)


@contextmanager
def locked_database(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """Another process has an exclusive transaction on what the service has to write. Give it something to write."""
    service = fleet.services[identity]
    with _locked(fleet.job_store if identity == "dispatcher" else fleet.journal(identity)):
        yield lambda: is_given_up(service)


@contextmanager
def withheld_confirmations(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """No PUBACK reaches the service: what it has sent stays unconfirmed until its window is full. For links without TLS."""
    proxy = fleet.proxies[identity]
    reconnects = _reconnects(fleet.services[identity])
    proxy.withhold_confirmations()
    try:
        yield reconnects
    finally:
        proxy.heal()


@contextmanager
def dead_reader(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """What the service says arrives; it hears nothing any more."""
    proxy = fleet.proxies[identity]
    reconnects = _reconnects(fleet.services[identity])
    proxy.swallow(up=False)
    try:
        yield reconnects
    finally:
        proxy.heal()


def _reconnects(service: Service) -> Noticed:
    before = len(service.events("link_down"))
    return lambda: len(service.events("link_down")) > before


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
