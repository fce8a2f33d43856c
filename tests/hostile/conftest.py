"""One real fleet for each file of attacks; the file is named after the attacker."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.attacks import EVIL_CLIENT
from tests.harness.fleet import Fleet, python_handlers


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    handlers = python_handlers("echo", "wait_for_cancel", "wait_for_file")
    settings: dict[str, Any] = {"handlers": handlers, "log": {"level": "debug"}}
    with Fleet(tmp_path_factory.mktemp("fleet"), settings=settings, clients=("client", EVIL_CLIENT)) as fleet:
        yield fleet
