import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.adapters.tls import client_context
from tests.harness.broker import Broker
from tests.harness.waiting import wait_until

ACL = "user w1\ntopic readwrite #\npattern read jobs/assign/%u\n"
CONNECT = bytes.fromhex("10 0f 00 04 4d 51 54 54 05 02 00 14 00 00 02 77 31")  # MQTT 5, clean start, client id "w1"
CONNACK = 0x20


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), ACL) as broker:
        yield broker


def sign_in(broker: Broker, context: ssl.SSLContext) -> bytes:
    """The broker's first packet: in TLS 1.3 a certificate is refused only after the handshake."""
    with (
        socket.create_connection((broker.host, broker.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(CONNECT)
        return secure.recv(1024)


def test_starts_without_a_warning(broker: Broker) -> None:
    sign_in(broker, broker.client_context("w1"))  # a broker that answers has finished its start
    start, running, _ = broker.log.partition(" running\n")
    assert running
    warnings = [line for line in start.splitlines() if "Warning" in line or "Error" in line]
    # The harness, not the template, may run it as root.
    assert [line for line in warnings if "should not be run as root" not in line] == []


def test_the_log_has_times_that_people_can_read(broker: Broker) -> None:
    assert re.search(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d: mosquitto version ", broker.log)


def test_lets_in_who_has_a_certificate_of_the_fleet(broker: Broker) -> None:
    answer = sign_in(broker, broker.client_context("w1"))
    assert (answer[0], answer[3]) == (CONNACK, 0)


# The broker's alert may be lost behind the reset of the connection. Only its log always has the reason.
REFUSED = (ssl.SSLError, ConnectionError)


def test_refuses_a_client_without_certificate(broker: Broker) -> None:
    with pytest.raises(REFUSED):
        sign_in(broker, client_context(broker.ca_file))
    wait_until(lambda: "peer did not return a certificate" in broker.log, "the broker logs the reason")


def test_refuses_a_certificate_of_another_authority(broker: Broker, tmp_path: Path) -> None:
    with Broker(tmp_path, ACL) as other:
        stranger = other.identity("w1")
    with pytest.raises(REFUSED):
        sign_in(broker, client_context(broker.ca_file, stranger.certificate, stranger.key))
    wait_until(lambda: "certificate verify failed" in broker.log, "the broker logs the reason")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_refuses_old_versions_of_tls(broker: Broker, version: ssl.TLSVersion) -> None:
    context = broker.client_context("w1")
    context.set_ciphers("ALL:@SECLEVEL=0")  # else the client's own OpenSSL refuses
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        sign_in(broker, context)


def test_speaks_tls_1_2_and_newer(broker: Broker) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = broker.client_context("w1")
        context.minimum_version = context.maximum_version = version
        assert sign_in(broker, context)[0] == CONNACK


def test_refuses_plain_text(broker: Broker) -> None:
    with socket.create_connection((broker.host, broker.port), timeout=10) as plain:
        plain.sendall(CONNECT)
        try:
            answer = plain.recv(1024)
        except ConnectionResetError:
            answer = b""
        assert answer[:1] != bytes([CONNACK])
