"""`stockworker check` as each kind of participant, and with each kind of fault."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.pki.certificates import Subject
from stockworker.protocol.lifecycle import State
from tests.harness.command import Finished, arguments, changed, run
from tests.harness.fleet import Fleet, Service
from tests.harness.waiting import wait_until

NOW = datetime.fromtimestamp(clock.wall(), UTC)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def config(fleet: Fleet) -> Path:
    return fleet.config_file("client")


def severities(finished: Finished) -> list[tuple[str, str]]:
    return [(finding["check"], finding["severity"]) for finding in finished.json_lines]


def worst(finished: Finished, severity: str) -> list[str]:
    return [finding["text"] for finding in finished.json_lines if finding["severity"] == severity]


@pytest.mark.parametrize(
    ("identity", "rights"),
    [
        ("client", "'client' may submit, ask, cancel, see statistics; retry requires operator rights"),
        ("operator", "'operator' may submit, ask, cancel, see statistics, retry"),
    ],
)
def test_all_is_well_for_who_submits(fleet: Fleet, identity: str, rights: str) -> None:
    done = run(fleet.config_file(identity), "check", "--json")

    assert done.status == 0
    assert severities(done) == [
        ("configuration", "ok"),
        ("tls", "ok"),
        ("tls", "ok"),
        ("broker", "ok"),
        ("broker", "ok"),
        ("rights", "ok"),
        ("dispatcher", "ok"),
    ]
    assert rights in worst(done, "ok")


def test_a_job_of_the_name_that_marks_probes_is_not_touched(fleet: Fleet) -> None:
    """Any client may make one: it must not lead an operator's check to cancel or retry it."""
    name = "stockworker-check"

    async def submit_and_check() -> State:
        async with fleet.client() as client:
            await client.submit(name, id=name)
            assert (await asyncio.to_thread(run, fleet.config_file("operator"), "check")).status == 0
            (job,) = await client.query([name])
            await client.cancel(name)
        return job.state

    assert asyncio.run(submit_and_check()) is State.QUEUED


def test_all_is_well_for_a_worker_that_runs(fleet: Fleet) -> None:
    done = run(fleet.config_file("host-1"), "check", "--instance", "1")

    assert done.status == 0
    assert "ok    handlers       3 job types: data_import, price_update, technical_analysis" in done.output
    assert "ok    rights         'host-1' may report" in done.output
    assert "ok    dispatcher     it is connected, and its answers arrive" in done.output
    assert fleet.workers[0].alive


def test_all_is_well_for_a_dispatcher_that_runs(fleet: Fleet) -> None:
    done = run(fleet.config_file("dispatcher"), "check", "--json")

    assert (done.status, worst(done, "warn")) == (0, [])
    assert f"dispatcher.store: {fleet.job_store}" in worst(done, "ok")
    assert fleet.dispatcher.alive


def test_what_the_access_list_denies(fleet: Fleet) -> None:
    done = run(fleet.config_file("stranger"), "check", "--json", "--role", "client")

    denied = [text.split(":")[0] for text in worst(done, "fail")]
    assert done.status == 1
    assert denied == [f"'stranger' may not {right}" for right in ("submit", "ask", "cancel", "see statistics")]


def test_a_name_that_is_none_of_ours(config: Path) -> None:
    done = run(changed(config, "renamed", client={"id": "alice"}, worker={"id": "host-9"}), "check", "--json")

    assert done.status == 1
    (text,) = worst(done, "fail")
    assert "is the certificate of 'client'" in text
    assert "Set tls.cert_file and tls.key_file to the certificate of this ID. Or, " in text


def test_a_command_says_that_its_certificate_is_somebody_elses(config: Path) -> None:
    done = run(changed(config, "bob", client={"id": "bob"}), "stats", "--answer-timeout", "1")

    assert "is the certificate of 'client', but client.id is 'bob'" in done.errors


def test_a_worker_says_that_its_certificate_is_somebody_elses(fleet: Fleet, tmp_path: Path) -> None:
    own = {"id": "host-9", "journal": str(tmp_path / "journal.sqlite3")}
    config = changed(fleet.config_file("host-1"), "host-9", worker=own)
    worker = Service("host-9", arguments(config, "agent"), tmp_path / "log")
    worker.start()
    try:
        problem = worker.await_event("identity_differs")["problem"]
    finally:
        worker.kill()

    assert "is the certificate of 'host-1', but worker.id is 'host-9'" in problem
    assert fleet.workers[0].events("identity_differs") == []


def test_everything_that_is_wrong_in_the_files_is_told_at_once(config: Path) -> None:
    done = run(changed(config, "wrong", worker={"slots": 1}, log={"level": "loud"}), "check", "--json")

    assert done.status == 1
    assert severities(done) == [("configuration", "fail"), ("configuration", "fail")]


def test_a_missing_key_file(config: Path) -> None:
    done = run(changed(config, "keyless", tls={"key_file": "/nonexistent.key"}), "check", "--json")

    assert done.status == 1
    assert worst(done, "fail") == [
        "/nonexistent.key: can't read the private key: No such file or directory; copy it there, or correct the path"
    ]


@pytest.mark.parametrize(
    ("issued", "lifetime", "severity", "text"),
    [
        (NOW - timedelta(days=40), timedelta(days=30), "fail", "expired on"),
        (NOW, timedelta(days=29), "warn", "expires on"),
        (NOW + timedelta(days=9), timedelta(days=90), "fail", "Check the clock of this machine"),
    ],
)
def test_a_certificate_out_of_its_time(
    fleet: Fleet, config: Path, issued: datetime, lifetime: timedelta, severity: str, text: str
) -> None:
    identity = fleet.broker.authority.issue(Subject("client"), issued, lifetime)
    certificate, key = identity.save(fleet.folder / "old", "client")

    old = changed(config, "old", tls={"cert_file": str(certificate), "key_file": str(key)})
    done = run(old, "check", "--offline", "--json")

    assert done.status == (1 if severity == "fail" else 0)
    (found,) = worst(done, severity)
    assert text in found


def test_a_certificate_of_the_broker_that_ends_soon(fleet: Fleet, config: Path) -> None:
    def told() -> list[str]:
        return worst(run(config, "check", "--json"), "warn")

    fleet.broker.renew(timedelta(days=29))
    fleet.broker.reload()
    try:
        wait_until(lambda: bool(told()), "the broker shows its new certificate", 30)
        (found,) = told()
    finally:
        fleet.broker.renew()
        fleet.broker.reload()
    assert found.startswith("its certificate (localhost) expires on ")


def test_a_key_that_everybody_can_read(fleet: Fleet, config: Path) -> None:
    certificate, key = fleet.broker.authority.issue(Subject("client"), NOW).save(fleet.folder / "open", "client")
    key.chmod(0o644)

    done = run(
        changed(config, "open", tls={"cert_file": str(certificate), "key_file": str(key)}),
        "check",
        "--offline",
        "--json",
    )

    (warning,) = worst(done, "warn")
    assert f"every user of this machine can read {key}. Run 'chmod o-rw {key}'" in warning


def test_handlers_and_folders_of_a_worker(fleet: Fleet) -> None:
    sections: dict[str, dict[str, object]] = {
        "handlers": {"chart": {"command": ["/nonexistent/program"]}},
        "worker": {"handler_paths": ["/nonexistent"], "journal": f"{fleet.folder}/absent/journal.sqlite3"},
    }
    done = run(changed(fleet.config_file("host-1"), "bare", **sections), "check", "--instance", "1", "--json")

    assert done.status == 1
    folder, program = worst(done, "fail")
    assert "/nonexistent is not a folder" in folder
    (usable,) = (text for text in worst(done, "ok") if "job types" in text)
    assert "chart" not in usable
    assert "handlers.chart: /nonexistent/program is not an executable file" in program
    (journal,) = worst(done, "warn")
    assert f"the folder {fleet.folder}/absent does not exist" in journal


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("not_there:handle", "ModuleNotFoundError: No module named 'not_there'"),
        ("json:handle", "AttributeError: module 'json' has no attribute 'handle'"),
        ("own.broken:handle", "ZeroDivisionError: division by zero"),
        ("own.leaves:handle", "SystemExit: 3"),
        ("own.kills:handle", "its import ended the process: "),
    ],
)
def test_a_handler_that_can_not_be_loaded(fleet: Fleet, tmp_path: Path, function: str, problem: str) -> None:
    modules = {"broken": "1 / 0", "leaves": "print('[]'); raise SystemExit(3)", "kills": "import os; os._exit(0)"}
    for name, text in modules.items():
        file = tmp_path / f"own/{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    sections: dict[str, dict[str, object]] = {
        "handlers": {"mine": {"python": function}},
        "worker": {"handler_paths": [str(tmp_path)]},
    }
    config = changed(fleet.config_file("host-1"), "mine", **sections)
    done = run(config, "check", "--instance", "1", "--json", "--offline")

    (text,) = worst(done, "fail")
    assert text.startswith(f"handlers.mine: {function} can't be loaded: {problem}")
    assert text.endswith(". Correct 'python', or add the folder of the module to worker.handler_paths")
    (usable,) = (text for text in worst(done, "ok") if "job types" in text)
    assert usable == "3 job types: data_import, price_update, technical_analysis"


def test_a_plain_function_with_concurrency(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "own_types.py").write_text("def plain(job, context): ...\nasync def coroutine(job, context): ...\n")
    sections: dict[str, dict[str, object]] = {
        "handlers": {name: {"python": f"own_types:{name}", "concurrency": 5} for name in ("plain", "coroutine")},
        "worker": {"handler_paths": [str(tmp_path)]},
    }
    config = changed(fleet.config_file("host-1"), "together", **sections)
    done = run(config, "check", "--instance", "1", "--json", "--offline")

    (text,) = worst(done, "fail")
    assert text.startswith(
        "handlers.plain: own_types:plain can't be loaded: TypeError: own_types:plain is not an `async def`"
    )
    (usable,) = (text for text in worst(done, "ok") if "job types" in text)
    assert "coroutine" in usable


@pytest.mark.parametrize(
    ("identity", "role"),
    [("client", "client"), ("operator", "client"), ("host-1", "worker"), ("dispatcher", "dispatcher")],
)
def test_a_check_leaves_no_trace(fleet: Fleet, identity: str, role: str) -> None:
    """It may run every minute, for a monitoring."""

    async def counted() -> Mapping[str, int]:
        async with fleet.client("operator") as client:
            return dict((await client.stats()).counters)

    before = asyncio.run(counted())
    lines = {service: service.log for service in (fleet.dispatcher, *fleet.workers)}
    assert run(fleet.config_file(identity), "check", "--role", role).status == 0
    after = asyncio.run(counted())

    assert {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)} == {}
    assert {service.name: service.log.removeprefix(log) for service, log in lines.items()} == dict.fromkeys(
        (service.name for service in lines), ""
    )


def test_a_broker_that_is_down(config: Path) -> None:
    closed = changed(config, "closed", queue={"mqtt": {"host": "localhost", "port": 1}})
    offline = run(closed, "check", "--offline")
    done = run(closed, "check", "--json")

    assert offline.status == 0
    assert done.status == 1
    (text,) = worst(done, "fail")
    assert "connection refused" in text
