"""An attacker who may write one of the files that decide about trust, as a member of its group: no program accepts the file.

Each error names the file and a command. The tests run that command, and the file is accepted.
"""

import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker import config
from stockworker.adapters import clock
from stockworker.cli import main
from stockworker.cli.dispatcher import denied_workers
from stockworker.errors import ConfigError
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.exits import Exit

WRITABLE = 0o020
REMEDY = re.compile(r"Run '(chmod go-w [^']+)'")


def follow(error: str, file: Path) -> None:
    """Run the command that an error about a file names."""
    assert str(file) in error
    assert "other users" in error
    found = REMEDY.search(error)
    assert found, error
    subprocess.run(shlex.split(found[1]), check=True)


def is_refused_until_mended(file: Path, use: Callable[[], object]) -> None:
    use()
    file.chmod(file.stat().st_mode | WRITABLE)
    with pytest.raises(ConfigError) as refused:
        use()
    follow(str(refused.value), file)
    use()


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["job_processor.yml", "job_processor.d/10-a.yml", "instances/1.yml"])
def test_a_configuration_that_others_can_write_is_refused(tmp_path: Path, name: str) -> None:
    main_file = tmp_path / "job_processor.yml"
    for each in (main_file, tmp_path / "job_processor.d" / "10-a.yml", tmp_path / "instances" / "1.yml"):
        each.parent.mkdir(exist_ok=True)
        each.write_text("job_processor: {worker: {max_concurrent_jobs: 1}}")
    is_refused_until_mended(tmp_path / name, lambda: config.load(main_file, "1"))


SECRETS: dict[str, Callable[[config.Config], object]] = {
    "queue: {{mqtt: {{username: a, password_file: {file}}}}}": lambda loaded: loaded.queue.mqtt.read_password(),
    "market_data: {{location_file: {file}}}": lambda loaded: loaded.market_data.read_location(),
    "handlers: {{prices: {{settings_file: {file}}}}}": lambda loaded: [
        each.read_settings(name) for name, each in loaded.handlers.items()
    ],
    "dispatcher: {{denied_workers_file: {file}}}": denied_workers,
}


@pytest.mark.parametrize("section", SECRETS)
def test_a_file_that_the_configuration_names_is_refused_if_others_can_write_it(tmp_path: Path, section: str) -> None:
    named = tmp_path / "named"
    named.write_text("key: value\n" if "settings" in section else "/market\n" if "market" in section else "edge-1\n")
    named.chmod(0o640)
    main_file = tmp_path / "job_processor.yml"
    main_file.write_text(f"job_processor:\n  {section.format(file=named)}\n")
    is_refused_until_mended(named, lambda: SECRETS[section](config.load(main_file)))


# --- the authority ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ca.crt", "issued.jsonl", "crl.pem", "issued/edge-1.crt"])
def test_an_authority_with_a_file_that_others_can_write_signs_nothing(tmp_path: Path, name: str) -> None:
    authority = AuthorityFolder(tmp_path, datetime.fromtimestamp(clock.wall(), UTC))
    authority.create("Fleet")
    authority.issue(CertificateKind.WORKER, Subject("edge-1"))

    def work() -> None:
        authority.renew("edge-1")
        authority.write_crl()

    file = tmp_path / name
    work()
    file.chmod(file.stat().st_mode | WRITABLE)
    with pytest.raises(ConfigError) as refused:
        work()
    follow(str(refused.value), file)
    work()


def test_a_key_of_an_authority_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    authority = AuthorityFolder(tmp_path, datetime.fromtimestamp(clock.wall(), UTC))
    authority.create("Fleet")
    (tmp_path / "ca.key").chmod(0o640)
    with pytest.raises(ConfigError, match=rf"ca\.key: other users .*Run 'chmod 600 {tmp_path / 'ca.key'}'"):
        authority.write_crl()


def test_a_certificate_that_others_can_write_is_not_inspected(tmp_path: Path) -> None:
    authority = AuthorityFolder(tmp_path, datetime.fromtimestamp(clock.wall(), UTC))
    authority.create("Fleet")
    is_refused_until_mended(tmp_path / "ca.crt", lambda: inspect(tmp_path / "ca.crt"))


def test_a_list_in_force_that_others_can_write_may_lack_names_and_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "acl"
    file.write_text("user mallory\n")
    file.chmod(0o664)
    assert main(["acl", "--in-force", str(file)]) == Exit.CONFIG
    follow(capsys.readouterr().err, file)
    assert main(["acl", "--in-force", str(file)]) == Exit.OK
    assert "# removed\nuser mallory\n" in capsys.readouterr().out


# --- the broker -------------------------------------------------------------------------------------------------------


def test_a_broker_is_not_set_up_with_files_that_others_can_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "etc" / "mosquitto"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "mosquitto.conf").write_text("include_dir /etc/mosquitto/conf.d\n")
    (folder / "conf.d" / "own.conf").write_text("")
    ca = str(tmp_path / "ca")
    assert main(["pki", "init", "--ca", ca]) == Exit.OK
    words = ["broker", "setup", "--root", str(tmp_path), "--ca", ca]
    assert main(words) == Exit.OK
    capsys.readouterr()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {
        "mosquitto.conf",
        "own.conf",
        "stockworker.conf",
        "acl",
        "ca.crt",
        "crl.pem",
    }
    for file in files:
        file.chmod(file.stat().st_mode | WRITABLE)
        assert main(words) == Exit.CONFIG
        follow(capsys.readouterr().err, file)
    assert main(words) == Exit.OK
    assert capsys.readouterr().out == "nothing to do\n"
