"""What `stockworker migrate` prints when a client library is missing, and while it moves jobs."""

import sys

import pytest

from builder.recipes import MIGRATION
from stockworker.cli.migrate import progress_text
from stockworker.errors import ConfigError
from stockworker.migration.address import parse_address
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.run import MoveProgress, Totals
from stockworker.migration.sources import LIBRARIES, open_source, survey


@pytest.mark.parametrize(
    ("url", "module", "commands"),
    [
        (
            "postgresql://u@db/shop",
            "psycopg",
            "'apt install python3-psycopg', 'dnf install python3-psycopg3' or 'pip install psycopg[binary]'",
        ),
        (
            "mariadb://u@db/shop",
            "pymysql",
            "'apt install python3-pymysql', 'dnf install python3-PyMySQL' or 'pip install PyMySQL'",
        ),
        (
            "valkey://cache/1",
            "redis",
            "'apt install python3-redis', 'dnf install python3-redis' or 'pip install redis'",
        ),
        ("amqps://u@mq/", "pika", "'apt install python3-pika', 'dnf install python3-pika' or 'pip install pika'"),
    ],
)
def test_a_missing_library_names_its_packages(
    url: str, module: str, commands: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    address = parse_address(url)
    text = f"SOURCE: {address.scheme}:// needs the Python library {module}, which is not installed. Install it with {commands}"

    with pytest.raises(ConfigError) as opened:
        open_source(address, read_mapping(None, "jobs"), read_only=True)
    with pytest.raises(ConfigError) as looked_at:
        survey(address)

    assert (str(opened.value), str(looked_at.value)) == (text, text)


def test_the_package_suggests_the_libraries() -> None:
    """The names in the message are those of the package."""
    named = sorted(library.deb for library in LIBRARIES.values() if library is not None)
    assert named == ["python3-pika", "python3-psycopg", "python3-pymysql", "python3-redis"]
    assert sorted(MIGRATION.suggests) == named


@pytest.mark.parametrize(
    ("totals", "rate", "eta_s", "text"),
    [
        (Totals(moved=500, left=1_500), 99.6, 15.0, "500 of 2000 jobs moved, 100 a second, 15s left"),
        (Totals(moved=0, left=2_000), 0.0, None, "0 of 2000 jobs moved, 0 a second"),
        (Totals(moved=10, refused=3, left=0), 5.0, 0.0, "10 of 10 jobs moved, 5 a second, 0s left"),
    ],
)
def test_the_progress_has_rate_and_remaining_time(totals: Totals, rate: float, eta_s: float | None, text: str) -> None:
    assert progress_text(MoveProgress(totals, rate, eta_s)) == text
