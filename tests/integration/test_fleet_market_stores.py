"""Workers with market data of their own, and workers that share it: what an operator sees."""

import json
import signal
from collections.abc import Mapping
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Completion
from stockworker.market.store import open_market_store
from stockworker.protocol.lifecycle import State
from tests.harness import command
from tests.harness.fleet import Fleet
from tests.harness.jobs import run_job
from tests.harness.postgresql import postgresql_cluster
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


def own_disk(identity: str, location: str) -> Mapping[str, Any]:
    """The settings of a worker on a machine of its own: jobs that name its tag run there."""
    return {"worker": {"tags": [identity]}, "market_data": {"location": location}}


def import_and_analyse(fleet: Fleet, importer: str, analyst: str) -> Completion:
    """Import bars on one machine; return how their analysis on another one ended."""
    bars = [{"symbol": importer, "date": f"2024-01-{day:02}", "close": day} for day in range(2, 5)]
    imported, _ = run_job(fleet, "data_import", {"bars": bars}, tags=[importer])
    assert imported.state is State.COMPLETED
    payload = {"symbol": importer, "indicators": [{"name": "sma", "period": 3}]}
    analysed, _ = run_job(fleet, "technical_analysis", payload, tags=[analyst])
    return analysed


def test_machines_share_market_data_in_postgresql(tmp_path: Path) -> None:
    with postgresql_cluster() as dsn, Fleet(tmp_path, personal=lambda identity: own_disk(identity, dsn)) as fleet:
        for importer, analyst in permutations(("host-1", "host-2")):
            analysed = import_and_analyse(fleet, importer, analyst)
            values = [{"day": "2024-01-04", "value": 3.0}]
            assert json.loads(analysed.result or "")["indicators"] == {"sma_3": values}
        assert fleet.stored("SELECT worker FROM attempt ORDER BY assigned_at") == [
            ("host-1",),
            ("host-2",),
            ("host-2",),
            ("host-1",),
        ]
        for worker in fleet.workers:
            worker.send_signal(signal.SIGHUP)  # it looks for the store that the first job has made
        wait_until(lambda: None not in announced(fleet).values(), "the store of both workers")
        assert len(set(announced(fleet).values())) == 1
        assert WARNING not in command.run(fleet.config_file("operator"), "check").output


def test_machines_without_a_shared_store_do_not_find_each_others_data(tmp_path: Path) -> None:
    def own(identity: str) -> Mapping[str, Any]:
        return own_disk(identity, str(tmp_path / f"{identity}.sqlite3"))

    with Fleet(tmp_path / "fleet", personal=own) as fleet:
        analysed = import_and_analyse(fleet, "host-1", "host-2")
        assert analysed.state is State.FAILED
        assert "there are no bars: unknown symbol 'host-1'" in (analysed.reason or "")
        assert import_and_analyse(fleet, "host-1", "host-1").state is State.COMPLETED
