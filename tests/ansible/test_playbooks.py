"""Each playbook can be previewed on bare machines, be killed at any task and run again, and then has nothing left to do."""

import os
import random

import pytest

from tests.ansible.conftest import Releases, changed, play_until_task
from tests.ansible.observed import changes, check_effect, contents, run_on
from tests.ansible.uses import LIFE, Use
from tests.harness import releases
from tests.harness.lab import Lab
from tests.harness.publishing import ROOT

pytestmark = pytest.mark.timeout(3600)


def test_all_playbooks_are_used() -> None:
    assert {use.playbook for use in LIFE} == {file.stem for file in (ROOT / "ansible" / "playbooks").glob("*.yml")}


def test_a_preview_of_each_playbook_on_bare_machines_changes_nothing(bare: Lab) -> None:
    before = contents(bare)
    for use in LIFE:
        bare.play(use.playbook, "--check", "--diff", *use.options)
        assert (use.playbook, changes(before, contents(bare))) == (use.playbook, [])


@pytest.mark.parametrize("use", LIFE, ids=lambda use: use.playbook)
def test_a_killed_playbook_is_finished_by_its_next_run(bare: Lab, published: Releases, use: Use) -> None:
    """Ansible is killed at a random task, and in the next run at a later one. The last run finishes what they began."""
    if use.playbook == "rollout":
        published.publish(releases.GOOD)  # not earlier: `site` installs the newest release
    chance = random.Random(f"{os.environ.get('STOCKWORKER_SEED', '1')} {use.playbook}")  # noqa: S311 (chooses tasks)
    for tasks in (chance.randint(1, 12), chance.randint(12, 40)):
        was_killed = play_until_task(bare, tasks, use.playbook, *use.options)
        print(f"{use.playbook}: {'killed at' if was_killed else 'ended before'} task {tasks}")
    check_effect(bare, use.playbook, bare.play(use.playbook, *use.options))
    if use.settles:
        output = bare.play(use.playbook, *use.options)
        assert set(changed(output).values()) == {0}, output


def test_the_fleet_that_remains_completes_jobs(bare: Lab) -> None:
    for worker in ("edge-1", "edge-2"):
        run_on(bare, worker)
