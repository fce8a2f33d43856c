"""A backup of the dispatcher's store, made while it runs, and the jobs after it is restored."""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker.client import Client, Completion, make_submission
from stockworker.errors import JobUnknown
from stockworker.protocol.lifecycle import State
from stockworker.terminal.exits import Exit
from tests.harness.command import run
from tests.harness.damage import overwrite_its_pages
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client, end_of, until_running


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings = {
        "handlers": python_handlers("echo", "wait_for_file"),
        "worker": {"max_concurrent_jobs": 4},
        "dispatcher": {"lease": 2},
    }
    with Fleet(tmp_path, workers=1, settings=settings) as fleet:
        yield fleet


def restore(fleet: Fleet, backup: Path) -> None:
    """Restore a backup as in docs/operations.md."""
    fleet.dispatcher.kill()
    for part in ("", "-wal", "-shm"):
        fleet.job_store.with_name(f"{fleet.job_store.name}{part}").unlink(missing_ok=True)
    shutil.copy(backup, fleet.job_store)
    fleet.dispatcher.start()


def test_a_restored_store_continues_with_the_jobs_it_knows(fleet: Fleet, tmp_path: Path) -> None:
    """Jobs submitted after the backup must be submitted again; jobs completed after the backup run again."""
    backup, gates = tmp_path / "backup.sqlite3", {name: tmp_path / f"{name}.gate" for name in ("both", "first", "new")}

    async def before(client: Client) -> None:
        await end_of(client, await client.submit("echo", id="done"))
        for name in ("both", "first"):
            await client.submit("wait_for_file", str(gates[name]), id=name)
            await until_running(client, name)

    async def since(client: Client) -> None:
        gates["first"].touch()
        await end_of(client, "first")
        await end_of(client, await client.submit("echo", id="forgotten"))
        await client.submit("wait_for_file", str(gates["new"]), id="new")
        await until_running(client, "new")

    async def afterwards(client: Client) -> dict[str, Completion]:
        gates["both"].touch()
        ended = {name: await end_of(client, name) for name in ("done", "both", "first")}
        for name in ("forgotten", "new"):
            with pytest.raises(JobUnknown):
                await end_of(client, name)
        return ended

    as_client(fleet, before)
    made = run(fleet.config_file("dispatcher"), "backup", str(backup))
    assert (made.status, made.output) == (Exit.OK, f"{backup}\n"), made.errors
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    as_client(fleet, since)

    restore(fleet, backup)

    fleet.workers[0].await_event("lease_withdrawn", job=owned("new"))  # the dispatcher would refuse its result
    ended = as_client(fleet, afterwards)
    assert {each.state for each in ended.values()} == {State.COMPLETED}
    assert fleet.outcomes("both") == ["ok"], "it ran on"
    assert fleet.outcomes("first") == ["lost", "ok"], "it ran again"


def test_a_backup_overwrites_nothing_and_reports_damage(fleet: Fleet, tmp_path: Path) -> None:
    config = fleet.config_file("dispatcher")
    onto_itself = run(config, "backup", str(fleet.job_store))
    assert onto_itself.status == Exit.USAGE
    assert "already exists" in onto_itself.errors

    jobs = [make_submission("echo", "x" * 4000) for _ in range(200)]
    as_client(fleet, lambda client: client.submit_many(jobs))
    fleet.dispatcher.stop()
    overwrite_its_pages(fleet.job_store)
    damaged = run(config, "backup", str(tmp_path / "backup.sqlite3"))
    assert damaged.status == Exit.STORE
    assert "damaged" in damaged.errors
    assert not (tmp_path / "backup.sqlite3").exists()


def test_without_a_store_the_error_names_the_machine_to_use(tmp_path: Path) -> None:
    config = tmp_path / "job_processor.yml"
    config.write_text(f"job_processor: {{dispatcher: {{store: {tmp_path / 'elsewhere.sqlite3'}}}}}\n")
    refused = run(config, "backup", str(tmp_path / "backup.sqlite3"))
    assert refused.status == Exit.STORE
    assert (
        "elsewhere.sqlite3: No such file or directory. Run this command as root, on the dispatcher's machine"
        in refused.errors
    )
    assert not (tmp_path / "backup.sqlite3").exists()
