"""A fleet whose payloads are sealed: set up, and rotate the keys while jobs flow."""

import json

import pytest

from tests.ansible.conftest import changed
from tests.ansible.observed import PAYLOAD, changes, check_effect, contents, run_on
from tests.harness.fleet_load import Load
from tests.harness.lab import WORKERS, Lab

pytestmark = pytest.mark.timeout(3600)

GROUPS = [{"name": "all", "types": ["canary", "technical_analysis"]}]
SEALED = ("-e", json.dumps({"sealing_groups": GROUPS, "sealing_starts_in": "4m"}))
"""The new keys become valid after the longest time that the playbook needs to bring them to all machines."""


@pytest.fixture(scope="module")
def sealed(fleet: Lab) -> Lab:
    """The fleet with keys."""
    fleet.play("site", *SEALED)
    return fleet


def key_states(lab: Lab) -> list[str]:
    listed = lab.machines["desk"].run("stockworker", "keys", "list", "--json").splitlines()
    return [json.loads(line)["state"] for line in listed]


def test_keys_of_sealed_payloads_are_replaced_under_load(sealed: Lab) -> None:
    desk = sealed.machines["desk"]
    assert set(changed(sealed.play("site", *SEALED)).values()) == {0}
    for worker in WORKERS:
        run_on(sealed, worker)
    before = key_states(sealed)
    assert before == ["active"] * (1 + len(WORKERS) + 1), "a group, workers and the operator"

    with Load(desk) as load:
        desk.run("stockworker", "pause", "canary")
        waits = desk.run("stockworker", "submit", "canary", json.dumps(PAYLOAD)).split()[0]
        sealed.play("rotate_keys", *SEALED)
        desk.wait_until(lambda: set(key_states(sealed)) == {"active"}, "the new keys are valid")
        assert len(key_states(sealed)) == 2 * len(before)
        for worker in WORKERS:
            run_on(sealed, worker)
        desk.run("stockworker", "resume", "canary")
        assert '"value":3.0' in desk.run("stockworker", "result", waits, "--wait")
        assert set(load.outcomes()) == {"completed"}
    keyrings = {(sealed.machines[name].root / "etc/stockworker/keyring").read_text() for name in ("desk", *WORKERS)}
    assert len(keyrings) == 1


def keyring_of(lab: Lab, *machines: str) -> str:
    """The keyring, which is the same on these machines."""
    (found,) = {(lab.machines[name].root / "etc/stockworker/keyring").read_text() for name in machines}
    return found


def current_group_key(lab: Lab) -> str:
    """The key that a submitter seals to now."""
    listed = map(json.loads, lab.machines["desk"].run("stockworker", "keys", "list", "--json").splitlines())
    active = [row for row in listed if row.get("holder") == "group" and row["state"] == "active"]
    return str(max(active, key=lambda row: row.get("not_before", 0.0))["sealing"])


def ids_of(lab: Lab, machine: str) -> set[str]:
    """The IDs of the group's private keys on a machine."""
    show = ("stockworker", "keys", "list", "--json", "--file", "/etc/stockworker/sealing/group-all.pem")
    listed = map(json.loads, lab.machines[machine].run("runuser", "-u", "stockworker", "--", *show).splitlines())
    return {row["sealing"] for row in listed if "private" in row}


def test_a_preview_of_a_revocation_changes_no_key(sealed: Lab) -> None:
    before = contents(sealed)
    sealed.play("revoke", "--check", "--diff", *SEALED, "-e", '{"revoke_names": ["edge-2-1"]}')
    assert changes(before, contents(sealed)) == []


def test_a_revoked_worker_can_open_no_later_job(sealed: Lab) -> None:
    """Under load, while its machine can't be reached."""
    former = current_group_key(sealed)
    revoke = (*SEALED, "-e", '{"revoke_names": ["edge-2-1"]}')
    edge = sealed.machines["edge-2"]
    assert former in ids_of(sealed, "edge-2")
    edge.run("systemctl", "stop", "ssh.socket", "ssh")
    with Load(sealed.machines["desk"]) as load:
        sealed.play("revoke", *revoke)
        assert set(load.outcomes()) == {"completed"}
    edge.run("systemctl", "start", "ssh")
    check_effect(sealed, "revoke", "")

    assert "worker edge-2-1 " not in keyring_of(sealed, "desk", "edge-1", "edge-3")
    later = current_group_key(sealed)
    assert later != former
    assert [later in ids_of(sealed, name) for name in WORKERS] == [True, False, True]
    assert set(changed(sealed.play("revoke", *revoke)).values()) == {0}
    assert later not in ids_of(sealed, "edge-2"), "although its machine can be reached again"
    for worker in ("edge-1", "edge-3"):
        run_on(sealed, worker)

    sealed.play("readmit", *SEALED, "--limit", "edge-2")
    sealed.play("site", *SEALED)
    for worker in WORKERS:
        run_on(sealed, worker)


def test_a_removed_machine_leaves_the_keyring(sealed: Lab) -> None:
    former = current_group_key(sealed)
    sealed.play("remove_machine", *SEALED, "-e", "remove_name=edge-3")
    assert "worker edge-3-1 " not in keyring_of(sealed, "desk", "edge-1", "edge-2")
    assert current_group_key(sealed) != former
    assert list((sealed.machines["edge-3"].root / "etc/stockworker/sealing").glob("*.pem")) == []
    assert list((sealed.machines["desk"].root / "etc/stockworker/keys").glob("worker-edge-3-1.pem")) == []
    for worker in ("edge-1", "edge-2"):
        run_on(sealed, worker)
