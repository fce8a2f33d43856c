import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.adapters.client_ids import private_client_id
from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.certificates import (
    AUTHORITY_LIFETIME,
    BACKDATED,
    LEAF_LIFETIME,
    Authority,
    MakeKey,
    Revocation,
    Subject,
    make_ed25519,
    make_request,
    read_certificate,
    read_request,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("Fleet of the tests", NOW)


def parsed(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def lifetime(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    # The aware properties exist since cryptography 42, and the naive ones warn since then.
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)


def key_bytes(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.public_bytes(serialization.Encoding.PEM, form)
    return encoded


def common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def assert_signed_by(authority: Authority, certificate: x509.Certificate) -> None:
    algorithm = certificate.signature_hash_algorithm
    assert algorithm is not None
    authority.key.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    assert certificate.issuer == authority.certificate.subject


def test_authority_signs_itself_and_only_leaves(authority: Authority) -> None:
    certificate = parsed(authority.certificate_pem)
    assert_signed_by(authority, certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert lifetime(certificate) == (NOW - BACKDATED, NOW + AUTHORITY_LIFETIME)


def test_server_certificate_carries_every_name_that_is_dialled(authority: Authority) -> None:
    certificate = parsed(
        authority.issue(Subject("broker.example.net", ("broker.example.net", "10.0.0.7", "::1")), NOW).certificate_pem
    )
    assert_signed_by(authority, certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example.net"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.7"), ip_address("::1")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_client_certificate_names_its_holder_and_can_sign_nothing(authority: Authority) -> None:
    certificate = parsed(authority.issue(Subject("rack4-1"), NOW).certificate_pem)
    assert_signed_by(authority, certificate)
    assert common_name(certificate.subject) == "rack4-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert lifetime(certificate) == (NOW - BACKDATED, NOW + LEAF_LIFETIME)


def test_leaf_points_to_the_key_of_its_issuer(authority: Authority) -> None:
    leaf = parsed(authority.issue(Subject("w1"), NOW).certificate_pem)
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.digest


def test_lifetime_can_be_chosen(authority: Authority) -> None:
    certificate = parsed(authority.issue(Subject("w1"), NOW, timedelta(days=7)).certificate_pem)
    assert lifetime(certificate)[1] == NOW + timedelta(days=7)


@pytest.mark.parametrize("name", ["+", "#", "a/b", "", "x" * 65, "w 1"])
def test_identity_that_would_mean_something_to_an_access_rule_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="not a valid ID"):
        authority.issue(Subject(name), NOW)


def test_saved_authority_comes_back_and_its_key_is_secret(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    assert_signed_by(authority, parsed(Authority.load(tmp_path).issue(Subject("w1"), NOW).certificate_pem))


def test_saved_authority_is_never_replaced(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    with pytest.raises(ConfigError, match="already contains"):
        Authority.create("Another", NOW).save(tmp_path)


def test_identity_is_saved_with_a_secret_key_whatever_was_there(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "w1.key").write_text("an older one")
    (tmp_path / "w1.key").chmod(0o644)
    identity = authority.issue(Subject("w1"), NOW)
    certificate, key = identity.save(tmp_path, "w1")
    assert certificate.read_bytes() == identity.certificate_pem
    assert key.read_bytes() == identity.key_pem
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["w1.crt", "w1.key"]


def test_secrets_do_not_show(authority: Authority) -> None:
    identity = authority.issue(Subject("w1"), NOW)
    assert "PRIVATE" not in repr(identity)
    assert "key" not in repr(authority)


def test_authority_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.crt: can't read the certificate authority: No such file"):
        Authority.load(tmp_path)


def test_authority_that_is_no_pem_is_named(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(ConfigError, match="not in PEM format"):
        Authority.load(tmp_path)


def test_authority_with_the_key_of_another_is_refused(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    (tmp_path / "ca.key").unlink()
    Authority.create("Another", NOW).save(tmp_path / "other")
    (tmp_path / "other" / "ca.key").rename(tmp_path / "ca.key")
    with pytest.raises(ConfigError, match=r"not the key of ca\.crt"):
        Authority.load(tmp_path)


def test_client_id_follows_the_key(authority: Authority) -> None:
    one, other = authority.issue(Subject("w1"), NOW).key_pem, authority.issue(Subject("w1"), NOW).key_pem
    assert private_client_id("w1", one) == private_client_id("w1", one + b"\n")
    assert private_client_id("w1", one) != private_client_id("w1", other)
    assert private_client_id("w1", one).startswith("w1-")


# --- an authority whose key is encrypted ------------------------------------------------------------------------------


def test_an_encrypted_key_comes_back_with_its_passphrase_alone(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path, b"correct horse")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "ca.key").read_bytes()
    assert_signed_by(authority, Authority.load(tmp_path, lambda: b"correct horse").certificate)
    with pytest.raises(ConfigError, match=r"ca\.key: the passphrase is wrong"):
        Authority.load(tmp_path, lambda: b"battery staple")
    with pytest.raises(ConfigError, match="is encrypted; a passphrase is needed"):
        Authority.load(tmp_path)


def test_nobody_is_asked_for_the_passphrase_of_a_plain_key(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)

    def ask() -> bytes:
        raise AssertionError("asked")

    Authority.load(tmp_path, ask)


def test_a_certificate_does_not_outlive_its_authority(authority: Authority) -> None:
    late = NOW + AUTHORITY_LIFETIME - timedelta(days=3)
    assert lifetime(parsed(authority.issue(Subject("w1"), late).certificate_pem))[1] == NOW + AUTHORITY_LIFETIME


# --- requests ---------------------------------------------------------------------------------------------------------


def saved(folder: Path, pem: bytes) -> Path:
    file = folder / "request.csr"
    file.write_bytes(pem)
    return file


@pytest.mark.parametrize("make_key", [None, make_ed25519])
def test_a_request_is_signed_without_its_key_leaving_home(
    authority: Authority, tmp_path: Path, make_key: MakeKey | None
) -> None:
    request, key_pem = make_request("w1", make_key)
    name, key = read_request(saved(tmp_path, request))
    certificate = authority.certify(key, Subject(name), NOW)

    own = serialization.load_pem_private_key(key_pem, None).public_key()
    assert key_bytes(certificate.public_key()) == key_bytes(own)
    assert common_name(certificate.subject) == "w1"
    assert_signed_by(authority, certificate)


def test_a_request_for_the_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """The signature proves that the author of the request has the key."""
    der = bytearray(x509.load_pem_x509_csr(make_request("w1")[0]).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CertificateRefused, match="not signed by the key in it"):
        read_request(saved(tmp_path, forged))


def test_a_request_with_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "w1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    with pytest.raises(CertificateRefused, match="the key type must be P-256"):
        read_request(saved(tmp_path, request.public_bytes(serialization.Encoding.PEM)))


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="contains no certificate request"):
        read_request(saved(tmp_path, content))
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read_request(tmp_path / "absent.csr")


def test_a_certificate_tells_its_serial_and_key(authority: Authority, tmp_path: Path) -> None:
    path, _ = authority.issue(Subject("w1"), NOW).save(tmp_path, "w1")
    certificate = parsed(path.read_bytes())
    serial, key = read_certificate(path)
    assert serial == certificate.serial_number
    assert key_bytes(key) == key_bytes(certificate.public_key())


# --- revocation lists -------------------------------------------------------------------------------------------------


def updates(pem: bytes) -> tuple[datetime, datetime]:
    revoked = x509.load_pem_x509_crl(pem)
    if hasattr(revoked, "last_update_utc"):
        since, until = revoked.last_update_utc, revoked.next_update_utc
    else:
        since, until = revoked.last_update.replace(tzinfo=UTC), (revoked.next_update or NOW).replace(tzinfo=UTC)
    assert until is not None
    return since, until


def test_a_revocation_list_is_signed_dated_back_and_valid_as_long_as_the_authority(authority: Authority) -> None:
    pem = authority.revocation_list([Revocation(5, NOW)], NOW)
    found = x509.load_pem_x509_crl(pem)
    assert found.is_signature_valid(authority.key.public_key())
    assert [each.serial_number for each in found] == [5]
    assert updates(pem) == (NOW - BACKDATED, NOW + AUTHORITY_LIFETIME)


def test_a_revocation_list_is_newer_than_the_one_before_though_the_clock_went_back(authority: Authority) -> None:
    first = authority.revocation_list([], NOW)
    second = authority.revocation_list([], NOW, first)
    third = authority.revocation_list([], NOW - timedelta(days=9), second)
    numbers = [
        x509.load_pem_x509_crl(pem).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for pem in (first, second, third)
    ]
    assert numbers == [1, 2, 3]
    assert updates(first)[0] < updates(second)[0] < updates(third)[0]
