"""Runs the job type data_import with real files, a real HTTP server and a real store."""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.http import HostUnreachable, HttpStatus
from stockworker.adapters.sqlite import Connection, transaction
from stockworker.errors import StoreError
from stockworker.handlers.api import PermanentError
from stockworker.market import data_import
from stockworker.market.interval import INTERVALS
from stockworker.market.store import open_market_store
from tests.harness.handler_run import HandlerRun
from tests.harness.http_server import Answer, HttpServer
from tests.harness.sample_data import SAMPLE_FILE, sample_bars

HEADER = "Date,Open,High,Low,Close,Volume\n"
GOOD_ROW = "2013-03-01,10,12,9,11,500\n"
BAD_ROW = "2013-03-04,10,12,9,99,500\n"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "import"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, folder: Path, server: HttpServer) -> HandlerRun:
    settings: dict[str, Any] = {
        "market_data": str(tmp_path / "market.db"),
        "import_folders": [str(folder)],
        "import_hosts": [f"127.0.0.1:{server.port}"],
    }
    return HandlerRun("data_import", data_import.handle, settings)


def stored(run: HandlerRun, symbol: str = "AAPL") -> int:
    store = open_market_store(run.settings["market_data"])
    count = len(store.bars(symbol))
    store.close()
    return count


def test_the_sample_data_is_imported_whole_and_once(run: HandlerRun, folder: Path) -> None:
    (folder / "stocks.csv.gz").write_bytes(SAMPLE_FILE.read_bytes())
    first = run({"source": f"{folder}/stocks.csv.gz"})
    second = run({"source": (folder / "stocks.csv.gz").as_uri()})
    assert (first["rows"], first["rejected"], first["inserted"]) == (12154, 0, 12154)
    assert first["symbols"]["FB"] == {"inserted": 196, "updated": 0, "unchanged": 0}
    assert (second["inserted"], second["updated"], second["unchanged"]) == (0, 0, 12154)
    assert run.progress[-1] == 1.0
    store = open_market_store(run.settings["market_data"])
    assert {symbol: store.bars(symbol) for symbol in store.symbols()} == sample_bars()
    store.close()


def test_bars_come_over_http(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/aapl"] = Answer(gzip.compress((HEADER + GOOD_ROW).encode()))
    assert run({"source": server.url("/aapl"), "symbol": "AAPL"})["inserted"] == 1


def test_bars_come_in_the_payload(run: HandlerRun) -> None:
    bar = {"date": "2013-03-01", "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}
    assert run({"symbol": "AAPL", "bars": [bar]})["symbols"] == {"AAPL": {"inserted": 1, "updated": 0, "unchanged": 0}}


def test_an_invalid_row_stores_nothing_unless_the_job_skips_it(run: HandlerRun, folder: Path) -> None:
    (folder / "bars.csv").write_text(HEADER + GOOD_ROW + BAD_ROW)
    payload = {"source": f"{folder}/bars.csv", "symbol": "AAPL"}
    with pytest.raises(PermanentError, match=r"1 of 2 rows are not valid bars; nothing was stored: row 3: close 99\.0"):
        run(payload)
    assert stored(run) == 0
    result = run({**payload, "on_error": "skip"})
    assert (result["inserted"], result["rejected"], result["rejected_rows"][0]["row"]) == (1, 1, 3)
    assert stored(run) == 1


def test_a_cancelled_import_stops(run: HandlerRun, folder: Path) -> None:
    (folder / "stocks.csv.gz").write_bytes(SAMPLE_FILE.read_bytes())
    run.cancelled = lambda: len(run.progress) >= 2
    with pytest.raises(InterruptedError, match="stopped after 4000 of 12154 bars"):
        run({"source": f"{folder}/stocks.csv.gz"})


def test_no_file_is_read_unless_its_folder_is_allowed(run: HandlerRun, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(HEADER + GOOD_ROW)
    (folder / "link.csv").symlink_to(secret)
    for source in (secret, secret.as_uri(), f"{folder}/../secret.csv", folder / "link.csv", "/etc/passwd", "/nowhere"):
        with pytest.raises(
            PermanentError, match=r"this worker does not read .*handlers\.data_import\.settings\.import_folders"
        ):
            run({"source": str(source), "symbol": "AAPL"})
    del run.settings["import_folders"]
    with pytest.raises(PermanentError, match="this worker does not read"):
        run({"source": f"{folder}/bars.csv", "symbol": "AAPL"})


@pytest.mark.parametrize("name", ["missing.csv", "", "a\0b", "x" * 300, "loop", "pipe", "\ud800"])
def test_a_source_that_is_not_a_file_is_a_permanent_error(run: HandlerRun, folder: Path, name: str) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    with pytest.raises(PermanentError, match=r"payload\.source: "):
        run({"source": f"{folder}/{name}", "symbol": "AAPL"})


def test_a_file_that_is_too_large_is_refused(run: HandlerRun, folder: Path) -> None:
    run.settings["limit_mib"] = 1
    (folder / "large.csv").write_bytes(bytes(1_048_577))
    (folder / "bomb.csv.gz").write_bytes(gzip.compress(bytes(1_048_577)))
    for name in ("large.csv", "bomb.csv.gz"):
        with pytest.raises(PermanentError, match="larger than 1,048,576 bytes"):
            run({"source": f"{folder}/{name}", "symbol": "AAPL"})


@pytest.mark.parametrize(
    "source", ["file://[::1/bars.csv", "file://[x]/bars.csv", "http://[::1/bars.csv", "https://[v1.x/"]
)
def test_an_address_that_is_not_valid_is_a_permanent_error(run: HandlerRun, source: str) -> None:
    with pytest.raises(PermanentError, match=r"payload\.source: .* (is not a valid|no valid) address"):
        run({"source": source, "symbol": "AAPL"})


@pytest.mark.parametrize("hosts", [None, [], ["data.example"]])
def test_only_listed_hosts_are_asked(run: HandlerRun, server: HttpServer, hosts: list[str] | None) -> None:
    run.settings["import_hosts"] = hosts
    with pytest.raises(
        PermanentError,
        match=r"the host 127\.0\.0\.1 is not allowed. List it .*handlers\.data_import\.settings\.import_hosts",
    ):
        run({"source": server.url("/aapl"), "symbol": "AAPL"})
    assert server.requests == []


def test_a_redirect_to_a_host_that_is_not_listed_is_not_followed(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/moved"] = Answer(b"", status=302, location=f"http://localhost:{server.port}/secret")
    with pytest.raises(PermanentError, match=r"the host localhost is not allowed. List it .*import_hosts"):
        run({"source": server.url("/moved"), "symbol": "AAPL"})
    assert server.requests == ["/moved"]


def test_a_failure_that_may_pass_is_retried(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/busy"] = Answer(b"", status=503)
    with pytest.raises(HttpStatus):
        run({"source": server.url("/busy")})
    run.settings["import_hosts"].append("127.0.0.1:9")
    with pytest.raises(HostUnreachable):
        run({"source": "http://127.0.0.1:9/"})
    with pytest.raises(PermanentError, match="answered 404"):
        run({"source": server.url("/missing")})


def test_a_store_that_can_not_be_used_is_retried(run: HandlerRun, tmp_path: Path) -> None:
    run.settings["market_data"] = str(tmp_path / "nowhere" / "market.db")
    with pytest.raises(StoreError):
        run({"bars": []})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (None, "payload: expected an object, got null"),
        ({}, r"payload\.source: give either source or bars"),
        ({"source": "x", "bars": []}, r"payload\.source: give either source or bars"),
        ({"source": 5}, r"payload\.source: expected a string"),
        ({"bars": {}}, r"payload\.bars: expected a list"),
        ({"sorce": "x"}, r"payload: unknown field 'sorce'; did you mean 'source'\?"),
        ({"bars": [], "format": "xml"}, r"payload\.format: unknown format 'xml'"),
        ({"bars": [], "symbol": "A;B"}, r"payload\.symbol: 'A;B' is not a valid symbol"),
        ({"bars": [], "columns": {"clos": "x"}}, r"payload\.columns: unknown field 'clos'; did you mean 'close'\?"),
        ({"bars": [], "columns": {"close": 5.5}}, r"payload\.columns\.close: expected a whole number"),
        ({"source": "ftp://127.0.0.1/x"}, "'ftp' is not supported; use http, https, file, or a path"),
        ({"bars": [{}]}, "none of 1 rows is a valid bar: row 1: day is missing"),
    ],
)
def test_a_wrong_payload_is_explained(run: HandlerRun, payload: Any, message: str) -> None:
    with pytest.raises(PermanentError, match=message):
        run(payload)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"market_data": None}, "has no market-data store. Set market_data"),
        ({"import_folders": "/srv"}, r"handlers\.data_import\.settings\.import_folders: expected a list, got"),
        ({"import_hosts": ["a b"]}, r"settings\.import_hosts\[0\]: 'a b' is not a host; write a name or an address"),
        ({"import_hosts": ["a:0"]}, r"settings\.import_hosts\[0\]: 'a:0' has no valid port; use 1 to 65535"),
        ({"private_addresses": ["x"]}, r"settings\.private_addresses\[0\]: 'x' is not an address or a network"),
        ({"timeout_s": "soon"}, r"handlers\.data_import\.settings\.timeout_s: expected a number"),
    ],
)
def test_a_wrong_configuration_is_explained(run: HandlerRun, settings: dict[str, Any], message: str) -> None:
    run.settings.update(settings)
    with pytest.raises(PermanentError, match=message):
        run({"bars": []})


def test_a_source_of_nothing_but_invalid_rows_fails_whatever_on_error_says(run: HandlerRun, folder: Path) -> None:
    (folder / "bars.csv").write_text("Date,Close\n01/02/2024,11.25\n01/03/2024,11.5\n")
    for on_error in ("fail", "skip"):
        with pytest.raises(
            PermanentError,
            match=r"none of 2 rows is a valid bar: row 2: day is not a date; .* set date_format",
        ):
            run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "on_error": on_error})
    payload = {"source": f"{folder}/bars.csv", "symbol": "AAPL", "options": {"date_format": "%m/%d/%Y"}}
    assert run(payload)["inserted"] == 2


def test_minutes_of_a_day_are_never_stored_as_the_day(run: HandlerRun, folder: Path) -> None:
    rows = (
        "Date,Time,Open,High,Low,Close,Volume",
        "2024-01-02,09:30,10.0,10.2,9.9,10.1,1000",
        "2024-01-02,09:31,10.1,10.6,10.0,10.5,2000",
    )
    (folder / "bars.csv").write_text("\n".join(rows))
    with pytest.raises(PermanentError, match="row 2: has a time, but bars are of days"):
        run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "on_error": "skip"})
    options = {"time_of_day": "ignore"}
    with pytest.raises(PermanentError, match="row 3: another row has the day 2024-01-02 with other values"):
        run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "options": options})
    assert stored(run) == 0


def test_a_format_of_the_configuration_is_used_by_its_name(run: HandlerRun, folder: Path) -> None:
    (folder / "bars.csv").write_text("Tag;Kurs\n02.01.2024;1.111,25\n")
    run.settings["formats"] = {"my-bank": {"like": "excel-de", "columns": {"day": "Tag", "close": "Kurs"}}}
    assert run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "format": "my-bank"})["inserted"] == 1
    with pytest.raises(PermanentError, match=r"payload\.format: unknown format 'my-banc'; did you mean 'my-bank'"):
        run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "format": "my-banc"})
    with pytest.raises(PermanentError, match=r"payload\.options: unknown option 'delimeter'; did you mean 'delimiter'"):
        run({"source": f"{folder}/bars.csv", "symbol": "AAPL", "options": {"delimeter": ";"}})


def test_the_bars_of_many_symbols_share_transactions(
    run: HandlerRun, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daily file of an exchange: a transaction for each symbol would sync the disk thousands of times."""
    begun = []

    def counted(connection: Connection) -> AbstractContextManager[None]:
        begun.append(connection)
        return transaction(connection)

    monkeypatch.setattr("stockworker.market.store_sqlite.transaction", counted)
    rows = "".join(f"S{number},2024-01-02,{number + 1}\n" for number in range(4_001))
    (folder / "day.csv").write_text(f"Symbol,Date,Close\n{rows}")
    assert run({"source": f"{folder}/day.csv"})["inserted"] == 4_001
    assert len(begun) == 3


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("bars.csv", content)
    return file.getvalue()


def test_a_download_that_may_be_cut_off_is_refused(run: HandlerRun, server: HttpServer) -> None:
    server.answers["/aapl"] = Answer((HEADER + GOOD_ROW * 2).strip().encode(), has_length=False)
    with pytest.raises(PermanentError, match=r"row 3: is the last one, its line has no end, .*: it may be cut off"):
        run({"source": server.url("/aapl"), "symbol": "AAPL"})
    assert stored(run) == 0
    kept = run({"source": server.url("/aapl"), "symbol": "AAPL", "options": {"unended_line": "keep"}})
    assert (kept["inserted"], kept["repeated"], kept["rejected"]) == (1, 1, 0)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_a_packed_file_is_unpacked(run: HandlerRun, folder: Path, pack: Callable[[bytes], bytes]) -> None:
    (folder / "bars").write_bytes(pack((HEADER + GOOD_ROW).encode()))
    assert run({"source": f"{folder}/bars", "symbol": "AAPL"})["inserted"] == 1


def test_the_charset_of_a_download_is_used(run: HandlerRun, server: HttpServer) -> None:
    text = "Date,Name,Close\n2024-01-02,Nestl\xe9,10\n".encode("latin-1")
    server.answers["/nesn"] = Answer(text, content_type="text/csv; charset=ISO-8859-1")
    assert run({"source": server.url("/nesn"), "symbol": "NESN"})["inserted"] == 1


MINUTES = "Date,Time,Open,High,Low,Close,Volume\n" + "".join(
    f"2024-01-02,09:3{minute},10,12,9,11,{minute}\n" for minute in range(5)
)


def test_bars_with_a_time_are_stored_by_their_interval(run: HandlerRun, folder: Path) -> None:
    (folder / "minutes.csv").write_text(MINUTES)
    payload = {"source": f"{folder}/minutes.csv", "symbol": "AAPL", "options": {"time_zone": "America/New_York"}}
    with pytest.raises(PermanentError, match=r"has a time, but bars are of days; set interval if they are not"):
        run(payload)
    result = run({**payload, "interval": "1min"})
    assert (result["interval"], result["inserted"]) == ("1min", 5)
    with closing(open_market_store(run.settings["market_data"])) as store:
        stored_bars = store.bars("AAPL", interval=INTERVALS["1min"])
        assert stored_bars[0].day == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
        assert [bar.volume for bar in stored_bars] == [0, 1, 2, 3, 4]
        assert store.bars("AAPL") == []


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_bars_of_another_interval_are_refused_as_a_whole(run: HandlerRun, folder: Path, on_error: str) -> None:
    (folder / "minutes.csv").write_text(MINUTES)
    payload = {"source": f"{folder}/minutes.csv", "symbol": "AAPL", "interval": "5min", "on_error": on_error}
    with pytest.raises(
        PermanentError, match="the interval is 5min, but two bars begin 1 min after each other; set interval"
    ):
        run({**payload, "options": {"time_zone": "UTC"}})
    assert stored(run) == 0
