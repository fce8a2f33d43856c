"""The job type ``price_update``: fetches new bars of symbols from the HTTP provider in the worker's configuration."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from stockworker.adapters.http import FetchError, PrivateAddress, fetch
from stockworker.adapters.http_hosts import Host, Hosts, Network
from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.bar_formats import Expected, ParsedBars, UnreadableBars, parse_bars, tomorrow
from stockworker.handlers.definition import Definition, Failure
from stockworker.handlers.kinds import NETWORKS, Checked, Several, Written
from stockworker.handlers.market import DAY, SYMBOL, Count, MarketStore, UpsertCounts
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import market_data, read_payload, read_settings, to_json
from stockworker.protocol.wire import Duration, Integer, Wire

_MOST_SYMBOLS: Final = 1_000  # a result must fit into one message
_MIB: Final = 1_048_576


def _check_provider(template: str) -> str:
    if "{symbol}" not in template:
        raise ValueError("the address must contain {symbol}")
    _host(template)
    return template


def _host(template: str) -> Host:
    """The host to ask. The symbol comes from the submitter, so it must not be a part of the host."""
    parts = urlsplit(template.partition("{")[0])
    return Host(parts.hostname or "", parts.port)


@dataclass(frozen=True, slots=True)
class UpdatePayload:
    """The payload."""

    symbols: Annotated[
        tuple[str, ...] | None,
        Several(SYMBOL, _MOST_SYMBOLS),
        Wire("The symbols to update; by default every symbol that has bars."),
    ] = None
    since: Annotated[
        date | None,
        DAY,
        Wire("Fetch bars from this day on, to take in corrections; by default from the newest stored bar on."),
    ] = None


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """The settings; `provider` is required."""

    provider: Annotated[
        str,
        Checked("address with `{symbol}` in it", _check_provider),
        Wire(
            "Address that answers with the bars of one symbol, such as "
            "`https://prices.example/daily/{symbol}.json?since={since}`. `{since}` is the first day that is needed. "
            "Redirects to another host or port are not followed."
        ),
    ]
    first_day: Annotated[date, DAY, Wire("`{since}` for a symbol that has no bars.")] = date(1970, 1, 1)
    timeout_s: Annotated[float, Duration(0.1, 3600), Wire("Longest time for one answer.")] = 30.0
    limit_mib: Annotated[int, Integer(1, 1024), Wire("Largest answer, unpacked, in MiB (1,048,576 bytes).")] = 16
    limit_rows: Annotated[
        int, Integer(1, 1_000_000_000), Wire("Most rows of an answer. 100,000 days are nearly 400 years of trading.")
    ] = 100_000

    private_addresses: Annotated[
        tuple[Network, ...],
        NETWORKS,
        Wire(
            "The provider's name may lead to these addresses too, such as `10.1.0.0/16`. Otherwise it may lead to public "
            "addresses only."
        ),
    ] = ()

    @property
    def hosts(self) -> Hosts:
        """The one host to ask."""
        return Hosts((_host(self.provider),), self.private_addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedSymbol(UpsertCounts):
    """The outcome for a symbol that was updated."""

    last_day: Annotated[date | None, DAY, Wire("Day of the newest stored bar; null without bars.")]


@dataclass(frozen=True, slots=True)
class SkippedSymbol:
    """The outcome for a symbol that could not be updated."""

    error: Annotated[str, Wire("Instead of these: why the symbol was not updated.")]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The result."""

    symbols: Annotated[
        Mapping[str, UpdatedSymbol | SkippedSymbol],
        Written("object of objects", ".<symbol>", UpdatedSymbol, SkippedSymbol),
        Wire("The outcome for each symbol."),
    ]
    updated: Annotated[Count, Wire("Symbols that were updated, also if nothing was new.")]
    failed: Annotated[Count, Wire("Symbols that were not updated.")]


NOTHING_UPDATED: Final = Failure(
    "none of {count} symbols could be updated: {reasons}",
    "The provider does not know any of the symbols, or its answers are not valid. The text has the first five reasons.",
)
TOO_MANY_SYMBOLS: Final = Failure(
    f"{{count}} symbols have bars; name 1 to {_MOST_SYMBOLS:,} of them in payload.symbols",
    "The payload names no symbols, and the store has none or too many.",
)
PROVIDER_UNAVAILABLE: Final = Failure(
    "{address}: {problem}",
    "The provider can't be reached, is too slow, breaks off, or answers 408, 425, 429 or 5xx. Symbols that were "
    "updated before stay updated.",
    retried=True,
)
STOPPED: Final = Failure(
    "stopped after {done} of {total} symbols; the job can run again",
    "The job was cancelled or timed out, or the worker stops.",
    retried=True,
)

DEFINITION: Final = Definition(
    payload=UpdatePayload,
    settings=UpdateSettings,
    result=UpdateResult,
    failures=(NOTHING_UPDATED, TOO_MANY_SYMBOLS, PROVIDER_UNAVAILABLE, STOPPED),
)


class _NotUpdated(Exception):
    """This symbol can't be updated, for the reason in the text. Other symbols may still be."""


def handle(job: Job, context: Context) -> Json:
    """Update the prices of the symbols that the payload names."""
    payload = read_payload(job, UpdatePayload)
    settings = read_settings(job, context, UpdateSettings)
    outcomes: dict[str, UpdatedSymbol | SkippedSymbol] = {}
    with closing(open_market_store(market_data(context))) as store:
        symbols = tuple(dict.fromkeys(payload.symbols or _stored_symbols(store)))
        for done, symbol in enumerate(symbols):
            if context.cancelled():
                raise STOPPED.error(done=done, total=len(symbols))
            context.progress(done / len(symbols), symbol)
            try:
                outcomes[symbol] = _update(symbol, payload.since, store, settings)
            except _NotUpdated as error:
                context.log.warning("%s not updated: %s", symbol, error)
                outcomes[symbol] = SkippedSymbol(str(error))
    return to_json(_result(outcomes))


def _result(outcomes: Mapping[str, UpdatedSymbol | SkippedSymbol]) -> UpdateResult:
    failed = [f"{symbol}: {found.error}" for symbol, found in outcomes.items() if isinstance(found, SkippedSymbol)]
    if len(failed) == len(outcomes):
        raise NOTHING_UPDATED.error(count=len(failed), reasons="; ".join(failed[:5]))
    return UpdateResult(symbols=outcomes, updated=len(outcomes) - len(failed), failed=len(failed))


def _stored_symbols(store: MarketStore) -> tuple[str, ...]:
    symbols = tuple(store.symbols())
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        raise TOO_MANY_SYMBOLS.error(count=len(symbols))
    return symbols


def _update(symbol: str, since: date | None, store: MarketStore, settings: UpdateSettings) -> UpdatedSymbol:
    first_day = since or store.last_day(symbol) or settings.first_day
    parsed = _fetch(symbol, first_day, settings)
    if parsed.rejected:
        first = parsed.rejected_rows[0]
        message = f"{parsed.rejected} of {parsed.rows} rows are not valid bars, the first is row {first.row}"
        raise _NotUpdated(f"{message}: {first.reason}")
    counts = store.upsert_bars(symbol, parsed.bars.get(symbol, []))
    return UpdatedSymbol(**asdict(counts), last_day=store.last_day(symbol))


def _fetch(symbol: str, since: date, settings: UpdateSettings) -> ParsedBars:
    url = settings.provider.replace("{symbol}", quote(symbol, safe="")).replace("{since}", since.isoformat())
    limit_bytes = settings.limit_mib * _MIB
    try:
        body = fetch(url, timeout_s=settings.timeout_s, limit_bytes=limit_bytes, hosts=settings.hosts)
        expected = Expected(symbol=symbol, columns={}, latest_day=tomorrow(), most_rows=settings.limit_rows)
        return parse_bars(body, None, expected)
    except PrivateAddress as error:
        raise _NotUpdated(f"{error}; list it under handlers.price_update.settings.private_addresses") from error
    except FetchError as error:
        if error.retryable:
            raise
        raise _NotUpdated(str(error)) from error
    except UnreadableBars as error:
        raise _NotUpdated(f"the provider's answer can't be read: {error}") from error
