"""What `stockworker market inspect` proposes for the files of vendors, and for what no format reads."""

import json
from datetime import date, timedelta
from typing import Any

import pytest

from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars, tomorrow
from stockworker.market.inspection import propose
from stockworker.market.source_format import read_format

HEADER = "Date,Open,High,Low,Close,Volume\n"
ROWS = "2024-01-02,10.0,12.5,9.75,11.25,1234500\n2024-01-03,11.25,12,11,11.5,987600\n"
DAYS = [date(2010, 1, 1) + timedelta(days=number) for number in range(4000)]
RECORD = {"date": "2024-01-02", "open": 10, "high": 12.5, "low": 9.75, "close": 11.25, "volume": 5}


@pytest.mark.parametrize(
    ("source", "name", "options"),
    [
        (HEADER + ROWS, None, {}),
        (
            "Date,Close/Last,Volume,Open,High,Low\n01/02/2024,$11.25,1234500,$10.00,$12.50,$9.75\n",
            "nasdaq",
            {},
        ),
        (
            'Date,Price,Open,High,Low,Vol.\n"01/02/2024","1,111.25","1,110.00","1,112.50","1,109.75","1.23M"\n',
            "investing",
            {},
        ),
        ("date,open,high,low,close,volume,average\n2024-01-02,10,12.5,9.75,11.25,-1,-1\n", "ib", {}),
        ("Price,Close,High,Low,Open,Volume\nTicker,A,A,A,A,A\nDate,,,,,\n2024-01-02,11,12,9,10,5\n", "yfinance", {}),
        (json.dumps({"values": [{**RECORD, "datetime": RECORD["date"]}]}).replace('"date":', '"x":'), "twelvedata-json", {}),
        (json.dumps(RECORD) + "\n" + json.dumps({**RECORD, "date": "2024-01-03"}) + "\n", "ndjson", {}),
        ("Datum;Eröffnung;Hoch;Tief;Schluss;Volumen\n02.01.2024;1.110,00;1.112,50;1.109,75;1.111,25;5\n", "excel-de", {}),
        (HEADER.replace(",", ";") + "2024-01-02;10,0;12,5;9,75;11,25;5\n", None, {"decimal": ","}),
        ("a vendor\n" + HEADER + ROWS, None, {"skip_lines": 1}),
        ("28.02.2013;44,05\n01.03.2013;38,00\n", None, {"decimal": ",", "date_format": "%d.%m.%Y"}),
        (HEADER + "2020-04-20,17.73,17.85,-40.32,-37.63,247947\n", None, {"prices": "any"}),
        ("timestamp,open,high,low,close\n1704153600,10,12.5,9.75,11.25\n", None, {"date_format": "epoch"}),
        (HEADER.encode("utf-16") + ROWS.encode("utf-16-le"), None, {}),
    ],
)  # fmt: skip
def test_the_proposal_reads_the_file(source: str | bytes, name: str | None, options: dict[str, Any]) -> None:
    data = source if isinstance(source, bytes) else source.encode()
    found = propose(data)
    assert found.format == name
    assert options.items() <= found.options.items()
    assert found.parsed.rejected == 0
    payload = found.payload("file.csv")
    written = read_format(payload.get("format"), payload.get("options"))
    parsed = parse_bars(data, Expected(payload.get("symbol"), tomorrow(), written))
    assert parsed.rejected == 0
    assert {symbol: list(bars) for symbol, bars in parsed.bars.items()} == {
        symbol: list(bars) for symbol, bars in found.parsed.bars.items()
    }


@pytest.mark.parametrize(
    ("source", "name", "interval", "options"),
    [
        (HEADER + "2024-01-02 09:30:00,1,1,1,1,5\n2024-01-02 09:35:00,1,1,1,1,5\n", None, "5min", {"time_zone": "UTC"}),
        (HEADER + "2024-01-02T09:30:00Z,1,1,1,1,5\n2024-01-02T10:30:00Z,1,1,1,1,5\n", None, "1h", {}),
        ("[[1704205800000, 1, 1, 1, 1, 5, 0], [1704205860000, 1, 1, 1, 1, 5, 0]]", "binance", "1min", {}),
        (
            "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\n2024.01.02\t16:30:00\t1\t1\t1\t1\t5\n2024.01.02\t16:45:00\t1\t1\t1\t1\t5\n",
            "metatrader",
            "15min",
            {"time_zone": "UTC"},
        ),
        ("timestamp,open,high,low,close\n1704205800,1,1,1,1\n1704206100,1,1,1,1\n", None, "5min", {"date_format": "epoch"}),
    ],
)  # fmt: skip
def test_bars_with_a_time_get_the_interval_of_their_distances(
    source: str, name: str | None, interval: str, options: dict[str, Any]
) -> None:
    found = propose(source.encode())
    payload = found.payload("file.csv")
    assert (found.format, payload["interval"], found.parsed.rejected) == (name, interval, 0)
    assert options.items() <= payload.get("options", {}).items()


def test_a_long_text_in_two_bytes_per_character_is_sampled() -> None:
    found = propose((HEADER + "".join(f"{day:%Y-%m-%d},1,1,1,1,5\n" for day in DAYS)).encode("utf-16"))
    assert (found.parsed.rejected, 1000 < found.parsed.rows < len(DAYS)) == (0, True)


def test_rows_that_name_their_symbols_need_none_in_the_payload() -> None:
    found = propose(b"symbol,date,close\nAAPL,2024-01-02,5\nMSFT,2024-01-02,6\n")
    assert found.payload("f") == {"source": "f"}
    assert set(found.parsed.bars) == {"AAPL", "MSFT"}


def test_a_long_file_is_read_in_part() -> None:
    rows = "".join(
        f"{2000 + number // 300}-{number // 25 % 12 + 1:02}-{number % 25 + 1:02},5\n" for number in range(5000)
    )
    found = propose(f"Date,Close\n{rows}".encode())
    assert 1_000 < found.parsed.rows < 5_000
    assert found.parsed.rejected == 0


def test_an_invalid_row_is_shown_and_does_not_decide() -> None:
    found = propose((HEADER + ROWS + "Data by a vendor\n").encode())
    assert (found.format, found.options, found.valid) == (None, {}, 2)
    assert found.parsed.rejected_rows[0].row == 4


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "no column for day, close"),
        (HEADER, "it has no rows"),
        (HEADER + "2024-01-02,1_0,12,9,11,5\n", "open '1_0' is not a number"),
        (HEADER + "2024-01-02,10.0,9.0,9.75,9.5,100\n", "low 9.75 is above high 9.0"),
        (HEADER + '2024-01-02,10.0,12.5,9.75,11.25,"5\n' + ROWS * 3, "line 8: unexpected end of data"),
        ("Date,Open,High,Low,Close,Close\n2024-01-02,10.0,12.5,9.75,11.25,11.1\n", "both 'Close' and 'Close' hold close"),
        ('{"Information": "The limit of your API key"}', "its message is: The limit of your API key"),
    ],
)  # fmt: skip
def test_what_no_format_reads_has_a_reason(source: str, reason: str) -> None:
    with pytest.raises(UnreadableBars, match=reason):
        propose(source.encode())
