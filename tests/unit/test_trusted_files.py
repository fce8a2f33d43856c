"""Files that decide about trust: only those are opened that root or this user alone can have written."""

import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from stockworker.errors import ConfigError
from stockworker.trusted_files import open_trusted
from tests.harness.advice import follows

DAEMON = 1  # the same user on every Linux machine


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "it's a list of keys"  # a name that a shell needs in quotes
    file.write_text("trust")
    file.chmod(0o644)
    return file


def content(file: Path, *, private: bool = False) -> bytes:
    with open_trusted(file, private=private) as opened:
        return opened.read()


def refusal(file: Path, *, private: bool = False) -> str:
    with pytest.raises(ConfigError) as refused:
        open_trusted(file, private=private)
    assert str(refused.value).startswith(f"{file}: ")
    return str(refused.value)


def remedy(text: str) -> list[str]:
    """The command that an error text proposes."""
    return shlex.split(text.partition("Run '")[2].removesuffix(" as root").removesuffix("'"))


def owned_by(monkeypatch: pytest.MonkeyPatch, owner: int) -> None:
    """Let files seem to belong to a user; only root could give them away."""
    real = os.fstat

    def as_if(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[stat.ST_UID] = owner
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", as_if)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o444, 0o755])
def test_a_file_that_only_its_owner_can_write_is_opened(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert content(file) == b"trust"


@pytest.mark.parametrize("mode", [0o664, 0o660, 0o646, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused_until_the_remedy_was_applied(file: Path, mode: int) -> None:
    file.chmod(mode)
    text = refusal(file)

    assert "other users than its owner can write it" in text
    subprocess.run(remedy(text), check=True)
    assert content(file) == b"trust"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_private_keys_that_others_can_read_are_refused_until_the_remedy_was_applied(file: Path, mode: int) -> None:
    file.chmod(mode)
    text = refusal(file, private=True)

    assert "other users can read these private keys" in text
    subprocess.run(remedy(text), check=True)
    assert content(file, private=True) == b"trust"


@follows("Run 'chown root …' as root")
@pytest.mark.parametrize("private", [True, False])
def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch, *, private: bool) -> None:
    file.chmod(0o600)
    owned_by(monkeypatch, DAEMON)
    text = refusal(file, private=private)

    assert "belongs to user daemon, but must belong to root" in text
    assert remedy(text) == ["chown", "root", str(file)]
    owned_by(monkeypatch, 0)  # the remedy
    assert content(file, private=private) == b"trust"


def test_root_is_told_how_to_use_the_private_key_of_a_service(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keys of a service, `chown root` would stop the service."""
    file.chmod(0o600)
    owned_by(monkeypatch, DAEMON)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "If it is the key of a service, run this command as user daemon with 'runuser'" in refusal(
        file, private=True
    )
    assert "runuser" not in refusal(file)
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)  # the remedy
    assert content(file, private=True) == b"trust"


def test_a_service_reads_files_of_root_and_its_own_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: DAEMON)
    for owner in (0, DAEMON):
        owned_by(monkeypatch, owner)
        assert content(file) == b"trust"
    owned_by(monkeypatch, 65533)
    assert "belongs to user 65533, but must belong to root or user daemon, who runs this program" in refusal(file)


def test_the_file_behind_a_link_is_judged(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert content(link) == b"trust"

    file.chmod(0o664)
    subprocess.run(remedy(refusal(link)), check=True)
    assert content(link) == b"trust"


def test_a_file_that_is_replaced_after_it_was_opened_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open file is judged, so there is no moment between the check and the reading."""
    real = os.fstat

    def swapped(descriptor: int) -> os.stat_result:
        evil = file.with_name("evil")
        evil.write_text("evil")
        evil.chmod(0o666)
        evil.replace(file)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", swapped)
    assert content(file) == b"trust"


@pytest.mark.timeout(30)
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        assert "is not a regular file" in refusal(path)
    with pytest.raises(FileNotFoundError):
        open_trusted(tmp_path / "missing")


def test_a_credential_of_systemd_has_the_owner_and_mode_that_systemd_gives(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.chmod(0o440)
    owned_by(monkeypatch, DAEMON)
    refusal(file, private=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert content(file, private=True) == b"trust"
