"""Jobs of every built-in type, made of real prices, each with a check of its result."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import talib

from stockworker.client import make_submission
from stockworker.market.bars import Bar
from stockworker.protocol.messages import Submission
from tests.harness.http_server import Answer
from tests.harness.sample_data import sample_bars

BARS: Final = sample_bars()
_PRIORITIES: Final = ("normal", "low", "high", "normal", "low")
_IMPORTED: Final = 20
_ANALYSED: Final = 30
_SERVED: Final = 5


@dataclass(frozen=True, slots=True)
class Task:
    """A job, and the check of its result."""

    submission: Submission
    is_right: Callable[[Any], bool]


def provider_answers() -> dict[str, Answer]:
    """The newest bars of each symbol, as the provider of prices serves them."""
    return {
        f"/daily/{_updated(symbol)}.json": Answer(json.dumps([_record(bar) for bar in bars[-_SERVED:]]).encode())
        for symbol, bars in BARS.items()
    }


def tasks(count: int, folder: Path) -> Iterator[Task]:
    """Jobs of mixed types and priorities.

    Args:
        count: the number of jobs.
        folder: receives the files to import.
    """
    kinds = (_echo, _import, _analysis, _update, _import_of_file, _analysis, _import, _echo, _analysis, _echo)
    for number in range(count):
        job_type, payload, is_right = kinds[number % len(kinds)](number, folder)
        priority = _PRIORITIES[number // len(kinds) % len(_PRIORITIES)]
        yield Task(make_submission(job_type, payload, id=f"job-{number:05}", priority=priority), is_right)


_Described = tuple[str, Any, Callable[[Any], bool]]


def _echo(number: int, _folder: Path) -> _Described:
    payload = {"number": number, "text": f"line\n{number} \N{EURO SIGN}"}
    return "echo", payload, lambda result: result == payload


def _import(number: int, _folder: Path) -> _Described:
    symbol, bars = _window(number, _IMPORTED)
    return "data_import", {"symbol": symbol, "bars": [_record(bar) for bar in bars]}, _all_imported


def _import_of_file(number: int, folder: Path) -> _Described:
    symbol, bars = _window(number, _IMPORTED)
    text = io.StringIO()
    writer = csv.DictWriter(text, ("symbol", *_record(bars[0])))
    writer.writeheader()
    writer.writerows({"symbol": symbol, **_record(bar)} for bar in bars)
    file = folder / f"{number:05}.csv"
    file.write_text(text.getvalue())
    return "data_import", {"source": str(file)}, _all_imported


def _all_imported(result: Any) -> bool:
    return (result["rows"], result["rejected"], result["symbol_count"]) == (_IMPORTED, 0, 1)


def _update(number: int, _folder: Path) -> _Described:
    name = list(BARS)[number // 10 % len(BARS)]
    symbol, last_day = _updated(name), BARS[name][-1].day.isoformat()

    def is_right(result: Any) -> bool:
        return (result["failed"], result["symbols"][symbol]["last_day"]) == (0, last_day)

    return "price_update", {"symbols": [symbol], "since": "2013-01-01"}, is_right


def _updated(symbol: str) -> str:
    """A name that no other job stores bars under: between those and the newest ones, days would be missing."""
    return f"{symbol}.US"


def _analysis(number: int, _folder: Path) -> _Described:
    symbol, bars = _window(number, _ANALYSED)
    payload = {"symbol": symbol, "bars": [_record(bar) for bar in bars], "indicators": ["rsi", "sma"]}
    closes = np.array([bar.close for bar in bars])
    expected = {"rsi_14": talib.RSI(closes, 14)[-1], "sma_20": talib.SMA(closes, 20)[-1]}

    def is_right(result: Any) -> bool:
        found = {label: values[-1]["value"] for label, values in result["indicators"].items()}
        return bool(found == pytest.approx(expected)) and result["as_of"] == bars[-1].day.isoformat()

    return "technical_analysis", payload, is_right


def _window(number: int, length: int) -> tuple[str, Sequence[Bar]]:
    symbol = list(BARS)[number // 3 % len(BARS)]
    start = number % (len(BARS[symbol]) - length)
    return symbol, list(islice(BARS[symbol], start, start + length))


def _record(bar: Bar) -> dict[str, Any]:
    return {**bar._asdict(), "day": bar.day.isoformat()}
