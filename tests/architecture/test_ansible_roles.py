"""The roles of the Ansible collection: each variable is documented, and has one default."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.pages import roles
from repository import apt
from repository.__main__ import REPO, SOURCES

ROOT = Path(roles.ROLES).parents[1]


def defaults(role: str) -> dict[str, Any]:
    return dict(yaml.safe_load((roles.ROLES / role / "defaults" / "main.yml").read_text()))


def options(role: str) -> dict[str, Any]:
    entries = roles.specification(role).values()
    return {name: option for entry in reversed(entries) for name, option in entry.get("options", {}).items()}


@pytest.mark.parametrize("role", roles.names())
def test_each_default_is_the_documented_one(role: str) -> None:
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert defaults(role) == documented


@pytest.mark.parametrize("role", roles.names())
def test_the_variables_of_a_role_begin_with_its_name(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", roles.names())
def test_each_entry_point_that_is_specified_exists(role: str) -> None:
    tasks = {file.stem for file in (roles.ROLES / role / "tasks").glob("*.yml")}
    assert set(roles.specification(role)) <= tasks


def test_the_collection_has_the_version_of_the_product() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert yaml.safe_load((ROOT / "ansible" / "galaxy.yml").read_text())["version"] == version


@pytest.mark.parametrize(
    ("tool", "settings"),
    [
        ("apt", SOURCES.format(url="{{ repo_url }}", suite=apt.SUITE, component=apt.COMPONENT)),
        ("dnf", REPO.format(url="{{ repo_url }}")),
    ],
    ids=["apt", "dnf"],
)
def test_machines_name_the_repository_as_the_publisher_does(tool: str, settings: str) -> None:
    """tests/packages installs with what the publisher writes, by both tools."""
    tasks = yaml.safe_load((roles.ROLES / "repo" / "tasks" / f"{tool}.yml").read_text())
    assert tasks[-1]["ansible.builtin.copy"]["content"] == settings


def test_only_modules_that_come_with_ansible_are_used() -> None:
    """Debian's ansible-core has no other collection."""
    used = {
        name
        for file in (ROOT / "ansible").rglob("*.yml")
        for name in re.findall(r"^\s+([a-z_]+\.[a-z_]+\.[a-z_]+):", file.read_text(), re.MULTILINE)
    }
    assert {name for name in used if not name.startswith(("ansible.builtin.", "stockworker.edge."))} == set()


def test_no_step_depends_on_a_change_of_the_same_run() -> None:
    """A handler, or `when: … is changed`, is lost with a run that is killed: the next run changes nothing any longer.

    Services compare times instead (`applied`). In a preview nothing was changed, so there such a condition is right.
    """
    assert list((ROOT / "ansible").rglob("handlers")) == []
    lines = (line for file in (ROOT / "ansible").rglob("*.yml") for line in file.read_text().splitlines())
    lost = [line for line in lines if re.search(r"\b(notify:|is changed\b|changed_when: .* is changed)", line)]
    assert [line for line in lost if "ansible_check_mode and" not in line] == []
