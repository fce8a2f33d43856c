"""Join tokens, their file, and what each address may ask for."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.join_client import Invitation
from stockworker.pki.join_limits import (
    _MOST_ADDRESSES,
    BURST,
    FAILURE_COSTS,
    MOST_CONNECTIONS,
    MOST_OF_ONE,
    PER_S,
    ConnectionLimits,
    network_of,
)
from stockworker.pki.join_protocol import ANSWER, GREETING, decoded, encoded
from stockworker.pki.join_token import FILE, MOST_TOKENS, JoinToken, TokenFile
from tests.harness.joining import authority

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
REFUSED = "unknown, expired or used already"


@pytest.fixture
def certificate(tmp_path: Path) -> x509.Certificate:
    authority(tmp_path / "ca")
    return x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.crt").read_bytes())


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "ca")


def test_a_token_can_be_copied(tokens: TokenFile, certificate: x509.Certificate) -> None:
    (token,) = tokens.create(certificate, "edge-*", NOW, HOUR)
    assert JoinToken.parse(str(token)) == token
    assert token.is_of(certificate)
    for host, place in (
        ("ca.example.org", ("ca.example.org", 8884)),
        ("[::1]:99", ("::1", 99)),
        ("10.0.0.1:7", ("10.0.0.1", 7)),
    ):
        found = Invitation.parse(f"{token}@{host}\n")
        assert (found.token, (found.host, found.port)) == (token, place)


@pytest.mark.parametrize("written", ["", "a", "a@b", "@", "x" * 90, "01234567.short.fingerprint"])
def test_another_text_is_not_a_token(written: str, certificate: x509.Certificate, tokens: TokenFile) -> None:
    with pytest.raises(ValueError, match="token"):
        JoinToken.parse(written)
    with pytest.raises(ValueError, match=r"token|TOKEN|host name"):
        Invitation.parse(written)
    (token,) = tokens.create(certificate, "*", NOW, HOUR)
    for place in ("", "a b", "host:x", "host:0", "host:70000"):
        with pytest.raises(ValueError, match=r"is not a port|host name"):
            Invitation.parse(f"{token}@{place}")


def test_the_file_has_no_secret(tokens: TokenFile, certificate: x509.Certificate, tmp_path: Path) -> None:
    made = tokens.create(certificate, "edge-*", NOW, HOUR, count=3)
    file = tmp_path / "ca" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len({each.secret for each in made} | {each.id for each in made}) == 6
    assert not any(each.secret in file.read_text() for each in made)


def test_a_token_is_valid_once_for_an_hour_and_for_its_names(tokens: TokenFile, certificate: x509.Certificate) -> None:
    first, other = tokens.create(certificate, "edge-*", NOW, HOUR, count=2)
    for name in ("shop-1", "edge", "xedge-1"):
        with pytest.raises(CertificateRefused, match=r"is for workers 'edge-\*', not for"):
            tokens.use(first, name, NOW)
    with pytest.raises(CertificateRefused, match=REFUSED):
        tokens.use(first, "edge-1", NOW + HOUR + timedelta(seconds=1))
    tokens.use(first, "edge-1", NOW + HOUR)
    with pytest.raises(CertificateRefused, match=REFUSED):
        tokens.use(first, "edge-1", NOW)
    tokens.use(other, "edge-2", NOW)
    assert [(each.state(NOW), each.used_by, each.used_at) for each in tokens.records()] == [
        ("used", "edge-1", NOW + HOUR),
        ("used", "edge-2", NOW),
    ]


def test_each_part_of_a_token_counts(tokens: TokenFile, certificate: x509.Certificate) -> None:
    first, other = tokens.create(certificate, "*", NOW, HOUR, count=2)
    for wrong in (
        JoinToken(first.id, other.secret, b""),
        JoinToken("00000000", first.secret, b""),
        JoinToken(first.id, "", b""),
    ):
        with pytest.raises(CertificateRefused, match=REFUSED):
            tokens.prove(wrong, NOW)
    assert tokens.prove(first, NOW).id == first.id


@pytest.mark.parametrize("pattern", ["", "a/b", "[ab]-1", "edge ?", "é", "x" * 65, "a\nb"])
def test_a_pattern_has_the_characters_of_ids(tokens: TokenFile, certificate: x509.Certificate, pattern: str) -> None:
    with pytest.raises(CertificateRefused, match="is not a pattern of worker IDs"):
        tokens.create(certificate, pattern, NOW, HOUR)


def test_a_revoked_token_is_unknown(tokens: TokenFile, certificate: x509.Certificate) -> None:
    first, other = tokens.create(certificate, "*", NOW, HOUR, count=2)
    tokens.revoke(first.id)
    with pytest.raises(CertificateRefused, match=REFUSED):
        tokens.prove(first, NOW)
    assert tokens.prove(other, NOW).id == other.id
    with pytest.raises(CertificateRefused, match="is not the ID of a join token"):
        tokens.revoke(first.id)


def test_old_tokens_are_forgotten_and_their_number_is_bounded(tokens: TokenFile, certificate: x509.Certificate) -> None:
    tokens.create(certificate, "*", NOW, HOUR, count=MOST_TOKENS)
    with pytest.raises(CertificateRefused, match="more than 10000 join tokens"):
        tokens.create(certificate, "*", NOW, HOUR)
    tokens.create(certificate, "*", NOW + HOUR + timedelta(days=30), HOUR)
    assert len(tokens.records()) == 1


@pytest.mark.usefixtures("certificate")
def test_a_damaged_file_is_reported(tokens: TokenFile, tmp_path: Path) -> None:
    file = tmp_path / "ca" / FILE
    for text in ("{", "[]", '{"id": 1}', '{"id": "a", "created_at": "x"}'):
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="is damaged; delete it"):
            tokens.records()
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users can read"):
        tokens.records()


# --- the conversation -------------------------------------------------------------------------------------------------


def test_a_line_has_its_fields() -> None:
    assert decoded(encoded(join=1, authority="PEM"), GREETING) == ["1", "PEM"]
    assert decoded(encoded(certificate="c", broker="b", more=1), ANSWER) == ["c", "b"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "does not speak the join protocol"),
        (b'{"certificate": "a", "broker": "b"}', "does not speak the join protocol"),
        (b"[" * 10_000 + b"\n", "does not speak the join protocol"),
        (b"\xff\n", "does not speak the join protocol"),
        (b'["certificate", "broker"]\n', "does not speak the join protocol"),
        (b'{"certificate": "a"}\n', "incomplete message"),
        (b'{"certificate": "a", "broker": 1}\n', "incomplete message"),
        (b'{"join": 2, "certificate": "a", "broker": "b"}\n', "another version"),
        (encoded(error="x" * 1000), "^x{500}$"),
    ],
)
def test_another_line_is_refused(line: bytes, text: str) -> None:
    with pytest.raises(CertificateRefused, match=text):
        decoded(line, ANSWER)


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_guesser_gets_a_few_attempts() -> None:
    limits, attempts = ConnectionLimits(), 0
    while limits.opened("10.0.0.1", 0.0):
        limits.closed("10.0.0.1")
        limits.failed("10.0.0.1", 0.0)
        attempts += 1
    assert attempts == BURST // (FAILURE_COSTS + 1) + 1
    assert limits.opened("10.0.0.2", 0.0)
    assert not limits.opened("10.0.0.1", 1 / PER_S)
    assert limits.opened("10.0.0.1", (FAILURE_COSTS + 1) / PER_S)


def test_a_fleet_behind_one_address_can_join() -> None:
    limits = ConnectionLimits()
    for _ in range(200):
        assert limits.opened("10.0.0.1", 0.0)
        limits.closed("10.0.0.1")


def test_connections_are_bounded_for_each_address_and_for_all() -> None:
    limits = ConnectionLimits()
    for number in range(MOST_CONNECTIONS):
        assert limits.opened(f"10.0.0.{number // MOST_OF_ONE}", 0.0)
        assert not (number % MOST_OF_ONE == MOST_OF_ONE - 1 and limits.opened(f"10.0.0.{number // MOST_OF_ONE}", 0.0))
    assert not limits.opened("10.0.1.1", 0.0)
    limits.closed("10.0.0.0")
    assert limits.opened("10.0.1.1", 0.0)


def test_the_memory_of_addresses_is_bounded() -> None:
    limits = ConnectionLimits()
    for number in range(_MOST_ADDRESSES + 10):
        limits.failed(str(number), 0.0)
    assert len(limits._left) == _MOST_ADDRESSES


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"),
        ("?", "?"),
    ],
)
def test_the_holder_of_a_network_counts_once(address: str, network: str) -> None:
    assert network_of(address) == network
