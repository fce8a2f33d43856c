"""The judgement of units: what is wrong with them, and that the command in the remedy corrects it."""

import subprocess
from pathlib import Path

import pytest

from stockworker.adapters import host_state
from stockworker.cli.doctor import Diagnosis
from stockworker.doctor import probes
from stockworker.doctor.facts import ClockFacts, UnitFacts
from stockworker.doctor.judgement import judge_clock
from stockworker.doctor.units import STRICT, judge_unit, settings
from stockworker.terminal.findings import Finding, Severity
from tests.harness.advice import follows
from tests.harness.fake_systemd import RUNS, FakeSystemd, fake_systemd

ROOT = Path(__file__).resolve().parents[2]
UNIT = "stockworker@1.service"
FILE = ROOT / "systemd" / "stockworker@.service"
FAIL, OK, WARN = Severity.FAIL, Severity.OK, Severity.WARN


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSystemd:
    systemd = fake_systemd(tmp_path / "bin")
    monkeypatch.setenv("PATH", systemd.path)
    return systemd


def judged(unit: str = UNIT) -> list[Finding]:
    facts = probes.unit_facts(unit)
    assert facts is not None
    return list(judge_unit(facts))


def wrong(systemd: FakeSystemd, **properties: str) -> Finding:
    """The finding about a unit that runs, but for these properties."""
    systemd.set(units={UNIT: {**RUNS, "FragmentPath": str(FILE), **properties}})
    (finding,) = judged()
    return finding


def type_next(finding: Finding) -> None:
    for command in Diagnosis("worker 1", finding).commands:
        subprocess.run(command.split(), check=True, capture_output=True)


def follow(finding: Finding) -> None:
    """Type the commands in the finding, and see the problem gone."""
    assert Diagnosis("worker 1", finding).commands
    type_next(finding)
    assert [each.severity for each in judged()] == [OK]


def test_a_unit_that_runs(systemd: FakeSystemd) -> None:
    finding = wrong(systemd)
    assert finding.severity is OK
    assert finding.text == f"{UNIT} is active, in its sandbox, and starts with the machine"


def test_a_unit_that_does_not_exist(systemd: FakeSystemd) -> None:
    systemd.set(units={})
    assert probes.unit_facts(UNIT) is None


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probes.unit_facts(UNIT) is None
    assert host_state.clock_is_synchronized() is None
    assert host_state.unit_names(("*",)) == set()
    assert list(host_state.journal_entries(UNIT, 5)) == []


@follows("… has failed (…). …. Correct it, then run 'systemctl restart …'")
def test_a_unit_that_has_failed(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, ActiveState="failed", Result="exit-code", ExecMainStatus="78")
    assert finding.severity is FAIL
    assert f"{UNIT} has failed (exit-code, status 78). 'journalctl -u {UNIT} -n 50' shows the reason" in finding.text
    follow(finding)


@follows("… is masked, so it can't start. Run 'systemctl unmask …'")
def test_a_unit_that_is_masked(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, LoadState="masked")
    assert finding.severity is FAIL
    follow(finding)


@follows("… does not run. Run 'systemctl start …'")
def test_a_unit_that_is_stopped(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, ActiveState="inactive")
    assert finding.severity is FAIL
    follow(finding)


@follows("… does not run, and does not start with the machine. Run 'systemctl enable --now …'")
def test_a_unit_that_was_never_started(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, ActiveState="inactive", UnitFileState="disabled")
    assert finding.severity is FAIL
    follow(finding)


@follows("… runs, but does not start with the machine. Run 'systemctl enable …'")
def test_a_unit_that_is_not_enabled(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, UnitFileState="disabled")
    assert finding.severity is WARN
    follow(finding)


def test_a_unit_that_fails_again_and_again(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, ActiveState="activating", SubState="auto-restart")
    assert finding.severity is FAIL
    assert Diagnosis("", finding).commands == [f"journalctl -u {UNIT} -n 50"]


@pytest.mark.parametrize(("restarts", "severity"), [("2", OK), ("3", WARN)])
def test_a_unit_that_was_restarted(systemd: FakeSystemd, restarts: str, severity: Severity) -> None:
    finding = wrong(systemd, NRestarts=restarts)
    assert finding.severity is severity
    assert severity is OK or f"systemd has restarted {UNIT} 3 times" in finding.text


@follows("…. Run 'systemctl daemon-reload', then restart it")
def test_a_unit_whose_file_has_changed(systemd: FakeSystemd) -> None:
    finding = wrong(systemd, NeedDaemonReload="yes")
    assert finding.severity is WARN
    follow(finding)


@follows("…. Raise … with 'systemctl edit …', then restart it")
@pytest.mark.parametrize(
    ("used", "limited", "what"),
    [
        ({"TasksCurrent": "90"}, {"TasksMax": "100"}, "uses 90 of 100 tasks. Raise TasksMax"),
        ({"MemoryCurrent": "95"}, {"MemoryMax": "100"}, "uses 95 of 100 bytes of memory. Raise MemoryMax"),
    ],
)
def test_a_unit_at_its_limit(systemd: FakeSystemd, used: dict[str, str], limited: dict[str, str], what: str) -> None:
    finding = wrong(systemd, **used, **limited)
    assert (finding.severity, finding.subject) == (FAIL, "limits")
    assert what in finding.text
    follow(finding)


@pytest.mark.parametrize(("open_files", "severity"), [(899, OK), (900, FAIL)])
def test_open_files_at_the_limit(open_files: int, severity: Severity) -> None:
    facts = UnitFacts(UNIT, {**RUNS, "LimitNOFILE": "1000"}, open_files=open_files)
    assert [each.severity for each in judge_unit(facts)] == [severity]


@pytest.mark.parametrize("limit", ["infinity", "18446744073709551615", "", "[not set]"])
def test_no_limit(limit: str) -> None:
    facts = UnitFacts(UNIT, {**RUNS, "TasksMax": limit, "TasksCurrent": "99"})
    assert [each.severity for each in judge_unit(facts)] == [OK]


# --- sandbox ----------------------------------------------------------------------------------------------------------


@follows("…. If that is not intended, remove it with 'systemctl revert …'")
def test_a_drop_in_that_weakens_the_sandbox(systemd: FakeSystemd) -> None:
    systemd.set(shipped={"ProtectSystem": "strict", "User": "stockworker", "DropInPaths": ""})
    drop_in = "/etc/systemd/system/stockworker@.service.d/own.conf"
    finding = wrong(systemd, ProtectSystem="no", User="root", DropInPaths=drop_in)
    assert (finding.severity, finding.subject) == (WARN, "sandbox")
    assert f": ProtectSystem=no in place of strict, User=root in place of stockworker ({drop_in})" in finding.text
    follow(finding)


@pytest.mark.parametrize(
    ("properties", "shown"),
    [
        ({"NoNewPrivileges": "no"}, "NoNewPrivileges=no in place of yes"),
        ({"CapabilityBoundingSet": "cap_net_raw"}, "CapabilityBoundingSet=cap_net_raw in place of none"),
        ({"AmbientCapabilities": "cap_net_raw"}, "AmbientCapabilities=cap_net_raw in place of none"),
        ({"SystemCallFilter": ""}, "no SystemCallFilter"),
        ({"User": ""}, "User=root in place of stockworker"),
    ],
)
def test_what_weakens_a_sandbox(systemd: FakeSystemd, properties: dict[str, str], shown: str) -> None:
    assert shown in wrong(systemd, **properties).text


def test_what_does_not_weaken_a_sandbox(systemd: FakeSystemd) -> None:
    """A setting that the package leaves out, such as MemoryDenyWriteExecute for a worker, may have any value."""
    stricter = {
        "MemoryDenyWriteExecute": "yes",
        "ProcSubset": "pid",
        "IPAddressDeny": "::/0",
        "SystemCallFilter": "read",
    }
    assert wrong(systemd, **stricter, CapabilityBoundingSet="", User="stockworker").severity is OK


@pytest.mark.parametrize("file", sorted((ROOT / "systemd").glob("*.service")), ids=lambda file: file.name)
def test_the_values_in_the_unit_files_are_the_strictest(file: Path) -> None:
    strictest = {"yes", "strict", "invisible", "pid", "closed", "private"}
    shipped = settings(file.read_text())
    assert {name: value for name, value in shipped.items() if name in STRICT and value not in strictest} == {}


def test_the_settings_of_a_unit_file() -> None:
    text = "[Unit]\nUser=no\n[Service]\n# User=comment\nUser = a\nUser=b\nExecStart=x \\\n  y\n\n[Install]\nUser=no\n"
    assert settings(text) == {"User": "b", "ExecStart": "x    y"}


@follows("…. Put it in place with 'stockworker broker setup'")
def test_a_broker_outside_its_sandbox() -> None:
    """`tests/packages/test_broker_setup.py` runs the command on a booted machine."""
    shipped = (ROOT / "systemd/mosquitto.service.d/stockworker.conf").read_text()
    facts = UnitFacts("mosquitto.service", {**RUNS, "User": "", "ProtectSystem": "no"}, shipped)
    (finding,) = judge_unit(facts)
    assert Diagnosis("broker", finding).commands == ["stockworker broker setup"]
    (finding,) = judge_unit(UnitFacts("mosquitto.service", {**RUNS, **settings(shipped)}, shipped))
    assert finding.severity is OK


@follows("…. …: 'systemctl restart stockworker.target'")
def test_a_restart_of_all_units(systemd: FakeSystemd) -> None:
    systemd.set(units={UNIT: {**RUNS, "ActiveState": "inactive"}})
    subprocess.run(["systemctl", "restart", "stockworker.target"], check=True)
    assert [each.severity for each in judged()] == [OK]


def test_a_clock_that_is_not_set(systemd: FakeSystemd) -> None:
    systemd.set(clock={"NTPSynchronized": "no"})
    (finding,) = judge_clock(ClockFacts(host_state.clock_is_synchronized()))
    type_next(finding)
    assert host_state.clock_is_synchronized() is True
    assert list(judge_clock(ClockFacts(synchronized=True))) == []


def test_the_traces_of_a_host(systemd: FakeSystemd, tmp_path: Path) -> None:
    for name in ("var/lib/stockworker/3/journal.sqlite3", "etc/stockworker/instances/2.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    systemd.set(units={UNIT: RUNS, "ssh.service": RUNS})
    found = probes.traces(tmp_path)
    assert (found.units, found.instances, found.journals) == ({UNIT}, {"2"}, {"3"})
    assert not found.has_store
    assert not found.has_broker
    for name in ("var/lib/stockworker/dispatcher/jobs.sqlite3", "etc/mosquitto/conf.d/stockworker.conf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = probes.traces(tmp_path)
    assert found.has_store
    assert found.has_broker
