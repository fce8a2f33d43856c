"""The collection passes the strictest profile of ansible-lint, and its example inventories can be read."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.lab import TOOLS
from tests.harness.publishing import ROOT

EXAMPLES = ROOT / "ansible" / "inventories"


def run(tmp_path: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "PATH": f"{TOOLS}:{os.environ['PATH']}",
        "ANSIBLE_HOME": str(tmp_path),
        "NO_COLOR": "1",
    }
    program, *arguments = command
    return subprocess.run(
        [TOOLS / program, *arguments],
        cwd=ROOT / "ansible",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_the_collection_follows_the_rules_for_production(tmp_path: Path) -> None:
    done = run(tmp_path, "ansible-lint", "--offline", "--profile", "production")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failure(s), 0 warning(s)" in done.stderr


@pytest.mark.parametrize(("name", "machines"), [("one", 1), ("three", 2), ("hundred", 100)])
def test_an_example_inventory_has_its_machines(tmp_path: Path, name: str, machines: int) -> None:
    done = run(tmp_path, "ansible-inventory", "-i", str(EXAMPLES / name), "--list")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    workers = found["workers"]
    groups = [workers, *(found[child] for child in workers.get("children", []))]
    assert sum(len(group.get("hosts", [])) for group in groups) == machines


def test_the_vault_example_has_each_secret(tmp_path: Path) -> None:
    """What an inventory reads from the vault is in the example."""
    done = run(tmp_path, "ansible-inventory", "-i", str(EXAMPLES / "hundred"), "--host", "edge-001.berlin.example.org")
    variables = json.loads(done.stdout)
    wanted = {name for text in map(str, variables.values()) for name in variables if name in text}
    assert {name for name in variables if name.startswith("vault_")} <= wanted
