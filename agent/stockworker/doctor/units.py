"""Judges units of systemd: their state, their limits, and whether a drop-in weakens their sandbox. Pure.

The text of each warning and failure ends with the remedy, with the commands to type in single quotes.
"""

# The sandbox that a package ships is the reference. systemd reports the value in force, whatever drop-in it comes from. Only
# settings with one strictest value are compared: for these, the unit files have the strictest one, so any other is weaker.

from collections.abc import Iterator, Mapping
from typing import Final

from stockworker.doctor.facts import UnitFacts
from stockworker.terminal.findings import Finding, fail, ok, warn

BROKER_UNIT: Final = "mosquitto.service"

PROPERTIES: Final = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "ExecMainStatus", "NRestarts"),
    *("NeedDaemonReload", "FragmentPath", "DropInPaths", "MainPID"),
    *("LimitNOFILE", "TasksCurrent", "TasksMax", "MemoryCurrent", "MemoryMax"),
    *("User", "CapabilityBoundingSet", "AmbientCapabilities", "SystemCallFilter"),
)
"""What to ask systemd for, besides `STRICT`."""

STRICT: Final = (
    *("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "PrivateUsers", "PrivateIPC", "PrivateMounts"),
    *("ProtectSystem", "ProtectHome", "ProtectHostname", "ProtectClock", "ProtectKernelTunables"),
    *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset"),
    *("RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC"),
    *("DevicePolicy", "KeyringMode"),
)
"""Settings whose values in the unit files are the strictest ones."""

_ALMOST: Final = 0.9
_MANY_RESTARTS: Final = 3
_HINT: Final = "'journalctl -u {} -n 50' shows the reason"


def judge_unit(facts: UnitFacts) -> Iterator[Finding]:
    """A unit of a service that this host must run."""
    findings = [*_state(facts), *_restarts(facts), *limits(facts), *sandbox(facts)]
    yield from findings
    if not findings:
        yield ok("unit", f"{facts.name} is {facts.value('ActiveState')}, in its sandbox, and starts with the machine")


def _state(facts: UnitFacts) -> Iterator[Finding]:
    name, active, enabled = facts.name, facts.value("ActiveState"), facts.value("UnitFileState")
    hint = _HINT.format(name)
    if facts.value("LoadState") == "masked":
        yield fail("unit", f"{name} is masked, so it can't start. Run 'systemctl unmask {name}'")
    elif active == "failed":
        result = f"{facts.value('Result')}, status {facts.value('ExecMainStatus')}"
        yield fail("unit", f"{name} has failed ({result}). {hint}. Correct it, then run 'systemctl restart {name}'")
    elif active == "activating" and facts.value("SubState") == "auto-restart":
        yield fail("unit", f"{name} fails again and again, and systemd restarts it. {hint}")
    elif active == "inactive" and enabled == "enabled":
        yield fail("unit", f"{name} does not run. Run 'systemctl start {name}'")
    elif active == "inactive":
        yield fail(
            "unit", f"{name} does not run, and does not start with the machine. Run 'systemctl enable --now {name}'"
        )
    elif enabled == "disabled":
        yield warn("unit", f"{name} runs, but does not start with the machine. Run 'systemctl enable {name}'")


def _restarts(facts: UnitFacts) -> Iterator[Finding]:
    if (restarts := facts.number("NRestarts") or 0) >= _MANY_RESTARTS and facts.value("ActiveState") == "active":
        yield warn("unit", f"systemd has restarted {facts.name} {restarts} times. {_HINT.format(facts.name)}")
    if facts.value("NeedDaemonReload") == "yes":
        text = f"the files of {facts.name} have changed since systemd read them"
        yield warn("unit", f"{text}. Run 'systemctl daemon-reload', then restart it")


def limits(facts: UnitFacts) -> Iterator[Finding]:
    """How close a unit is to its limits of open files, tasks and memory."""
    uses = (
        ("open files", "LimitNOFILE", facts.open_files, facts.number("LimitNOFILE")),
        ("tasks", "TasksMax", facts.number("TasksCurrent"), facts.number("TasksMax")),
        ("bytes of memory", "MemoryMax", facts.number("MemoryCurrent"), facts.number("MemoryMax")),
    )
    for what, setting, used, limit in uses:
        if used is not None and limit is not None and used >= _ALMOST * limit:
            text = f"{facts.name} uses {used} of {limit} {what}"
            yield fail("limits", f"{text}. Raise {setting} with 'systemctl edit {facts.name}', then restart it")


def sandbox(facts: UnitFacts) -> Iterator[Finding]:
    """What weakens the sandbox of a unit."""
    weakened = [*_weakened(settings(facts.shipped), facts)]
    if weakened:
        places = facts.value("DropInPaths") or facts.value("FragmentPath")
        text = f"the sandbox of {facts.name} is weaker than that of its package: {', '.join(weakened)} ({places})"
        if facts.name == BROKER_UNIT:
            yield warn("sandbox", f"{text}. Put it in place with 'stockworker broker setup'")
        else:
            yield warn("sandbox", f"{text}. If that is not intended, remove it with 'systemctl revert {facts.name}'")


def _weakened(shipped: Mapping[str, str], facts: UnitFacts) -> Iterator[str]:
    for name in STRICT:
        actual = facts.value(name)
        if name in shipped and actual and actual != shipped[name]:
            yield f"{name}={actual} in place of {shipped[name]}"
    if shipped.get("User", "root") != "root" and facts.properties.get("User") in {"", "root", "0"}:
        yield f"User=root in place of {shipped['User']}"
    for name in ("CapabilityBoundingSet", "AmbientCapabilities"):
        if shipped.get(name) == "" and facts.value(name):
            yield f"{name}={facts.value(name)} in place of none"
    if (
        shipped.get("SystemCallFilter")
        and "SystemCallFilter" in facts.properties
        and not facts.value("SystemCallFilter")
    ):
        yield "no SystemCallFilter"


def settings(text: str) -> dict[str, str]:
    """The last value of each setting in the section [Service] of a unit file (systemd.syntax(7))."""
    found, section = {}, ""
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found
