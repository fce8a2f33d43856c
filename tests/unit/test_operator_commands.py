"""The name of a worker on the command line: its ID, or an instance of this machine."""

from pathlib import Path

import pytest

from stockworker.cli.operator_commands import worker_ids
from stockworker.config import instances


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A machine with an instance that has a file of its own."""
    main = tmp_path / "job_processor.yml"
    main.write_text("job_processor: {}\n")
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "gpu.yml").write_text("job_processor: {worker: {id: edge-7-gpu}}\n")
    return main


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"nodename": "edge-7"}))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("edge-8-1", "edge-8-1"), ("1", "edge-7-1"), ("12", "edge-7-12"), ("gpu", "edge-7-gpu"), ("cpu", "cpu")],
)
def test_a_worker_is_named_by_its_id_or_its_instance(config: Path, name: str, meant: str) -> None:
    assert worker_ids([name], {"edge-8-1"}, config) == [meant]


@pytest.mark.parametrize("name", ["1", "gpu"])
def test_a_known_worker_goes_before_an_instance(config: Path, name: str) -> None:
    assert worker_ids([name], {name}, config) == [name]


def test_a_machine_may_have_no_instances_of_its_own(tmp_path: Path) -> None:
    assert instances(tmp_path / "job_processor.yml") == []
