"""The job type ``data_import``: take bars from a file, a web address or the payload into the market-data store.

Payload::

    {"source": "https://example.org/daily.csv.gz"}
    {"source": "/srv/import/aapl.json", "symbol": "AAPL", "format": "json"}
    {"source": "…", "columns": {"day": "Session", "close": "Last"}, "on_error": "skip"}
    {"symbol": "AAPL", "bars": [{"date": "2013-03-01", "open": 438, "high": 438.2, …}]}

CSV with a header, or JSON; packed with gzip or not. Every row is checked. With ``on_error: fail``, the default, one bad
row fails the job before anything is stored; with ``skip`` the good rows are stored, and the bad ones counted and listed.
Storing is by symbol and day, so that a job that runs again changes nothing.

Settings: ``import_folders`` (files are read below these alone; none by default, since whoever may submit jobs could
otherwise read any file that the agent can), ``import_hosts`` (names or addresses of the hosts that are
fetched from, redirects included; none by default, since whoever may submit jobs could otherwise reach whatever this
worker can), ``limit_mib`` (how large a file may be, unpacked; 32), ``timeout_s`` (30).
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from stockworker.adapters import compression
from stockworker.adapters.http import FetchError, ForeignHost, fetch
from stockworker.handlers.api import Context, Job, Json, PermanentError
from stockworker.handlers.bar_formats import (
    FIELDS,
    Expected,
    ParsedBars,
    UnreadableBars,
    parse_bars,
    parse_records,
    tomorrow,
)
from stockworker.handlers.market import Bar, MarketStore, UpsertCounts
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import market_data, read_payload, read_settings, symbol, texts, unknown
from stockworker.protocol.fields import FieldError, Fields

_PAYLOAD_FIELDS: Final = ("source", "bars", "symbol", "format", "columns", "on_error")
_CHUNK: Final = 1_000  # bars in one transaction: a few milliseconds, so that other writers are not kept waiting
_MIB: Final = 1_048_576
_LISTED_SYMBOLS: Final = 500  # a result must fit into one message


class OnError(StrEnum):
    """What a bad row does to the job."""

    FAIL = "fail"
    SKIP = "skip"


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class _Request:
    source: str | None
    bars: list[Json] | None
    file_format: Format | None
    on_error: OnError
    expected: Expected


@dataclass(frozen=True, slots=True)
class _Settings:
    folders: tuple[Path, ...]
    hosts: frozenset[str]
    limit_bytes: int
    timeout_s: float


def handle(job: Job, context: Context) -> Json:
    """Import the bars that the payload names; see the module for payload and settings."""
    request = read_payload(job, _PAYLOAD_FIELDS, _read_request)
    settings = read_settings(context, job.type, _read_settings)
    location = market_data(context)
    parsed = _parse(request, settings)
    if parsed.rejected and request.on_error is OnError.FAIL:
        shown = "; ".join(f"row {row.number}: {row.reason}" for row in parsed.rejected_rows[:5])
        raise PermanentError(
            f"{parsed.rejected} of {parsed.rows} rows hold no valid bar, nothing was stored: {shown}."
            ' Mend them, or send "on_error": "skip"'
        )
    with closing(open_market_store(location)) as store:
        counts = _store(parsed, store, context)
    return _result(parsed, counts)


def _read_request(fields: Fields, payload: dict[str, Json]) -> _Request:
    source = fields.optional("source", fields.text)
    bars = payload.get("bars")
    if (source is None) == (bars is None):
        raise FieldError("source: name either a source or bars")
    if bars is not None and not isinstance(bars, list):
        raise FieldError("bars: expected a list")
    return _Request(
        source=source,
        bars=bars,
        file_format=fields.optional("format", lambda name: fields.choice(name, Format)),
        on_error=fields.optional("on_error", lambda name: fields.choice(name, OnError)) or OnError.FAIL,
        expected=Expected(
            symbol=fields.optional("symbol", lambda name: symbol(fields, name)),
            columns={} if payload.get("columns") is None else dict(_columns(fields)),
            latest_day=tomorrow(),
        ),
    )


def _columns(fields: Fields) -> Iterator[tuple[str, str]]:
    for name, columns in fields.items("columns"):
        if name not in FIELDS:
            raise FieldError(f"columns: {unknown('field', name, FIELDS)}")
        yield name, columns.text(name)


def _read_settings(fields: Fields, settings: Mapping[str, Json]) -> _Settings:
    hosts = texts(settings, "import_hosts") or ()
    folders = texts(settings, "import_folders") or ()
    limit_mib = fields.optional("limit_mib", lambda name: fields.integer(name, 1, 1024))
    timeout_s = fields.optional("timeout_s", lambda name: fields.number(name, 0.1, 3600))
    return _Settings(
        folders=tuple(Path(folder) for folder in folders),
        hosts=frozenset(host.lower() for host in hosts),
        limit_bytes=(limit_mib or 32) * _MIB,
        timeout_s=timeout_s or 30.0,
    )


def _parse(request: _Request, settings: _Settings) -> ParsedBars:
    try:
        if request.source is None:
            return parse_records(request.bars or [], request.expected)
        return parse_bars(_read(request.source, settings), request.file_format, request.expected)
    except UnreadableBars as error:
        raise PermanentError(f"the bars can't be read: {error}") from error


def _read(source: str, settings: _Settings) -> bytes:
    scheme = source.partition("://")[0].lower() if "://" in source else "file"
    if scheme in {"http", "https"}:
        data = _download(source, settings)
    elif scheme == "file":
        data = _read_file(source, settings)
    else:
        raise PermanentError(f"payload.source: {scheme[:20]!r} is not supported, only http, https and files")
    if not compression.is_gzip(data):
        return data
    try:
        return compression.unpack(data, settings.limit_bytes)
    except (compression.Damaged, compression.TooLarge) as error:
        raise PermanentError(f"payload.source: {error}") from error


def _download(url: str, settings: _Settings) -> bytes:
    try:
        answer = fetch(url, timeout_s=settings.timeout_s, limit_bytes=settings.limit_bytes, hosts=settings.hosts)
    except ForeignHost as error:
        raise PermanentError(
            f"payload.source: {error}: list it in the worker's configuration under"
            " handlers.data_import.settings.import_hosts, if its submitters may have this worker fetch from there"
        ) from error
    except FetchError as error:
        if error.retryable:
            raise
        raise PermanentError(str(error)) from error
    return answer.body


def _read_file(source: str, settings: _Settings) -> bytes:
    """Read a file below one of the allowed folders, wherever symbolic links may point."""
    name = unquote(urlsplit(source).path) if "://" in source else source
    try:
        path = Path(name).resolve()
        if not any(path.is_relative_to(folder.resolve()) for folder in settings.folders):
            raise PermanentError(
                f"payload.source: this worker does not read {name[:200]!r}: its folder, or one above it, must be listed"
                " in the worker's configuration under handlers.data_import.settings.import_folders"
            )
        if not path.is_file():
            raise PermanentError(f"payload.source: there is no file {name[:200]!r} on this worker")
        with path.open("rb") as file:
            data = file.read(settings.limit_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:  # not readable, a NUL in the name, a circle of links
        raise PermanentError(f"payload.source: {name[:200]!r} can't be read: {error}") from error
    if len(data) > settings.limit_bytes:
        raise PermanentError(f"payload.source: {name[:200]!r} is larger than {settings.limit_bytes:,} bytes")
    return data


def _store(parsed: ParsedBars, store: MarketStore, context: Context) -> dict[str, UpsertCounts]:
    counts: dict[str, UpsertCounts] = {}
    stored, total = 0, parsed.rows - parsed.rejected
    for of_symbol, bars in parsed.bars.items():
        for chunk in _chunks(bars):
            if context.cancelled():
                raise InterruptedError(f"stopped after {stored} of {total} bars; the job can run again")
            counts[of_symbol] = counts.get(of_symbol, UpsertCounts()) + store.upsert_bars(of_symbol, chunk)
            stored += len(chunk)
            context.progress(stored / total, f"{stored} of {total} bars")
    return counts


def _chunks(bars: list[Bar]) -> Iterator[list[Bar]]:
    for start in range(0, len(bars), _CHUNK):
        yield bars[start : start + _CHUNK]


def _result(parsed: ParsedBars, counts: Mapping[str, UpsertCounts]) -> Json:
    total = sum(counts.values(), UpsertCounts())
    return {
        "rows": parsed.rows,
        "rejected": parsed.rejected,
        "rejected_rows": [{"row": row.number, "reason": row.reason} for row in parsed.rejected_rows],
        **asdict(total),
        "symbol_count": len(counts),
        "symbols": {name: asdict(counts[name]) for name in sorted(counts)[:_LISTED_SYMBOLS]},
    }
