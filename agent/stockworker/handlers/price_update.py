"""The job type ``price_update``: fetches new bars of symbols from the HTTP provider in the worker's configuration."""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, Final

from stockworker.adapters import compression
from stockworker.adapters.http import Fetched, FetchError, PrivateAddress
from stockworker.adapters.http_hosts import Host, Hosts, Network
from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.bar_formats import Expected, ParsedBars, UnreadableBars, parse_bars, tomorrow
from stockworker.handlers.continuity import OVERLAP, Continuity, judge
from stockworker.handlers.data_import import OnError
from stockworker.handlers.definition import WRONG_SETTING, Definition, Failure
from stockworker.handlers.kinds import HOSTS, NETWORKS, Checked, Several, Written
from stockworker.handlers.market import DAY, SYMBOL, Bar, Count, MarketStore, UpsertCounts
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import market_data, read_payload, read_settings, to_json
from stockworker.handlers.provider import (
    HEADERS,
    RATE,
    Pacing,
    Provider,
    Rate,
    Stopped,
    address,
    check_template,
    host_of,
)
from stockworker.handlers.source_format import FORMATS_KIND, OPTIONS_KIND, SourceFormat, read_format
from stockworker.protocol.fields import FieldError
from stockworker.protocol.wire import Duration, Integer, Text, Wire

_MOST_SYMBOLS: Final = 1_000  # a result must fit into one message
_MIB: Final = 1_048_576
_SILENT: Final = 5
"""Symbols in a row without any answer, before any other answer, after which the provider is down."""


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
        Wire(
            f"Fetch bars from this day on, to take in corrections; by default from the {OVERLAP} newest stored bars on."
        ),
    ] = None
    on_error: Annotated[
        OnError,
        Wire("What an invalid row does. `skip`: the valid rows are stored. `fail`: nothing of this symbol is stored."),
    ] = OnError.SKIP


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """The settings; `provider` is required."""

    provider: Annotated[
        str,
        Checked("address with `{symbol}` in it", check_template),
        Wire(
            "Address that answers with the bars of one symbol, such as "
            "`https://prices.example/daily/{symbol}.json?since={since}`. `{since}` is the first day that is needed, and "
            "`{until}` the day after today. `{since:%Y%m%d}` writes it with the codes of strftime, and `{since:epoch}` or "
            "`{since:epoch_ms}` as a number. Characters of the symbol are percent-encoded."
        ),
    ]
    format: Annotated[
        str | None,
        Text(40),
        Wire("How the answers are written: the name of a [format](#formats), or of one in `formats`."),
    ] = None
    options: Annotated[
        Mapping[str, Json] | None,
        OPTIONS_KIND,
        Wire("Options that differ from those of `format`. `symbols` also gives the symbols in addresses."),
    ] = None
    formats: Annotated[
        Mapping[str, Mapping[str, Json]] | None,
        FORMATS_KIND,
        Wire(
            "Formats of your own by name; `like` in one is the name of a [format](#formats) whose options it changes."
        ),
    ] = None
    headers: Annotated[
        Mapping[str, str] | None,
        HEADERS,
        Wire(
            "Headers of each request, such as `Authorization`. Keep a token in `settings_file`, not in the configuration."
        ),
    ] = None
    redirect_hosts: Annotated[
        tuple[Host, ...], HOSTS, Wire("Other hosts that a redirect may lead to. They do not get `headers`.")
    ] = ()
    rate: Annotated[
        Rate | None,
        RATE,
        Wire(
            "Most requests of one job in a time. The jobs of several workers do not share it, so give each worker its part "
            "of what the provider allows."
        ),
    ] = None
    requests: Annotated[int, Integer(1, 16), Wire("Requests of one job at the same time.")] = 1
    longest_wait_s: Annotated[
        float,
        Duration(0, 3600),
        Wire("How long a symbol may wait for a provider that answers 429 or 503, with `Retry-After` or without."),
    ] = 120.0
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
        """The hosts to ask."""
        return Hosts((host_of(self.provider), *self.redirect_hosts), self.private_addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedSymbol(UpsertCounts):
    """The outcome for a symbol that was updated."""

    last_day: Annotated[date | None, DAY, Wire("Day of the newest stored bar; null without bars.")]
    rejected: Annotated[Count, Wire("Invalid rows, which were skipped.")] = 0
    note: Annotated[
        str | None, Wire("What else to know: the first invalid row, or that all bars were fetched again.")
    ] = None


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
    "no symbol could be updated now: {reasons}",
    "For every symbol, the provider can't be reached, is too slow, breaks off, or answers 408, 425, 429 or 5xx. If only "
    "some symbols fail in this way, the others are updated, and the result has the reasons.",
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

    def __init__(self, reason: str, *, retryable: bool = False, silent: bool = False) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.silent = silent


@dataclass(frozen=True, slots=True)
class _Update:
    """What the updates of all symbols of a job have in common."""

    payload: UpdatePayload
    settings: UpdateSettings
    written: SourceFormat
    provider: Provider
    store: MarketStore

    def first_day(self, symbol: str) -> date:
        """The day from which on bars are needed: some that are stored come again, and show whether they still agree."""
        stored = self.store.bars(symbol, last=OVERLAP)
        days = [each for each in (self.payload.since, stored[0].day if stored else None) if each is not None]
        return min(days, default=self.settings.first_day)

    def fetch(self, symbol: str, since: date) -> ParsedBars:
        """The bars of a symbol. Threads call this, so it leaves the store alone.

        Raises:
            _NotUpdated: there are none that may be stored.
            Stopped: the job must stop.
        """
        theirs = (self.written.symbols or {}).get(symbol, symbol)
        try:
            found = self.provider.ask(address(self.settings.provider, theirs, since, tomorrow()))
            return self._checked(self._parsed(symbol, found))
        except PrivateAddress as error:
            raise _NotUpdated(f"{error}; list it under handlers.price_update.settings.private_addresses") from error
        except FetchError as error:
            silent = error.retryable and not hasattr(error, "status")
            raise _NotUpdated(str(error), retryable=error.retryable, silent=silent) from error
        except (UnreadableBars, compression.Damaged, compression.TooLarge) as error:
            raise _NotUpdated(f"the provider's answer can't be read: {error}") from error

    def _parsed(self, symbol: str, found: Fetched) -> ParsedBars:
        body = found.body
        if compression.is_packed(body):
            body = compression.unpack(body, self.settings.limit_mib * _MIB)
        expected = Expected(symbol, tomorrow(), self.written, most_rows=self.settings.limit_rows)
        return parse_bars(body, expected, found.charset)

    def _checked(self, parsed: ParsedBars) -> ParsedBars:
        wanted = self.payload.on_error is OnError.SKIP and parsed.rejected < parsed.rows
        if parsed.rejected and not wanted:
            first = parsed.rejected_rows[0]
            message = f"{parsed.rejected} of {parsed.rows} rows are not valid bars, the first is row {first.row}"
            raise _NotUpdated(f"{message}: {first.reason}")
        return parsed

    def store_bars(self, symbol: str, parsed: ParsedBars) -> UpdatedSymbol:
        """Store the bars of a symbol, if they continue those that are stored.

        Raises:
            _NotUpdated: they don't.
            Stopped: the job must stop.
        """
        received, stored = sorted(parsed.bars.get(symbol, ())), self.store.bars(symbol, last=OVERLAP)
        if not received and not stored:
            raise _NotUpdated("the provider has no bars of this symbol")
        found = judge(self.store.first_day(symbol), stored, received)
        note = f"row {parsed.rejected_rows[0].row}: {parsed.rejected_rows[0].reason}" if parsed.rejected else None
        if found.factor is not None:
            stored = self.store.bars(symbol)
            parsed = self.fetch(symbol, stored[0].day)
            received = sorted(parsed.bars.get(symbol, ()))
            note = f"stored prices changed by the factor {found.factor:.6g}, so all bars were fetched again"
            found = _whole(stored, received, found.factor)
        if found.problem is not None:
            raise _NotUpdated(found.problem)
        counts = self.store.upsert({symbol: received})[symbol]
        return UpdatedSymbol(
            **asdict(counts), last_day=self.store.last_day(symbol), rejected=parsed.rejected, note=note
        )


def _whole(stored: Sequence[Bar], received: Sequence[Bar], factor: float) -> Continuity:
    """Whether the whole history replaces all stored bars, whose prices have changed by a factor."""
    missing = {bar.day for bar in stored} - {bar.day for bar in received}
    if not missing:
        return Continuity()
    return Continuity(
        problem=f"prices changed by the factor {factor:.6g}, as after a split or a dividend, and the provider's answer has "
        f"not all stored days, such as {min(missing)}. Import all bars of this symbol again from one source"
    )


def handle(job: Job, context: Context) -> Json:
    """Update the prices of the symbols that the payload names."""
    payload = read_payload(job, UpdatePayload)
    settings = read_settings(job, context, UpdateSettings)
    try:
        written = read_format(settings.format, settings.options, settings.formats)
    except FieldError as error:
        raise WRONG_SETTING.error(job_type=job.type, field="format", problem=error) from error
    pacing = Pacing(settings.rate, context.cancelled)
    provider = Provider(
        hosts=settings.hosts,
        headers=settings.headers or {},
        timeout_s=settings.timeout_s,
        limit_bytes=settings.limit_mib * _MIB,
        longest_wait_s=settings.longest_wait_s,
        pacing=pacing,
    )
    with closing(open_market_store(market_data(context))) as store:
        update = _Update(payload, settings, written, provider, store)
        return to_json(_result(_update_all(update, _symbols(payload, store), context)))


def _symbols(payload: UpdatePayload, store: MarketStore) -> list[str]:
    """The symbols whose newest bar is the oldest come first: so a second attempt goes on where the first one stopped."""
    symbols = dict.fromkeys(payload.symbols or _stored_symbols(store))
    newest = {symbol: store.last_day(symbol) or date.min for symbol in symbols}
    return sorted(symbols, key=lambda symbol: newest[symbol])


def _update_all(update: _Update, symbols: Sequence[str], context: Context) -> dict[str, UpdatedSymbol | _NotUpdated]:
    outcomes: dict[str, UpdatedSymbol | _NotUpdated] = {}
    try:
        with closing(_answers(update, symbols)) as answers:
            for symbol, answer in answers:
                context.progress(len(outcomes) / len(symbols), symbol)
                try:
                    outcomes[symbol] = update.store_bars(symbol, answer.result())
                except _NotUpdated as error:
                    context.log.warning("%s not updated: %s", symbol, error)
                    outcomes[symbol] = error
                silent = [isinstance(each, _NotUpdated) and each.silent for each in outcomes.values()]
                if len(silent) == _SILENT and all(silent):
                    raise PROVIDER_UNAVAILABLE.error(reasons="; ".join(map(str, outcomes.values())))
    except Stopped:
        raise STOPPED.error(done=len(outcomes), total=len(symbols)) from None
    return {symbol: outcomes[symbol] for symbol in update.payload.symbols or symbols}


def _answers(update: _Update, symbols: Sequence[str]) -> Generator[tuple[str, Future[ParsedBars]], None, None]:
    """Ask for several symbols at the same time, and give each answer when it is complete."""
    waiting: dict[Future[ParsedBars], str] = {}
    left = iter(symbols)
    most = update.settings.requests
    with ThreadPoolExecutor(most) as threads:
        while True:
            for symbol in left:
                if update.provider.pacing.cancelled():
                    raise Stopped
                waiting[threads.submit(update.fetch, symbol, update.first_day(symbol))] = symbol
                if len(waiting) >= most:
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                yield waiting.pop(each), each


def _result(outcomes: Mapping[str, UpdatedSymbol | _NotUpdated]) -> UpdateResult:
    failed = {symbol: found for symbol, found in outcomes.items() if isinstance(found, _NotUpdated)}
    if len(failed) == len(outcomes):
        reasons = "; ".join(f"{symbol}: {found}" for symbol, found in list(failed.items())[:5])
        if any(found.retryable for found in failed.values()):
            raise PROVIDER_UNAVAILABLE.error(reasons=reasons)
        raise NOTHING_UPDATED.error(count=len(failed), reasons=reasons)
    shown = {
        symbol: SkippedSymbol(str(found)) if isinstance(found, _NotUpdated) else found
        for symbol, found in outcomes.items()
    }
    return UpdateResult(symbols=shown, updated=len(outcomes) - len(failed), failed=len(failed))


def _stored_symbols(store: MarketStore) -> tuple[str, ...]:
    symbols = tuple(store.symbols())
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        raise TOO_MANY_SYMBOLS.error(count=len(symbols))
    return symbols
