"""What a client does when the broker refuses its certificate or its name, as the error advises."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from stockworker.adapters import clock
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Authority, Subject
from stockworker.pki.registry import CertificateKind
from tests.harness.advice import follows
from tests.harness.broker_place import NO_CONFIG, new_place
from tests.harness.command import Finished, changed, run
from tests.harness.fleet import Fleet
from tests.harness.waiting import wait_until

NOW = datetime.fromtimestamp(clock.wall(), UTC)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=0) as fleet:
        yield fleet


@pytest.fixture
def ca(fleet: Fleet, tmp_path: Path) -> Path:
    """The folder of the fleet's authority, with no certificate."""
    folder = tmp_path / "ca"
    fleet.broker.authority.save(folder)
    (folder / "issued.jsonl").touch()
    shutil.copy(fleet.broker.crl_file, folder / "crl.pem")
    return folder


def pki(ca: Path, action: str, *words: str) -> None:
    done = run(NO_CONFIG, "pki", action, *words, "--ca", str(ca))
    assert done.status == 0, done.errors


def with_certificate(fleet: Fleet, certificate: Path, key: Path) -> Path:
    return changed(fleet.config_file("client"), "own", tls={"cert_file": str(certificate), "key_file": str(key)})


def complains(config: Path, text: str) -> None:
    """Wait for an error: a reset of the connection can overtake the broker's reason."""
    wait_until(lambda: text in run(config, "stats", "--answer-timeout", "5").errors, f"the client reports {text!r}", 30)


def requested(ca: Path, folder: Path, name: str = "client") -> tuple[Path, Path]:
    """A new certificate by `pki request` and `pki sign`."""
    assert run(NO_CONFIG, "pki", "request", name, "--out", str(folder)).status == 0
    pki(ca, "sign", "client", name, str(folder / f"{name}.csr"))
    return ca / "issued" / f"{name}.crt", folder / f"{name}.key"


@follows("the client certificate has expired: renew it with 'stockworker pki renew'")
def test_an_expired_certificate_is_renewed(fleet: Fleet, ca: Path) -> None:
    long_ago = AuthorityFolder(ca, NOW - timedelta(days=300))
    issued = long_ago.issue(CertificateKind.CLIENT, Subject("client"), timedelta(days=100))
    assert issued.key is not None
    config = with_certificate(fleet, issued.certificate, issued.key)
    complains(config, "the client certificate has expired: renew it with 'stockworker pki renew'")
    pki(ca, "renew", "client")
    assert run(config, "stats").status == 0


@follows(
    "the broker does not trust the authority of the client certificate: get one of the fleet's with 'stockworker pki request'"
)
def test_a_certificate_of_another_authority_is_replaced(fleet: Fleet, ca: Path, tmp_path: Path) -> None:
    other = Authority.create("Another fleet", NOW).issue(Subject("client"), NOW).save(tmp_path, "other")
    complains(with_certificate(fleet, *other), "the broker does not trust the authority of the client certificate")
    assert run(with_certificate(fleet, *requested(ca, tmp_path)), "stats").status == 0


@follows("the client certificate has been revoked: request a new one with 'stockworker pki request'")
def test_a_revoked_certificate_is_replaced(fleet: Fleet, ca: Path, tmp_path: Path) -> None:
    pki(ca, "issue", "client", "client")
    config = with_certificate(fleet, ca / "issued" / "client.crt", ca / "issued" / "client.key")
    pki(ca, "revoke", "client")
    shutil.copy(ca / "crl.pem", fleet.broker.crl_file)
    fleet.broker.stop()
    fleet.broker.start()
    fleet.dispatcher.await_event("link_up", times=2)
    complains(config, "the client certificate has been revoked: request a new one with 'stockworker pki request'")
    assert run(with_certificate(fleet, *requested(ca, tmp_path)), "stats").status == 0


@follows(
    "copy the authority's current list to crl_file; 'stockworker pki crl' writes one",
    "…. Copy the current list of the authority; 'stockworker pki crl' writes one",
)
def test_an_expired_list_is_replaced(fleet: Fleet, ca: Path, tmp_path: Path) -> None:
    authority, crl_file = fleet.broker.authority, tmp_path / "crl.pem"
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(NOW - timedelta(days=3)).next_update(NOW - timedelta(days=2))
    crl_file.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    config = changed(fleet.config_file("client"), "list", tls={"crl_file": str(crl_file)})

    def checked() -> Finished:
        return run(config, "check", "--offline")

    assert "Copy the current list of the authority; 'stockworker pki crl' writes one" in checked().output
    complains(config, "copy the authority's current list to crl_file; 'stockworker pki crl' writes one")
    pki(ca, "crl")
    shutil.copy(ca / "crl.pem", crl_file)
    assert checked().status == 0
    assert run(config, "stats").status == 0


@follows(
    "The broker's access control list does not have … as client or operator. … of one. For a new client, run `stockworker "
    "pki issue client …` at the fleet's authority, then `stockworker broker setup` on the broker's machine",
    "run `stockworker broker setup` on the broker's machine. With a user name, configure the one of this ID",
    "If it is a service, check it with --role. If it has a client's certificate: …",
)
def test_a_new_client_gets_into_the_access_list(fleet: Fleet, ca: Path, tmp_path: Path) -> None:
    newcomer = fleet.config_file("newcomer")
    denied = run(newcomer, "submit", "echo").errors
    (command,) = re.findall(r"run `stockworker (pki issue client newcomer)` at the fleet's authority", denied)
    found = run(newcomer, "check", "--role", "client").output
    assert (
        "If it is a service, check it with --role. If it has a client's certificate: run `stockworker broker setup`"
        in found
    )

    _, action, *words = command.split()
    pki(ca, action, *words)
    place = new_place(tmp_path / "root")
    ca.rename(place.ca)
    assert place.setup("--operator", "operator", "--client", "client", "--host", "localhost").status == 0
    fleet.broker.replace_acl((place.folder / "acl").read_text())
    own = {
        "cert_file": str(place.ca / "issued" / "newcomer.crt"),
        "key_file": str(place.ca / "issued" / "newcomer.key"),
    }
    admitted = changed(newcomer, "admitted", tls=own)
    wait_until(lambda: run(admitted, "submit", "echo").status == 0, "the broker has the new list", 30)
    assert run(admitted, "check", "--role", "client").status == 0
    assert run(newcomer, "check", "--role", "worker").status == 1, "it is not a service"
