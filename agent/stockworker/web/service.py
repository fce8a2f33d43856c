"""The web page as a service: it listens, reports to systemd that it is ready, and stops cleanly."""

import asyncio
import logging
from collections.abc import Callable
from secrets import token_urlsafe
from typing import Final

from aiohttp import web

from stockworker import __version__
from stockworker.adapters.systemd import Notifier
from stockworker.adapters.watchdog import Watchdog
from stockworker.client import Client
from stockworker.errors import ConfigError
from stockworker.logs import log_event
from stockworker.logs.events import ConfigRefused, ConfigReloaded, Ready, Stopping
from stockworker.web.fleet import Fleet
from stockworker.web.market_charts import MarketCharts
from stockworker.web.server import PageSettings, WebPage

_log = logging.getLogger(__name__)

_FAREWELL_S: Final = 2.0
"""How long a stop waits for answers that are being sent."""


class WebService:
    """Runs the page until `stop`.

    Args:
        address: the host and the port to listen at.
        make_client: makes a client that is not connected yet.
        market: the market data that it shows.
        reread: reads the settings again; raises ConfigError if they can't be used.
        notifier: the service manager.
    """

    def __init__(
        self,
        address: tuple[str, int],
        make_client: Callable[[], Client],
        market: MarketCharts,
        reread: Callable[[], PageSettings],
        notifier: Notifier,
    ) -> None:
        self._address = address
        self._reread = reread
        self._notifier = notifier
        self._settings = reread()
        self._fleet = Fleet(make_client)
        self._page = WebPage(self._fleet, market, self._settings, token_urlsafe)
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            ConfigError: the address can't be used.
        """
        runner = web.AppRunner(self._page.application(), access_log=None, handle_signals=False)
        await self._listen(runner)
        fleet = asyncio.create_task(self._fleet.run(), name="fleet")
        watchdog = asyncio.create_task(Watchdog(self._notifier, tuple).run(), name="watchdog")
        stopped = asyncio.create_task(self._stopped.wait(), name="stop")
        log_event(_log, Ready(id=self._url, version=__version__))
        self._notifier.ready(self._url)
        try:
            await asyncio.wait({fleet, watchdog, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for part in (fleet, watchdog):
                if part.done():
                    part.result()
        finally:
            log_event(_log, Stopping())
            self._notifier.stopping("stopping")
            for task in (fleet, watchdog, stopped):
                task.cancel()
            await asyncio.gather(fleet, watchdog, stopped, return_exceptions=True)
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        host, port = self._address
        try:
            site = web.TCPSite(runner, host, port, ssl_context=self._settings.tls, shutdown_timeout=_FAREWELL_S)
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"web.port: can't listen at {host}:{port}: {error.strerror}. Set another port, or stop what uses this one"
            ) from None

    @property
    def _url(self) -> str:
        host, port = self._address
        scheme = "http" if self._settings.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def reload(self) -> None:
        """Read the accounts and names again. Another address or certificate needs a restart."""
        self._notifier.reloading()
        try:
            self._page.reconfigure(self._reread())
        except ConfigError as error:
            log_event(_log, ConfigRefused(problem=str(error)))
        else:
            log_event(_log, ConfigReloaded())
        self._notifier.ready("reloaded")
