"""Certificates and revocation lists are read for checks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.errors import ConfigError
from stockworker.pki.certificates import BACKDATED, Authority, Subject
from stockworker.pki.inspection import inspect, revocations_until

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_certificate_names_owner_issuer_and_time(tmp_path: Path) -> None:
    authority = Authority.create("Fleet", NOW)
    certificate, _ = authority.issue(Subject("host-1"), NOW, timedelta(days=10)).save(tmp_path, "host-1")

    (facts,) = inspect(certificate)

    assert (facts.name, facts.subject, facts.issuer) == ("host-1", "CN=host-1", "CN=Fleet")
    assert (facts.valid_from, facts.valid_until) == (NOW - BACKDATED, NOW + timedelta(days=10))


def test_a_file_may_contain_several(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(b"".join(b"# old\n" + Authority.create(name, NOW).certificate_pem for name in ("Old", "New")))

    assert [facts.name for facts in inspect(file)] == ["Old", "New"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "can't be read: No such file or directory"),
        (b"", "contains no certificate in PEM format"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "contains a damaged certificate"),
    ],
)
def test_a_file_that_can_not_be_used(tmp_path: Path, content: bytes | None, text: str) -> None:
    file = tmp_path / "x.crt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=text):
        inspect(file)


def test_a_file_of_revocation_lists_is_good_until_the_first_ends() -> None:
    lists = [
        Authority.create("fleet", NOW, timedelta(days=days)).revocation_list((), NOW).decode() for days in (20, 10, 30)
    ]
    assert revocations_until("".join(lists).encode(), Path("crl.pem")) == NOW + timedelta(days=10)


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "crl.pem: contains no revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "crl.pem: contains a damaged revocation list"),
    ],
)
def test_a_file_without_revocation_lists_is_named(pem: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        revocations_until(pem, Path("crl.pem"))
