"""Machines with dnf, and with a firewall of their own. Each of them is a whole fleet, as in the inventory for one machine."""

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.ansible.conftest import Releases, changed
from tests.ansible.observed import PAYLOAD, reaches
from tests.harness import releases
from tests.harness.guest import Guest
from tests.harness.lab import BOOKWORM, TRIXIE, Kind, Lab, address
from tests.harness.network import ADDRESSES, HERE
from tests.harness.publishing import make_key

pytestmark = pytest.mark.timeout(3600)

KINDS = {
    "with-dnf": Kind(TRIXIE, is_rpm=True),
    "with-ufw": Kind(BOOKWORM, ("ufw",)),
    "with-firewalld": Kind(TRIXIE, ("firewalld",)),
}
ALONE = "all: {{children: {{{groups}}}}}\n"
GROUPS = ("authority", "operator", "broker", "dispatcher", "workers")
STRANGER = "10.98.0.1"
PASSPHRASE, SECRET = "correct horse battery", "the key of a provider"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    packages = releases.build(releases.FIRST, folder / releases.FIRST.version)
    with Lab(folder, packages, make_key(folder / "key"), kinds=KINDS, groups="") as lab:
        for name in KINDS:
            groups = ", ".join(f"{group}: {{hosts: {{{name}: }}}}" for group in GROUPS)
            (folder / f"{name}.yml").write_text(ALONE.format(groups=groups))
        lab.network.add_address(f"{STRANGER}/24")
        yield lab


def play(lab: Lab, name: str, playbook: str, *options: str) -> str:
    """Run a playbook on one machine; return its output."""
    where = ("-i", str(lab.folder / f"{name}.yml"))
    return lab.play(playbook, *where, "-e", json.dumps({"broker_hosts": ["localhost"]}), *options)


def changes(lab: Lab, name: str, *options: str) -> int:
    """Run the playbook `site` on one machine; return the number of changes."""
    return changed(play(lab, name, "site", *options))[name]


def run_job(machine: Guest) -> None:
    submit = ("stockworker", "submit", "technical_analysis", json.dumps(PAYLOAD), "--quiet", "--wait-timeout", "120s")
    assert '"value":3.0' in machine.run("env", "HOME=/root", *submit)


def ports(lab: Lab, name: str) -> dict[str, bool]:
    """Whether each of two addresses reaches the port of the broker."""
    return {source: reaches(lab, source, address(name, KINDS), 8883) for source in (HERE, STRANGER)}


def test_a_machine_with_dnf_is_set_up_updated_and_rolled_back_and_logs_no_secret(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    machine = lab.machines["with-dnf"]
    secrets = ("-e", json.dumps({"pki_passphrase": PASSPHRASE, "worker_secrets": {"prices.yml": SECRET}}))
    assert changed(play(lab, "with-dnf", "site", "--check", "--diff", *secrets)) != {}
    said = play(lab, "with-dnf", "site", "--diff", "-vvv", *secrets)
    assert [secret for secret in (PASSPHRASE, SECRET) if secret in said] == []
    assert (machine.root / "etc/stockworker/secrets/prices.yml").read_text() == SECRET
    assert "ENCRYPTED" in (machine.root / "etc/stockworker/ca/ca.key").read_text()
    run_job(machine)
    assert changes(lab, "with-dnf", *secrets) == 0
    query = ("rpm", "-q", "--queryformat", "%{VERSION} ", "stockworker", "stockworker-agent", "stockworker-dispatcher")
    assert set(machine.run(*query).split()) == {releases.FIRST.version}

    version = Releases(lab, tmp_path_factory.mktemp("releases")).publish(releases.GOOD)
    play(lab, "with-dnf", "rollout", "-e", f"repo_version={version}")
    assert set(machine.run(*query).split()) == {version}
    run_job(machine)

    play(lab, "with-dnf", "rollback", "-e", f"rollback_from={version}")
    assert set(machine.run(*query).split()) == {releases.FIRST.version}
    run_job(machine)


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("with-ufw", (("ufw", "allow", "22/tcp"), ("ufw", "--force", "enable"))),
        ("with-firewalld", (("firewall-cmd", "--state"),)),
    ],
)
def test_the_port_is_opened_in_a_firewall_that_the_machine_has(
    lab: Lab, name: str, begin: tuple[tuple[str, ...], ...]
) -> None:
    machine = lab.machines[name]
    machine.run("ip", "route", "add", f"{STRANGER}/32", "dev", "host0")
    for command in begin:
        machine.run(*command)
    machine.run("systemd-run", "--unit=early", "python3", "-m", "http.server", "8883")
    machine.wait_until(partial(listens, machine), "a program listens at the port")
    assert ports(lab, name) == {HERE: False, STRANGER: False}
    machine.run("systemctl", "stop", "early")

    play(lab, name, "site")
    run_job(machine)
    assert ports(lab, name) == {HERE: True, STRANGER: True}
    assert changes(lab, name) == 0

    limited = ("-e", json.dumps({"broker_allowed_networks": [ADDRESSES]}))
    play(lab, name, "site", *limited)
    assert ports(lab, name) == {HERE: True, STRANGER: False}
    assert changes(lab, name, *limited) == 0

    machine.power_cycle()
    machine.run("ip", "route", "add", f"{STRANGER}/32", "dev", "host0")
    machine.wait_until(partial(listens, machine), "the broker listens")
    assert ports(lab, name) == {HERE: True, STRANGER: False}

    play(lab, name, "site")
    assert ports(lab, name) == {HERE: True, STRANGER: True}
    assert changes(lab, name) == 0


def listens(machine: Guest) -> bool:
    return machine.run("ss", "-ltnH", "sport", "=", ":8883").strip() != ""


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("with-ufw", (("ufw", "delete", "allow", "8883/tcp"), ("ufw", "deny", "8883/tcp"))),
        (
            "with-firewalld",
            tuple(
                ("firewall-cmd", *where, *change)
                for where in ((), ("--permanent",))
                for change in (
                    ("--remove-port=8883/tcp",),
                    ("--add-rich-rule", 'rule family="ipv4" port port="8883" protocol="tcp" reject'),
                )
            ),
        ),
    ],
)
def test_a_rule_of_the_administrator_about_the_port_stays(
    lab: Lab, name: str, close: tuple[tuple[str, ...], ...]
) -> None:
    for command in close:
        lab.machines[name].run(*command)
    assert changes(lab, name) == 0
    assert ports(lab, name) == {HERE: False, STRANGER: False}
