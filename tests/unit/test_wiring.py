"""From the configuration to the settings of the parts."""

from pathlib import Path

import pytest

from stockworker.cli.wiring import service_link
from stockworker.client import link_settings
from stockworker.config import load


@pytest.mark.parametrize(("configured", "of_clients", "of_services"), [("60s", 60, 10), ("5s", 5, 5)])
def test_a_service_notices_soon_that_it_was_cut_off(
    tmp_path: Path, configured: str, of_clients: int, of_services: int
) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text(f"job_processor: {{queue: {{mqtt: {{keepalive: {configured}}}}}}}")
    config = load(file)
    assert link_settings(config, "someone").keepalive_s == of_clients
    assert service_link(config, "dispatcher").keepalive_s == of_services
