"""A headless Chromium that looks at a page: what it shows, what it complains about, and what it asks the network for."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.harness.waiting import wait_until

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_COLOURS = """
const places = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = new Map();
const transparent = "rgba(0, 0, 0, 0)";
for (let node = places.nextNode(); node; node = places.nextNode()) {
  const text = node.textContent.trim(), parent = node.parentElement;
  if (!text || !parent.checkVisibility()) continue;
  let under = parent;
  while (under && getComputedStyle(under).backgroundColor === transparent) under = under.parentElement;
  const paper = getComputedStyle(under || document.documentElement).backgroundColor;
  found.set(getComputedStyle(parent).color + " on " + paper, [text, getComputedStyle(parent).color, paper]);
}
return [...found.values()];
"""


@dataclass(frozen=True, slots=True)
class Colours:
    """A text of the page as it is painted, in components from 0 to 255."""

    text: str
    ink: tuple[int, ...]
    paper: tuple[int, ...]

    @property
    def contrast(self) -> float:
        """The contrast ratio of WCAG 2, 1 to 21."""
        darker, lighter = sorted((_luminance(self.ink), _luminance(self.paper)))
        return (lighter + 0.05) / (darker + 0.05)


class Browser:
    """One window. Its size and its colour scheme can change while it is open."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Give the window another size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self._order("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, scheme: str) -> None:
        """Prefer `dark` or `light` colours."""
        self._order("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address: str) -> None:
        self.driver.get(address)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "body") -> str:
        """The visible text of an element; read by one script, because the page may replace its elements meanwhile."""
        return str(
            self.driver.execute_script(f"return document.querySelector({json.dumps(selector)})?.innerText || ''")
        )

    def await_text(self, text: str, selector: str = "body") -> None:
        wait_until(lambda: text in self.text(selector), f"the page shows {text!r}")

    def fill(self, selector: str, text: str) -> None:
        self.find(selector).send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys, without aiming at an element."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def script(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def colours(self) -> list[Colours]:
        """The colours of all visible texts, each pair once."""
        return [Colours(text, _components(ink), _components(paper)) for text, ink, paper in self.script(_COLOURS)]

    def accessible(self, *roles: str) -> list[tuple[str, str]]:
        """The elements with these roles, as a screen reader gets them: role and name."""
        nodes = self._order("Accessibility.getFullAXTree")["nodes"]
        shown = [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]
        ]
        return [(role, name) for role, name in shown if role in roles]

    def complaints(self) -> list[str]:
        """What the console has shown since the last call: errors, and breaches of the security policy."""
        return [entry["message"] for entry in self._logged("browser")]

    def requests(self) -> list[str]:
        """The addresses that the page has asked for since the last call, without those that the browser refused it."""
        messages = [json.loads(entry["message"])["message"] for entry in self._logged("performance")]
        asked = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        failed = [each["params"] for each in messages if each["method"] == "Network.loadingFailed"]
        refused = {each["requestId"] for each in failed if "blockedReason" in each}
        return [each["request"]["url"] for each in asked if each["requestId"] not in refused]

    def _logged(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def _order(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)


@contextmanager
def browsing(*, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Run a browser that can reach this machine only, with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = CHROMIUM
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = Chrome(options=options, service=Driver(CHROMEDRIVER))
        try:
            found = Browser(driver)
            found.resize(width, height)
            found.prefer("light")
            yield found
        finally:
            driver.quit()


def _components(colour: str) -> tuple[int, ...]:
    """The red, green and blue of `rgb(…)`; a translucent colour is an error, because it has no contrast of its own."""
    kind, _, numbers = colour.rstrip(")").partition("(")
    if kind != "rgb":
        raise ValueError(f"{colour} is not opaque")
    return tuple(int(number) for number in numbers.split(","))


def _luminance(colour: Sequence[int]) -> float:
    shares = [part / 255 for part in colour]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
