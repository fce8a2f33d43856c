"""Hangs that a test causes from outside a service: each is a context that starts one on entry and ends it on exit.

A context yields a function that returns whether the hang was noticed. For a fatal one that means: systemd would restart the
service, because it stopped feeding its watchdog or exited. For the others it means: the service has reconnected.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.harness.fleet import Fleet, Service
from tests.harness.tracing import main_thread_stopped

Noticed = Callable[[], bool]


def is_given_up(service: Service) -> bool:
    """Whether systemd would restart the service."""
    if service.manager is None:
        raise ValueError(f"{service.name} runs without a service manager")
    return not service.alive or service.manager.would_restart


@contextmanager
def blocked_loop(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """The event loop hangs in a call that does not return; the other threads continue."""
    service = fleet.services[identity]
    with main_thread_stopped(service.pid):
        yield lambda: is_given_up(service)


@contextmanager
def locked_database(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """Another process keeps an exclusive transaction on the database of the service; the caller must cause a write."""
    service = fleet.services[identity]
    with _locked(fleet.job_store if identity == "dispatcher" else fleet.journal(identity)):
        yield lambda: is_given_up(service)


@contextmanager
def withheld_confirmations(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """No PUBACK reaches the service, so its send window fills up. Only for links without TLS."""
    proxy = fleet.proxies[identity]
    reconnects = _reconnects(fleet.services[identity])
    proxy.withhold_confirmations()
    try:
        yield reconnects
    finally:
        proxy.heal()


@contextmanager
def dead_reader(fleet: Fleet, identity: str) -> Iterator[Noticed]:
    """The broker receives what the service sends; the service receives nothing."""
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
