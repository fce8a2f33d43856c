"""A fleet whose payloads are sealed: set up, and rotate the keys while jobs flow."""

import json

import pytest

from tests.ansible.conftest import changed
from tests.ansible.observed import PAYLOAD, run_on
from tests.harness.fleet_load import Load
from tests.harness.lab import WORKERS, Lab

pytestmark = pytest.mark.timeout(3600)

GROUPS = [{"name": "all", "types": ["canary", "technical_analysis"]}]
SEALED = ("-e", json.dumps({"sealing_groups": GROUPS, "sealing_starts_in": "4m"}))
"""The new keys become valid after the longest time that the playbook needs to bring them to all machines."""


def key_states(lab: Lab) -> list[str]:
    listed = lab.machines["desk"].run("stockworker", "keys", "list", "--json").splitlines()
    return [json.loads(line)["state"] for line in listed]


def test_keys_of_sealed_payloads_are_replaced_under_load(fleet: Lab) -> None:
    desk = fleet.machines["desk"]
    fleet.play("site", *SEALED)
    assert set(changed(fleet.play("site", *SEALED)).values()) == {0}
    for worker in WORKERS:
        run_on(fleet, worker)
    before = key_states(fleet)
    assert before == ["active"] * (1 + len(WORKERS) + 1), "a group, workers and the operator"

    with Load(desk) as load:
        desk.run("stockworker", "pause", "canary")
        waits = desk.run("stockworker", "submit", "canary", json.dumps(PAYLOAD)).split()[0]
        fleet.play("rotate_keys", *SEALED)
        desk.wait_until(lambda: set(key_states(fleet)) == {"active"}, "the new keys are valid")
        assert len(key_states(fleet)) == 2 * len(before)
        for worker in WORKERS:
            run_on(fleet, worker)
        desk.run("stockworker", "resume", "canary")
        assert '"value":3.0' in desk.run("stockworker", "result", waits, "--wait")
        assert set(load.outcomes()) == {"completed"}
    keyrings = {(fleet.machines[name].root / "etc/stockworker/keyring").read_text() for name in ("desk", *WORKERS)}
    assert len(keyrings) == 1
