"""The commands `stockworker market …` on bars of several intervals, with splits and dividends."""

import json
import shlex
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from stockworker.config import problems
from stockworker.market.bars import Action, ActionKind, Bar
from stockworker.market.interval import DAILY, INTERVALS, Interval
from stockworker.market.store import open_market_store
from tests.harness import command
from tests.harness.command import Finished

HALF = INTERVALS["30min"]
NEW_YORK = ZoneInfo("America/New_York")
DAYS = [date(2024, 3, day) for day in (4, 5, 6, 7, 8, 11)]
MINUTES = range(570, 960, 30)  # 09:30 to 15:30


def moment(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=NEW_YORK).astimezone(UTC)


def bar(day: date, close: float) -> Bar:
    return Bar(day, close, close * 1.01, close * 0.99, close, 100)


TIMED = [bar(moment(day, minute), 100 + minute / 100) for day in DAYS for minute in MINUTES]
DAILY_BARS = [bar(day, 100 + day.day) for day in DAYS]
ACTIONS = [Action(DAYS[0], ActionKind.DIVIDEND, 0.5), Action(DAYS[4], ActionKind.SPLIT, 2.0)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    location = tmp_path / "market.sqlite3"
    with closing(open_market_store(str(location))) as store:
        store.upsert({"ACME": TIMED[:2] + TIMED[5:], "WHOLE": TIMED}, HALF)
        store.upsert({"ACME": DAILY_BARS})
        store.store_actions({"ACME": ACTIONS})
    path = tmp_path / "job_processor.yml"
    path.write_text(yaml.safe_dump({"job_processor": {"market_data": {"location": str(location)}}}))
    return path


def market(config: Path, line: str) -> Finished:
    return command.run(config, "market", *shlex.split(line))


def bars(config: Path, interval: Interval = DAILY) -> list[Bar]:
    with closing(open_market_store(str(config.with_name("market.sqlite3")), read_only=True)) as store:
        return store.bars("ACME", interval=interval)


IN_NEW_YORK = "--interval 30min --time-zone America/New_York --until 2024-03-11"


def test_holes_within_a_session_are_reported(config: Path) -> None:
    done = market(config, f"quality ACME {IN_NEW_YORK}")
    assert done.output.splitlines()[-1] == "ACME: no bars from 2024-03-04T15:30:00Z to 2024-03-04T16:30:00Z (3 bars)"
    (found,) = market(config, f"quality ACME {IN_NEW_YORK} --session 09:30-16:30 --json").json_lines
    assert (found["first_day"], found["behind"]) == ("2024-03-04T14:30:00Z", 0)
    assert [hole["days"] for hole in found["holes"]] == [3, 1, 1, 1, 1, 1]  # none after the last bar
    (found,) = market(config, f"quality ACME {IN_NEW_YORK} --session 09:30-15:30 --json").json_lines
    assert [each["first"] for each in found["outside"]][:2] == ["2024-03-04T20:30:00Z", "2024-03-05T20:30:00Z"]


def test_a_holiday_of_the_exchange_is_not_a_hole(config: Path, tmp_path: Path) -> None:
    with closing(open_market_store(str(config.with_name("market.sqlite3")))) as store:
        for symbol in ("ACME", "WHOLE"):
            store.delete([symbol], HALF)
            store.upsert({symbol: [each for each in TIMED if each not in TIMED[13:26]]}, HALF)
    (tmp_path / "closed.txt").write_text("# Tuesday\n2024-03-05\n")
    for option, holes in (("", [13]), (f"--holidays {tmp_path}/closed.txt", [])):
        (found,) = market(config, f"quality ACME {IN_NEW_YORK} {option} --json").json_lines
        assert [hole["days"] for hole in found["holes"]] == holes


def test_weeks_are_examined_too(config: Path) -> None:
    with closing(open_market_store(str(config.with_name("market.sqlite3")))) as store:
        weeks = [bar(date(2024, 1, day), 100 + day) for day in (1, 8, 29)]
        store.upsert({"ACME": weeks}, INTERVALS["1w"])
    shown = market(config, "quality --all --interval 1w --until 2024-02-04").output.splitlines()
    assert shown[-1] == "ACME: no bars from 2024-01-15 to 2024-01-22 (2 weeks)"
    assert [line.split()[0] for line in shown[:2]] == ["SYMBOL", "ACME"]  # WHOLE has no weeks


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("quality WHOLE", "WHOLE has no bars of 1d; it has bars of 30min"),
        ("quality ACME --session 09:30-16:00", "--session is for bars that have a time, and those of 1d have none"),
        ("quality ACME --interval 30min --session 9-16", "'9-16' is not a session; write 09:30-16:00"),
        ("quality ACME --time-zone Nowhere", "argument --time-zone"),
        ("delete ACME --interval 1h --yes", "ACME has no bars of 1h; it has bars of 30min, 1d"),
    ],
)
def test_a_mistake_about_intervals_is_explained(config: Path, line: str, message: str) -> None:
    done = market(config, line)
    assert message in done.errors
    assert (done.status, done.output) == (2, "")
    assert bars(config) == DAILY_BARS


def test_the_bars_of_one_interval_can_be_deleted(config: Path) -> None:
    refused = market(config, "delete ACME --interval 30min")
    assert "this would delete 75 bars of 30min of ACME; nothing was deleted" in refused.errors
    assert len(bars(config, HALF)) == 75
    assert market(config, "delete ACME --interval 30min --yes").output == "deleted 75 bars of 30min of ACME\n"
    assert (bars(config, HALF), bars(config)) == ([], DAILY_BARS)
    assert market(config, "show ACME --actions --json").output.count("\n") == 2
    assert market(config, "delete ACME --yes").output == "deleted 6 bars of ACME\n"
    with closing(open_market_store(str(config.with_name("market.sqlite3")))) as store:
        assert (store.actions("ACME"), store.symbols()) == ([], ["WHOLE"])


def test_splits_and_dividends_are_shown(config: Path) -> None:
    shown = market(config, "show ACME --last 2").output.splitlines()
    assert [line.split() for line in shown[-2:]] == [["DATE", "ACTION", "VALUE"], ["2024-03-08", "split", "2"]]
    everything = market(config, "show ACME --actions").output.splitlines()
    assert [line.split() for line in everything[1:]] == [
        ["2024-03-04", "dividend", "0.5"],
        ["2024-03-08", "split", "2"],
    ]
    assert list(map(json.loads, market(config, "show ACME --actions --json").output.splitlines())) == [
        {"symbol": "ACME", "date": "2024-03-04", "kind": "dividend", "value": 0.5},
        {"symbol": "ACME", "date": "2024-03-08", "kind": "split", "value": 2.0},
    ]
    assert market(config, "show WHOLE --interval 30min --actions").output == "no splits or dividends\n"
    assert all("close" in line for line in market(config, "show ACME --json").output.splitlines())


def test_the_hours_of_an_exchange_come_from_the_configuration(config: Path) -> None:
    written = yaml.safe_load(config.read_text())
    days = config.with_name("days.txt")
    days.write_text("2024-03-06\n")
    written["job_processor"]["market_data"]["exchanges"] = {
        "nyse": {
            "time_zone": "America/New_York",
            "session": "09:30-16:00",
            "holidays": [date(2024, 3, 5)],
            "holidays_file": str(days),
            "early_closes": ["2024-03-04 10:30"],
        },
        "late": {"time_zone": "America/New_York", "session": "09:30-16:30"},
    }
    config.write_text(yaml.safe_dump(written))

    def found(line: str) -> dict[str, int]:
        (each,) = market(config, f"quality {line} --until 2024-03-11 --json").json_lines
        return {name: len(each[name]) for name in ("holes", "closed_days", "outside")}

    timed = "ACME --interval 30min --exchange"
    assert found(f"{timed} nyse") == {"holes": 0, "closed_days": 2, "outside": 1}  # bars after the early close
    assert found(f"{timed} late") == {"holes": 6, "closed_days": 0, "outside": 0}
    assert found(f"{timed} late --session 09:30-15:30")["outside"] == 6
    assert found("ACME --exchange nyse")["closed_days"] == 2
    refused = market(config, "quality ACME --exchange lse")
    assert refused.status == 2
    assert "unknown exchange 'lse'; market_data.exchanges in the configuration has late, nyse" in refused.errors
    days.unlink()
    assert f"{days}: " in market(config, "quality ACME --exchange nyse").errors


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("time_zone", "Nowhere", "must be a time zone, such as America/New_York, not 'Nowhere'"),
        ("session", "16:00-09:30", "each part ends after it begins"),
        ("holidays", ["24.12.2024"], "must be a day, such as 2024-12-25, not '24.12.2024'"),
        ("holidays", ["2024-02-30"], "must be a day, such as 2024-12-25, not '2024-02-30'"),
        ("early_closes", ["2024-07-03"], "must be a day and a time, such as 2024-07-03 13:00, not '2024-07-03'"),
        ("early_closes", ["2024-07-03 24:00"], "must be a day and a time"),
        ("holiday", ["2024-12-25"], "unknown key; did you mean 'holidays'?"),
    ],
)
def test_a_wrong_exchange_in_the_configuration_is_an_error(
    tmp_path: Path, key: str, value: object, expected: str
) -> None:
    path = tmp_path / "job_processor.yml"
    path.write_text(yaml.safe_dump({"job_processor": {"market_data": {"exchanges": {"nyse": {key: value}}}}}))
    (found,) = problems(path)
    assert f"market_data.exchanges.nyse.{key}" in str(found)
    assert expected in str(found)
