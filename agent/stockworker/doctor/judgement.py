"""Judges facts about a host: DNS, clock, disks and versions. Pure: facts in, findings out.

The text of each warning and failure ends with the remedy, with the commands to type in single quotes.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from stockworker.config.kinds import SIZE
from stockworker.doctor.facts import ClockFacts, DiskFacts, NameFacts, VersionFacts
from stockworker.terminal.findings import Finding, fail, ok, warn

_SLOW_LOOKUP_S: Final = 2.0
_DOUBTFUL_S: Final = 5.0
_WRONG_S: Final = 60.0
_SCARCE_FILES: Final = 1000
_OLDEST_BROKER: Final = (2, 0, 11)
"""The version of Mosquitto in Debian 12; the packages need it."""
_MOST_NAMES: Final = 5


def judge_name(facts: NameFacts) -> Finding:
    """The name of the broker."""
    if facts.error is not None:
        text = f"the broker's name {facts.host} can't be resolved: {facts.error}"
        remedy = "Correct queue.mqtt.host, or the name servers of this machine"
        return fail("dns", f"{text}. {remedy}. Test it with 'getent hosts {facts.host}'")
    if facts.took_s > _SLOW_LOOKUP_S:
        text = f"the name servers took {facts.took_s:.1f} s to resolve the broker's name {facts.host}"
        return warn("dns", f"{text}. Remove those that do not answer. List them with 'cat /etc/resolv.conf'")
    return ok("dns", f"{facts.host} is {', '.join(facts.addresses)}")


def judge_clock(facts: ClockFacts) -> Iterator[Finding]:
    """The clock of this machine, by itself and beside that of the dispatcher."""
    if facts.synchronized is False:
        text = "no time server sets the clock of this machine, so it can judge certificates and expiry times wrongly"
        yield warn("clock", f"{text}. Start time synchronization with 'timedatectl set-ntp true'")
    if facts.ahead_s is None:
        return
    behind = f"{abs(facts.ahead_s):.0f} s {'behind' if facts.ahead_s > 0 else 'ahead of'} that of the dispatcher"
    remedy = "Run 'timedatectl' on both machines, and correct the clock that is wrong"
    if abs(facts.ahead_s) > _WRONG_S:
        yield fail("clock", f"the clock of this machine is {behind}. {remedy}")
    elif abs(facts.ahead_s) > _DOUBTFUL_S:
        yield warn("clock", f"the clock of this machine is {behind}. {remedy}")
    else:
        yield ok("clock", f"it differs from that of the dispatcher by less than {_DOUBTFUL_S:.0f} s")


def judge_disk(facts: DiskFacts) -> Finding:
    """The disk of a store."""
    space = f"{facts.key}: {facts.folder} has {SIZE.show(facts.free_bytes)} free"
    if facts.read_only:
        text = f"{facts.key}: the file system of {facts.folder} is mounted read-only"
        return fail(
            "disk", f"{text}. 'journalctl -k -p err' shows errors of the disk; correct them, then mount it writable"
        )
    if facts.free_files is not None and facts.free_files < _SCARCE_FILES:
        text = f"{facts.key}: the file system of {facts.folder} has room for {facts.free_files} more files only"
        return fail("disk", f"{text}. Delete files that are not needed. 'df -i {facts.folder}' shows the number")
    remedy = f"Delete what is not needed, or enlarge the disk. 'df -h {facts.folder}' shows the space"
    if facts.free_bytes < facts.least_bytes:
        return fail("disk", f"{space}, and the service needs {SIZE.show(facts.least_bytes)} to accept jobs. {remedy}")
    if facts.free_bytes < 2 * facts.least_bytes:
        least = SIZE.show(facts.least_bytes)
        return warn("disk", f"{space}. Below {least}, the service accepts no new jobs. {remedy}")
    return ok("disk", space)


def judge_versions(facts: VersionFacts) -> Iterator[Finding]:
    """The versions of all parts that are known."""
    behind = list(_differing(facts))
    yield from behind
    if facts.broker is not None and _numbers(facts.broker) < _OLDEST_BROKER:
        oldest = ".".join(map(str, _OLDEST_BROKER))
        text = f"Mosquitto {facts.broker} is older than {oldest}, the oldest version that is supported"
        yield fail("versions", f"{text}. Update it with 'apt install mosquitto' or 'dnf install mosquitto'")
        return
    if not behind:
        parts = [f"this machine has {facts.own}"]
        parts += [f"the dispatcher {facts.dispatcher}"] if facts.dispatcher is not None else []
        parts += [f"{len(facts.workers)} workers the same"] if facts.workers else []
        parts += [f"Mosquitto is {facts.broker}"] if facts.broker is not None else []
        yield ok("versions", ", ".join(parts))


def _differing(facts: VersionFacts) -> Iterator[Finding]:
    if facts.dispatcher is not None and facts.dispatcher != facts.own:
        text = f"the dispatcher runs version {facts.dispatcher}, and this machine has {facts.own}"
        remedy = "Update the older one. If its package is new already, restart it"
        yield warn("versions", f"{text}. {remedy}: 'systemctl restart stockworker.target'")
    reference = facts.dispatcher or facts.own
    others = [f"{name} ({version})" for name, version in sorted(facts.workers.items()) if version != reference]
    if others:
        text = f"{len(others)} of {len(facts.workers)} workers do not run version {reference}: {_few(others)}"
        yield warn(
            "versions", f"{text}. Update them, or restart those that were updated. List all: 'stockworker workers'"
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
