"""Files of private keys: what is in them, and who may read them."""

import os
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stockworker.errors import ConfigError
from stockworker.sealing import keys

MAY = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "desk-1.pem"


def test_an_identity_has_a_key_to_sign_and_one_to_open(file: Path) -> None:
    made = keys.create(file, MAY, identity=True)

    assert (len(made.signing), len(made.opening)) == (1, 1)
    assert made.signing[0].created == made.opening[0].created == MAY
    assert keys.load(file) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_group_has_a_key_to_open(file: Path) -> None:
    made = keys.create(file, MAY, identity=False)
    assert (len(made.signing), len(made.opening)) == (0, 1)


@pytest.mark.parametrize("identity", [True, False])
def test_a_new_generation_comes_first_and_the_old_one_stays(file: Path, *, identity: bool) -> None:
    old = keys.create(file, MAY, identity=identity)
    both = keys.add_generation(file, JUNE)

    assert both.opening[1:] == old.opening
    assert both.signing[1:] == old.signing
    assert [key.created for key in both.opening] == [JUNE, MAY]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_openssl_reads_it(file: Path) -> None:
    made = keys.create(file, MAY, identity=True)
    done = subprocess.run(
        ["openssl", "pkey", "-in", file, "-pubout", "-outform", "DER"], capture_output=True, check=True
    )
    assert done.stdout.endswith(made.signing[0].public)


def test_nothing_is_overwritten(file: Path) -> None:
    keys.create(file, MAY, identity=True)
    with pytest.raises(ConfigError, match="already exists"):
        keys.create(file, MAY, identity=True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_keys_that_others_can_read_are_refused(file: Path, mode: int) -> None:
    keys.create(file, MAY, identity=True)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=r"other users can read these private keys. Run 'chmod 600 "):
        keys.load(file)


def test_keys_of_another_user_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.create(file, MAY, identity=True)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o100600, 0, 0, 1, 65533, 0, 0, 0, 0, 0)))
    with pytest.raises(ConfigError, match=f"Run 'chown root {file}' as root"):
        keys.load(file)


def test_a_credential_of_systemd_has_the_modes_that_systemd_gives(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.create(file, MAY, identity=True)
    file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(file.parent))
    assert keys.load(file).signing


def pem(content: str) -> str:
    return f"-----BEGIN PRIVATE KEY-----\n{content}\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "contains no private key in PEM format; move it away, and "),
        ("hello", "contains no private key"),
        (pem("AAAA"), "private key"),
        (pem("not base64!"), "private key"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "keys.pem"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=problem):
        keys.load(file)


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="neither Ed25519 nor X25519"):
        keys.load(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="can't read the private keys: No such file"):
        keys.load(file)


def test_comments_are_for_people(file: Path) -> None:
    made = keys.create(file, MAY, identity=True)
    file.write_text("made by Eve\n# created some day\n" + file.read_text() + "\nthe end")
    assert keys.load(file) == made
    assert keys.load(file).signing[0].created == MAY


def test_a_folder_that_can_not_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(ConfigError, match=r"keys: can't be created: "):
        keys.create(tmp_path / "keys" / "w1.key", MAY, identity=True)
