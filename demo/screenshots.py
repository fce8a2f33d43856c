"""Makes the screenshots of docs/web.md, of a fleet with sample data: `make screenshots`."""

import asyncio
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from PIL import Image
from selenium.webdriver.common.keys import Keys

from stockworker.client import Client
from stockworker.market.store import open_market_store
from tests.harness.browser import Browser, browsing
from tests.harness.fleet import Fleet
from tests.harness.sample_data import sample_bars
from tests.harness.web_page import PASSWORD, make_accounts, serving

FOLDER: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
_COLORS: Final = 128
"""Enough for a page. With all colours a file would be three times as large."""

_SETTINGS: Final = {
    "handlers": {"risk_report": {"python": "job_handlers:wait_for_cancel"}},
    "dispatcher": {"job_defaults": {"max_attempts": 1}},
}
_ROUNDS: Final = 90
_INDICATORS: Final = [{"name": "sma"}, {"name": "rsi"}]
_PAGES: Final = {
    "web-fleet.png": ("/", (1180, 1090), "light"),
    "web-job.png": ("/jobs?state=failed", (1100, 640), "dark"),
    "web-market.png": ("/market/chart?symbol=AAPL&indicator=sma&indicator=rsi&span=1+year", (1000, 700), "dark"),
    "web-phone.png": ("/jobs", (390, 760), "light"),
}
"""By file: the page, the size of the window in pixels, and the colour scheme. Windows below 500 pixels are phones."""


def main() -> int:
    """Run a fleet for about two minutes, and take the screenshots."""
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        _fleet(folder := Path(name)) as fleet,
        serving(fleet, folder, accounts=make_accounts(folder)) as page,
        browsing() as window,
    ):
        window.open(page.url)
        window.fill("[name=name]", "oscar")
        window.fill("[name=password]", PASSWORD + Keys.ENTER)
        window.await_text("host-1")
        asyncio.run(_work(fleet))
        for file, (path, size, scheme) in _PAGES.items():
            _take(window, page.url + path, FOLDER / file, size, scheme)
    return 0


@contextmanager
def _fleet(folder: Path) -> Iterator[Fleet]:
    with Fleet(folder / "fleet", workers=4, settings=_SETTINGS, clients=("client", "reports")) as fleet:
        with closing(open_market_store(str(fleet.market_data))) as store:
            store.upsert(sample_bars())
        yield fleet


async def _work(fleet: Fleet) -> None:
    """Jobs of each kind: some wait for a worker, some run, some fail, and most complete."""
    symbols = sorted(sample_bars())
    async with fleet.client() as client, fleet.client("reports") as reports, fleet.client("operator") as operator:
        for _ in range(3):
            await reports.submit("risk_report")
        for number in range(17):
            await client.submit("backtest", {"number": number})
        await operator.pause("price_update")
        await client.submit("price_update", {"symbol": symbols[0]})
        fleet.workers[-1].kill()
        for number in range(_ROUNDS):
            await _round(client, [symbols[(number + each) % len(symbols)] for each in range(4 + number % 30 // 6)])
            if number % 25 == 0:
                await _round(client, ["NONE"])


async def _round(client: Client, symbols: list[str]) -> None:
    for symbol in symbols:
        await client.submit("technical_analysis", {"symbol": symbol, "indicators": _INDICATORS})
    await asyncio.sleep(1.0)


def _take(window: Browser, address: str, file: Path, size: tuple[int, int], scheme: str) -> None:
    width, height = size
    window.resize(width, height, phone=width < 500)  # noqa: PLR2004 (see `_PAGES`)
    window.prefer(scheme)
    window.open(address)
    if "state=failed" in address:
        window.find("tbody a").click()
        window.await_text("Timeline")
    with Image.open(io.BytesIO(window.driver.get_screenshot_as_png())) as taken:
        taken.convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
