"""Workers with market data of their own, and workers that share it: what an operator sees."""

import signal
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stockworker.market.store import open_market_store
from tests.harness import command
from tests.harness.fleet import Fleet
from tests.harness.waiting import wait_until

WARNING = "workers have 2 different market-data stores"


def make_store(location: Path) -> str:
    location.parent.mkdir(exist_ok=True)
    with closing(open_market_store(str(location))) as store:
        return store.identity()


def announced(fleet: Fleet) -> dict[str, str | None]:
    """The identity that each worker has announced."""
    stats = command.run(fleet.config_file("operator"), "stats", "--json").json
    return {worker["worker_id"]: worker.get("market_store") for worker in stats["workers"]}


def test_different_stores_are_a_warning_in_check_in_stats_and_in_the_log(tmp_path: Path) -> None:
    stores = {name: tmp_path / name / "market.sqlite3" for name in ("host-1", "host-2")}
    identities = {name: make_store(location) for name, location in stores.items()}

    def own(identity: str) -> Mapping[str, Any]:
        return {"market_data": {"location": str(stores[identity])}} if identity in stores else {}

    with Fleet(tmp_path / "fleet", personal=own) as fleet:
        wait_until(lambda: announced(fleet) == identities, "both stores in the statistics")
        shown = "; ".join(
            f"{store}: {name}" for store, name in sorted((each, name) for name, each in identities.items())
        )
        event = fleet.dispatcher.await_event("market_stores_differ", stores=2)
        assert event["workers"] == shown
        for words in (["stats"], ["check"]):
            output = command.run(fleet.config_file("operator"), *words).output
            assert f"{WARNING} ({shown})" in output
        assert "warn  market data" in command.run(fleet.config_file("operator"), "check").output
        fleet.reconfigure("host-2", "market_data", separate=True)  # tags keep the jobs of a symbol together
        fleet.workers[1].send_signal(signal.SIGHUP)
        wait_until(lambda: announced(fleet) == {**identities, "host-2": None}, "the store of the other worker alone")
        for words in (["stats"], ["check"]):
            assert WARNING not in command.run(fleet.config_file("operator"), *words).output
        assert len(fleet.dispatcher.events("market_stores_differ")) == 1


@pytest.mark.parametrize("exists", [True, False])
def test_a_shared_store_or_none_is_no_warning(tmp_path: Path, exists: bool) -> None:  # noqa: FBT001 (a case)
    with Fleet(tmp_path / "fleet") as fleet:
        if exists:
            identity = make_store(fleet.market_data)
            for worker in fleet.workers:
                worker.send_signal(signal.SIGHUP)
            wait_until(
                lambda: announced(fleet) == {"host-1": identity, "host-2": identity}, "the store of both workers"
            )
        for words in (["stats"], ["check"]):
            done = command.run(fleet.config_file("operator"), *words)
            assert (done.status, "market-data stores" in done.output) == (0, False)
        assert fleet.dispatcher.events("market_stores_differ") == []
        assert fleet.market_data.exists() is exists
