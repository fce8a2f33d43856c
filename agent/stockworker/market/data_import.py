"""The job type ``data_import``: imports bars from a file, a web address or the payload into the market-data store."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, replace
from enum import StrEnum
from itertools import islice
from pathlib import PurePosixPath
from typing import Annotated, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from stockworker.adapters import compression
from stockworker.adapters.folder_files import LeadsOutside, NotAFile, open_below
from stockworker.adapters.http import Fetched, FetchError, ForeignHost, PrivateAddress, fetch
from stockworker.adapters.http_hosts import Host, Hosts, Network
from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.definition import WRONG_PAYLOAD, Definition, Failure
from stockworker.handlers.kinds import HOSTS, NETWORKS, Written
from stockworker.handlers.payload import market_data, read_payload, read_settings, to_json
from stockworker.market.bar_fields import RECORDS
from stockworker.market.bar_formats import (
    MOST_ROWS,
    MOST_SYMBOLS,
    Expected,
    RowKind,
    UnreadableBars,
    parse_file,
    parse_records,
    tomorrow,
)
from stockworker.market.bars import SYMBOL, Bar, Count, MarketStore, UpsertCounts
from stockworker.market.interval import INTERVAL, Interval
from stockworker.market.json_records import LONGEST_RECORD
from stockworker.market.parsed_bars import ParsedBars, RejectedRow
from stockworker.market.source_format import COLUMNS_KIND, FORMATS_KIND, OPTIONS_KIND, read_format
from stockworker.market.spacing import contradiction
from stockworker.market.store import open_market_store
from stockworker.protocol.fields import FieldError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Duration, Integer, Text, Wire

_CHUNK: Final = 2_000  # bars in one transaction: some milliseconds, so that other writers wait only briefly
_MIB: Final = 1_048_576
_FIRST_BYTES: Final = 16  # of a file: enough to recognise a packed one
_LISTED_SYMBOLS: Final = 500  # a result must fit into one message


class OnError(StrEnum):
    """What a job does about an invalid row."""

    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class ImportPayload:
    """The payload. Exactly one of `source` and `bars` is given."""

    source: Annotated[
        str | None,
        Wire(
            "The file with the bars: an `http`, `https` or `file` address, or a path on the worker. Give either `source` "
            "or `bars`."
        ),
    ] = None
    bars: Annotated[tuple[Json, ...] | None, RECORDS, Wire("The bars themselves.")] = None
    symbol: Annotated[
        str | None, SYMBOL, Wire("Symbol of the rows that name none. A row that names another symbol is invalid.")
    ] = None
    kind: Annotated[
        RowKind,
        Wire(
            "What the rows are: `bars`, which may have splits and dividends beside them, or only `splits` or `dividends`, "
            "without prices."
        ),
    ] = RowKind.BARS
    format: Annotated[
        str | None,
        Text(40),
        Wire("How the source is written: the name of a [format](#formats), or of one in `formats` of the settings."),
    ] = None
    options: Annotated[Mapping[str, Json] | None, OPTIONS_KIND, Wire("Options that differ from those of `format`.")] = (
        None
    )
    columns: Annotated[
        Mapping[str, str | int] | None, COLUMNS_KIND, Wire("The [option](#options) `columns`, here for brevity.")
    ] = None
    interval: Annotated[Interval | None, INTERVAL, Wire("The [option](#options) `interval`, here for brevity.")] = None
    on_error: Annotated[
        OnError,
        Wire(
            "What an invalid row does. `fail`: the job fails, and nothing is stored. `skip`: the valid rows are stored; "
            "the others are counted and listed."
        ),
    ] = OnError.FAIL

    def __post_init__(self) -> None:
        if (self.source is None) == (self.bars is None):
            raise FieldError("give either source or bars", "source")


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """The settings. Without any, only bars in the payload are imported.

    A submitter chooses the source, so the worker reads nothing that its administrator has not listed: a submitter could
    otherwise read any file and reach any host that this worker can.
    """

    import_folders: Annotated[
        tuple[str, ...],
        Wire(
            "Files are read from these folders and the folders below them, with absolute paths. Symbolic links there must be "
            "relative, and must not lead elsewhere."
        ),
    ] = ()
    import_hosts: Annotated[
        tuple[Host, ...],
        HOSTS,
        Wire(
            "Files are downloaded from these hosts, such as `prices.example` or `prices.example:8443`. Without a port, 80 "
            "and 443 are allowed. A redirect must lead to one of the hosts as well."
        ),
    ] = ()
    private_addresses: Annotated[
        tuple[Network, ...],
        NETWORKS,
        Wire(
            "The names in `import_hosts` may lead to these addresses too, such as `10.1.0.0/16`. Otherwise they may lead to "
            "public addresses only. An address in `import_hosts` itself needs no entry."
        ),
    ] = ()
    limit_mib: Annotated[int, Integer(1, 1024), Wire("Largest file, unpacked, in MiB (1,048,576 bytes).")] = 32
    limit_rows: Annotated[
        int,
        Integer(1, 1_000_000_000),
        Wire(
            "Most rows of a file. A file of 32 MiB has about 500,000 of them. The bars of longer files wait in `/var/tmp` "
            "until all rows were checked."
        ),
    ] = MOST_ROWS
    timeout_s: Annotated[float, Duration(0.1, 3600), Wire("Longest time for a download.")] = 30.0
    formats: Annotated[
        Mapping[str, Mapping[str, Json]] | None,
        FORMATS_KIND,
        Wire(
            "Formats of your own by name; `like` in one is the name of a [format](#formats) whose options it changes."
        ),
    ] = None

    @property
    def limit_bytes(self) -> int:
        return self.limit_mib * _MIB


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result."""

    rows: Annotated[Count, Wire("Rows in the source.")]
    rejected: Annotated[Count, Wire("Invalid rows.")]
    repeated: Annotated[Count, Wire("Rows that are the same as an earlier one.")]
    rejected_rows: Annotated[
        list[RejectedRow], Written("list of objects", "[]", RejectedRow), Wire("The first 20 of them.")
    ]
    interval: Annotated[str, Wire("Interval of the bars.")]
    inserted: Annotated[Count, Wire("Bars of days that had none, over all symbols.")]
    updated: Annotated[Count, Wire("Bars that replaced a different one of their day.")]
    unchanged: Annotated[Count, Wire("Bars that were stored already, with the same values.")]
    actions: Annotated[Count, Wire("Splits and dividends that are new or different.")]
    symbol_count: Annotated[Count, Wire("Symbols in the source.")]
    symbols: Annotated[
        Mapping[str, UpsertCounts],
        Written("object of objects", ".<symbol>", UpsertCounts),
        Wire(f"The same counts for the first {_LISTED_SYMBOLS} symbols, in alphabetical order."),
    ]


INVALID_ROWS: Final = Failure(
    "{rejected} of {rows} rows are not valid bars; nothing was stored: {reasons}. Correct them, or send "
    '"on_error": "skip"',
    "A row is invalid, and `on_error` is `fail`. The text has the first five rows, each with its reason.",
)
NO_VALID_ROW: Final = Failure(
    "none of {rows} rows is a valid bar: {reasons}",
    "Every row is invalid: probably `format` and `options` do not describe the source.",
)
UNREADABLE: Final = Failure(
    "the bars can't be read: {problem}",
    "The distances of the bars contradict their interval; or the file is not text in its encoding, not JSON, or a CSV file without a column for each required field; or two columns hold "
    f"the same field; or it has more rows than `limit_rows`, a row of more than {LONGEST_RECORD:,} characters, or more than "
    f"{MOST_SYMBOLS:,} symbols. Texts of the file are shown only if it was downloaded.",
)
UNSUPPORTED_SCHEME: Final = Failure(
    "payload.source: {scheme!r} is not supported; use http, https, file, or a path",
    "The address of the source begins with something else.",
)
FOREIGN_HOST: Final = Failure(
    "payload.source: {problem}. List it in the worker's configuration under handlers.data_import.settings.import_hosts "
    "if submitters may download from it",
    "The host of the source, or of a redirect, is not in `import_hosts`, or not with this port.",
)
PRIVATE_ADDRESS: Final = Failure(
    "payload.source: {problem}. List the address in the worker's configuration under "
    "handlers.data_import.settings.private_addresses if submitters may download from it",
    "The name of the host leads to an address that is not public: of this machine, of a private network, or one where "
    "clouds give credentials.",
)
NOT_FETCHED: Final = Failure(
    "payload.source: {problem}",
    "The server answered with a status such as 404, the file is larger than `limit_mib`, or the address is not valid.",
)
SERVER_UNAVAILABLE: Final = Failure(
    "{address}: {problem}",
    "The server can't be reached, is too slow, breaks off, or answers 408, 425, 429 or 5xx.",
    retried=True,
)
FOREIGN_FOLDER: Final = Failure(
    "payload.source: this worker does not read {name!r}. List its folder, or one above it, in the worker's configuration "
    "under handlers.data_import.settings.import_folders",
    "The file is not below one of `import_folders`, or a link there leads elsewhere.",
)
NO_FILE: Final = Failure(
    "payload.source: {name!r} is not a file on this worker", "The file does not exist, or is a folder or a device."
)
UNREADABLE_FILE: Final = Failure(
    "payload.source: {name!r} can't be read: {problem}",
    "The user of the worker may not read it, its disk fails, or its name or address is not valid.",
)
TOO_LARGE: Final = Failure(
    "payload.source: {name!r} is larger than {limit:,} bytes, the limit_mib of this worker",
    "The file is larger than `limit_mib`.",
)
BAD_ARCHIVE: Final = Failure(
    "payload.source: {problem}",
    "The gzip, bzip2, xz or zip data are damaged or cut off, larger than `limit_mib` when unpacked, or a zip archive of "
    "several files.",
)
STOPPED: Final = Failure(
    "stopped after {stored} of {total} bars; the job can run again",
    "The job was cancelled or timed out, or the worker stops. Running again completes the import.",
    retried=True,
)

DEFINITION: Final = Definition(
    payload=ImportPayload,
    settings=ImportSettings,
    result=ImportResult,
    failures=(
        INVALID_ROWS,
        NO_VALID_ROW,
        UNREADABLE,
        UNSUPPORTED_SCHEME,
        FOREIGN_HOST,
        PRIVATE_ADDRESS,
        NOT_FETCHED,
        SERVER_UNAVAILABLE,
        FOREIGN_FOLDER,
        NO_FILE,
        UNREADABLE_FILE,
        TOO_LARGE,
        BAD_ARCHIVE,
        STOPPED,
    ),
)


def handle(job: Job, context: Context) -> Json:
    """Import the bars that the payload names."""
    payload = read_payload(job, ImportPayload)
    settings = read_settings(job, context, ImportSettings)
    location = market_data(context)
    parsed = _parse(payload, settings)
    reasons = "; ".join(f"row {rejected.row}: {rejected.reason}" for rejected in parsed.rejected_rows[:5])
    if parsed.rejected == parsed.rows > 0:
        raise NO_VALID_ROW.error(rows=parsed.rows, reasons=reasons)
    if parsed.rejected and payload.on_error is OnError.FAIL:
        raise INVALID_ROWS.error(rejected=parsed.rejected, rows=parsed.rows, reasons=reasons)
    with closing(open_market_store(location)) as store:
        actions = store.store_actions(parsed.of_actions()) if parsed.actions else 0
        counts = _store(parsed, store, context)
    return to_json(_result(parsed, counts, actions))


def _parse(payload: ImportPayload, settings: ImportSettings) -> ParsedBars:
    options = {**(payload.options or {}), **({} if payload.columns is None else {"columns": payload.columns})}
    try:
        written = read_format(payload.format, options, settings.formats)
        if payload.interval is not None:
            written = replace(written, interval=payload.interval)
    except FieldError as error:
        raise WRONG_PAYLOAD.error(field=".format", problem=error) from error
    expected = Expected(payload.symbol, tomorrow(), written, kind=payload.kind)
    try:
        parsed = _parsed(payload, expected, settings)
    except UnreadableBars as error:
        raise UNREADABLE.error(problem=error) from error
    if problem := contradiction(parsed):
        raise UNREADABLE.error(problem=problem)
    return parsed


def _parsed(payload: ImportPayload, expected: Expected, settings: ImportSettings) -> ParsedBars:
    if payload.source is None:
        return parse_records(payload.bars or (), expected)
    with ExitStack() as opened:
        source = _open_source(payload.source, settings, opened)
        expected = replace(expected, most_rows=settings.limit_rows, quoted=not source.local, whole=source.whole)
        return parse_file(source.file, expected, source.charset)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a payload names.

    Attributes:
        file: its content, unpacked.
        charset: its encoding, if a server has named it.
        local: whether it is a file of this worker.
        whole: whether it is known to be complete.
    """

    file: BinaryIO
    charset: str | None
    local: bool
    whole: bool = True


def _open_source(source: str, settings: ImportSettings, opened: ExitStack) -> _Source:
    """Open the source. A file of this worker that is not packed stays on its disk, however large it is."""
    scheme = source.partition("://")[0].lower() if "://" in source else "file"
    if scheme in {"http", "https"}:
        found = _download(source, settings)
        file: BinaryIO = io.BytesIO(found.body)
    elif scheme == "file":
        found = Fetched(b"", None)
        file = opened.enter_context(_open_file(source, settings))
    else:
        raise UNSUPPORTED_SCHEME.error(scheme=scheme[:20])
    packed = compression.is_packed(file.read(_FIRST_BYTES))
    file.seek(0)
    if not packed:
        return _Source(file, found.charset, scheme == "file", found.whole)
    try:
        return _Source(io.BytesIO(compression.unpack(file.read(), settings.limit_bytes)), None, scheme == "file")
    except (compression.Damaged, compression.TooLarge) as error:
        raise BAD_ARCHIVE.error(problem=error) from error


def _download(url: str, settings: ImportSettings) -> Fetched:
    hosts = Hosts(settings.import_hosts, settings.private_addresses)
    try:
        return fetch(url, timeout_s=settings.timeout_s, limit_bytes=settings.limit_bytes, hosts=hosts)
    except ForeignHost as error:
        raise FOREIGN_HOST.error(problem=error) from error
    except PrivateAddress as error:
        raise PRIVATE_ADDRESS.error(problem=error) from error
    except FetchError as error:
        if error.retryable:
            raise
        raise NOT_FETCHED.error(problem=error) from error


def _open_file(source: str, settings: ImportSettings) -> BinaryIO:
    """Open a file below one of the allowed folders."""
    try:
        path = unquote(urlsplit(source).path) if "://" in source else source
    except ValueError:
        problem = "it is not a valid address; write file:///folder/file.csv"
        raise UNREADABLE_FILE.error(name=source[:200], problem=problem) from None
    name = path[:200]
    try:
        file = _open(PurePosixPath(path), settings)
    except LeadsOutside as error:
        raise FOREIGN_FOLDER.error(name=name) from error
    except (FileNotFoundError, NotAFile) as error:
        raise NO_FILE.error(name=name) from error
    except OSError as error:
        raise UNREADABLE_FILE.error(name=name, problem=error.strerror) from error
    except ValueError as error:  # a NUL in the name, or half of a surrogate pair
        raise UNREADABLE_FILE.error(name=name, problem="no file can have this name") from error
    if os.fstat(file.fileno()).st_size > settings.limit_bytes:
        file.close()
        raise TOO_LARGE.error(name=name, limit=settings.limit_bytes)
    return file


def _open(path: PurePosixPath, settings: ImportSettings) -> BinaryIO:
    for folder in settings.import_folders:
        if path.is_relative_to(folder):
            with suppress(LeadsOutside):  # perhaps to below another folder of the list, which may contain this one
                return open_below(folder, path.relative_to(folder).parts)
    raise LeadsOutside


def _store(parsed: ParsedBars, store: MarketStore, context: Context) -> dict[str, UpsertCounts]:
    counts: dict[str, UpsertCounts] = {}
    stored, total = 0, sum(map(len, parsed.bars.values()))
    for batch in _batches(parsed):
        if context.cancelled():
            raise STOPPED.error(stored=stored, total=total)
        for symbol, found in store.upsert(batch, parsed.interval).items():
            counts[symbol] = counts.get(symbol, UpsertCounts()) + found
        stored += sum(map(len, batch.values()))
        context.progress(stored / total, f"{stored} of {total} bars")
    return counts


def _batches(parsed: ParsedBars) -> Iterator[dict[str, list[Bar]]]:
    """The bars of all symbols in parts for one transaction each."""
    batch: dict[str, list[Bar]] = {}
    room = _CHUNK
    for symbol, bars in parsed.bars.items():
        each = iter(bars)
        while part := list(islice(each, room)):
            batch[symbol] = part
            room -= len(part)
            if room == 0:
                yield batch
                batch, room = {}, _CHUNK
    if batch:
        yield batch


def _result(parsed: ParsedBars, counts: Mapping[str, UpsertCounts], actions: int) -> ImportResult:
    return ImportResult(
        rows=parsed.rows,
        rejected=parsed.rejected,
        repeated=parsed.repeated,
        rejected_rows=parsed.rejected_rows,
        interval=parsed.interval.name,
        **asdict(sum(counts.values(), UpsertCounts())),
        actions=actions,
        symbol_count=len(counts.keys() | parsed.actions.keys()),
        symbols={symbol: counts[symbol] for symbol in sorted(counts)[:_LISTED_SYMBOLS]},
    )
