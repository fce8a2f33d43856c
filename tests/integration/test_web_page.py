"""The web page of a real fleet, asked for as a browser and as an attacker would."""

import http.client
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest

from stockworker.client import Client
from stockworker.market.store import open_market_store
from stockworker.protocol.lifecycle import State
from tests.harness.advice import follows
from tests.harness.command import changed
from tests.harness.command import run as run_command
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, until_state
from tests.harness.sample_data import sample_bars
from tests.harness.waiting import wait_until
from tests.harness.web_page import PASSWORD, Page, make_accounts, serving

LINE = f"{PASSWORD}\n".encode()
HOSTILE = "<script>alert(1)</script>"


def failure(text: str) -> dict[str, object]:
    """The payload of a job that fails with this text."""
    return {"way": "permanent error", "text": text, "times": 1}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {
        "handlers": python_handlers("echo", "say", "talk"),
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        with closing(open_market_store(str(fleet.market_data))) as store:
            store.upsert({"AAPL": sample_bars()["AAPL"], HOSTILE: sample_bars()["FB"]})
        yield fleet


@pytest.fixture(scope="module")
def page(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with accounts."""
    folder = tmp_path_factory.mktemp("page")
    with serving(fleet, folder, accounts=make_accounts(folder)) as page:
        yield page


@dataclass
class Visitor:
    """A browser without its protections: it sends what a test wants."""

    page: Page
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, str]:
        address = urlsplit(self.page.url)
        with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)) as connection:
            sent = {
                "Cookie": self.cookie,
                **self.headers,
                **{name.replace("_", "-"): text for name, text in headers.items()},
            }
            body = None
            if form is not None:
                body = urlencode(form)
                sent["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer, answer.read().decode()

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
        return self.ask("GET", path, None, **headers)

    def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.get("/")[1])
        assert found is not None
        return found[1]

    def post(self, path: str, token: str | None = None, **headers: str) -> tuple[http.client.HTTPResponse, str]:
        return self.ask("POST", path, {"token": self.token() if token is None else token}, **headers)


def signed_in(page: Page, name: str) -> Visitor:
    visitor = Visitor(page)
    answer, _ = visitor.ask("POST", "/sign-in", {"name": name, "password": PASSWORD})
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    visitor.cookie = f"{cookie.key}={cookie.value}"
    return visitor


def submitted(fleet: Fleet, job_type: str, payload: object = None) -> str:
    async def submit(client: Client) -> str:
        return await client.submit(job_type, payload)

    return f"client:{as_client(fleet, submit)}"


# --- who may look -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/jobs/x", "/workers/host-1", "/market", "/events", "/market/chart.svg"]
)
def test_with_accounts_a_visitor_must_sign_in(page: Page, path: str) -> None:
    answer, _ = Visitor(page).get(path)
    assert (answer.status, answer.headers["Location"]) == (303, "/sign-in")


def test_a_wrong_password_is_refused_and_logged(page: Page) -> None:
    for name in ("oscar", "unknown"):
        answer, text = Visitor(page).ask("POST", "/sign-in", {"name": name, "password": "wrong password"})
        assert answer.status == 401
        assert "The name or the password is wrong" in text
        assert "Set-Cookie" not in answer.headers
        page.service.await_event("web_sign_in", account=name, accepted=False, address="127.0.0.1")


def test_a_session_ends_when_its_person_signs_out(page: Page) -> None:
    visitor = signed_in(page, "vera")
    assert visitor.get("/")[0].status == 200
    assert visitor.post("/sign-out")[0].status == 303
    assert visitor.get("/")[0].headers["Location"] == "/sign-in"


def test_a_deleted_account_is_signed_out_by_a_reload(fleet: Fleet, tmp_path: Path) -> None:
    accounts = make_accounts(tmp_path)
    with serving(fleet, tmp_path, accounts=accounts) as page:
        vera, oscar = signed_in(page, "vera"), signed_in(page, "oscar")
        done = run_command(tmp_path / "absent.yml", "web", "account", "vera", "--delete", "--file", str(accounts))
        assert done.status == 0, done.errors
        page.service.send_signal(signal.SIGHUP)
        page.service.await_event("config_reloaded")
        assert vera.get("/")[0].headers["Location"] == "/sign-in"
        assert oscar.get("/")[0].status == 200
        accounts.write_text("damaged")
        page.service.send_signal(signal.SIGHUP)
        assert "line 1" in str(page.service.await_event("config_refused")["problem"])
        assert oscar.get("/")[0].status == 200


def test_without_accounts_visitors_look_and_do_not_act(fleet: Fleet, tmp_path: Path) -> None:
    job_id = submitted(fleet, "no_such_type")
    with serving(fleet, tmp_path) as page:
        visitor = Visitor(page)
        answer, text = visitor.get(f"/jobs/{quote(job_id)}")
        assert answer.status == 200
        assert "<form" not in text
        for token in ("", "guess"):
            assert visitor.post(f"/jobs/{quote(job_id)}/cancel", token)[0].status == 403


# --- who may act ------------------------------------------------------------------------------------------------------


def test_an_operator_cancels_retries_drains_and_pauses(fleet: Fleet, page: Page) -> None:
    oscar = signed_in(page, "oscar")
    waiting, failed = submitted(fleet, "no_such_type"), submitted(fleet, "say", failure("as asked"))
    until_state(fleet, failed, State.FAILED)
    expected = {
        f"/jobs/{quote(waiting)}/cancel": "The job is cancelled.",
        f"/jobs/{quote(failed)}/retry": "The job is in the queue again.",
        "/workers/host-1/drain": "It gets no more jobs.",
        "/workers/host-1/undrain": "It gets jobs again.",
        "/types/no_such_type/pause": "It gets no more jobs.",
        "/types/no_such_type/resume": "It gets jobs again.",
    }
    for path, done in expected.items():
        answer, text = oscar.post(path)
        assert (answer.status, done in text) == (200, True), text
    page.service.await_event("web_order", order="drain", target="host-1", account="oscar", status="held")
    until_state(fleet, waiting, State.CANCELLED)


def test_an_order_that_the_dispatcher_refuses_shows_its_reason(page: Page) -> None:
    answer, text = signed_in(page, "oscar").post("/jobs/client:absent/cancel")
    assert answer.status == 409
    assert "no such job" in text


def test_a_viewer_sees_no_buttons_and_can_not_act(fleet: Fleet, page: Page) -> None:
    vera, job_id = signed_in(page, "vera"), submitted(fleet, "no_such_type")
    path = f"/jobs/{quote(job_id)}"
    assert "Cancel this job" not in vera.get(path)[1]
    answer, text = vera.post(f"{path}/cancel")
    assert answer.status == 403
    assert "only an operator may do this" in text


@pytest.mark.parametrize("token", ["", "guess"])
def test_a_form_without_the_token_of_the_session_is_refused(page: Page, token: str) -> None:
    oscar = signed_in(page, "oscar")
    assert oscar.post("/types/echo/pause", token)[0].status == 403
    assert oscar.post("/types/echo/pause", signed_in(page, "oscar").token())[0].status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_of_another_site_is_refused(page: Page, site: str) -> None:
    oscar = signed_in(page, "oscar")
    assert oscar.post("/types/echo/pause", Sec_Fetch_Site=site)[0].status == 403
    sign_in = {"name": "oscar", "password": PASSWORD}
    assert Visitor(page).ask("POST", "/sign-in", sign_in, Sec_Fetch_Site=site)[0].status == 403


def test_a_get_request_changes_nothing(page: Page) -> None:
    assert signed_in(page, "oscar").get("/types/echo/pause")[0].status == 405


# --- what protects the page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "[::2]:1", ""]
)
def test_a_request_for_another_host_is_refused(page: Page, host: str) -> None:
    answer, text = signed_in(page, "oscar").get("/", Host=host)
    assert answer.status in {400, 421}
    assert "Jobs" not in text


def test_a_host_name_of_the_configuration_is_accepted(fleet: Fleet, tmp_path: Path) -> None:
    with serving(fleet, tmp_path, names=["fleet.example.org"]) as page:
        assert Visitor(page).get("/", Host="Fleet.example.org:443")[0].status == 200
        answer, text = Visitor(page).get("/", Host="other.example.org")
        assert "add it to web.names" in text
        assert answer.status == 421


@pytest.mark.parametrize(
    "path", ["/", "/jobs", "/sign-in", "/static/page.css", "/nothing", "/market/chart.svg?symbol=AAPL"]
)
def test_every_answer_forbids_what_it_does_not_need(page: Page, path: str) -> None:
    headers = signed_in(page, "vera").get(path)[0].headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_text_of_peers_is_never_markup(fleet: Fleet, page: Page) -> None:
    vera = signed_in(page, "vera")
    failed, done = submitted(fleet, "say", failure(HOSTILE)), submitted(fleet, "echo", HOSTILE)
    until_state(fleet, failed, State.FAILED)
    until_state(fleet, done, State.COMPLETED)
    for path in (
        f"/jobs/{quote(failed)}",
        f"/jobs/{quote(done)}",
        "/jobs",
        "/market",
        f"/market/chart?symbol={quote(HOSTILE)}",
        f"/market/chart.svg?symbol={quote(HOSTILE)}",
        f"/jobs?state={quote(HOSTILE)}",
        f"/jobs?type={quote(HOSTILE)}",
        f"/jobs?job={quote(HOSTILE)}",
        f"/workers/{quote(HOSTILE, safe='')}",
        f"/{quote(HOSTILE, safe='')}",
    ):
        text = vera.get(path)[1]
        assert "alert(1)" not in text or "&lt;script&gt;alert(1)" in text, path
        assert HOSTILE not in text, path


def test_too_large_a_form_is_refused(page: Page) -> None:
    answer, _ = Visitor(page).ask("POST", "/sign-in", {"name": "oscar", "password": "x" * 100_000})
    assert answer.status == 413


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_the_overview_shows_states_queues_and_workers(fleet: Fleet, page: Page) -> None:
    submitted(fleet, "no_such_type")
    vera = signed_in(page, "vera")
    wait_until(lambda: "no_such_type" in vera.get("/")[1], "the page shows the queue", 30.0)
    text = vera.get("/")[1]
    assert "host-1" in text
    assert "completed" in text


def test_the_overview_arrives_by_itself(page: Page) -> None:
    vera = signed_in(page, "vera")
    address = urlsplit(page.url)
    with closing(socket.create_connection((address.hostname or "", address.port or 0), timeout=30)) as connection:
        request = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {vera.cookie}\r\n\r\n"
        connection.sendall(request.encode())
        received = b""
        while received.count(b"event: fleet") < 2:
            chunk = connection.recv(65536)
            assert chunk, received.decode()
            received += chunk
    assert b"data: <h1>Fleet</h1>" in received
    wait_until(lambda: vera.get("/")[0].status == 200, "the page still answers", 10.0)
    assert not page.service.events("fault")
    assert "Traceback" not in page.service.log


def test_jobs_are_listed_by_state_and_type_and_found_by_their_id(fleet: Fleet, page: Page) -> None:
    vera = signed_in(page, "vera")
    job_id = submitted(fleet, "echo", 1)
    until_state(fleet, job_id, State.COMPLETED)
    assert job_id in vera.get("/jobs?state=completed&type=echo")[1]
    assert job_id not in vera.get("/jobs?state=failed")[1]
    assert job_id not in vera.get("/jobs?type=other")[1]
    assert vera.get(f"/jobs?job={quote(job_id)}")[0].headers["Location"] == f"/jobs/{job_id}"
    answer, text = vera.get("/jobs?job=client:absent")
    assert answer.status == 404
    assert "does not know" in text


def test_a_job_shows_why_its_timeline_and_its_result(fleet: Fleet, page: Page) -> None:
    job_id = submitted(fleet, "echo", {"answer": 42})
    until_state(fleet, job_id, State.COMPLETED)
    text = signed_in(page, "vera").get(f"/jobs/{quote(job_id)}")[1]
    assert "attempt 1 assigned to host-1" in text
    assert "&#34;answer&#34;: 42" in text
    assert "it is completed" in text


def test_a_job_shows_what_it_has_printed_and_logged(fleet: Fleet, page: Page) -> None:
    job_id = submitted(fleet, "talk", {"lines": 5000, "secret": HOSTILE})
    until_state(fleet, job_id, State.COMPLETED)
    text = signed_in(page, "vera").get(f"/jobs/{quote(job_id)}")[1]
    assert re.search(r"<p>14,5\d\d bytes of its output are not kept.</p>", text)
    assert "WARNING logs in attempt 1: &lt;script&gt;alert(1)&lt;/script&gt;\n</pre>" in text
    assert HOSTILE not in text
    silent = submitted(fleet, "echo", {})
    until_state(fleet, silent, State.COMPLETED)
    assert "output-heading" not in signed_in(page, "vera").get(f"/jobs/{quote(silent)}")[1]


def test_a_symbol_is_drawn_with_its_indicators(page: Page) -> None:
    vera = signed_in(page, "vera")
    assert "AAPL" in vera.get("/market")[1]
    answer, drawing = vera.get("/market/chart.svg?symbol=AAPL&indicator=sma&indicator=rsi&span=1%20year")
    assert answer.headers["Content-Type"].startswith("image/svg+xml")
    assert "sma_20" in drawing
    for wrong in ("symbol=NONE", "symbol=AAPL&indicator=nothing", "symbol=AAPL&span=ever", "symbol=AAPL&width=0"):
        assert vera.get(f"/market/chart.svg?{wrong}")[0].status == 404


def test_the_page_outlives_the_broker_and_shows_the_problem(fleet: Fleet, tmp_path: Path) -> None:
    with serving(fleet, tmp_path) as page:
        visitor = Visitor(page)
        wait_until(lambda: "host-1" in visitor.get("/")[1], "the page shows the fleet", 30.0)
        fleet.dispatcher.stop()
        try:
            wait_until(lambda: "no dispatcher answers" in visitor.get("/")[1], "the page shows the problem", 30.0)
            assert visitor.get("/jobs")[0].status == 503
            assert "host-1" in visitor.get("/")[1]  # what was known last
        finally:
            fleet.dispatcher.start()
        wait_until(lambda: "no dispatcher answers" not in visitor.get("/")[1], "the page recovers", 30.0)


# --- how it starts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["aiohttp", "jinja2"])
def test_without_its_libraries_serving_names_the_packages_and_accounts_work(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text(f"raise ImportError('there is no {library}')\n")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    done = run_command(fleet.config_file("operator"), "web", "serve")
    assert done.status == 78
    assert (
        f"the web page needs aiohttp and Jinja (there is no {library}). "
        "Run 'apt install python3-aiohttp python3-jinja2'" in done.errors
    )
    account(tmp_path / "accounts", "oscar", "--role", "operator")


def test_a_port_in_use_is_an_error_that_names_the_key(fleet: Fleet, page: Page) -> None:
    port = urlsplit(page.url).port
    done = run_command(changed(fleet.config_file("operator"), "taken", web={"port": port}), "web", "serve")
    assert done.status == 78
    assert f"web.port: can't listen at 127.0.0.1:{port}" in done.errors


def test_a_page_for_other_machines_needs_accounts_and_a_certificate(fleet: Fleet) -> None:
    config = changed(fleet.config_file("operator"), "open", web={"address": "0.0.0.0"})  # noqa: S104 (it is refused)
    done = run_command(config, "web", "serve")
    assert done.status == 78
    assert "'web' also needs 'accounts', 'cert_file', 'key_file'" in done.errors


def account(accounts: Path, *words: str) -> None:
    done = run_command(accounts.with_name("absent.yml"), "web", "account", *words, "--file", str(accounts), stdin=LINE)
    assert done.status == 0, done.errors


@follows(
    "create it with 'stockworker web account NAME --role operator'",
    "wrote the account … (…) to …. Run 'systemctl restart stockworker-web'",
)
def test_accounts_that_do_not_exist_are_created_by_the_command(fleet: Fleet, tmp_path: Path) -> None:
    accounts = tmp_path / "accounts"
    config = changed(fleet.config_file("operator"), "absent", web={"accounts": str(accounts)})
    done = run_command(config, "web", "serve")
    assert done.status == 78
    assert "create it with 'stockworker web account NAME --role operator'" in done.errors
    account(accounts, "oscar", "--role", "operator")
    with serving(fleet, tmp_path, accounts=accounts) as page:
        assert signed_in(page, "oscar").get("/")[0].status == 200


@follows("…: …: …. Write accounts with 'stockworker web account'")
def test_damaged_accounts_are_written_again(fleet: Fleet, tmp_path: Path) -> None:
    accounts = make_accounts(tmp_path)
    accounts.write_text("oscar:operator\n" + accounts.read_text())
    config = changed(fleet.config_file("operator"), "damaged", web={"accounts": str(accounts)})
    done = run_command(config, "web", "serve")
    assert done.status == 78
    assert f"{accounts}: line 1: is not 'NAME:ROLE:scrypt:" in done.errors
    accounts.unlink()
    account(accounts, "oscar")
    with serving(fleet, tmp_path, accounts=accounts) as page:
        assert signed_in(page, "oscar").get("/")[0].status == 200


def test_accounts_that_others_can_read_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    accounts = make_accounts(tmp_path)
    assert accounts.stat().st_mode & 0o777 == 0o600
    accounts.chmod(0o644)
    config = changed(fleet.config_file("operator"), "readable", web={"accounts": str(accounts)})
    done = run_command(config, "web", "serve")
    assert done.status == 78
    assert f"chmod o-rw {accounts}" in done.errors
