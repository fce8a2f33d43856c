"""The web page as a process of its own, and a browser that looks at it."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service as Driver

from tests.harness.command import arguments, changed
from tests.harness.command import run as run_command
from tests.harness.fleet import Fleet, Service

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
PASSWORD = "a long password"  # noqa: S105 (of accounts that only tests have)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is served."""

    url: str
    service: Service
    accounts: Path | None


def make_accounts(folder: Path) -> Path:
    """Accounts of a viewer and an operator, made by the command."""
    accounts = folder / "accounts"
    for name, role in (("vera", "viewer"), ("oscar", "operator")):
        words = ("web", "account", name, "--role", role, "--file", str(accounts))
        made = run_command(folder / "absent.yml", *words, stdin=f"{PASSWORD}\n".encode())
        assert made.status == 0, made.errors
    return accounts


@contextmanager
def serving(
    fleet: Fleet, folder: Path, *, accounts: Path | None = None, identity: str = "operator", **settings: Any
) -> Iterator[Page]:
    """Serve the page of a fleet, with the rights of `identity`, until the context is left."""
    port = free_port()
    section: Mapping[str, Any] = {"port": port, **({} if accounts is None else {"accounts": str(accounts)}), **settings}
    config = changed(
        fleet.config_file(identity),
        f"web-{port}",
        web=section,
        market_data={"location": str(fleet.market_data)},
        log={"format": "json"},
    )
    service = Service("web", arguments(config, "web", "serve"), folder / f"web-{port}.log")
    service.start()
    try:
        ready = service.await_event("ready")
        yield Page(str(ready["id"]).rstrip("/"), service, accounts)
    finally:
        service.stop()


@contextmanager
def browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A headless Chromium without a network of its own."""
    options = Options()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests run as root
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(CHROMEDRIVER))
    try:
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        yield driver
    finally:
        driver.quit()


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
