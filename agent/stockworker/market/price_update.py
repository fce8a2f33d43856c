"""The job type ``price_update``: fetches new bars of symbols from the HTTP provider in the worker's configuration."""

import hashlib
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import asdict, replace
from datetime import date, datetime
from http import HTTPStatus
from typing import Annotated, Final

from stockworker.adapters import compression
from stockworker.adapters.http import Fetched, FetchError, HttpStatus, PrivateAddress
from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.definition import WRONG_PAYLOAD, WRONG_SETTING, Definition, Failure
from stockworker.handlers.kinds import Several, Written
from stockworker.handlers.payload import market_data, read_payload, read_settings, to_json
from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars, tomorrow
from stockworker.market.bars import DAY, SYMBOL, Bar, Count, LastAnswer, MarketStore, UpsertCounts
from stockworker.market.continuity import OVERLAP, Continuity, judge
from stockworker.market.data_import import OnError
from stockworker.market.interval import DAILY, INTERVAL, Interval
from stockworker.market.interval import written as shown_day
from stockworker.market.json_records import NotRecords
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.provider import Pacing, Provider, Stopped, address
from stockworker.market.source_format import SourceFormat, read_format
from stockworker.market.spacing import contradiction
from stockworker.market.store import open_market_store
from stockworker.market.update_settings import UpdateSettings
from stockworker.protocol.fields import FieldError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Wire

_MOST_SYMBOLS: Final = 1_000  # a result must fit into one message
_MIB: Final = 1_048_576
_SHORT: Final = 20
"""Rows: no provider divides so few into pages. A daily update has fewer."""
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
    interval: Annotated[
        Interval | None,
        INTERVAL,
        Wire(
            "The interval of the bars, if the address of the provider has `{interval}`; by default that of `options`, or `1d`."
        ),
    ] = None
    on_error: Annotated[
        OnError,
        Wire("What an invalid row does. `skip`: the valid rows are stored. `fail`: nothing of this symbol is stored."),
    ] = OnError.SKIP


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedSymbol(UpsertCounts):
    """The outcome for a symbol that was updated."""

    last_day: Annotated[date | None, DAY, Wire("Day or time of the newest stored bar; null without bars.")]
    rejected: Annotated[Count, Wire("Invalid rows, which were skipped.")] = 0
    note: Annotated[
        str | None,
        Wire(
            "What else to know: the first invalid row, that all bars were fetched again, or that a long answer does not have "
            "`next_page`."
        ),
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

    @property
    def interval(self) -> Interval:
        """The interval of all bars."""
        return self.written.interval or DAILY

    def bars(self, symbol: str, last: int | None = None) -> list[Bar]:
        """The newest stored bars of a symbol."""
        return self.store.bars(symbol, interval=self.interval, last=last)

    def last_day(self, symbol: str) -> date | None:
        """The day of the newest stored bar of a symbol."""
        return self.store.last_day(symbol, self.interval)

    def first_day(self, symbol: str) -> date:
        """The day from which on bars are needed: some that are stored come again, and show whether they still agree."""
        stored = self.bars(symbol, last=OVERLAP)
        days = [stored[0].day] if stored else []
        if self.payload.since is not None:
            days.append(self.interval.earliest(self.payload.since))
        return min(days, default=self.interval.earliest(self.settings.first_day))

    def request(self, symbol: str) -> "_Request":
        """What to ask for. The last answer counts only while the stored bars are those of then."""
        known = None if self.payload.since else self.store.last_answer(symbol, self.interval)
        if known is not None and known.last_day != self.last_day(symbol):
            known = None
        return _Request(symbol, self.first_day(symbol), known)

    def fetch(self, request: "_Request") -> "_NewBars":
        """The bars of a symbol. Threads call this, so it leaves the store alone.

        Raises:
            _NotUpdated: there are none that may be stored.
            Stopped: the job must stop.
        """
        try:
            return self._fetch(request)
        except PrivateAddress as error:
            raise _NotUpdated(f"{error}; list it under handlers.price_update.settings.private_addresses") from error
        except FetchError as error:
            silent = error.retryable and not hasattr(error, "status")
            raise _NotUpdated(str(error), retryable=error.retryable, silent=silent) from error
        except (UnreadableBars, NotRecords, compression.Damaged, compression.TooLarge) as error:
            raise _NotUpdated(f"the provider's answer can't be read: {error}") from error

    def _fetch(self, request: "_Request") -> "_NewBars":
        theirs = (self.written.symbols or {}).get(request.symbol, request.symbol)
        pages = self.settings.pages
        since = request.since
        if isinstance(since, datetime) and self.written.time_zone is not None:
            since = since.astimezone(self.written.time_zone)
        interval = (self.settings.intervals or {}).get(self.interval.name, self.interval.name)
        url = pages.begin(address(self.settings.provider, theirs, since, tomorrow(), interval))
        digest = hashlib.sha256(f"{url}\n{self.written!r}".encode()).hexdigest()
        found = self.provider.ask(url, _validators(request.known, digest))
        if found is None:
            return _NewBars(None, request.known)
        parsed, single = self._all_pages(request.symbol, url, found)
        self._check(parsed)
        if problem := contradiction(parsed):
            raise _NotUpdated(f"the provider's answer can't be used: {problem}")
        named = single and not parsed.rejected and (found.etag or found.modified)
        answer = LastAnswer(digest, found.etag, found.modified, date.min) if named else None
        return _NewBars(parsed, answer, self._only_page(found) if single and parsed.rows > _SHORT else None)

    def _all_pages(self, symbol: str, url: str, found: Fetched) -> tuple[ParsedBars, bool]:
        """The bars of all pages, and whether there was only one page."""
        pages, number = self.settings.pages, 1
        parsed, page, first = self._parsed(symbol, found), found, url
        while (following := pages.after(first, url, page.body, number)) is not None:
            if number == self.settings.limit_pages:
                raise _NotUpdated(f"the provider has more than {number} pages; increase limit_pages, or ask for less")
            url, previous = following, page
            page = self._page(url, first)
            number += 1
            if pages.counted and (not page.body.strip() or page.body == previous.body):
                break
            further = self._parsed(symbol, page)
            if pages.counted and not further.rows:
                break
            parsed.extend(further)
            if parsed.rows > self.settings.limit_rows:
                raise _NotUpdated(f"the provider's pages have more than {self.settings.limit_rows:,} rows")
        return parsed, number == 1

    def _only_page(self, found: Fetched) -> str | None:
        """A note about an answer that has nothing at `next_page`."""
        if not self.settings.pages.misses_next(found.body):
            return None
        path = self.settings.next_page
        return f"the answer has no {path}, so it is the only page; correct next_page if the provider has more"

    def _page(self, url: str, first: str) -> Fetched:
        """A further page; an empty one if the provider has none with this number."""
        try:
            return self.provider.ask(url, origin=first) or _NO_PAGE
        except HttpStatus as error:
            if self.settings.pages.counted and error.status == HTTPStatus.NOT_FOUND:
                return _NO_PAGE
            raise

    def _parsed(self, symbol: str, found: Fetched) -> ParsedBars:
        body, whole = found.body, found.whole
        if compression.is_packed(body):
            body, whole = compression.unpack(body, self.settings.limit_mib * _MIB), True
        expected = Expected(symbol, tomorrow(), self.written, most_rows=self.settings.limit_rows, whole=whole)
        return parse_bars(body, expected, found.charset)

    def _check(self, parsed: ParsedBars) -> None:
        wanted = self.payload.on_error is OnError.SKIP and parsed.rejected < parsed.rows
        if parsed.rejected and not wanted:
            first = parsed.rejected_rows[0]
            message = f"{parsed.rejected} of {parsed.rows} rows are not valid bars, the first is row {first.row}"
            raise _NotUpdated(f"{message}: {first.reason}")

    def store_bars(self, symbol: str, found: "_NewBars") -> UpdatedSymbol:
        """Store the bars of a symbol, if they continue those that are stored.

        Raises:
            _NotUpdated: they don't.
            Stopped: the job must stop.
        """
        parsed, answer = found.parsed, found.answer
        if parsed is None:
            return UpdatedSymbol(last_day=self.last_day(symbol), note="the provider has nothing new")
        received, stored = sorted(parsed.bars.get(symbol, ())), self.bars(symbol, last=OVERLAP)
        if not received and not stored:
            raise _NotUpdated("the provider has no bars of this symbol")
        judgement = judge(self.store.first_day(symbol, self.interval), stored, received)
        note = f"row {parsed.rejected_rows[0].row}: {parsed.rejected_rows[0].reason}" if parsed.rejected else found.note
        if judgement.factor is not None:
            stored = self.bars(symbol)
            again = self.fetch(_Request(symbol, stored[0].day, None))
            parsed, answer = again.parsed or parsed, again.answer
            received = sorted(parsed.bars.get(symbol, ()))
            note = f"stored prices changed by the factor {judgement.factor:.6g}, so all bars were fetched again"
            judgement = _whole(stored, received, judgement.factor)
        if judgement.problem is not None:
            raise _NotUpdated(judgement.problem)
        counts = self.store.upsert({symbol: received}, self.interval)[symbol]
        if parsed.actions:
            self.store.store_actions(parsed.of_actions())
        last_day = self.last_day(symbol)
        self._keep(symbol, None if answer is None or last_day is None else replace(answer, last_day=last_day))
        return UpdatedSymbol(**asdict(counts), last_day=last_day, rejected=parsed.rejected, note=note)

    def _keep(self, symbol: str, answer: LastAnswer | None) -> None:
        if answer != self.store.last_answer(symbol, self.interval):
            self.store.store_answer(symbol, answer, self.interval)


@dataclass(frozen=True, slots=True)
class _Request:
    """What to ask the provider for.

    Attributes:
        known: what it has answered last, if the stored bars are still those of then.
    """

    symbol: str
    since: date
    known: LastAnswer | None


@dataclass(frozen=True, slots=True)
class _NewBars:
    """What the provider has answered.

    Attributes:
        parsed: the bars of all pages; None if nothing is new.
        answer: what to remember.
        note: what else to know.
    """

    parsed: ParsedBars | None
    answer: LastAnswer | None
    note: str | None = None


_NO_PAGE: Final = Fetched(b"", None)


def _validators(known: LastAnswer | None, digest: str) -> dict[str, str]:
    """The headers of a conditional request, if the same one was answered before."""
    if known is None or known.request != digest:
        return {}
    named = {"If-None-Match": known.etag, "If-Modified-Since": known.modified}
    return {name: value for name, value in named.items() if value}


def _whole(stored: Sequence[Bar], received: Sequence[Bar], factor: float) -> Continuity:
    """Whether the whole history replaces all stored bars, whose prices have changed by a factor."""
    missing = {bar.day for bar in stored} - {bar.day for bar in received}
    if not missing:
        return Continuity()
    return Continuity(
        problem=f"prices changed by the factor {factor:.6g}, as after a split or a dividend, and the provider's answer has "
        f"not all stored days, such as {shown_day(min(missing))}. Import all bars of this symbol again from one source"
    )


def handle(job: Job, context: Context) -> Json:
    """Update the prices of the symbols that the payload names."""
    payload = read_payload(job, UpdatePayload)
    settings = read_settings(job, context, UpdateSettings)
    try:
        written = read_format(settings.format, settings.options, settings.formats)
    except FieldError as error:
        raise WRONG_SETTING.error(job_type=job.type, field="format", problem=error) from error
    written = replace(written, interval=_interval(payload, settings, written))
    location = market_data(context)
    # Threads count their requests while this one writes bars, so each has its own connection.
    with closing(open_market_store(location)) as store, closing(open_market_store(location)) as shared:
        provider = _provider(settings, shared, context)
        update = _Update(payload, settings, written, provider, store)
        return to_json(_result(_update_all(update, _symbols(update), context)))


def _interval(payload: UpdatePayload, settings: UpdateSettings, written: SourceFormat) -> Interval:
    configured = written.interval or DAILY
    if payload.interval not in {None, configured} and "{interval}" not in settings.provider:
        problem = f"the provider of this worker has bars of {configured} only; its address has no {{interval}}"
        raise WRONG_PAYLOAD.error(field=".interval", problem=problem)
    return payload.interval or configured


def _provider(settings: UpdateSettings, shared: MarketStore, context: Context) -> Provider:
    def begin() -> float:
        rate = settings.rate
        return 0.0 if rate is None else shared.begin_request(settings.limited, rate.count, rate.period_s)

    return Provider(
        hosts=settings.hosts,
        headers=settings.headers or {},
        timeout_s=settings.timeout_s,
        limit_bytes=settings.limit_mib * _MIB,
        longest_wait_s=settings.longest_wait_s,
        pacing=Pacing(begin, context.cancelled),
    )


def _symbols(update: _Update) -> list[str]:
    """The symbols whose newest bar is the oldest come first: so a second attempt goes on where the first one stopped."""
    symbols = dict.fromkeys(update.payload.symbols or _stored_symbols(update))
    newest = {symbol: update.last_day(symbol) for symbol in symbols}
    none = update.interval.earliest(date.min)
    return sorted(symbols, key=lambda symbol: newest[symbol] or none)


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


def _answers(update: _Update, symbols: Sequence[str]) -> Generator[tuple[str, Future[_NewBars]], None, None]:
    """Ask for several symbols at the same time, and give each answer when it is complete."""
    waiting: dict[Future[_NewBars], str] = {}
    left = iter(symbols)
    most = update.settings.requests
    with ThreadPoolExecutor(most) as threads:
        while True:
            for symbol in left:
                if update.provider.pacing.cancelled():
                    raise Stopped
                waiting[threads.submit(update.fetch, update.request(symbol))] = symbol
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


def _stored_symbols(update: _Update) -> tuple[str, ...]:
    symbols = tuple(update.store.symbols(update.interval))
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        raise TOO_MANY_SYMBOLS.error(count=len(symbols))
    return symbols
