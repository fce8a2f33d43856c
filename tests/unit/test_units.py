"""Units of systemd that must agree with each other."""

import re
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


def paths(file: str, key: str) -> set[str]:
    return set(re.findall(rf"^{key}=.*?(/etc/\S+)$", (UNITS / file).read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "file",
    [
        "stockworker@.service",
        "stockworker-dispatcher.service",
        "stockworker-join.service",
        "stockworker-web.service",
        "mosquitto.service.d/stockworker.conf",
    ],
)
def test_no_service_takes_the_memory_of_its_whole_machine(file: str) -> None:
    assert re.findall(r"^MemoryMax=(?:[1-9]\d?%|\d+[GM])$", (UNITS / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("unit", "name"), [("stockworker@.path", "%H-%i"), ("stockworker-dispatcher.path", "dispatcher")]
)
def test_a_service_that_waits_for_its_files_starts_with_the_last_of_them(unit: str, name: str) -> None:
    """Files arrive in any order. A path unit that watched one of them would start the service too early, and never again."""
    needed = {each.replace("%H-%i", name) for each in paths("examples/late-certificates.conf", "ExecCondition")}
    assert len(needed) == 3
    assert paths(unit, "PathChanged") == needed
