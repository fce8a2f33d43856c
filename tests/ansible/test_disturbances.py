"""What happens to a fleet in its life: bad releases, new keys, cuts, reboots, another Ansible."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest
import yaml

from tests.ansible.conftest import Releases, changed, check_contained
from tests.ansible.observed import changes, contents, drained, keys, online, process_ids, reaches, run_on
from tests.ansible.uses import LIFE
from tests.harness import releases
from tests.harness.fleet_load import Load
from tests.harness.lab import MACHINES, WORKERS, Lab, address
from tests.harness.network import HERE
from tests.harness.publishing import ROOT

pytestmark = pytest.mark.timeout(3600)

ALL_ONLINE = [f"{worker}-1" for worker in WORKERS]
DEBIANS_ANSIBLE = "/root/lab"


def wait_for_workers(lab: Lab) -> None:
    hub = lab.machines["hub"]
    hub.wait_until(lambda: online(lab) == ALL_ONLINE, "all workers are online")


def test_debians_own_ansible_changes_nothing_either(fleet: Lab) -> None:
    """The playbooks need no collection and no version of Ansible that Debian 12 does not have."""
    desk = fleet.machines["desk"]
    collection = "usr/share/ansible/collections/ansible_collections/stockworker/edge"
    fleet.copy_collection(desk.root / collection)
    for file in (fleet.ssh_key, fleet.folder / "repository" / "stockworker-archive-keyring.asc"):
        desk.write(f"{DEBIANS_ANSIBLE}/{file.name}", file.read_text(), 0o600)
    text = fleet.inventory.read_text().replace(str(fleet.folder / "repository"), DEBIANS_ANSIBLE)
    desk.write(f"{DEBIANS_ANSIBLE}/inventory.yml", text.replace(str(fleet.folder), DEBIANS_ANSIBLE))
    assert "core 2.14" in desk.run("ansible", "--version")
    settings = ("env", "HOME=/root", "ANSIBLE_TIMEOUT=60", "ANSIBLE_PIPELINING=true")
    playbook = ("ansible-playbook", "-i", f"{DEBIANS_ANSIBLE}/inventory.yml", "stockworker.edge.site")
    assert changed(desk.run(*settings, *playbook, timeout_s=1200)) == dict.fromkeys(MACHINES, 0)


def test_a_preview_of_each_playbook_on_a_fleet_changes_nothing(fleet: Lab, published: Releases) -> None:
    published.publish(releases.GOOD)
    files, before = contents(fleet), (process_ids(fleet), drained(fleet))
    for use in LIFE:
        output = fleet.play(use.playbook, "--check", "--diff", *use.options)
        assert (use.playbook, changes(files, contents(fleet))) == (use.playbook, [])
        assert (use.playbook, process_ids(fleet), drained(fleet)) == (use.playbook, *before)
        if use.playbook == "rollout":
            assert "edge-3 would go from 0.1.0-0.1 to 0.2.0" in output
            assert "desk would go from 0.1.0-0.1 to 0.2.0" in output
    for worker in WORKERS:
        run_on(fleet, worker)


@pytest.mark.parametrize("release", [releases.CRASHES, releases.NEVER_REGISTERS], ids=["crashes", "never-registers"])
def test_a_release_that_does_not_start_is_contained(
    fleet: Lab, published: Releases, load: Load, release: releases.Release
) -> None:
    """With the defaults of the role, it is back in less than a minute, of which the start may take a half."""
    defaults = yaml.safe_load((ROOT / "ansible" / "roles" / "worker" / "defaults" / "main.yml").read_text())
    patience = f"worker_start_timeout_s={defaults['worker_start_timeout_s']}"
    output = check_contained(fleet, published, release, load, "-e", patience)
    assert "Wait until the workers have started" in output


def test_a_backup_is_fetched_to_the_controller(fleet: Lab) -> None:
    folder = fleet.folder / "fetched"
    fleet.play("backup", "-e", f"backup_to={folder}")
    (copy,) = folder.iterdir()
    with closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_keys_are_replaced_under_load(fleet: Lab, load: Load) -> None:
    former = keys(fleet)
    fleet.play("rotate_keys")
    assert set(load.outcomes()) == {"completed"}
    assert not former & keys(fleet)
    wait_for_workers(fleet)
    for worker in WORKERS:
        run_on(fleet, worker)


def test_only_allowed_networks_reach_the_broker(fleet: Lab) -> None:
    stranger = "10.98.0.1"
    fleet.network.add_address(f"{stranger}/24")
    fleet.machines["hub"].run("ip", "route", "add", f"{stranger}/32", "dev", "host0")
    assert {
        source: [reaches(fleet, source, address("hub"), port) for port in (22, 8883)] for source in (HERE, stranger)
    } == {
        HERE: [True, True],
        stranger: [True, False],
    }


def test_a_machine_that_was_cut_off_comes_back(fleet: Lab, load: Load) -> None:
    edge, hub = fleet.machines["edge-2"], fleet.machines["hub"]
    port = int(edge.run("cat", "/sys/class/net/host0/iflink"))
    fleet.network.set_cable(port, "down")
    hub.wait_until(lambda: "edge-2-1" not in online(fleet), "edge-2 is missed")
    fleet.network.set_cable(port, "up")
    wait_for_workers(fleet)
    run_on(fleet, "edge-2")
    assert set(load.outcomes()) == {"completed"}


def test_the_fleet_survives_the_reboot_of_each_machine(fleet: Lab) -> None:
    for name in MACHINES:
        fleet.machines[name].power_cycle()
        fleet.machines["hub"].wait_until(partial(is_complete, fleet), f"the fleet is complete after {name}")
    for worker in WORKERS:
        run_on(fleet, worker)


def is_complete(lab: Lab) -> bool:
    done = lab.machines["desk"].try_run("stockworker", "stats", "--json")
    return done.returncode == 0 and online(lab) == ALL_ONLINE
