"""The demo itself: a broker with TLS, a dispatcher and two workers on loopback, and three steps of jobs."""

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from demo import prices, report
from demo.screen import Screen
from demo.steps import CHART_DAYS, Step, analysis_step, import_step, plot_command, update_step
from demo.watch import Watch, watching
from stockworker.adapters import clock
from stockworker.client import Client, link_settings
from stockworker.config import load
from stockworker.market.bars import Bar
from stockworker.market.store import open_market_store
from stockworker.protocol.ids import ClientId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.views import JobView
from tests.harness.fleet import Fleet
from tests.harness.http_server import Answer, HttpServer

_BROKER_PORT: Final = 8883
_READY_TIMEOUT_S: Final = 20.0
_STEP_TIMEOUT_S: Final = 60.0
_LOOK_S: Final = 0.05

_NEXT: Final = """\
What to try next:
   make                           other targets: checks, a development environment
   .venv/bin/stockworker --help   the command that runs dispatcher and workers
   less docs/protocol.md          how to submit a job with mosquitto_pub only"""


async def play(screen: Screen, output: Path) -> bool:
    """Run all steps, write the charts into `output`, and return whether all jobs completed."""
    started_at = clock.monotonic()
    rows = prices.sample_rows()
    symbols = sorted(rows)
    screen.say("stockworker at work, on this machine only\n")
    screen.show("   starting ...")
    with _running_fleet(rows) as fleet:
        screen.say(_introduction(fleet))
        analysis = analysis_step(symbols)
        steps = (import_step(symbols, _history(fleet.folder)), update_step(symbols), analysis)
        views: list[JobView] = []
        async with _connected(fleet, screen) as (client, watch):
            for number, step in enumerate(steps, 1):
                screen.say(f"\n{number}. {step.title}")
                views += await _perform(step, client, watch, screen)
        _show_jobs(views, steps, screen)
        analyses = _analyses(views, analysis, fleet.market_data)
        screen.say(f"\nLatest indicators\n{report.indicators_table(analyses)}\n\nCharts")
        for symbol in analyses:
            path = output / f"{symbol}.svg"
            screen.show(f"   drawing {path}")
            screen.say(f"   {await asyncio.to_thread(_draw, symbol, fleet.config_file('operator'), path)}")
    screen.say(f"\nDone in {clock.monotonic() - started_at:.0f} s; everything that was started has been stopped.")
    screen.say(f"\n{_NEXT}")
    return all(view.state is State.COMPLETED for view in views)


@contextmanager
def _running_fleet(rows: Mapping[str, Sequence[prices.Row]]) -> Iterator[Fleet]:
    """A fleet with the data for its handlers: files to import, and a provider of later prices."""
    with tempfile.TemporaryDirectory(prefix="stockworker-demo-") as name, HttpServer() as provider:
        folder = Path(name)
        _history(folder).mkdir()
        for symbol, of_symbol in rows.items():
            (_history(folder) / f"{symbol}.csv.gz").write_bytes(prices.history(of_symbol))
            provider.answers[f"/daily/{symbol}.csv"] = Answer(prices.news(of_symbol), content_type="text/csv")
        settings = {
            # One job at a time on each worker, so that jobs wait and their priorities matter; and a worker that connects
            # before the dispatcher asks again soon.
            "worker": {"max_concurrent_jobs": 1, "poll_interval": 0.5, "drain_timeout": 2},
            "handlers": {
                "data_import": {"settings": {"import_folders": [str(_history(folder))]}},
                "price_update": {"settings": {"provider": provider.url("/daily/{symbol}.csv?since={since}")}},
            },
        }
        with Fleet(folder, settings=settings, port=_usual_port()) as fleet:
            try:
                yield fleet
            finally:
                for service in (*fleet.workers, fleet.dispatcher):
                    service.stop()


def _history(folder: Path) -> Path:
    return folder / "history"


def _usual_port() -> int | None:
    """The standard port for MQTT over TLS, or None if another process listens there."""
    with socket.socket() as probe:
        # Connections of a stopped broker linger for a minute; they do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _BROKER_PORT))
        except OSError:
            return None
    return _BROKER_PORT


def _introduction(fleet: Fleet) -> str:
    port = fleet.broker.port
    taken = "" if port == _BROKER_PORT else f" ({_BROKER_PORT} is taken)"
    return (
        f"   broker      Mosquitto with TLS and client certificates on 127.0.0.1:{port}{taken}\n"
        f"   dispatcher  pid {fleet.dispatcher.pid}\n"
        f"   workers     pid {', '.join(str(worker.pid) for worker in fleet.workers)}"
    )


@asynccontextmanager
async def _connected(fleet: Fleet, screen: Screen) -> AsyncIterator[tuple[Client, Watch]]:
    """A client and a watch, once the dispatcher knows all workers: otherwise the first worker would get all jobs."""
    watch = Watch(screen, ClientId("client"))
    watcher = link_settings(load(fleet.config_file("operator")), "operator-demo")
    async with watching(watcher, watch), fleet.client() as client:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while sum(worker.online for worker in (await client.stats()).workers) < len(fleet.workers):  # noqa: ASYNC110 (no message announces a new worker to clients)
                await asyncio.sleep(_LOOK_S)
        yield client, watch


async def _perform(step: Step, client: Client, watch: Watch, screen: Screen) -> list[JobView]:
    """Submit the jobs of a step, and wait for their completion."""
    started_at = clock.monotonic()
    watch.follow(step.ids)
    await client.submit_many(step.jobs.values())
    async for ended in client.wait(step.ids, _STEP_TIMEOUT_S):
        screen.log(f"   {ended.job_id} {ended.state}")
    found = {view.job_id: view for view in await client.query(step.ids, with_results=True)}
    completed = sum(view.state is State.COMPLETED for view in found.values())
    screen.say(f"   {completed} of {len(step.jobs)} completed in {clock.monotonic() - started_at:.1f} s")
    return [found[job_id] for job_id in step.ids]


def _show_jobs(views: Sequence[JobView], steps: Sequence[Step], screen: Screen) -> None:
    symbols = {job_id: symbol for step in steps for job_id, symbol in step.ids.items()}
    screen.say(f"\nJobs\n{report.jobs_table(views, symbols)}")
    for view in views:
        if view.state is not State.COMPLETED:
            screen.say(f"   {view.job_id}: {view.reason}")


def _analyses(
    views: Sequence[JobView], analysis: Step, market_data: Path
) -> dict[str, tuple[Sequence[Bar], Mapping[str, Any]]]:
    """The days to show and the indicators of each symbol whose analysis has completed."""
    with closing(open_market_store(str(market_data))) as store:
        return {
            analysis.ids[view.job_id]: (store.bars(analysis.ids[view.job_id], last=CHART_DAYS), json.loads(view.result))
            for view in views
            if view.job_id in analysis.ids and view.result is not None
        }


def _draw(symbol: str, config: Path, path: Path) -> str:
    """Draw a symbol with the command that an operator would use; return the path, or why there is no chart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "stockworker", "--config", str(config), *plot_command(symbol, path))
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 (this project's own command)
    return str(path) if done.returncode == 0 else done.stderr.strip()
