"""`stockworker doctor` beside a real broker: nothing is wrong with a fleet that works, and each planted fault is found."""

import asyncio
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.broker.acl import acl
from stockworker.broker.host import BrokerHost
from stockworker.cli import main
from stockworker.cli.broker_checks import check_broker
from stockworker.cli.doctor import Diagnosis
from stockworker.doctor.facts import VersionFacts
from stockworker.doctor.judgement import judge_versions
from stockworker.pki.certificates import Subject
from stockworker.terminal.findings import Severity
from tests.harness.advice import follows
from tests.harness.broker_place import Place, new_place
from tests.harness.command import Finished, changed, run
from tests.harness.fleet import Fleet

NOW = datetime.fromtimestamp(clock.wall(), UTC)
ACL = acl(operators=["operator"], clients=["client"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1) as fleet:
        fleet.services["host-1"].await_event("ready")
        yield fleet


def replace_acl(fleet: Fleet, text: str) -> None:
    """Replace the access list. A new connection succeeds when the broker has read it: a reload before that gets lost."""

    async def connect() -> None:
        async with fleet.client():
            pass

    fleet.broker.replace_acl(text)
    asyncio.run(connect())


def doctor(config: Path, *words: str) -> Finished:
    return run(config, "doctor", "--json", *words)


def wrong(done: Finished) -> list[tuple[str, str]]:
    return [(each["severity"], each["text"]) for each in done.json_lines if each["severity"] != "ok"]


def test_nothing_is_wrong_with_a_fleet_that_works_and_no_trace_is_left(fleet: Fleet) -> None:
    async def counted() -> Mapping[str, int]:
        async with fleet.client("operator") as client:
            return {name: count for name, count in (await client.stats()).counters if count}

    before, services = asyncio.run(counted()), (fleet.dispatcher, *fleet.workers)
    logs = {service.name: service.log for service in services}
    for identity, words in {"host-1": ("--instance", "1"), "dispatcher": (), "client": (), "operator": ()}.items():
        done = doctor(fleet.config_file(identity), *words)
        assert (done.status, wrong(done)) == (0, []), identity
        clock = set() if identity == "dispatcher" else {"clock"}
        assert {"dns", "tls", "broker", "rights", "versions"} | clock <= {each["check"] for each in done.json_lines}
    assert asyncio.run(counted()) == before
    assert {service.name: service.log.removeprefix(logs[service.name]) for service in services} == dict.fromkeys(
        logs, ""
    )


def test_what_a_worker_may_do_is_tried_on_each_topic(fleet: Fleet) -> None:
    (rights,) = (
        each["text"]
        for each in doctor(fleet.config_file("host-1"), "--instance", "1").json_lines
        if each["check"] == "rights"
    )
    for topic in ("register", "unregister", "heartbeat", "disconnect", "echo"):
        assert f"publish on workers/{topic}/host-1" in rights
    assert "publish on jobs/request/host-1" in rights
    assert "publish on jobs/progress/host-1/+/+" in rights


@pytest.mark.parametrize(
    ("identity", "line", "instead", "text"),
    [
        ("host-1", "pattern write workers/heartbeat/%u", "", "'host-1' may not publish on workers/heartbeat/host-1: "),
        ("host-1", "pattern write jobs/request/%u", "", "'host-1' may not publish on jobs/request/host-1: "),
        ("host-1", "pattern readwrite workers/echo/%u", "pattern write workers/echo/%u", "'host-1' may not read workers/echo/host-1: "),
        ("dispatcher", "topic write jobs/assign/+", "", "'dispatcher' may not publish on jobs/assign/+: "),
        ("dispatcher", "topic readwrite system/echo/dispatcher", "", "'dispatcher' may not publish on system/echo/dispatcher: "),
    ],
)  # fmt: skip
def test_a_right_that_the_access_list_lacks(fleet: Fleet, identity: str, line: str, instead: str, text: str) -> None:
    assert f"\n{line}\n" in ACL
    replace_acl(fleet, ACL.replace(f"\n{line}\n", f"\n{instead}\n"))
    done = doctor(fleet.config_file(identity), *(("--instance", "1") if identity == "host-1" else ()))
    replace_acl(fleet, ACL)
    assert done.status == 1
    found = [each for each in done.json_lines if each["severity"] == "fail"]
    assert [each["text"][: len(text)] for each in found] == [text]
    assert found[0]["next"] == ["stockworker broker setup"]


def test_several_faults_of_a_worker_are_found_at_the_same_time(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = changed(fleet.config_file("host-1"), "faulty", handlers={"chart": {"python": "not_there:handle"}})
    wall = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: wall() + 3600)
    replace_acl(fleet, ACL.replace("\npattern write workers/register/%u\n", "\n"))
    try:
        status = main(["--config", str(config), "doctor", "--json", "--instance", "1"])
    finally:
        replace_acl(fleet, ACL)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 1
    assert [(each["check"], each["next"]) for each in found if each["severity"] == "fail"] == [
        ("handlers", []),
        ("rights", ["stockworker broker setup"]),
        ("clock", ["timedatectl"]),
    ]


def test_a_disk_that_is_full(fleet: Fleet) -> None:
    config = changed(
        fleet.config_file("dispatcher"),
        "full",
        dispatcher={"limits": {"free_space": "900000G"}, "store": str(fleet.job_store)},
    )
    done = doctor(config, "--offline")
    (found,) = (each for each in done.json_lines if each["severity"] == "fail")
    assert (done.status, found["check"], found["next"]) == (1, "disk", [f"df -h {fleet.job_store.parent}"])


@follows("'stockworker pki renew …'")
def test_an_expired_certificate(fleet: Fleet, tmp_path: Path) -> None:
    """`test_certificate_advice.py` renews one at the authority."""

    def checked(issued: datetime) -> Finished:
        files = fleet.broker.authority.issue(Subject("client"), issued, timedelta(days=30 * 3)).save(tmp_path, "client")
        own = {"cert_file": str(files[0]), "key_file": str(files[1])}
        return doctor(changed(fleet.config_file("client"), "expired", tls=own), "--offline")

    done = checked(NOW - timedelta(days=100))
    (found,) = (each for each in done.json_lines if each["severity"] == "fail")
    assert (done.status, found["next"]) == (1, ["stockworker pki renew client"])
    assert checked(NOW).status == 0


def test_a_name_that_does_not_resolve(fleet: Fleet) -> None:
    config = changed(fleet.config_file("client"), "lost", queue={"mqtt": {"host": "mq.invalid"}})
    done = doctor(config)
    (found,) = (each for each in done.json_lines if each["severity"] == "fail")
    assert (done.status, found["check"], found["next"]) == (1, "dns", ["getent hosts mq.invalid"])


def test_for_people_it_prints_what_to_type(fleet: Fleet) -> None:
    config = changed(fleet.config_file("client"), "lost", queue={"mqtt": {"host": "mq.invalid"}})
    lines = run(config, "doctor", "--color", "never").output.splitlines()
    assert lines[0] == f"{config}:"
    assert "      next: getent hosts mq.invalid" in lines
    assert lines[-1] == "1 failures, 0 warnings"
    assert run(fleet.config_file("client"), "doctor").output.splitlines()[-1] == "no problem found"


@follows("…. Update them, or restart those that were updated. List all: 'stockworker workers'")
def test_workers_of_another_version(fleet: Fleet) -> None:
    (finding,) = judge_versions(VersionFacts("9.9", "9.9", workers={"host-1": "9.8"}))
    (command,) = Diagnosis("client", finding).commands
    listed = run(fleet.config_file("client"), *command.split()[1:], "--json").json_lines
    versions = {each["worker_id"]: each["version"] for each in listed}
    (finding,) = judge_versions(VersionFacts(__version__, __version__, workers=versions))
    assert finding.severity is Severity.OK


def test_a_host_without_a_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("STOCKWORKER_CONFIG", raising=False)
    assert main(["doctor", "--json"]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["part"], last["check"], last["severity"]) == ("host", "parts", "fail")


def test_an_archive_for_support_has_what_was_found_and_no_secret(fleet: Fleet, tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {
        "queue": {"mqtt": {"host": "mq.invalid", "password": "S3cret-1", "username": "client"}},
        "handlers": {
            "chart": {"command": ["/bin/true", "--key=S3cret-2"], "settings": {"url": "https://u:S3cret-3@x"}}
        },
        "market_data": {"location": "postgresql://app:S3cret-4@db/prices"},
    }
    config, file = changed(fleet.config_file("client"), "secrets", **sections), tmp_path / "support.tar.gz"
    done = doctor(config, "--bundle", str(file))
    assert done.status == 1
    assert f"wrote {file}" in done.errors
    with tarfile.open(file) as archive:
        opened = {Path(each.name).name: archive.extractfile(each) for each in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in opened.items() if file is not None}
    assert {"findings.jsonl", "versions.txt", "secrets.yml"} <= texts.keys()
    listed = [json.loads(line) for line in texts["findings.jsonl"].splitlines()]
    assert [(each["check"], each["next"]) for each in listed] == [
        (each["check"], each["next"]) for each in done.json_lines
    ]
    assert "host: mq.invalid" in texts["secrets.yml"]
    for text in texts.values():
        assert "S3cret" not in text
        assert "PRIVATE KEY" not in text
    again = doctor(config, "--offline", "--bundle", str(file))
    assert (again.status, "already exists; choose another name" in again.errors) == (78, True)


# --- the machine of the broker ----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = new_place(tmp_path / "machine")
    place.pki("init")
    assert place.setup().status == 0
    return place


def failures(place: Place) -> list[str]:
    return [each.text for each in check_broker(BrokerHost(place.root)) if each.severity is not Severity.OK]


def test_a_broker_as_it_was_set_up(place: Place) -> None:
    assert failures(place) == []


@follows("'stockworker broker setup'")
def test_a_broker_without_its_list(place: Place) -> None:
    (place.folder / "crl.pem").unlink()
    (text,) = failures(place)
    assert text.endswith("crl.pem is missing. Put it in place with 'stockworker broker setup'")
    assert place.setup().status == 0
    assert failures(place) == []


def test_a_broker_with_an_older_access_list(place: Place) -> None:
    file = place.folder / "acl"
    file.write_text(file.read_text().replace("pattern write workers/heartbeat/%u\n", ""))
    (text,) = failures(place)
    assert "1 rights are missing" in text
    assert "pattern write workers/heartbeat/%u. Add them with 'stockworker broker setup'" in text
    assert place.setup("--force").status == 0
    assert failures(place) == []


@follows("'stockworker broker setup --renew'", "'stockworker broker setup --renew' on the broker's machine")
def test_a_broker_of_another_authority(place: Place, tmp_path: Path) -> None:
    other = new_place(tmp_path / "other")
    other.pki("init")
    shutil.copy(other.ca / "ca.crt", place.folder / "ca.crt")
    (text,) = failures(place)
    assert text.endswith("Clients refuse this broker. Issue a new one with 'stockworker broker setup --renew'")
    shutil.copy(place.ca / "ca.crt", place.folder / "ca.crt")
    assert place.setup("--renew").status == 0
    assert failures(place) == []


def test_a_broker_with_the_key_of_another(place: Place, tmp_path: Path) -> None:
    other = new_place(tmp_path / "other")
    other.pki("init")
    assert other.setup().status == 0
    shutil.copy(other.folder / "broker.key", place.folder / "broker.key")
    (text,) = failures(place)
    assert "not the private key of" in text
