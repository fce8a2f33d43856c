import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.errors import ConfigError
from stockworker.security.certificates import (
    AUTHORITY_LIFETIME,
    BACKDATED,
    LEAF_LIFETIME,
    Authority,
)
from stockworker.security.client_ids import private_client_id

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
    certificate = parsed(authority.issue_server(["broker.example.net", "10.0.0.7", "::1"], NOW).certificate_pem)
    assert_signed_by(authority, certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example.net"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.7"), ip_address("::1")]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_client_certificate_names_its_holder_and_can_sign_nothing(authority: Authority) -> None:
    certificate = parsed(authority.issue_client("rack4-1", NOW).certificate_pem)
    assert_signed_by(authority, certificate)
    assert common_name(certificate.subject) == "rack4-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert lifetime(certificate) == (NOW - BACKDATED, NOW + LEAF_LIFETIME)


def test_leaf_points_to_the_key_of_its_issuer(authority: Authority) -> None:
    leaf = parsed(authority.issue_client("w1", NOW).certificate_pem)
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == own.digest


def test_lifetime_can_be_chosen(authority: Authority) -> None:
    certificate = parsed(authority.issue_client("w1", NOW, timedelta(days=7)).certificate_pem)
    assert lifetime(certificate)[1] == NOW + timedelta(days=7)


@pytest.mark.parametrize("name", ["+", "#", "a/b", "", "x" * 65, "w 1"])
def test_identity_that_would_mean_something_to_an_access_rule_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ValueError, match="no valid id"):
        authority.issue_client(name, NOW)


def test_saved_authority_comes_back_and_its_key_is_secret(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    assert_signed_by(authority, parsed(Authority.load(tmp_path).issue_client("w1", NOW).certificate_pem))


def test_saved_authority_is_never_replaced(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    with pytest.raises(ConfigError, match="already holds"):
        Authority.create("Another", NOW).save(tmp_path)


def test_identity_is_saved_with_a_secret_key_whatever_was_there(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "w1.key").write_text("an older one")
    (tmp_path / "w1.key").chmod(0o644)
    identity = authority.issue_client("w1", NOW)
    certificate, key = identity.save(tmp_path, "w1")
    assert certificate.read_bytes() == identity.certificate_pem
    assert key.read_bytes() == identity.key_pem
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["w1.crt", "w1.key"]


def test_secrets_do_not_show(authority: Authority) -> None:
    identity = authority.issue_client("w1", NOW)
    assert "PRIVATE" not in repr(identity)
    assert "key" not in repr(authority)


def test_authority_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.crt: can't read the certificate authority: No such file"):
        Authority.load(tmp_path)


def test_authority_that_is_no_pem_is_named(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(ConfigError, match="not plain PEM"):
        Authority.load(tmp_path)


def test_authority_with_the_key_of_another_is_refused(authority: Authority, tmp_path: Path) -> None:
    authority.save(tmp_path)
    (tmp_path / "ca.key").unlink()
    Authority.create("Another", NOW).save(tmp_path / "other")
    (tmp_path / "other" / "ca.key").rename(tmp_path / "ca.key")
    with pytest.raises(ConfigError, match=r"not the key of ca\.crt"):
        Authority.load(tmp_path)


def test_client_id_follows_the_key(authority: Authority) -> None:
    one, other = authority.issue_client("w1", NOW).key_pem, authority.issue_client("w1", NOW).key_pem
    assert private_client_id("w1", one) == private_client_id("w1", one + b"\n")
    assert private_client_id("w1", one) != private_client_id("w1", other)
    assert private_client_id("w1", one).startswith("w1-")
