"""An attacker on the network has no certificate of the fleet: it can't connect, and does not disturb connected services."""

import re
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.adapters.tls import client_context
from stockworker.pki.certificates import Subject
from tests.harness.attacks import RawClient, connections_lost, run_good_job
from tests.harness.broker import Broker
from tests.harness.fleet import Fleet
from tests.harness.waiting import wait_until

# The tests read the reason from the broker's log: the reset of the connection can overtake its alert, and TLS 1.3 refuses
# a certificate only after the handshake, so that the client may see a closed connection without a reason.
REFUSED = (ssl.SSLError, ConnectionError)


def knock(broker: Broker, context: ssl.SSLContext) -> None:
    with RawClient(broker, context, "knock"):
        pass


def without_certificate(broker: Broker, _folder: Path) -> ssl.SSLContext:
    return client_context(broker.ca_file)


def of_another_authority(broker: Broker, folder: Path) -> ssl.SSLContext:
    with Broker(folder / "other") as other:
        stranger = other.identity("dispatcher")
    return client_context(broker.ca_file, stranger.certificate, stranger.key)


def expired(broker: Broker, folder: Path) -> ssl.SSLContext:
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    certificate, key = broker.authority.issue(Subject("host-1"), long_ago).save(folder, "expired")
    return client_context(broker.ca_file, certificate, key)


def downgraded(broker: Broker, _folder: Path) -> ssl.SSLContext:
    context = broker.client_context("host-1")
    context.set_ciphers("ALL:@SECLEVEL=0")  # otherwise the OpenSSL of the test refuses
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


STRANGERS = {
    without_certificate: "peer did not return a certificate",
    of_another_authority: "certificate verify failed",
    expired: "certificate verify failed",
    downgraded: "unsupported protocol",
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_a_connection_without_a_valid_certificate_is_refused(fleet: Fleet, tmp_path: Path, stranger) -> None:  # type: ignore[no-untyped-def] # a function of the table above
    before = fleet.broker.log.count(STRANGERS[stranger])
    context = stranger(fleet.broker, tmp_path)
    for _ in range(3):
        with pytest.raises(REFUSED):
            knock(fleet.broker, context)
    wait_until(
        lambda: fleet.broker.log.count(STRANGERS[stranger]) >= before + 3,
        "the broker logs each attempt with its reason",
    )
    run_good_job(fleet)
    assert connections_lost(fleet) == 0


def test_the_broker_refuses_unencrypted_connections(fleet: Fleet) -> None:
    with socket.create_connection((fleet.broker.host, fleet.broker.port), timeout=10) as plain:
        plain.sendall(bytes.fromhex("10 0f 00 04 4d 51 54 54 05 02 00 14 00 00 02 77 31"))
        try:
            answer = plain.recv(1024)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] != b"\x20"
    assert b"MQTT" not in answer
    wait_until(lambda: re.search(r"wrong version number|http request|OpenSSL Error", fleet.broker.log), "it is logged")
    run_good_job(fleet)


def test_the_broker_listens_on_one_port_only(fleet: Fleet) -> None:
    inodes = {
        link.removeprefix("socket:[").removesuffix("]")
        for file in Path(f"/proc/{fleet.broker.pid}/fd").iterdir()
        if (link := str(file.readlink())).startswith("socket:[")
    }
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{fleet.broker.pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                listening.add(int(local.rpartition(":")[2], 16))
    assert listening == {fleet.broker.port}


def test_services_send_nothing_to_another_broker(fleet: Fleet, tmp_path: Path) -> None:
    """An attacker redirects DNS or routes: the services see a certificate that they do not trust, and send nothing."""
    fleet.broker.stop()
    with Broker(tmp_path, port=fleet.broker.port) as impostor:
        for worker in fleet.workers:
            worker.await_log("the broker's certificate does not verify")
        fleet.dispatcher.await_log("the broker's certificate does not verify")
        assert "New client connected" not in impostor.log
    fleet.broker.start()
    run_good_job(fleet)
