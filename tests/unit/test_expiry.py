"""Certificates that end are announced in time, and not too often."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters.expiry import ExpiryWatch
from stockworker.security.certificates import Authority

DAY_S = 86_400.0
ISSUED = datetime(2026, 5, 1, tzinfo=UTC)
END = ISSUED + timedelta(days=100)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    identity = Authority.create("Fleet", ISSUED).issue_client("w1", ISSUED, timedelta(days=100))
    return identity.save(tmp_path_factory.mktemp("pki"), "w1")[0]


@pytest.mark.parametrize(
    ("days_left", "days", "urgent"),
    [(100.0, None, None), (30.1, None, None), (29.9, 29, False), (3.1, 3, False), (2.9, 2, True), (-1.5, -2, True)],
)
def test_when_it_is_announced(certificate: Path, days_left: float, days: int | None, urgent: bool | None) -> None:  # noqa: FBT001
    found = ExpiryWatch().look(certificate, END.timestamp() - days_left * DAY_S)
    assert (found and found.days) == days
    assert (found and found.urgent) == urgent
    assert found is None or (found.file, found.until) == (certificate, "2026-08-09T00:00:00+00:00")


def test_it_is_announced_once_a_day(certificate: Path) -> None:
    watch, start = ExpiryWatch(), END.timestamp() - 10 * DAY_S
    said = [hour for hour in range(72) if watch.look(certificate, start + hour * 3600) is not None]
    assert said == [0, 24, 48]


def test_a_clock_that_is_set_does_not_silence_it(certificate: Path) -> None:
    watch, now = ExpiryWatch(), END.timestamp() - DAY_S
    assert watch.look(certificate, now + 400 * DAY_S) is not None
    assert watch.look(certificate, now) is not None


def test_a_new_file_is_looked_at_at_once(certificate: Path) -> None:
    watch, now = ExpiryWatch(), END.timestamp() - DAY_S
    assert watch.look(certificate, now) is not None
    watch.forget()
    assert watch.look(certificate, now) is not None


def test_what_is_not_there_is_no_business_of_the_watch(tmp_path: Path) -> None:
    assert ExpiryWatch().look(tmp_path / "absent.crt", END.timestamp()) is None
    assert ExpiryWatch().look(None, END.timestamp()) is None
