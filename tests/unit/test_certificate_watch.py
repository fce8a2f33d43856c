"""Certificates that end are announced in time, and not too often."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters.certificate_watch import CertificateWatch, Expiry
from stockworker.pki.certificates import Authority, Subject

DAY_S = 86_400.0
ISSUED = datetime(2026, 5, 1, tzinfo=UTC)
END = ISSUED + timedelta(days=100)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    identity = Authority.create("Fleet", ISSUED).issue(Subject("w1"), ISSUED, timedelta(days=100))
    return identity.save(tmp_path_factory.mktemp("pki"), "w1")[0]


@pytest.mark.parametrize(
    ("days_left", "days", "urgency", "text"),
    [
        (100.0, 100, (False, False), "certificate ends in 100 days"),
        (30.1, 30, (False, False), "certificate ends in 30 days"),
        (29.9, 29, (True, False), "certificate ends in 29 days"),
        (3.1, 3, (True, False), "certificate ends in 3 days"),
        (2.9, 2, (True, True), "certificate ends in 2 days"),
        (-1.5, -2, (True, True), "certificate has ended"),
    ],
)
def test_how_urgent_it_is(
    certificate: Path,
    days_left: float,
    days: int,
    urgency: tuple[bool, bool],
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = CertificateWatch()
    with caplog.at_level(logging.INFO, "stockworker"):
        found = watch.look(certificate, END.timestamp() - days_left * DAY_S)
    assert found == Expiry(certificate, "2026-08-09T00:00:00+00:00", days)
    assert ((found.soon, found.urgent), str(found)) == (urgency, text)
    assert watch.warning == (text if found.soon else "")
    assert [record.levelname for record in caplog.records] == ["ERROR" if found.urgent else "WARNING"] * found.soon


def test_it_is_announced_once_a_day(certificate: Path) -> None:
    watch, start = CertificateWatch(), END.timestamp() - 10 * DAY_S
    said = [hour for hour in range(72) if watch.look(certificate, start + hour * 3600) is not None]
    assert said == [0, 24, 48]


def test_a_clock_that_is_set_does_not_silence_it(certificate: Path) -> None:
    watch, now = CertificateWatch(), END.timestamp() - DAY_S
    assert watch.look(certificate, now + 400 * DAY_S) is not None
    assert watch.look(certificate, now) is not None


def test_a_new_file_is_looked_at_at_once(certificate: Path) -> None:
    watch, now = CertificateWatch(), END.timestamp() - DAY_S
    assert watch.look(certificate, now) is not None
    watch.forget()
    assert watch.look(certificate, now) is not None


def test_what_is_not_there_is_no_business_of_the_watch(tmp_path: Path) -> None:
    assert CertificateWatch().look(tmp_path / "absent.crt", END.timestamp()) is None
    assert CertificateWatch().look(None, END.timestamp()) is None


def test_the_certificate_of_the_broker_is_watched_as_well(caplog: pytest.LogCaptureFixture) -> None:
    watch, start = CertificateWatch(), END.timestamp() - 20 * DAY_S
    watch.look_at_broker("mq:8883", None, start)
    for hour in range(48):
        watch.look_at_broker("mq:8883", END.timestamp(), start + hour * 3600)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert watch.warning == "the broker's certificate ends in 19 days"
    watch.forget()
    watch.look_at_broker("mq:8883", END.timestamp() + 300 * DAY_S, start)
    assert watch.warning == ""
