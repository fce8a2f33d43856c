"""The commands `stockworker market …` on a store with real prices."""

import csv
import gzip
import io
import json
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from stockworker.market import data_import
from stockworker.market.bars import Action, ActionKind, Bar, IndicatorValue
from stockworker.market.store import open_market_store
from stockworker.terminal.exits import Exit
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished
from tests.harness.handler_run import HandlerRun
from tests.harness.sample_data import sample_bars

BARS = sample_bars()
FUND = [Bar(bar.day, None, None, None, bar.close) for bar in BARS["FB"][:30]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    location = tmp_path / "market.sqlite3"
    with closing(open_market_store(str(location))) as store:
        store.upsert({"AAPL": BARS["AAPL"], "FB": BARS["FB"], "FUND": FUND})
        value = IndicatorValue(BARS["AAPL"][-1].day, {"macd": 1.5, "signal": 2.0})
        store.store_indicators({"AAPL": {"macd_12_26_9": value, "sma_20": IndicatorValue(value.day, 455.25)}})
    path = tmp_path / "job_processor.yml"
    path.write_text(yaml.safe_dump({"job_processor": {"market_data": {"location": str(location)}}}))
    return path


def market(config: Path, line: str) -> Finished:
    return command.run(config, "market", *shlex.split(line))


def stored(config: Path, symbol: str) -> list[Bar]:
    with closing(open_market_store(str(config.with_name("market.sqlite3")), read_only=True)) as store:
        return store.bars(symbol)


def test_symbols_are_listed(config: Path) -> None:
    lines = [line.split() for line in market(config, "symbols").output.splitlines()]
    assert lines[:2] == [
        ["SYMBOL", "INTERVAL", "BARS", "FIRST", "LAST"],
        ["AAPL", "1d", "3270", "2000-03-01", "2013-03-01"],
    ]
    assert market(config, "symbols --json").json_lines[2] == {
        "symbol": "FUND",
        "interval": "1d",
        "bars": 30,
        "first_day": "2012-05-18",
        "last_day": "2012-06-29",
    }


def test_bars_and_indicators_of_a_symbol_are_shown(config: Path) -> None:
    shown = market(config, "show AAPL --last 2").output.splitlines()
    assert [line.split() for line in shown[:3]] == [
        ["DATE", "OPEN", "HIGH", "LOW", "CLOSE", "VOLUME", "ADJUSTED_CLOSE"],
        ["2013-02-28", "444.05", "447.87", "441.4", "441.4", "11518400", "57.5627"],
        ["2013-03-01", "438", "438.18", "429.98", "430.47", "19730300", "56.1374"],
    ]
    assert shown[4:] == [
        "INDICATOR     DATE        VALUE",
        "macd_12_26_9  2013-03-01  macd 1.5, signal 2",
        "sma_20        2013-03-01  455.25",
    ]
    assert market(config, "show FUND --last 1 --json").json_lines == [
        {"symbol": "FUND", "date": "2012-06-29", "close": FUND[-1].close}
    ]


def test_the_days_can_be_chosen_and_prices_adjusted(config: Path) -> None:
    chosen = market(config, "show AAPL --since 2013-02-26 --until 2013-02-27 --adjusted --json").json_lines
    expected = [bar.adjusted() for bar in BARS["AAPL"][-4:-2]]
    assert [(each["date"], each["close"], each["high"]) for each in chosen] == [
        (bar.day.isoformat(), bar.close, bar.high) for bar in expected
    ]
    assert all("adjusted_close" not in each for each in chosen)


@pytest.mark.parametrize("format_", ["csv", "json", "ndjson"])
def test_what_is_exported_can_be_imported_again(config: Path, tmp_path: Path, format_: str) -> None:
    file = tmp_path / f"bars.{format_}"
    done = market(config, f"export --all --out {file}")
    assert (done.status, done.errors) == (0, f"stockworker: wrote {file}\n")
    assert file.read_text() == market(config, f"export AAPL FB FUND --format {format_}").output
    location = str(tmp_path / "copy.sqlite3")
    settings = {"market_data": location, "import_folders": [str(tmp_path)]}
    format_of = {"format": "ndjson"} if format_ == "ndjson" else {}
    result = HandlerRun("data_import", data_import.handle, settings)({"source": str(file), **format_of})
    assert result["inserted"] == len(BARS["AAPL"]) + len(BARS["FB"]) + len(FUND)
    with closing(open_market_store(location)) as copy:
        assert {symbol: copy.bars(symbol) for symbol in copy.symbols()} == {
            "AAPL": BARS["AAPL"],
            "FB": BARS["FB"],
            "FUND": FUND,
        }


def test_an_export_is_exact(config: Path) -> None:
    rows = list(
        csv.reader(io.StringIO(market(config, "export FUND AAPL --since 2012-06-29 --until 2012-06-29").output))
    )
    assert rows[0] == ["symbol", "date", "open", "high", "low", "close", "volume", "adjusted_close"]
    assert rows[1] == ["FUND", "2012-06-29", "", "", "", str(FUND[-1].close), "", ""]
    assert rows[2][:2] == ["AAPL", "2012-06-29"]
    assert json.loads(market(config, "export --all --since 2030-01-01 --format json").output) == []


@follows("Parquet is not text; name a file with --out")
def test_parquet_has_all_bars(config: Path, tmp_path: Path) -> None:
    from pyarrow import parquet  # noqa: PLC0415 (slow)

    file = tmp_path / "bars.parquet"
    assert market(config, "export FUND AAPL --format parquet").status == 2
    assert market(config, f"export FUND AAPL --out {file}").status == 0
    rows = parquet.read_table(file).to_pylist()
    assert len(rows) == len(FUND) + len(BARS["AAPL"])
    assert rows[0] == {"symbol": "FUND", "date": FUND[0].day, "close": FUND[0].close} | dict.fromkeys(
        ("open", "high", "low", "volume", "adjusted_close")
    )
    assert tuple(rows[-1].values()) == ("AAPL", *BARS["AAPL"][-1])


INTERRUPTED = """
import signal, sys
from stockworker.cli import main, market_export

def texts(format_, found, interval):
    yield "symbol\\n" * 100_000
    signal.raise_signal(signal.SIGINT)

market_export._texts = texts
sys.exit(main())
"""


def test_an_interrupted_export_leaves_the_old_file_and_no_other(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "bars.csv").write_text("old\n")
    words = ["--config", str(config), "market", "export", "--all", "--out", str(folder / "bars.csv")]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], check=False, capture_output=True, timeout=60)
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"bars.csv": "old\n"}


def test_a_failed_export_leaves_the_old_file(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text("old")
    done = market(config, f"export AAPL FUND --adjusted --out {file}")
    assert done.status == 2
    assert "FUND: 2012-05-18 has no adjusted close. Leave out --adjusted" in done.errors
    assert file.read_text() == "old"
    assert {each.name for each in tmp_path.iterdir()} <= {
        "bars.csv",
        config.name,
        *(f"market.sqlite3{part}" for part in ("", "-shm", "-wal")),
    }


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes that have neither of the optional libraries."""
    for name in ("matplotlib", "pyarrow"):
        folder = tmp_path / "shadow" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"raise ImportError('there is no {name}')\n")
    paths = [str(tmp_path / "shadow"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.mark.usefixtures("without")
def test_an_error_names_the_missing_library(config: Path, tmp_path: Path) -> None:
    chart = market(config, f"plot AAPL --out {tmp_path}/a.png")
    table = market(config, f"export AAPL --out {tmp_path}/a.parquet")
    assert (chart.status, table.status) == (78, 78)
    assert "Run 'apt install python3-matplotlib', or choose a file that ends in .svg" in chart.errors
    assert "pip install pyarrow', or choose --format csv" in table.errors
    assert not list(tmp_path.glob("*a.*"))
    assert market(config, f"plot AAPL --out {tmp_path}/a.svg").status == 0


def test_a_chart_is_drawn_as_svg_and_as_png(config: Path, tmp_path: Path) -> None:
    line = "plot AAPL --indicators sma:50,bollinger,rsi,macd:5:35:5 --out"
    assert market(config, f"{line} {tmp_path}/a.svg").status == 0
    assert market(config, f"{line} {tmp_path}/a.png").status == 0
    text = (tmp_path / "a.svg").read_text()
    for label in ("sma_50 485.107", "bollinger_20_2 upper 480.309", "rsi_14 32.7784", "macd_5_35_5 signal"):
        assert f">{label}" in text
    png = (tmp_path / "a.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert f'width="{int.from_bytes(png[16:20])}" height="{int.from_bytes(png[20:24])}"' in text


def test_deleting_needs_a_confirmation(config: Path) -> None:
    asked = market(config, "delete AAPL FUND")
    assert (asked.status, asked.output) == (2, "")
    assert "would delete 3,270 bars of AAPL, 30 bars of FUND; nothing was deleted. Add --yes" in asked.errors
    assert stored(config, "AAPL") == BARS["AAPL"]
    done = market(config, "delete AAPL FUND --yes")
    assert (done.status, done.output) == (0, "deleted 3,270 bars of AAPL\ndeleted 30 bars of FUND\n")
    assert [each["symbol"] for each in market(config, "symbols --json").json_lines] == ["FB"]


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("show AAPLE", 3, "unknown symbol 'AAPLE'; did you mean 'AAPL'"),
        ("export aapl", 3, "did you mean 'AAPL'"),
        ("plot X --out x.svg", 3, "unknown symbol 'X'"),
        ("delete AAPL NONE --yes", 3, "unknown symbol 'NONE'"),
        ("export", 2, "name either symbols or --all"),
        ("export AAPL --all", 2, "name either symbols or --all"),
        ("export AAPL --format parquet", 2, "name a file with --out"),
        ("export AAPL --out /nowhere/x.csv", 2, "/nowhere/x.csv: can't be written: No such file or directory"),
        ("show AAPL --since 01.02.2013", 2, "'01.02.2013' is not a date; write YYYY-MM-DD"),
        ("show AAPL --last 0", 2, "argument --last"),
        ("show FUND --adjusted", 2, f"FUND: {FUND[-20].day} has no adjusted close"),
        ("plot AAPL --out a.pdf", 2, "a.pdf: a chart must end in .svg or .png"),
        ("plot AAPL --out /nowhere/a.svg", 2, "/nowhere/a.svg: can't be written"),
        ("plot AAPL --out a.svg --indicators smma", 2, "unknown indicator 'smma'; did you mean 'sma'"),
        ("plot AAPL --out a.svg --indicators sma:x", 2, "sma.period: 'x' is not a number"),
        ("plot AAPL --out a.svg --indicators sma:5:6", 2, "sma has 1 parameters (period), not 2"),
        ("plot FUND --out a.svg --indicators atr", 2, "FUND: atr_14 needs high, and the bar on 2012-05-18 has none"),
        ("plot FUND --out a.svg --indicators sma:50", 2, "FUND: sma_50 needs 50 bars, and there are 30"),
        ("plot AAPL --out a.svg --since 2030-01-01", 2, "AAPL has no bars within --since and --until"),
    ],
)
def test_a_mistake_is_explained(config: Path, line: str, status: int, message: str) -> None:
    done = market(config, line)
    assert message in done.errors
    assert (done.status, done.output) == (status, "")
    assert stored(config, "AAPL") == BARS["AAPL"]


def test_a_store_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "job_processor.yml"
    path.write_text(f"job_processor: {{market_data: {{location: {tmp_path}/none.sqlite3}}}}\n")
    for line in ("symbols", "delete AAPL --yes"):
        done = market(path, line)
        assert (done.status, done.errors.split(". ")[0]) == (
            74,
            f"stockworker: error: {tmp_path}/none.sqlite3: No such file or directory",
        )
    assert not (tmp_path / "none.sqlite3").exists()


def test_an_unusable_store_is_an_error_of_the_store(config: Path) -> None:
    config.with_name("market.sqlite3").write_bytes(b"no database" * 500)
    done = market(config, "symbols")
    assert done.status == 74
    assert "damaged, or not an SQLite file" in done.errors


def test_what_is_doubtful_is_reported(config: Path) -> None:
    with closing(open_market_store(str(config.with_name("market.sqlite3")))) as store:
        bars = [bar for bar in BARS["FB"] if not 3 <= bar.day.day <= 6 or bar.day.month != 12]
        bars[20] = Bar(bars[20].day, None, None, None, bars[19].close * 2)
        store.upsert({"BAD": bars, "MSFT": BARS["MSFT"], "IBM": BARS["IBM"]})
    shown = market(config, "quality BAD AAPL --until 2013-03-04").output.splitlines()
    assert [line.split()[:6] for line in shown[:3]] == [
        ["SYMBOL", "BARS", "FIRST", "LAST", "BEHIND", "HOLES"],
        ["BAD", "192", "2012-05-18", "2013-03-01", "1", "1"],
        ["AAPL", "3270", "2000-03-01", "2013-03-01", "1", "0"],
    ]
    assert "BAD: no bars from 2012-12-03 to 2012-12-06 (4 trading days)" in shown
    assert f"BAD: an outlier on {bars[20].day}: the close was 2 of the one before, and came back" in shown
    (found,) = market(config, "quality BAD --until 2013-03-01 --json").json_lines
    assert (found["behind"], found["holes"]) == (0, [{"first": "2012-12-03", "last": "2012-12-06", "days": 4}])
    assert found["outliers"] == [{"day": bars[20].day.isoformat(), "factor": 2.0}]
    assert [each["symbol"] for each in market(config, "quality --all --json").json_lines][:2] == ["AAPL", "BAD"]
    assert market(config, "quality").status == 2


def test_a_file_without_an_end_is_inspected_as_far_as_its_beginning() -> None:
    failed = market(Path("none.yml"), "inspect /dev/zero")
    assert failed.status == 1
    assert "/dev/zero: no format reads it" in failed.errors


def test_a_file_is_inspected_without_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"Date,Close\n2024-01-02,5\n2024-01-03,6\nfooter\n"))
    shown = market(tmp_path / "none.yml", f"inspect {file} --rows 1")
    assert shown.output.splitlines() == [
        f'data_import reads it with: {{"source": "{file}", "symbol": "SYMBOL"}}',
        "2 of the first 3 rows are valid bars",
        "row 4: 1 cells under 2 columns; a number with the delimiter in it needs quotes",
        "",
        "SYMBOL  DATE        OPEN  HIGH  LOW  CLOSE  VOLUME  ADJUSTED_CLOSE",
        "SYMBOL  2024-01-02  -     -     -        5  -       -",
    ]
    assert market(tmp_path / "none.yml", f"inspect {file} --json").json["rejected"] == 1
    file.write_bytes(b"none")
    failed = market(tmp_path / "none.yml", f"inspect {file}")
    assert (failed.status, failed.output) == (1, "")
    assert "no format reads it: " in failed.errors
    missing = market(tmp_path / "none.yml", f"inspect {tmp_path}/b.csv")
    assert (missing.status, "No such file or directory" in missing.errors) == (2, True)


AS_ANOTHER_USER = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
from stockworker.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: those of pytest are closed."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@follows("…: this user may not open it. Run the command as its owner: sudo -u … stockworker market …")
@pytest.mark.parametrize("closed", ["market", "market/market.sqlite3"])
@pytest.mark.parametrize("line", ["symbols", "delete FUND --yes"])
def test_without_the_rights_the_error_names_the_user_who_has_them(open_folder: Path, closed: str, line: str) -> None:
    """As `nobody` if this user is root, who may do everything; as this user otherwise, on a file without any rights."""
    (open_folder / "market").mkdir()
    location = open_folder / "market" / "market.sqlite3"
    with closing(open_market_store(str(location))) as store:
        store.upsert({"FUND": FUND})
    config = open_folder / "job_processor.yml"
    config.write_text(f"job_processor: {{market_data: {{location: {location}}}}}\n")
    config.chmod(0o644)
    (open_folder / closed).chmod(0)
    program = [sys.executable, "-c", AS_ANOTHER_USER, "--config", str(config), "market", *shlex.split(line)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    (open_folder / closed).chmod(0o700)
    assert done.returncode == 74
    assert f"{location}: this user may not open it. Run the command as its owner: sudo -u " in done.stderr
    assert f"sudo -u {location.owner()} stockworker market …" in done.stderr
    assert market(config, line).status == 0  # as its owner, which this user is


def test_reading_changes_neither_the_file_nor_what_is_beside_it(config: Path) -> None:
    file = config.with_name("market.sqlite3")
    before = file.read_bytes()
    for line in ("symbols", "show AAPL", "export --all"):
        assert market(config, line).status == 0
    assert file.read_bytes() == before
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_json_is_one_value_per_line(config: Path) -> None:
    assert all(isinstance(json.loads(line), dict) for line in market(config, "show AAPL --json").output.splitlines())


def test_longer_bars_are_made_and_exported_with_their_interval(config: Path, tmp_path: Path) -> None:
    (week,) = market(config, "show AAPL --interval 1w --last 1 --json").json_lines
    assert (week["date"], week["open"], week["close"]) == ("2013-02-25", BARS["AAPL"][-5].open, BARS["AAPL"][-1].close)
    exported = market(config, "export FB --interval 1mo --last 2").output.splitlines()
    assert exported[0].endswith(",adjusted_close,interval")
    assert [line.split(",")[1] for line in exported[1:]] == ["2013-02-01", "2013-03-01"]
    assert all(line.endswith(",1mo") for line in exported[1:])
    (tmp_path / "months.csv").write_text("\n".join(exported))
    settings = {"market_data": str(tmp_path / "again.db"), "import_folders": [str(tmp_path)]}
    result = HandlerRun("data_import", data_import.handle, settings)({"source": f"{tmp_path}/months.csv"})
    assert (result["interval"], result["inserted"]) == ("1mo", 2)
    assert market(config, f"plot AAPL --interval 1w --last 60 --out {tmp_path}/weeks.svg").status == 0


def test_stored_splits_are_applied_on_request(config: Path) -> None:
    with closing(open_market_store(str(config.with_name("market.sqlite3")))) as store:
        store.store_actions({"AAPL": [Action(BARS["AAPL"][-1].day, ActionKind.DIVIDEND, 4.414)]})
        store.store_actions({"FB": [Action(BARS["FB"][-1].day, ActionKind.SPLIT, 2.0)]})
    before = BARS["AAPL"][-2].close
    (shown, _) = market(config, "show AAPL --adjust all --last 2 --json").json_lines
    assert shown["close"] == pytest.approx(before * (1 - 4.414 / before))
    refused = market(config, "show FB --adjust splits")
    assert (refused.status, "FB: the close went from" in refused.errors) == (2, True)
    assert "either --adjusted or --adjust" in market(config, "show FB --adjust splits --adjusted").errors
    assert "unknown interval '5m'; did you mean '5min'?" in market(config, "show FB --interval 5m").errors
