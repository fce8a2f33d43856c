"""A bare TLS connection to a real broker: does it accept a certificate, whatever client uses it?"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from stockworker.adapters.tls import client_context
from tests.harness.broker import Broker, Credentials

PING, PONG = bytes.fromhex("c0 00"), bytes.fromhex("d0 00")
_HEAD = bytes.fromhex("10 0f 00 04 4d 51 54 54 05 02 00 14 00 00 02")  # MQTT 5, clean start, 20 s; a client id follows
_CONNACK = 0x20


@contextmanager
def signed_in(broker: Broker, context: ssl.SSLContext, client_id: bytes = b"w1") -> Iterator[ssl.SSLSocket]:
    """A connection that the broker has accepted, with a client ID of two bytes.

    Raises:
        ssl.SSLError, ConnectionError: the broker refused it; which error depends on what arrives first, the alert or the reset.
    """
    with (
        socket.create_connection((broker.host, broker.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(_HEAD + client_id)
        answer = secure.recv(1024)
        if not answer:
            raise ConnectionError
        assert (answer[0], answer[3]) == (_CONNACK, 0)
        yield secure


def lets_in(broker: Broker, context: ssl.SSLContext) -> bool:
    try:
        with signed_in(broker, context, b"xx"):
            return True
    except (ssl.SSLError, ConnectionError):
        return False


def is_let_in(broker: Broker, who: Credentials) -> bool:
    return lets_in(broker, client_context(broker.ca_file, who.certificate, who.key))


def is_alive(connection: ssl.SSLSocket) -> bool:
    connection.sendall(PING)
    return connection.recv(1024) == PONG
