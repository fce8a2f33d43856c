"""An attacker on the network has no certificate of the fleet: it can't connect, and does not disturb connected services."""

import re
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.adapters import clock
from stockworker.adapters.mqtt_reasons import explain_error
from stockworker.adapters.tls import TlsFiles, client_context
from stockworker.pki.certificates import (
    Authority,
    IssuedIdentity,
    Revocation,
    Subject,
    make_p256,
    pem_of,
    read_certificate,
)
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


def with_an_old_suite(broker: Broker, _folder: Path) -> ssl.SSLContext:
    """TLS 1.2 with CBC, whose padding has leaked plain text before (Lucky Thirteen)."""
    context = broker.client_context("host-1")
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


STRANGERS = {
    without_certificate: "peer did not return a certificate",
    of_another_authority: "certificate verify failed",
    expired: "certificate verify failed",
    downgraded: "unsupported protocol",
    with_an_old_suite: "no shared cipher",
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


def reason_against(broker: Broker, crl_file: Path | None = None) -> str:
    """Why a client sends nothing to this broker; empty if it does."""
    own = broker.identity("host-1")
    try:
        knock(broker, TlsFiles(broker.ca_file, own.certificate, own.key, crl_file).context())
    except ssl.SSLError as error:
        return explain_error(error)
    return ""


def test_a_revoked_broker_is_refused_where_a_list_is_configured(tmp_path: Path) -> None:
    """The attacker has stolen the broker's key; the authority has revoked its certificate."""
    crl_file, now = tmp_path / "broker-crl.pem", datetime.fromtimestamp(clock.wall(), UTC)
    with Broker(tmp_path / "broker") as broker:
        serial, _ = read_certificate(tmp_path / "broker" / "pki" / "broker.crt")
        crl_file.write_bytes(broker.authority.revocation_list((), now))
        assert reason_against(broker, crl_file) == ""

        crl_file.write_bytes(broker.authority.revocation_list([Revocation(serial, now)], now))
        assert "certificate revoked: do not use this broker" in reason_against(broker, crl_file)
        assert reason_against(broker) == "", "without a list, revocation has no effect on brokers"


def test_a_list_that_expired_or_is_of_another_authority_vouches_for_no_broker(tmp_path: Path) -> None:
    crl_file, now = tmp_path / "broker-crl.pem", datetime.fromtimestamp(clock.wall(), UTC)
    with Broker(tmp_path / "broker") as broker:
        builder = x509.CertificateRevocationListBuilder().issuer_name(broker.authority.certificate.subject)
        builder = builder.last_update(now - timedelta(days=3)).next_update(now - timedelta(days=2))
        expired_list = builder.sign(broker.authority.key, hashes.SHA256())
        crl_file.write_bytes(expired_list.public_bytes(serialization.Encoding.PEM))
        assert "CRL has expired: copy the authority's current list to crl_file" in reason_against(broker, crl_file)

        crl_file.write_bytes(Authority.create("another", now).revocation_list((), now))
        assert "crl_file must have the list of the authority that issued it" in reason_against(broker, crl_file)


def test_a_broker_with_its_name_in_the_common_name_only_is_refused(tmp_path: Path) -> None:
    """The subject is free text to many authorities; they check the subject alternative names."""
    now, key = datetime.fromtimestamp(clock.wall(), UTC), make_p256()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    with Broker(tmp_path) as broker:
        builder = x509.CertificateBuilder(broker.authority.certificate.subject, subject, key.public_key(), 1)
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        certificate = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        pem = pem_of(certificate.sign(broker.authority.key, hashes.SHA256()))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        IssuedIdentity(pem, secret).save(tmp_path / "pki", "broker")
        broker.reload()
        assert "certificate is not valid for 'localhost'" in reason_against(broker)


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
