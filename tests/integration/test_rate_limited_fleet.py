"""Updates through a fleet whose workers share what a provider allows."""

import json
from pathlib import Path

from stockworker.client import Client, Completion
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet
from tests.harness.http_server import Answer, HttpServer, Limiter
from tests.harness.jobs import as_client
from tests.harness.waiting import TIMEOUT_S

JOBS = [{"symbols": [f"{name}{number}" for number in range(8)]} for name in "AB"]
BAR = {"date": "2024-01-02", "open": 10, "high": 12, "low": 9, "close": 11, "volume": 500}


async def update_all(client: Client) -> list[Completion]:
    submitted = [await client.submit("price_update", payload) for payload in JOBS]
    return [ended async for ended in client.wait(submitted, TIMEOUT_S)]


def test_workers_with_the_same_store_share_the_rate_of_a_provider(tmp_path: Path) -> None:
    """Both run a job at the same time, and the provider refuses what is faster than the rate of one of them."""
    with HttpServer() as server:
        for symbol in (symbol for job in JOBS for symbol in job["symbols"]):
            server.answers[f"/{symbol}"] = Answer(json.dumps([BAR]).encode())
        server.limited = limiter = Limiter(5, 0.5, "1")
        update = {"provider": server.url("/{symbol}"), "rate": "5/s", "requests": 4}
        settings = {"worker": {"max_concurrent_jobs": 1}, "handlers": {"price_update": {"settings": update}}}
        with Fleet(tmp_path, workers=2, settings=settings) as fleet:
            ended = as_client(fleet, update_all)
            ran = fleet.stored("SELECT DISTINCT worker FROM attempt")
    assert len(ran) == 2
    assert [each.state for each in ended] == [State.COMPLETED, State.COMPLETED]
    assert [json.loads(each.result or "")["updated"] for each in ended] == [8, 8]
    assert (limiter.refused, len(server.requests)) == (0, 16)
