"""The metrics of a real fleet: what its services write is what Prometheus reads, and each value is what has happened."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from docs.pages.metrics import ALL
from stockworker.client import Client
from stockworker.dispatcher.measures import OTHERS
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.jobs import as_client, run_job
from tests.harness.promtool import PROMTOOL
from tests.harness.waiting import wait_until

COMPLETED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Fleet]:
    settings = {
        "handlers": python_handlers("echo", "say"),
        "dispatcher": {"job_defaults": {"max_attempts": 1}},
        "metrics": {"enabled": True, "folder": str(folder), "interval": 1},
    }
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=2, settings=settings) as fleet:
        yield fleet


Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(*files: Path) -> Values:
    """What Prometheus makes of the files."""
    families = (family for file in files for family in text_string_to_metric_families(file.read_text()))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


async def submit_high(job_type: str, client: Client) -> str:
    return await client.submit(job_type, None, priority="high")


def test_every_job_is_in_the_metrics(fleet: Fleet, folder: Path) -> None:
    """Completed, failed and waiting jobs, also those of a type that a client has made up."""
    for _ in range(COMPLETED):
        run_job(fleet, "echo")
    run_job(fleet, "say", {"way": "permanent error", "text": "no", "times": 1})
    for number in range(4):
        as_client(fleet, partial(submit_high, f"made-up-{number}"))

    def settled() -> bool:
        found = values(folder / "stockworker-dispatcher.prom")
        return value(found, "stockworker_jobs_received_total") == COMPLETED + 5 and (
            value(found, "stockworker_jobs", state="queued") == 4
        )

    wait_until(settled, "the metrics show all jobs")
    found = values(folder / "stockworker-dispatcher.prom")
    expected = {
        ("stockworker_jobs", "completed"): COMPLETED,
        ("stockworker_jobs", "failed"): 1,
        ("stockworker_jobs_ended_total", "completed"): COMPLETED,
        ("stockworker_jobs_ended_total", "failed"): 1,
    }
    assert {(name, state): value(found, name, state=state) for name, state in expected} == expected
    assert value(found, "stockworker_jobs_unaccounted") == 0
    assert value(found, "stockworker_attempts_total", outcome="ok") == COMPLETED
    assert value(found, "stockworker_attempts_total", outcome="error") == 1
    assert value(found, "stockworker_job_wait_seconds_count") == COMPLETED + 1
    assert value(found, "stockworker_attempt_seconds_count") == COMPLETED + 1
    assert value(found, "stockworker_job_seconds_bucket", le="+Inf") == COMPLETED + 1
    assert value(found, "stockworker_queue_jobs", type=OTHERS, priority="high") == 4
    assert value(found, "stockworker_queue_workers", type="echo") == 2
    assert value(found, "stockworker_fleet_worker_online", worker="host-1") == 1
    assert value(found, "stockworker_service_connected", service="dispatcher") == 1
    assert (value(found, "stockworker_service_free_bytes", service="dispatcher") or 0) > 0
    assert (value(found, "stockworker_service_certificate_seconds", service="dispatcher") or 0) > 0
    assert not any(dict(labels).get("type", "").startswith("made-up") for _, labels in found)


def test_tracers_go_to_the_workers_and_back_and_nothing_is_lost(fleet: Fleet, folder: Path) -> None:
    """One for each type. They are in no list, and no worker has started anything for them."""

    def returned() -> bool:
        found = values(folder / "stockworker-dispatcher.prom")
        return (value(found, "stockworker_tracers_total", outcome="completed") or 0) >= len(fleet_types)

    fleet_types = {"echo", "say"}
    wait_until(returned, "a tracer of each type has returned")
    found = values(folder / "stockworker-dispatcher.prom")
    assert value(found, "stockworker_lost") == 0
    assert {value(found, "stockworker_tracers_total", outcome=each) for each in ("lost", "refused")} == {0}
    assert (value(found, "stockworker_tracer_seconds_count") or 0) >= len(fleet_types)
    assert fleet.stored("SELECT id FROM job WHERE id LIKE ?", "%stockworker-check%") == []


def test_each_worker_has_metrics_of_its_own(fleet: Fleet, folder: Path) -> None:
    run_job(fleet, "echo")
    files = [folder / f"stockworker-host-{number}.prom" for number in (1, 2)]

    def reported() -> bool:
        found = values(*files)
        counts = [value(found, "stockworker_worker_report_seconds_count", worker=f"host-{n}") or 0 for n in (1, 2)]
        return sum(counts) >= 1

    wait_until(reported, "a worker has reported a result")
    found = values(*files)
    for name in ("host-1", "host-2"):
        assert value(found, "stockworker_worker_slots", worker=name) == 5
        ok = value(found, "stockworker_worker_attempts_total", worker=name, outcome="ok")
        assert value(found, "stockworker_worker_unreported_results", worker=name) == 0
        assert ok is not None
        assert value(found, "stockworker_worker_start_seconds_count", worker=name) is not None


def test_every_defined_metric_is_written_and_no_other(fleet: Fleet, folder: Path) -> None:
    run_job(fleet, "echo")
    files = sorted(folder.glob("*.prom"))
    assert len(files) == 3
    # The parser drops the suffix of counters.
    written = {family.name for file in files for family in text_string_to_metric_families(file.read_text())}
    assert written == {metric.name.removesuffix("_total") for metric in ALL}


def test_the_tool_of_prometheus_finds_no_fault(fleet: Fleet, folder: Path) -> None:  # noqa: ARG001 (it writes the files)
    for file in sorted(folder.glob("*.prom")):
        done = subprocess.run([PROMTOOL, "check", "metrics"], input=file.read_bytes(), capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), file


def test_others_can_read_the_file_and_a_stopped_service_has_none(fleet: Fleet, folder: Path) -> None:
    file = folder / "stockworker-host-2.prom"
    wait_until(file.exists, "the file is written")
    assert file.stat().st_mode & 0o777 == 0o644
    fleet.workers[1].stop()
    assert not file.exists()
    fleet.workers[1].start()
    wait_until(file.exists, "the file is written again")


def test_a_folder_that_is_missing_is_reported_once_and_the_service_goes_on(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    settings = {
        "handlers": python_handlers("echo"),
        "metrics": {"enabled": True, "folder": str(missing), "interval": 1},
    }
    with Fleet(tmp_path / "fleet", workers=1, settings=settings) as fleet:
        logged = fleet.dispatcher.await_event("metrics_unwritten", file=str(missing / "stockworker-dispatcher.prom"))
        assert logged["reason"] == "No such file or directory"
        run_job(fleet, "echo")
        missing.mkdir()
        wait_until((missing / "stockworker-dispatcher.prom").exists, "the metrics are written")
        assert len(fleet.dispatcher.events("metrics_unwritten")) == 1
