"""Points in time as old systems write them."""

import pytest

from stockworker.migration.moments import unix_time

MIDDAY = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "zone_s", "expected"),
    [
        (1_700_000_000, 0, MIDDAY),
        ("1700000000", 0, MIDDAY),
        (1_700_000_000_000, 0, MIDDAY),
        ("1700000000.5", 0, MIDDAY + 0.5),
        ("2023-11-14T22:13:20Z", 0, MIDDAY),
        ("2023-11-14 22:13:20", 0, MIDDAY),
        ("2023-11-15 00:13:20", 7200, MIDDAY),
        ("2023-11-15T00:13:20+02:00", -3600, MIDDAY),
        ("0000-00-00 00:00:00", 0, None),
    ],
)
def test_a_time_is_read(value: object, zone_s: float, expected: float | None) -> None:
    assert unix_time(value, zone_s) == expected


@pytest.mark.parametrize("value", ["", "tomorrow", "-5", "1969-01-01", "nan", "1e400", 10**400])
def test_what_is_not_a_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        unix_time(value)
