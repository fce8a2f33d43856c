"""The proxy can delay, drop and cut connections, repeatedly."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.harness.proxy import Proxy

_TIMEOUT_S = 20.0


@contextmanager
def connected() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, with the service's and the broker's end of a connection through it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(_TIMEOUT_S)
        with (
            Proxy(listener.getsockname()[1]) as proxy,
            closing(socket.create_connection(("127.0.0.1", proxy.port), _TIMEOUT_S)) as service,
        ):
            broker, _ = listener.accept()
            with closing(broker):
                broker.settimeout(_TIMEOUT_S)
                pass_through(service, broker)
                yield proxy, service, broker


def pass_through(sender: socket.socket, receiver: socket.socket) -> None:
    sender.sendall(b"ping")
    assert receiver.recv(4) == b"ping"


def expect_nothing(receiver: socket.socket) -> None:
    """Nothing arrives, and the connection stays open."""
    receiver.settimeout(0)
    with pytest.raises(BlockingIOError):
        receiver.recv(1)
    receiver.settimeout(_TIMEOUT_S)


def test_a_reset_reaches_both_ends() -> None:
    with connected() as (proxy, service, broker):
        proxy.reset()
        for end in (service, broker):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_a_service_does_not_notice_a_forgotten_connection() -> None:
    with connected() as (proxy, service, broker):
        proxy.forget()
        with pytest.raises(ConnectionResetError):
            broker.recv(1)
        service.sendall(b"is anybody there?")
        expect_nothing(service)


@pytest.mark.parametrize("again", [Proxy.forget, Proxy.reset])
def test_a_forgotten_connection_can_meet_the_next_fault(again: Callable[[Proxy], None]) -> None:
    with connected() as (proxy, service, _):
        proxy.forget()
        again(proxy)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            service.recv(1)


def test_held_back_data_arrives_when_the_network_heals() -> None:
    with connected() as (proxy, service, broker):
        proxy.swallow(up=True, down=False)
        service.sendall(b"late")
        pass_through(broker, service)
        expect_nothing(broker)
        proxy.heal()
        assert broker.recv(4) == b"late"
