"""What a service logs about its surroundings: events that only real processes and a real broker cause."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stockworker.client import Client
from tests.harness.fleet import Fleet, owned, python_handlers
from tests.harness.jobs import as_client


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    settings: dict[str, Any] = {"handlers": python_handlers("echo"), "log": {"format": "json", "level": "debug"}}
    with Fleet(tmp_path / "fleet", workers=1, settings=settings, broker_changes={"set_tcp_nodelay": None}) as fleet:
        yield fleet


def test_the_dispatcher_logs_a_slow_broker_each_step_of_a_job_and_a_warning(fleet: Fleet) -> None:
    fleet.dispatcher.await_event("broker_delays")

    async def submit(client: Client) -> str:
        return await client.submit("echo", {"n": 1})

    job_id = as_client(fleet, submit)
    fleet.dispatcher.await_event("job_moved", job=owned(job_id), state="completed")

    with fleet.config_file("dispatcher").open("a") as file:
        file.write("another_program: {}\n")
    fleet.dispatcher.kill()
    fleet.dispatcher.start()
    warning = fleet.dispatcher.await_event("config_warning")
    assert "another_program" in warning["problem"]
