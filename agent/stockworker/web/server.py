"""The routes of the web page, and what protects them."""

# **What protects the page.** A browser sends requests for every site that its user visits. So, in this order:
#
# 1. The request names this page as its host. Another name means that a site has let its own name point here (DNS
#    rebinding): then that site could read the page.
# 2. With accounts, every route but the form to sign in and its style needs a session. Without accounts, every visitor of the
#    address may look, and no visitor may act: the configuration allows that on a loopback address only (`config.rules`).
# 3. A request that changes something is a POST of the page itself: the browser reports that (Sec-Fetch-Site, Fetch Metadata),
#    and the form has the token of its session. Only an operator's session may send one.
# 4. Every answer forbids the browser to run or load anything that is not a file of this page (Content-Security-Policy),
#    to show the page inside another one, and to keep it. Templates escape every value.
#
# Passwords are checked one at a time: a guess costs this process 50 ms and the guesser a second.

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.client import Client, Output
from stockworker.client.triage import longest_wait_first, may_cancel, may_retry, worst_first
from stockworker.errors import AccessDenied, ConfigError, ConnectionFailed, JobError, RequestRefused, StoreError
from stockworker.logs import log_event
from stockworker.logs.web_events import WebOrder, WebSignIn
from stockworker.protocol.fields import FieldError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, check_id
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus
from stockworker.terminal.tables import local_time, short_duration
from stockworker.web.accounts import MOST_PASSWORD, Account
from stockworker.web.fleet import Fleet
from stockworker.web.market_charts import INDICATOR_NAMES, MOST_INDICATORS, SPANS, MarketCharts
from stockworker.web.pages import pretty, timeline
from stockworker.web.sessions import VISITOR, WebSession, WebSessions
from stockworker.web.throughput import chart

_log = logging.getLogger(__name__)

COOKIE: Final = "stockworker-session"
_MOST_BODY: Final = 16 * 1024
_JOBS_PER_PAGE: Final = 50
_WRONG_PASSWORD_S: Final = 1.0
_MOST_SIGNING_IN: Final = 20
_STILL_THERE_S: Final = 15.0
"""A stream without news sends a comment this often, so that a dead browser is noticed."""

_STATIC: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_OPEN: Final = frozenset({"/sign-in", *(f"/static/{name}" for name in _STATIC)})

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_DONE: Final = {
    ReceiptStatus.CANCELLED: "The job is cancelled.",
    ReceiptStatus.CANCELLING: "The job is being cancelled: its worker stops it first.",
    ReceiptStatus.REOPENED: "The job is in the queue again.",
    ReceiptStatus.DISPATCH_STOPPED: "It gets no more jobs.",
    ReceiptStatus.DISPATCH_RESUMED: "It gets jobs again.",
}

_ROUTES: Final = (
    ("GET", "/", "_overview"),
    ("GET", "/events", "_events"),
    ("GET", "/jobs", "_jobs"),
    ("GET", "/jobs/{job_id}", "_job"),
    ("POST", "/jobs/{job_id}/{verb:cancel|retry}", "_order"),
    ("GET", "/workers/{worker_id}", "_worker"),
    ("POST", "/workers/{worker_id}/{verb:drain|undrain}", "_order"),
    ("POST", "/types/{job_type}/{verb:pause|resume}", "_order"),
    ("GET", "/market", "_symbols"),
    ("GET", "/market/chart", "_chart"),
    ("GET", "/market/chart.svg", "_chart_drawing"),
    ("GET", "/sign-in", "_sign_in_form"),
    ("POST", "/sign-in", "_sign_in"),
    ("POST", "/sign-out", "_sign_out"),
    ("GET", "/static/{name}", "_file"),
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class PageSettings:
    """How the page is protected.

    Attributes:
        names: the host names under which it may be asked for, in lower case.
        accounts: those that may sign in; None if every visitor may look.
        tls: whether browsers use HTTPS.
    """

    names: frozenset[str]
    accounts: Mapping[str, Account] | None
    tls: ssl.SSLContext | None


class WebPage:
    """The page.

    Args:
        fleet: what it shows.
        market: the market data that it shows.
        settings: how it is protected.
        make_token: makes a random token.
    """

    def __init__(
        self, fleet: Fleet, market: MarketCharts, settings: PageSettings, make_token: Callable[[], str]
    ) -> None:
        self._fleet = fleet
        self._market = market
        self._settings = settings
        self._sessions = WebSessions(make_token)
        self._signing_in = asyncio.Semaphore(1)
        self._waiting_to_sign_in = 0
        self._templates = Environment(
            loader=PackageLoader("stockworker.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._templates.filters |= {"duration": short_duration, "time": local_time, "path": _path, "pretty": pretty}
        self._static = {name: files("stockworker.web").joinpath("static", name).read_bytes() for name in _STATIC}

    def reconfigure(self, settings: PageSettings) -> None:
        """Use other settings from now on. Sessions of accounts that are gone end."""
        self._settings = settings
        self._sessions.keep_only(dict(settings.accounts or {}))

    def application(self) -> web.Application:
        """The page as an application of aiohttp."""
        application = web.Application(middlewares=[self._protect], client_max_size=_MOST_BODY)
        for method, path, handler in _ROUTES:
            application.router.add_route(method, path, getattr(self, handler))
        return application

    # --- protection ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def _protect(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        try:
            response = await self._protected(request, handler)
        except web.HTTPException as error:
            failed = error.status >= 400  # noqa: PLR2004 (a redirect is not an error)
            response = self._problem(request, error.status, error.text or error.reason) if failed else error
        except AccessDenied as error:
            response = self._problem(request, 403, str(error))
        except ConnectionFailed as error:
            response = self._problem(request, 503, str(error))
        except (JobError, FieldError) as error:
            response = self._problem(request, 404, str(error))
        except (RequestRefused, StoreError, ConfigError) as error:
            response = self._problem(request, 502, str(error))
        if not response.prepared:
            self._harden(response)
        return response

    def _harden(self, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        if self._settings.tls is not None:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"

    async def _protected(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        host = _host_name(request.host)
        if host not in self._settings.names:
            raise web.HTTPMisdirectedRequest(
                text=f"this page does not have the name {host[:80]!r}; add it to web.names in the configuration"
            )
        session = self._session(request)
        request["session"] = session
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise web.HTTPForbidden(text="the form was sent by another site")
        if request.path in _OPEN:
            return await handler(request)
        if session is None:
            raise web.HTTPSeeOther("/sign-in")
        if request.method == "POST":
            _check_form(await request.post(), session, request.path)
        return await handler(request)

    def _session(self, request: web.Request) -> WebSession | None:
        found = self._sessions.find(request.cookies.get(COOKIE, ""), clock.monotonic())
        return VISITOR if found is None and self._settings.accounts is None else found

    async def _sign_in_form(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "sign_in.html", wrong=False)

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        name, password = str(form.get("name", ""))[:64], str(form.get("password", ""))[: MOST_PASSWORD + 1]
        account = (self._settings.accounts or {}).get(name)
        accepted = await self._accepts(account, password)
        log_event(_log, WebSignIn(account=name, address=request.remote or "unknown", accepted=accepted))
        if not accepted or account is None:
            return self._render(request, "sign_in.html", status=401, wrong=True)
        response = web.HTTPSeeOther("/")
        response.set_cookie(
            COOKIE,
            self._sessions.open(account, clock.monotonic()),
            httponly=True,
            samesite="Strict",
            secure=self._settings.tls is not None,
            path="/",
        )
        return response

    async def _accepts(self, account: Account | None, password: str) -> bool:
        """Whether this is the password; one check at a time, and a wrong one takes a second."""
        if self._waiting_to_sign_in >= _MOST_SIGNING_IN:
            raise web.HTTPTooManyRequests(text="too many people sign in now; try again in a minute")
        self._waiting_to_sign_in += 1
        try:
            async with self._signing_in:
                accepted = account is not None and await asyncio.to_thread(account.accepts, password)
                if not accepted:
                    await asyncio.sleep(_WRONG_PASSWORD_S)
                return accepted
        finally:
            self._waiting_to_sign_in -= 1

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._sessions.close(request.cookies.get(COOKIE, ""))
        response = web.HTTPSeeOther("/sign-in" if self._settings.accounts is not None else "/")
        response.del_cookie(COOKIE, path="/")
        return response

    # --- what it shows ------------------------------------------------------------------------------------------------

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        return self._render(request, "overview.html", **self._now())

    def _now(self) -> dict[str, Any]:
        news = self._fleet.news
        stats = news.stats
        return {
            "news": news,
            "stats": stats,
            "chart": chart(self._fleet.throughput),
            "queues": [] if stats is None else longest_wait_first(stats.queues),
            "workers": [] if stats is None else worst_first(stats.workers),
        }

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The overview, again after each change, as server-sent events (WHATWG HTML, section 9.2)."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._harden(response)
        async with self._fleet.watched():
            await response.prepare(request)
            with suppress(ConnectionResetError):  # the browser has left
                await self._stream(request, response)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        seen = 0
        while True:
            try:
                async with asyncio.timeout(_STILL_THERE_S):
                    seen = (await self._fleet.next_news(seen)).version
            except TimeoutError:
                await response.write(b": still there\n\n")
                continue
            fragment = self._text("fleet.html", request, **self._now())
            lines = "".join(f"data: {line}\n" for line in fragment.splitlines())
            await response.write(f"event: fleet\n{lines}\n".encode())

    async def _jobs(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        wanted_id = query.get("job", "").strip()
        client = await self._fleet.client()
        if wanted_id:
            if not await client.query([wanted_id]):
                raise web.HTTPNotFound(text=f"the dispatcher does not know a job with the ID {wanted_id[:130]!r}")
            raise web.HTTPSeeOther(f"/jobs/{_path(wanted_id)}")
        wanted = _job_filter(query)
        views = await client.list(wanted)
        more = views[-1].job_id if len(views) == _JOBS_PER_PAGE else None
        filters = {"state": wanted.state or "", "type": wanted.type or ""}
        return self._render(
            request, "jobs.html", views=views, states=list(State), filters=filters, more=more, now=clock.wall()
        )

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job_id = request.match_info["job_id"]
        client = await self._fleet.client()
        found = await client.query([job_id], with_results=True)
        if not found:
            raise web.HTTPNotFound(text=f"the dispatcher does not know a job with the ID {job_id[:130]!r}")
        (view,) = found
        explanation = await client.explain(job_id)
        return self._render(
            request,
            "job.html",
            view=view,
            explanation=explanation,
            timeline=timeline(view, explanation),
            outputs=await _outputs(client, job_id),
            may_cancel=may_cancel(view),
            may_retry=may_retry(view),
            ended=view.ended_at is not None,
        )

    async def _worker(self, request: web.Request) -> web.StreamResponse:
        worker_id = request.match_info["worker_id"]
        stats = self._fleet.news.stats
        rows = [] if stats is None else worst_first(stats.workers)
        row = next((row for row in rows if row.view.worker_id == worker_id), None)
        if row is None:
            raise web.HTTPNotFound(text=f"the newest statistics have no worker {worker_id[:64]!r}")
        return self._render(request, "worker.html", row=row)

    async def _symbols(self, request: web.Request) -> web.StreamResponse:
        symbols = await asyncio.to_thread(self._market.symbols)
        return self._render(request, "market.html", symbols=symbols)

    async def _chart(self, request: web.Request) -> web.StreamResponse:
        symbol, indicators, span = _chosen(request)
        self._market.calculations(indicators)
        return self._render(
            request,
            "chart.html",
            symbol=symbol,
            chosen=indicators,
            span=span,
            spans=list(SPANS),
            indicators=INDICATOR_NAMES,
            most=MOST_INDICATORS,
            query=request.rel_url.raw_query_string,
        )

    async def _chart_drawing(self, request: web.Request) -> web.StreamResponse:
        width = request.query.get("width", "wide")
        drawing = await asyncio.to_thread(self._market.chart, *_chosen(request), width)
        return web.Response(text=drawing, content_type="image/svg+xml")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound(text=f"there is no file {name[:40]!r}")
        return web.Response(body=self._static[name], content_type=_STATIC[name], charset="utf-8")

    # --- what an operator does ----------------------------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.StreamResponse:
        client = await self._fleet.client()
        ((kind, target),) = ((kind, target) for kind, target in request.match_info.items() if kind != "verb")
        verb = request.match_info["verb"]
        orders: dict[str, Callable[[str], Awaitable[ReceiptEntry]]] = {
            "cancel": client.cancel,
            "retry": client.retry,
            "drain": client.drain,
            "undrain": client.undrain,
            "pause": client.pause,
            "resume": client.resume,
        }
        entry = await orders[verb](target)
        session: WebSession = request["session"]
        log_event(_log, WebOrder(order=verb, target=target, account=session.name or "unknown", status=entry.status))
        back = {"job_id": f"/jobs/{_path(target)}", "worker_id": f"/workers/{_path(target)}"}.get(kind, "/")
        accepted = entry.status is not ReceiptStatus.REJECTED
        text = _DONE.get(entry.status, str(entry.status)) if accepted else "The dispatcher refused it."
        return self._render(
            request,
            "ordered.html",
            status=200 if accepted else 409,
            text=text,
            reason=entry.reason,
            back=back,
            verb=verb,
            target=target,
        )

    # --- answers ------------------------------------------------------------------------------------------------------

    def _problem(self, request: web.Request, status: int, text: str) -> web.Response:
        request.setdefault("session", None)
        return self._render(request, "problem.html", status=status, text=text)

    def _render(self, request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
        return web.Response(text=self._text(template, request, **values), status=status, content_type="text/html")

    def _text(self, template: str, request: web.Request, **values: Any) -> str:
        return self._templates.get_template(template).render(
            session=request["session"], version=__version__, has_accounts=self._settings.accounts is not None, **values
        )


def _check_form(form: Mapping[str, Any], session: WebSession, path: str) -> None:
    if not session.accepts(str(form.get("token", ""))):
        raise web.HTTPForbidden(text="the form is not one of this session; go back, reload the page, and try again")
    if not session.may_act and path != "/sign-out":
        raise web.HTTPForbidden(text="only an operator may do this; sign in with an operator's account")


async def _outputs(client: Client, job_id: str) -> Sequence[Output]:
    """What a job has printed and logged; nothing if the dispatcher is of a version that keeps no outputs."""
    try:
        return await client.outputs(job_id)
    except RequestRefused:
        return ()


def _host_name(host: str) -> str:
    """The name in a Host header, without its port and in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().strip("[]")


def _job_filter(query: Mapping[str, str]) -> JobFilter:
    state, job_type, before = (query.get(name) or None for name in ("state", "type", "before"))
    if state is not None and state not in {*State}:
        raise web.HTTPNotFound(text=f"there is no state {state[:20]!r}")
    return JobFilter(
        None if state is None else State(state),
        None if job_type is None else JobType(_checked(job_type)),
        _JOBS_PER_PAGE,
        before,  # type: ignore[arg-type] # the client checks it
    )


def _chosen(request: web.Request) -> tuple[str, list[str], str]:
    query = request.query
    return query.get("symbol", ""), query.getall("indicator", []), query.get("span", next(iter(SPANS)))


def _path(text: str) -> str:
    """A name as a part of an address."""
    return quote(text, safe="")


def _checked(job_type: str) -> str:
    try:
        return check_id(job_type)
    except ValueError as error:
        raise web.HTTPNotFound(text=f"not a job type: {error}") from None
