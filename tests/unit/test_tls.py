import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from stockworker.adapters.tls import TlsFiles, client_context
from stockworker.errors import ConfigError
from stockworker.pki.certificates import Authority, Revocation, Subject

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A folder with ca.crt, w1.crt and w1.key, w2.crt and w2.key."""
    authority = Authority.create("Fleet", NOW)
    authority.save(tmp_path)
    for name in ("w1", "w2"):
        authority.issue(Subject(name), NOW).save(tmp_path, name)
    return tmp_path


def test_the_peer_is_always_verified(pki: Path) -> None:
    context = client_context(pki / "ca.crt", pki / "w1.crt", pki / "w1.key")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1  # those of the system are not trusted
    assert not context.hostname_checks_common_name
    assert not context.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def test_only_suites_with_forward_secrecy_and_authenticated_encryption(pki: Path) -> None:
    suites = client_context(pki / "ca.crt").get_ciphers()
    assert {suite["protocol"] for suite in suites} == {"TLSv1.3", "TLSv1.2"}
    assert all(suite["aead"] for suite in suites)
    assert all(suite["name"].startswith("ECDHE-") for suite in suites if suite["protocol"] == "TLSv1.2")


def test_a_revocation_list_is_read_again_after_a_change(pki: Path) -> None:
    authority = Authority.load(pki)
    crl = pki / "crl.pem"
    crl.write_bytes(authority.revocation_list((), NOW))
    files = TlsFiles(pki / "ca.crt", crl_file=crl)
    before = files.context()
    assert before.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert files.context() is before
    crl.write_bytes(authority.revocation_list([Revocation(1, NOW)], NOW))
    assert files.context() is not before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "none.pem: can't read the revocation list: No such file"),
        ("", "crl.pem: not a revocation list in PEM form; copy crl.pem of the fleet here"),
        ("ca.crt", "crl.pem: contains a certificate, but must contain revocation lists only"),
    ],
)
def test_a_revocation_list_that_is_none(pki: Path, content: str | None, words: str) -> None:
    """A certificate in it would be trusted as an authority."""
    crl = pki / ("none.pem" if content is None else "crl.pem")
    if content is not None:
        crl.write_bytes((pki / content).read_bytes() if content else b"")
    with pytest.raises(ConfigError, match=re.escape(words)):
        client_context(pki / "ca.crt", crl_file=crl)


@pytest.mark.parametrize("name", ["ca.crt", "crl.pem", "w1.crt", "w1.key"])
@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_other_users_can_change_is_refused(pki: Path, name: str, mode: int) -> None:
    (pki / "crl.pem").write_bytes(Authority.load(pki).revocation_list((), NOW))
    (pki / name).chmod(mode)
    files = (pki / "ca.crt", pki / "w1.crt", pki / "w1.key", pki / "crl.pem")
    with pytest.raises(ConfigError, match=rf"{name}: other users .* can write it.*chmod go-w {pki / name}"):
        client_context(*files)
    (pki / name).chmod(mode & ~0o022)
    client_context(*files)


def test_certificate_and_key_may_share_a_file(pki: Path) -> None:
    (pki / "both.pem").write_bytes((pki / "w1.crt").read_bytes() + (pki / "w1.key").read_bytes())
    client_context(pki / "ca.crt", pki / "both.pem")


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "words"),
    [
        ("none.crt", "w1.crt", "w1.key", r"none\.crt: can't read the CA certificate: No such file"),
        ("w1.key", "w1.crt", "w1.key", r"w1\.key: not a CA certificate in PEM form"),
        ("empty", "w1.crt", "w1.key", r"empty: not a CA certificate in PEM form"),
        ("ca.crt", "none.crt", "w1.key", r"none\.crt: can't read the client certificate: No such file"),
        ("ca.crt", "w1.crt", "none.key", r"none\.key: can't read the private key: No such file"),
        ("ca.crt", "w1.crt", ".", r": is not a regular file"),
        ("ca.crt", "w1.crt", "w2.key", r"w2\.key: not the private key of .*w1\.crt"),
        ("ca.crt", "empty", "w1.key", r"empty: not a client certificate in PEM form"),
        ("ca.crt", "w1.crt", "w1.crt", r"w1\.crt: not a private key in PEM form"),
        ("ca.crt", "w1.crt", "empty", r"empty: not a private key in PEM form"),
        ("ca.crt", "w1.crt", "secret.key", r"secret\.key: the private key is encrypted"),
        ("ca.crt", "broken.crt", "w1.key", r"broken\.crt or .*w1\.key: damaged"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(pki: Path, ca: str, certificate: str, key: str, words: str) -> None:
    (pki / "empty").touch()
    (pki / "broken.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    private = serialization.load_pem_private_key((pki / "w1.key").read_bytes(), None)
    (pki / "secret.key").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(ConfigError, match=words):
        client_context(pki / ca, pki / certificate, pki / key)
