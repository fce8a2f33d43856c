"""The judgement of `stockworker doctor`: for each fact the finding, its severity and the commands to type."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from stockworker.cli.doctor import Diagnosis
from stockworker.doctor.facts import ClockFacts, DiskFacts, NameFacts, VersionFacts
from stockworker.doctor.judgement import judge_clock, judge_disk, judge_name, judge_versions
from stockworker.doctor.roles import Part, PartRole, Traces, parts
from stockworker.terminal.findings import Finding, Severity

FAIL, OK, WARN = Severity.FAIL, Severity.OK, Severity.WARN
M = 1024 * 1024
FOLDER = Path("/var/lib/stockworker/1")


def disk(free: int, **others: object) -> Finding:
    facts = {"free_bytes": free, "total_bytes": 1000 * M, "least_bytes": 16 * M, **others}
    return judge_disk(DiskFacts("worker.journal", FOLDER, **facts))  # type: ignore[arg-type] # the test names them


def commands(finding: Finding) -> list[str]:
    return Diagnosis("host", finding).commands


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_name_that_resolves() -> None:
    finding = judge_name(NameFacts("mq.example.org", ("192.0.2.1", "2001:db8::1"), 2.0))
    assert (finding.severity, finding.subject) == (OK, "dns")
    assert finding.text == "mq.example.org is 192.0.2.1, 2001:db8::1"
    assert commands(finding) == []


def test_a_name_that_does_not_resolve() -> None:
    finding = judge_name(NameFacts("mq.example.org", error="Name or service not known"))
    assert finding.severity is FAIL
    assert finding.text.startswith("the broker's name mq.example.org can't be resolved: Name or service not known. ")
    assert commands(finding) == ["getent hosts mq.example.org"]


def test_a_name_that_resolves_slowly() -> None:
    finding = judge_name(NameFacts("mq.example.org", ("192.0.2.1",), 5.04))
    assert finding.severity is WARN
    assert "took 5.0 s" in finding.text
    assert commands(finding) == ["cat /etc/resolv.conf"]


def test_a_clock_that_time_servers_set() -> None:
    assert list(judge_clock(ClockFacts(synchronized=True))) == []
    assert list(judge_clock(ClockFacts())) == []


def test_a_clock_that_no_time_server_sets() -> None:
    finding = only(judge_clock(ClockFacts(synchronized=False)))
    assert (finding.severity, finding.subject) == (WARN, "clock")
    assert commands(finding) == ["timedatectl set-ntp true"]


@pytest.mark.parametrize(
    ("ahead_s", "severity", "text"),
    [
        (5.0, OK, "it differs from that of the dispatcher by less than 5 s"),
        (-5.1, WARN, "the clock of this machine is 5 s ahead of that of the dispatcher. "),
        (60.0, WARN, "the clock of this machine is 60 s behind that of the dispatcher. "),
        (61.0, FAIL, "the clock of this machine is 61 s behind that of the dispatcher. "),
        (-3600.0, FAIL, "the clock of this machine is 3600 s ahead of that of the dispatcher. "),
    ],
)
def test_a_clock_beside_that_of_the_dispatcher(ahead_s: float, severity: Severity, text: str) -> None:
    finding = only(judge_clock(ClockFacts(ahead_s=ahead_s)))
    assert finding.severity is severity
    assert finding.text.startswith(text)
    assert commands(finding) == ([] if severity is OK else ["timedatectl"])


@pytest.mark.parametrize(("free", "severity"), [(16 * M - 1, FAIL), (16 * M, WARN), (32 * M - 1, WARN), (32 * M, OK)])
def test_the_space_on_a_disk(free: int, severity: Severity) -> None:
    finding = disk(free)
    assert (finding.severity, finding.subject) == (severity, "disk")
    assert commands(finding) == ([] if severity is OK else [f"df -h {FOLDER}"])


def test_a_disk_without_room_for_files() -> None:
    assert disk(500 * M, free_files=1000).severity is OK
    finding = disk(500 * M, free_files=999)
    assert finding.severity is FAIL
    assert commands(finding) == [f"df -i {FOLDER}"]


def test_a_disk_that_is_read_only() -> None:
    finding = disk(500 * M, read_only=True)
    assert finding.severity is FAIL
    assert "is mounted read-only" in finding.text
    assert commands(finding) == ["journalctl -k -p err"]


def test_equal_versions() -> None:
    finding = only(judge_versions(VersionFacts("1.2", "1.2", "2.0.11", {"a": "1.2", "b": "1.2"})))
    assert finding.severity is OK
    assert finding.text == "this machine has 1.2, the dispatcher 1.2, 2 workers the same, Mosquitto is 2.0.11"
    assert only(judge_versions(VersionFacts("1.2"))).text == "this machine has 1.2"


def test_a_dispatcher_of_another_version() -> None:
    finding = only(judge_versions(VersionFacts("1.2", "1.1", workers={"a": "1.1"})))
    assert finding.severity is WARN
    assert finding.text.startswith("the dispatcher runs version 1.1, and this machine has 1.2. ")
    assert commands(finding) == ["systemctl restart stockworker.target"]


def test_workers_of_other_versions() -> None:
    versions = {f"w{number}": "1.1" for number in range(7)} | {"new": "1.2"}
    finding = only(judge_versions(VersionFacts("1.2", "1.2", workers=versions)))
    assert finding.severity is WARN
    assert (
        "7 of 8 workers do not run version 1.2: w0 (1.1), w1 (1.1), w2 (1.1), w3 (1.1), w4 (1.1) and 2 more"
        in finding.text
    )
    assert commands(finding) == ["stockworker workers"]


@pytest.mark.parametrize(("version", "severity"), [("2.0.10", FAIL), ("1.6.12", FAIL), ("2.0.11", OK), ("2.1.0", OK)])
def test_the_version_of_the_broker(version: str, severity: Severity) -> None:
    finding = only(judge_versions(VersionFacts("1.2", broker=version)))
    assert finding.severity is severity
    assert commands(finding) == ([] if severity is OK else ["apt install mosquitto", "dnf install mosquitto"])


# --- which parts a host has -------------------------------------------------------------------------------------------


def test_a_host_without_parts() -> None:
    assert parts(Traces()) == []


def test_each_part_is_found_once_and_the_broker_comes_first() -> None:
    units = {
        "stockworker@1.service",
        "stockworker@b.service",
        "stockworker-dispatcher.service",
        "stockworker-web.service",
    }
    found = parts(Traces(units, ["1", "2"], ["2", "3"], has_store=True, has_broker=True, client=Path("/client.yml")))
    assert list(map(str, found)) == [
        *("broker", "dispatcher", "worker 1", "worker 2", "worker 3", "worker b", "web", "client"),
    ]


@pytest.mark.parametrize(
    ("traces", "part"),
    [
        (Traces(units={"stockworker-dispatcher.service"}), Part(PartRole.DISPATCHER)),
        (Traces(has_store=True), Part(PartRole.DISPATCHER)),
        (Traces(has_broker=True), Part(PartRole.BROKER)),
        (Traces(units={"stockworker@x-1.service"}), Part(PartRole.WORKER, "x-1")),
        (Traces(instances=["1"]), Part(PartRole.WORKER, "1")),
        (Traces(journals=["1"]), Part(PartRole.WORKER, "1")),
        (Traces(units={"stockworker-web.service"}), Part(PartRole.WEB)),
        (Traces(client=Path("/client.yml")), Part(PartRole.CLIENT)),
    ],
)
def test_what_shows_a_part(traces: Traces, part: Part) -> None:
    assert parts(traces) == [part]


def test_the_unit_of_a_part() -> None:
    assert [Part(role, "1" if role is PartRole.WORKER else None).unit for role in PartRole] == [
        *(
            "stockworker@1.service",
            "stockworker-dispatcher.service",
            "mosquitto.service",
            None,
            "stockworker-web.service",
        ),
    ]
