"""What Mosquitto makes of certificates that change under it: what a reload takes in, and what needs a restart."""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from stockworker.adapters import clock
from stockworker.adapters.tls import client_context
from stockworker.pki.certificates import Authority, Subject, make_ed25519
from tests.harness.broker import Broker, BrokerFailed
from tests.harness.mosquitto import is_alive, lets_in, signed_in

NOW = datetime.fromtimestamp(clock.wall(), UTC)
HOSTS = ("localhost", "127.0.0.1")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as broker:
        yield broker


def lets_in_named(broker: Broker, name: str) -> bool:
    return lets_in(broker, broker.client_context(name))


def restart(broker: Broker) -> None:
    broker.stop()
    broker.start()


def served_serial(broker: Broker) -> int:
    with signed_in(broker, broker.client_context("w2"), b"w2") as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


# --- revocation -------------------------------------------------------------------------------------------------------


def test_a_reload_takes_in_each_new_revocation_list(broker: Broker) -> None:
    """Even if both are written within one second: a list is always newer than the one that it replaces."""
    for name in ("w1", "w2"):
        assert lets_in_named(broker, name)
        broker.revoke(name)
        broker.reload()
        assert not lets_in_named(broker, name)
    assert not lets_in_named(broker, "w1")
    assert lets_in_named(broker, "w3")


def test_the_connection_of_who_is_revoked_outlives_a_reload_and_not_a_restart(broker: Broker) -> None:
    with signed_in(broker, broker.client_context("w1")) as connection:
        broker.revoke("w1")
        broker.reload()
        assert is_alive(connection)
        restart(broker)
        assert connection.recv(1024) == b""
    assert not lets_in_named(broker, "w1")


def test_a_revocation_list_that_has_run_out_locks_everybody_out(broker: Broker) -> None:
    """So the lists of `stockworker pki` are valid as long as the authority."""
    authority = broker.authority
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(NOW - timedelta(days=3)).next_update(NOW - timedelta(days=2))
    broker.crl_file.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    broker.reload()
    assert not lets_in_named(broker, "w1")
    restart(broker)
    assert not lets_in_named(broker, "w1")


def test_a_revocation_list_that_can_not_be_read_lets_everybody_in_or_nobody(broker: Broker) -> None:
    """Which is why the list has to be readable for the user that Mosquitto runs as, and comes in whole files.

    Before 2.1 every client is accepted, from 2.1 on none. A restart fails.
    """
    everybody = broker.version < (2, 1)
    broker.revoke("w1")
    broker.reload()
    assert not lets_in_named(broker, "w1")
    broker.crl_file.write_bytes(b"")
    broker.reload()
    assert [lets_in_named(broker, name) for name in ("w1", "w2")] == [everybody] * 2
    assert "Unable to load certificate revocation file" in broker.log
    broker.stop()
    with pytest.raises(BrokerFailed, match="Unable to load certificate revocation file"):
        broker.start()


# --- the broker's own certificate -------------------------------------------------------------------------------------


def test_a_reload_takes_in_a_renewed_certificate_and_keeps_the_connections(broker: Broker) -> None:
    with signed_in(broker, broker.client_context("w1")) as connection:
        before = served_serial(broker)
        broker.renew()
        assert served_serial(broker) == before
        broker.reload()
        assert served_serial(broker) != before
        assert is_alive(connection)


def test_keys_of_the_kind_ed25519_are_taken_on_both_sides(broker: Broker, tmp_path: Path) -> None:
    files = broker.authority.issue(Subject("w1"), NOW, make_key=make_ed25519).save(tmp_path, "w1")
    server = broker.authority.issue(Subject(HOSTS[0], HOSTS), NOW, make_key=make_ed25519)
    server.save(tmp_path / "pki", "broker")
    broker.reload()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(broker.ca_file, *files)
        context.minimum_version = context.maximum_version = version
        assert lets_in(broker, context)


# --- authorities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crl_checked", [True, False])
def test_an_authority_that_is_removed(tmp_path: Path, *, crl_checked: bool) -> None:
    """With `crlfile`, as in the template, a reload is enough to lose trust; without, only a restart is (mosquitto#3568)."""
    new = Authority.create("New", NOW)
    with Broker(tmp_path, changes={} if crl_checked else {"crlfile": None}) as broker:
        old = broker.client_context("w1")
        broker.ca_file.write_bytes(new.certificate_pem)
        broker.crl_file.write_bytes(broker.crl_file.read_bytes() + new.revocation_list((), NOW))
        broker.reload()
        assert lets_in(broker, old) is not crl_checked
        restart(broker)
        assert not lets_in(broker, old)


def test_authorities_overlap_while_a_fleet_changes_over(broker: Broker, tmp_path: Path) -> None:
    new, both = Authority.create("New", NOW), tmp_path / "both.crt"
    both.write_bytes(broker.authority.certificate_pem + new.certificate_pem)
    old = broker.identity("w1")
    broker.ca_file.write_bytes(both.read_bytes())
    broker.crl_file.write_bytes(broker.crl_file.read_bytes() + new.revocation_list((), NOW))
    restart(broker)
    assert lets_in(broker, client_context(both, old.certificate, old.key))
    assert lets_in(broker, client_context(both, *new.issue(Subject("w2"), NOW).save(tmp_path, "w2")))
