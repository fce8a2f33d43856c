"""The identity of a machine at the broker, from configuration and certificate."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.adapters.tls import common_name
from stockworker.cli import main
from stockworker.cli.identity import Participant, identify
from stockworker.client import client_name
from stockworker.config import Config, load
from stockworker.errors import ConfigError
from stockworker.pki.certificates import Authority, Subject
from stockworker.protocol.topics import Role
from stockworker.terminal.findings import Finding

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The certificate of alice."""
    return Authority.create("Fleet", NOW).issue(Subject("alice"), NOW).save(tmp_path, "alice")[0]


def configured(certificate: Path, more: str = "") -> Config:
    file = certificate.parent / "job_processor.yml"
    tls = f"{{cert_file: {certificate}, key_file: {certificate.with_suffix('.key')}}}"
    file.write_text(f"job_processor:\n  tls: {tls}\n{more}")
    return load(file)


def test_who_submits_is_whoever_the_certificate_names(certificate: Path) -> None:
    config = configured(certificate)
    assert client_name(config) == "alice"
    assert identify(config, None) == identify(config, Role.CLIENT) == Participant("alice", Role.CLIENT)


def test_a_certificate_of_the_worker_is_the_workers(certificate: Path) -> None:
    config = configured(certificate, "  worker: {id: alice}\n")
    assert identify(config, None) == Participant("alice", Role.WORKER)


def test_what_is_configured_goes_before_the_certificate_and_is_told_to_be_wrong(certificate: Path) -> None:
    config = configured(certificate, "  client: {id: bob}\n")
    assert client_name(config) == "bob"
    who = identify(config, Role.CLIENT)
    assert isinstance(who, Finding)
    assert "is the certificate of 'alice', but client.id is 'bob'" in who.text
    assert who.text.index("Set tls.cert_file") < who.text.index("set the ID to 'alice'")


@pytest.mark.parametrize("role", [Role.WORKER, Role.DISPATCHER])
def test_a_service_has_an_id_of_its_own(certificate: Path, role: Role) -> None:
    assert isinstance(identify(configured(certificate), role), Finding)


def with_password(folder: Path, more: str = "") -> Config:
    file, password = folder / "job_processor.yml", folder / "password"
    file.write_text(f"job_processor:\n  queue: {{mqtt: {{username: edge-1, password_file: {password}}}}}\n{more}")
    return load(file)


def test_with_a_password_the_user_name_says_who_we_are(tmp_path: Path) -> None:
    config = with_password(tmp_path, "  worker: {id: edge-1}\n  client: {id: edge-1}\n")
    assert identify(config, None) == Participant("edge-1", Role.CLIENT)
    assert identify(config, Role.WORKER) == Participant("edge-1", Role.WORKER)


def test_several_ids_may_share_a_user_name(tmp_path: Path) -> None:
    """Only the broker's access control list decides that. To change the ID would make two workers of one ID."""
    config = with_password(tmp_path, "  worker: {id: edge-2}\n")
    assert identify(config, Role.WORKER) == Participant("edge-2", Role.WORKER)


def test_without_a_certificate_user_and_machine_make_the_name(tmp_path: Path) -> None:
    file = tmp_path / "job_processor.yml"
    file.write_text("job_processor: {}")
    config = load(file)
    assert client_name(config) == config.client.id


def test_a_name_that_is_no_id_has_to_be_replaced(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(Authority.create("An authority", NOW).certificate_pem)
    with pytest.raises(
        ConfigError, match=r"ca\.crt: the common name is not a valid ID: .*Set 'client\.id', or issue another"
    ):
        client_name(configured(file))


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_certificate(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "none.crt"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"none\.crt: not a client certificate in PEM form"):
        common_name(file)


def test_a_check_warns_of_a_shared_user_name_and_does_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = with_password(tmp_path, "  worker: {id: edge-2}\n")
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o600)
    main(["--config", str(tmp_path / "job_processor.yml"), "check", "--offline", "--role", "worker"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "  identity  " in line]
    assert identify(config, Role.WORKER) == Participant("edge-2", Role.WORKER)
    assert [line.split()[0] for line in lines] == ["warn"]
    assert "Give each ID its own user name" in lines[0]
