"""An authority at work: what it signs, what it refuses, what it writes down."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.advice import after_renewal
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import LEAF_LIFETIME, Subject, make_p256, make_request, read_certificate
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import CertificateKind, CertificateState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WORKER = Subject("edge-1")


@pytest.fixture
def authority(tmp_path: Path) -> AuthorityFolder:
    authority = AuthorityFolder(tmp_path / "ca", NOW)
    authority.create("Fleet")
    return authority


def revoked_serials(authority: AuthorityFolder) -> list[int]:
    return [entry.serial_number for entry in x509.load_pem_x509_crl(authority.crl_file.read_bytes())]


def request_of(folder: Path, name: str) -> Path:
    file = folder / f"{name}.csr"
    file.write_bytes(make_request(name)[0])
    return file


def test_the_folder_is_for_its_owner_alone_and_no_file_of_it_is_open(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.WORKER, WORKER)
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    keys = sorted(authority.folder.rglob("*.key"))
    assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in keys] == [
        ("ca.key", 0o600),
        ("edge-1.key", 0o600),
    ]


def test_there_is_a_revocation_list_from_the_first_day(authority: AuthorityFolder) -> None:
    assert revoked_serials(authority) == []
    assert stat.S_IMODE(authority.crl_file.stat().st_mode) == 0o644  # Mosquitto reads it again as its own user


def test_an_authority_is_never_replaced(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.WORKER, WORKER)
    with pytest.raises(ConfigError, match="already contains a certificate authority"):
        authority.create("Another")
    assert len(authority.registry().records) == 1


def test_what_is_issued_is_written_down(authority: AuthorityFolder) -> None:
    issued = authority.issue(CertificateKind.BROKER, Subject("broker", ("broker", "10.0.0.1")))
    (record,) = authority.registry().records
    assert (record.name, record.kind, record.hosts) == ("broker", CertificateKind.BROKER, ("broker", "10.0.0.1"))
    assert int(record.serial, 16) == read_certificate(issued.certificate)[0]
    assert (record.issued_at, record.until) == (NOW, NOW + LEAF_LIFETIME)


def test_a_name_has_one_kind(authority: AuthorityFolder, tmp_path: Path) -> None:
    """A worker's certificate in the name of an operator would have the operator's rights."""
    authority.issue(CertificateKind.OPERATOR, Subject("boss"))
    with pytest.raises(CertificateRefused, match="'boss' already has a certificate of kind operator"):
        authority.issue(CertificateKind.WORKER, Subject("boss"))
    with pytest.raises(CertificateRefused, match="A name has only one kind"):
        authority.sign(CertificateKind.WORKER, Subject("boss"), request_of(tmp_path, "boss"))
    authority.revoke("boss")
    authority.issue(CertificateKind.WORKER, Subject("boss"))


def test_who_has_a_certificate_gets_a_successor_and_no_second_one(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.WORKER, WORKER)
    with pytest.raises(CertificateRefused, match="renew it with 'stockworker pki renew edge-1'"):
        authority.issue(CertificateKind.WORKER, WORKER)


def test_a_request_is_signed_for_the_name_that_was_expected(authority: AuthorityFolder, tmp_path: Path) -> None:
    file = request_of(tmp_path, "edge-1")
    with pytest.raises(CertificateRefused, match="requests the name 'edge-1', not 'edge-2'"):
        authority.sign(CertificateKind.WORKER, Subject("edge-2"), file)
    issued = authority.sign(CertificateKind.WORKER, WORKER, file)
    assert issued.key is None
    assert inspect(issued.certificate)[0].name == "edge-1"
    assert not list(authority.folder.glob("issued/*.key"))


def test_a_machine_that_was_set_up_anew_is_signed_again(authority: AuthorityFolder, tmp_path: Path) -> None:
    authority.sign(CertificateKind.WORKER, WORKER, request_of(tmp_path, "edge-1"))
    authority.sign(CertificateKind.WORKER, WORKER, request_of(tmp_path, "edge-1"))
    assert [standing for _, standing in authority.registry().states(NOW)] == [
        CertificateState.REPLACED,
        CertificateState.VALID,
    ]


def test_a_successor_is_for_the_same_key_and_host(authority: AuthorityFolder) -> None:
    first = authority.issue(CertificateKind.BROKER, Subject("broker", ("broker", "10.0.0.1")))
    key = first.certificate.read_bytes(), read_certificate(first.certificate)[1]
    later = AuthorityFolder(authority.folder, NOW + timedelta(days=360))
    former, second = later.renew("broker")
    assert former == first.record
    assert second.key is None
    assert second.record.hosts == first.record.hosts
    assert second.record.until == NOW + timedelta(days=360) + LEAF_LIFETIME
    assert second.certificate.read_bytes() != key[0]
    assert read_certificate(second.certificate)[1].public_numbers() == key[1].public_numbers()  # type: ignore[union-attr] # P-256


def test_a_successor_with_a_new_key(authority: AuthorityFolder) -> None:
    issued = authority.issue(CertificateKind.WORKER, WORKER)
    assert issued.key is not None
    before = issued.key.read_bytes()
    _, second = authority.renew("edge-1", make_key=make_p256)
    assert second.key is not None
    assert second.key.read_bytes() != before


def test_a_role_that_expired_comes_back_with_the_next_setup_of_the_broker(authority: AuthorityFolder) -> None:
    """The setup has removed the name from the access control list meanwhile."""
    authority.issue(CertificateKind.OPERATOR, Subject("boss"))
    late = AuthorityFolder(authority.folder, NOW + 2 * LEAF_LIFETIME)
    assert "then on the broker's machine: stockworker broker setup" in "\n".join(after_renewal(*late.renew("boss")))
    assert "broker setup" not in "\n".join(after_renewal(*late.renew("boss")))


def test_what_can_not_be_renewed(authority: AuthorityFolder) -> None:
    with pytest.raises(CertificateRefused, match="it never had a certificate"):
        authority.renew("edge-1")
    authority.issue(CertificateKind.WORKER, WORKER)
    authority.issue(CertificateKind.WORKER, Subject("edge-2")).certificate.replace(
        authority.folder / "issued" / "edge-1.crt"
    )
    with pytest.raises(ConfigError, match="not the latest certificate of 'edge-1'"):
        authority.renew("edge-1")
    authority.revoke("edge-1")
    with pytest.raises(CertificateRefused, match="all its certificates are revoked"):
        authority.renew("edge-1")


def test_all_certificates_of_a_name_are_revoked(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.WORKER, WORKER)
    authority.issue(CertificateKind.WORKER, Subject("edge-2"))
    authority.renew("edge-1")
    revoked = authority.revoke("edge-1")
    assert [record.name for record in revoked] == ["edge-1", "edge-1"]
    assert revoked_serials(authority) == [int(record.serial, 16) for record in revoked]
    assert authority.revoke("edge-1") == []
    assert len(revoked_serials(authority)) == 2


@pytest.mark.parametrize("form", [str, str.upper, "0{}".format])
def test_one_is_revoked_by_its_number_however_it_is_written(authority: AuthorityFolder, form: "type[str]") -> None:
    first = authority.issue(CertificateKind.WORKER, WORKER)
    authority.renew("edge-1")
    authority.revoke(form(first.record.serial))
    assert revoked_serials(authority) == [int(first.record.serial, 16)]
    authority.renew("edge-1")


def test_who_is_unknown_can_not_be_revoked(authority: AuthorityFolder) -> None:
    with pytest.raises(CertificateRefused, match="is not the name or serial number"):
        authority.revoke("edge-9")


def test_an_encrypted_authority_asks_for_its_passphrase_when_it_signs(tmp_path: Path) -> None:
    asked = []

    def passphrase() -> bytes:
        asked.append(1)
        return b"secret"

    authority = AuthorityFolder(tmp_path, NOW, passphrase)
    authority.create("Fleet", passphrase=b"secret")
    authority.registry()
    assert not asked
    authority.issue(CertificateKind.WORKER, WORKER)
    assert len(asked) == 1


def test_where_no_authority_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="create one with 'stockworker pki init'"):
        AuthorityFolder(tmp_path, NOW).registry()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/ca: Not a directory"):
        AuthorityFolder(tmp_path / "file" / "ca", NOW).create("Fleet")


def test_of_many_at_once_none_is_lost(authority: AuthorityFolder) -> None:
    threads = [
        threading.Thread(target=authority.issue, args=(CertificateKind.WORKER, Subject(f"edge-{number}")))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.name for record in authority.registry().records} == {f"edge-{number}" for number in range(12)}


# --- many at the same time --------------------------------------------------------------------------------------------


def requests_in(folder: Path, *names: str) -> dict[Path, Subject]:
    return {request_of(folder, name): Subject(name) for name in names}


def test_many_requests_are_signed_and_can_be_signed_again(authority: AuthorityFolder, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, "edge-1", "edge-2")
    first = authority.sign_folder(CertificateKind.WORKER, requests)
    assert [(each.record.name, each.is_new) for each in first] == [("edge-1", True), ("edge-2", True)]
    again = authority.sign_folder(CertificateKind.WORKER, requests | requests_in(tmp_path, "edge-3"))
    assert [(each.record.name, each.is_new) for each in again] == [
        ("edge-1", False),
        ("edge-2", False),
        ("edge-3", True),
    ]
    assert again[0].record == first[0].record
    assert len(authority.registry().records) == 3


@pytest.mark.parametrize("days_later", [366, 368])
def test_a_certificate_is_kept_until_it_expires_soon(
    tmp_path: Path, authority: AuthorityFolder, days_later: int
) -> None:
    requests = requests_in(tmp_path, "edge-1")
    authority.sign_folder(CertificateKind.WORKER, requests)
    later = AuthorityFolder(authority.folder, NOW + timedelta(days=days_later))
    (signed,) = later.sign_folder(CertificateKind.WORKER, requests)
    assert signed.is_new == (days_later > LEAF_LIFETIME.days - 30)


def test_a_new_key_or_a_revocation_needs_a_new_certificate(authority: AuthorityFolder, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, "edge-1")
    for _ in range(2):
        (signed,) = authority.sign_folder(CertificateKind.WORKER, requests)
        assert signed.is_new
        requests = requests_in(tmp_path, "edge-1")
    authority.sign_folder(CertificateKind.WORKER, requests)
    authority.revoke("edge-1")
    assert authority.sign_folder(CertificateKind.WORKER, requests)[0].is_new


def test_of_many_requests_all_are_signed_or_none(authority: AuthorityFolder, tmp_path: Path) -> None:
    requests = requests_in(tmp_path, "edge-1", "edge-2", "edge-3", "dispatcher")
    (tmp_path / "edge-2.csr").write_bytes(b"garbage")
    (tmp_path / "edge-3.csr").write_bytes(make_request("edge-4")[0])
    with pytest.raises(CertificateRefused) as refused:
        authority.sign_folder(CertificateKind.WORKER, requests)
    edge_2, edge_3, dispatcher, end = str(refused.value).splitlines()
    assert "edge-2.csr: contains no certificate request" in edge_2
    assert "requests the name 'edge-4', not 'edge-3'" in edge_3
    assert "default name of the dispatcher" in dispatcher
    assert end == "nothing was signed"
    assert authority.registry().records == []


def test_of_many_names_all_get_a_certificate_or_none(authority: AuthorityFolder) -> None:
    authority.issue(CertificateKind.WORKER, WORKER)
    with pytest.raises(CertificateRefused, match="'edge-1' has a certificate"):
        authority.issue_all(CertificateKind.WORKER, [Subject("edge-2"), WORKER])
    issued = authority.issue_all(CertificateKind.WORKER, [Subject("edge-2"), Subject("edge-3")])
    assert [each.record.name for each in issued] == ["edge-2", "edge-3"]
    assert len({each.key.read_bytes() for each in issued if each.key}) == 2


def test_a_request_of_any_length_is_not_read(authority: AuthorityFolder, tmp_path: Path) -> None:
    file = request_of(tmp_path, "edge-1")
    file.write_bytes(file.read_bytes() + b"\n" * 10_000)
    with pytest.raises(ConfigError, match="longer than 8192 bytes"):
        authority.sign(CertificateKind.WORKER, WORKER, file)
