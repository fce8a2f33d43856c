"""An attacker whose role was taken away, or who gets the certificate of a name with a role: no list gives it more rights."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.broker.acl import acl
from stockworker.errors import CertificateRefused
from stockworker.pki.access_list import users_of
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject, make_request
from stockworker.pki.registry import CertificateKind, Registry
from stockworker.protocol.topics import TOPICS, Role
from stockworker.terminal.exits import Exit
from tests.harness.attacks import EVIL_CLIENT
from tests.harness.broker import Broker
from tests.harness.command import Finished, run
from tests.harness.peer import Peer, connected

NO_CONFIG = Path("/nonexistent.yml")
NOW = datetime.fromtimestamp(clock.wall(), UTC).replace(microsecond=0)
OWN = [line for line in TOPICS if "worker_id" in line.levels]
SAID = [line.pattern(worker_id=EVIL_CLIENT).replace("+", "any") for line in OWN if line.publishers == {Role.WORKER}]
"""Topics on which a worker of this name publishes: its requests, reports, heartbeats."""

HEARD = [
    line.pattern(worker_id=EVIL_CLIENT).replace("+", "any") for line in OWN if line.publishers == {Role.DISPATCHER}
]
"""Topics on which the dispatcher publishes for a worker of this name: its jobs, acknowledgements, orders."""


# --- off the list -----------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with Mosquitto, the fleet's authority and one client."""
    folder = tmp_path / "root" / "etc" / "mosquitto"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "mosquitto.conf").write_text("include_dir /etc/mosquitto/conf.d\n")
    for words in (("init",), ("issue", "client", EVIL_CLIENT), ("issue", "client", "desk-1")):
        assert run(NO_CONFIG, "pki", *words, "--ca", str(tmp_path / "ca")).status == Exit.OK
    return tmp_path / "root"


def set_up(machine: Path, *words: str, authority: str = "ca") -> str:
    """Run the setup; return the access control list."""
    ca = machine.with_name(authority)
    done = run(NO_CONFIG, "broker", "setup", "--root", str(machine), "--ca", str(ca), *words)
    assert done.status == Exit.OK, done.errors
    return (machine / "etc/mosquitto/stockworker/acl").read_text()


def uses_as_worker(broker: Broker, reloaded: str) -> set[str]:
    """The topics of a worker that the attacker can use: first as a client, then after its connection sees a new list."""

    async def attack() -> set[str]:
        evil, dispatcher = Peer(broker, EVIL_CLIENT), Peer(broker, "dispatcher", ())
        async with connected([evil, dispatcher]):
            used = await use(evil, dispatcher)
            (broker.ca_file.parent.parent / "acl").write_text(reloaded)
            broker.reload()
            return used | await use(evil, dispatcher)

    async def use(evil: Peer, dispatcher: Peer) -> set[str]:
        evil.denied.clear()
        await dispatcher.publish(HEARD, b"for a worker")
        await evil.publish(SAID, b"{}")  # all that the dispatcher published arrives before the answers to these
        assert dispatcher.denied == set()
        heard = {item.packet.topic for item in evil.received if item.packet.body == b"for a worker"}
        return ({*SAID} - evil.denied) | heard

    return asyncio.run(attack())


def test_a_client_that_is_taken_off_the_list_does_not_become_a_worker(tmp_path: Path) -> None:
    assert f"jobs/request/{EVIL_CLIENT}" in SAID
    assert len(HEARD) > 1
    listed = acl(clients=[EVIL_CLIENT])
    with Broker(tmp_path, listed) as broker:
        assert uses_as_worker(broker, acl(removed=users_of(listed))) == set()


def test_a_client_whose_name_is_not_given_again_does_not_become_a_worker(machine: Path, tmp_path: Path) -> None:
    """The authority is on another machine, so that only the list in force has its name."""
    assert users_of(set_up(machine))[EVIL_CLIENT] == "client"
    assert_removed(set_up(machine, "--client", "desk-1", authority="elsewhere"), tmp_path)
    assert users_of(set_up(machine, "--client", "desk-2", authority="elsewhere"))[EVIL_CLIENT] == "removed"


def test_a_client_whose_certificate_expired_does_not_become_a_worker(machine: Path, tmp_path: Path) -> None:
    registry = Registry.load(machine.with_name("ca") / "issued.jsonl")
    registry.records = [
        replace(record, until=NOW - timedelta(days=1)) if record.name == EVIL_CLIENT else record
        for record in registry.records
    ]
    registry.save()
    assert_removed(set_up(machine), tmp_path)


def assert_removed(text: str, tmp_path: Path) -> None:
    assert users_of(text)[EVIL_CLIENT] == "removed"
    assert users_of(text)["desk-1"] == "client"
    with Broker(tmp_path / "broker", acl(clients=[EVIL_CLIENT])) as broker:
        assert uses_as_worker(broker, text) == set()


def test_a_bridge_that_is_not_listed_does_not_become_a_worker(machine: Path) -> None:
    ca = machine.with_name("ca")
    assert run(NO_CONFIG, "pki", "issue", "bridge", "paris", "--ca", str(ca)).status == Exit.OK
    assert users_of(set_up(machine))["paris"] == "removed"
    assert users_of(set_up(machine, "--bridge", "paris"))["paris"] == "bridge"


def printed(*words: str) -> Finished:
    done = run(NO_CONFIG, "acl", *words)
    assert done.status == Exit.OK, done.errors
    return done


def test_the_printed_list_keeps_the_names_of_the_list_in_force(tmp_path: Path) -> None:
    file = tmp_path / "acl"
    file.write_text(printed("--client", EVIL_CLIENT, "--operator", "anna").output)
    text = printed("--client", "desk-1", "--in-force", str(file), "--removed", "former").output
    roles = {"anna": "removed", EVIL_CLIENT: "removed", "former": "removed", "desk-1": "client"}
    assert users_of(text) == {"dispatcher": "dispatcher", **roles}
    assert users_of(printed("--operator", "anna", "--removed", "anna").output)["anna"] == "operator"


# --- the name of another one ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> AuthorityFolder:
    folder = AuthorityFolder(tmp_path / "ca", NOW)
    folder.create("Fleet")
    return folder


def signed_as_worker(authority: AuthorityFolder, name: str) -> None:
    request = authority.folder / f"{name}.csr"
    request.write_bytes(make_request(name)[0])
    authority.sign(CertificateKind.WORKER, Subject(name), request)


@pytest.mark.parametrize("kind", [CertificateKind.OPERATOR, CertificateKind.CLIENT, CertificateKind.DISPATCHER])
def test_a_worker_gets_no_certificate_for_a_name_whose_certificate_expired(
    authority: AuthorityFolder, kind: CertificateKind
) -> None:
    authority.issue(kind, Subject("alice"), timedelta(days=1))
    later = AuthorityFolder(authority.folder, NOW + timedelta(days=30))
    with pytest.raises(CertificateRefused, match=rf"'alice' already has a certificate of kind {kind}. .* revoke"):
        signed_as_worker(later, "alice")
    later.revoke("alice")
    signed_as_worker(later, "alice")


def test_a_worker_gets_no_certificate_for_the_default_name_of_the_dispatcher(authority: AuthorityFolder) -> None:
    with pytest.raises(CertificateRefused, match=r"'dispatcher' is the default name of the dispatcher.*another name"):
        signed_as_worker(authority, "dispatcher")
    authority.issue(CertificateKind.DISPATCHER, Subject("dispatcher"))


@pytest.mark.parametrize("role", ["client", "operator", "dispatcher", "bridge", "removed"])
def test_a_worker_gets_no_certificate_for_a_name_in_the_list_of_the_broker(
    authority: AuthorityFolder, role: str
) -> None:
    """The registry of this authority does not know the name: its certificate is from another one, or it has a password."""
    names = {f"{role}s" if role != "removed" else role: ["alice"] if role != "bridge" else {"alice": []}}
    users = users_of(acl(**names))  # type: ignore[arg-type] # one of the arguments
    assert users["alice"] == role
    here = AuthorityFolder(authority.folder, NOW, users=users)
    with pytest.raises(
        CertificateRefused, match=rf"'alice' is in the broker's access control list \({role}\).*another"
    ):
        signed_as_worker(here, "alice")
    signed_as_worker(here, "edge-1")


def test_a_name_without_rights_is_free_once_its_certificates_are_revoked(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.CLIENT, Subject("alice"))
    authority.revoke("alice")
    with pytest.raises(CertificateRefused, match="run 'stockworker broker setup' first"):
        signed_as_worker(AuthorityFolder(authority.folder, NOW, users={"alice": "client"}), "alice")
    signed_as_worker(AuthorityFolder(authority.folder, NOW, users={"alice": "removed"}), "alice")


def test_a_name_that_became_a_worker_works_as_one(machine: Path) -> None:
    ca = ("--ca", str(machine.with_name("ca")))
    assert users_of(set_up(machine))[EVIL_CLIENT] == "client"
    for words in (("revoke", EVIL_CLIENT), ("issue", "worker", EVIL_CLIENT)):
        assert run(NO_CONFIG, "pki", *words, *ca).status == Exit.OK
    assert EVIL_CLIENT not in users_of(set_up(machine))


def test_a_worker_is_not_listed_as_a_client(machine: Path) -> None:
    ca = str(machine.with_name("ca"))
    assert run(NO_CONFIG, "pki", "issue", "worker", "edge-1", "--ca", ca).status == Exit.OK
    done = run(NO_CONFIG, "broker", "setup", "--root", str(machine), "--ca", ca, "--client", "edge-1")
    assert done.status == Exit.CONFIG
    assert "client edge-1: this name has a certificate of kind worker" in done.errors
    assert "stockworker pki revoke edge-1" in done.errors
