import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from stockworker.adapters.tls import client_context
from stockworker.errors import ConfigError
from stockworker.pki.certificates import Authority, Subject

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A folder with ca.crt, w1.crt and w1.key, w2.crt and w2.key."""
    authority = Authority.create("Fleet", NOW)
    (tmp_path / "ca.crt").write_bytes(authority.certificate_pem)
    for name in ("w1", "w2"):
        authority.issue(Subject(name), NOW).save(tmp_path, name)
    return tmp_path


def test_the_peer_is_always_verified(pki: Path) -> None:
    context = client_context(pki / "ca.crt", pki / "w1.crt", pki / "w1.key")
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1  # those of the system are not trusted


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
        ("ca.crt", "w1.crt", ".", r"can't read the private key: Is a directory"),
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
