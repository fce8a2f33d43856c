"""Which configuration commands read: a person's own one, or that of the services."""

from pathlib import Path

import pytest

from stockworker.client import Client
from stockworker.config import client_path, client_places, loading


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(loading, "CLIENT_PATH", tmp_path / "etc/client.yml")
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "etc/job_processor.yml")
    for name in ("STOCKWORKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("job_processor: {client: {id: alice}}\n")
    return file


def test_without_an_own_file_it_is_that_of_the_services() -> None:
    assert client_path() is None


def test_a_person_may_have_an_own_file(home: Path) -> None:
    own = write(home / ".config/stockworker/client.yml")
    assert client_path() == own
    assert Client.from_config()._client_id == "alice"


def test_the_folder_of_configurations_may_be_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".config/stockworker/client.yml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "elsewhere"))
    assert client_path() is None
    write(home / "elsewhere/stockworker/client.yml")
    assert client_path() == home / "elsewhere/stockworker/client.yml"


def test_a_folder_that_is_relative_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(home / ".config/stockworker/client.yml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert client_path() == own


def test_the_environment_goes_before_all_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".config/stockworker/client.yml")
    monkeypatch.setenv("STOCKWORKER_CONFIG", "/srv/fleet.yml")
    assert client_path() == Path("/srv/fleet.yml")
    monkeypatch.setenv("STOCKWORKER_CONFIG", "")
    assert client_path() == home / ".config/stockworker/client.yml"


def test_a_path_may_be_text(home: Path) -> None:
    file = write(home / "fleet.yml")
    assert Client.from_config(str(file))._client_id == "alice"


def test_the_machine_may_have_one_for_all_its_users(home: Path) -> None:
    shared = write(home / "etc/client.yml")
    assert client_path() == shared
    own = write(home / ".config/stockworker/client.yml")
    assert client_path() == own


def test_a_file_with_its_former_name_is_read(home: Path) -> None:
    write(home / "etc/client.yml")
    former = write(home / ".config/stockworker/stockworker.yml")
    assert client_path() == former


def test_an_error_lists_the_places_if_none_has_a_file(home: Path) -> None:
    assert client_places() == (
        f"$STOCKWORKER_CONFIG (not set), {home}/.config/stockworker/client.yml, {home}/etc/client.yml, "
        f"{home}/etc/job_processor.yml"
    )
    for name in ("etc/job_processor.yml", "etc/client.yml", ".config/stockworker/client.yml"):
        file = write(home / name)
        assert client_places() == ""
        file.unlink()
