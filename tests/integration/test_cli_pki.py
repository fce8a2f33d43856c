"""`stockworker pki`: from nothing to a fleet whose members a real broker lets in, and out."""

import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.broker import Broker, Credentials
from tests.harness.command import TIMEOUT_S, Finished, run
from tests.harness.mosquitto import is_let_in

CONFIG = Path("/nonexistent.yml")  # none of these commands reads the configuration


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The folder of an existing authority."""
    folder = tmp_path / "ca"
    assert pki(folder, "init").status == 0
    return folder


def pki(folder: Path, action: str, *words: str) -> Finished:
    return run(CONFIG, "pki", action, *words, "--ca", str(folder))


def test_a_fleet_from_nothing(tmp_path: Path) -> None:
    """Keys are made where they are needed, and only requests and certificates travel."""
    ca, edge = tmp_path / "ca", tmp_path / "edge"
    assert pki(ca, "init", "--days", "1000").status == 0
    assert pki(ca, "issue", "broker", "localhost", "--host", "127.0.0.1").status == 0
    asked = run(CONFIG, "pki", "request", "edge-1", "--out", str(edge), "--json")
    assert stat.S_IMODE((edge / "edge-1.key").stat().st_mode) == 0o600
    signed = pki(ca, "sign", "worker", "edge-1", asked.json["request"], "--json")
    worker = Credentials(Path(signed.json["certificate"]), edge / "edge-1.key")

    with Broker(tmp_path / "broker") as broker:
        broker.stop()
        install(ca, broker)
        broker.start()
        assert is_let_in(broker, worker)
        revoked = pki(ca, "revoke", "edge-1")
        assert revoked.output == f"revoked worker edge-1 {signed.json['serial']}\n"
        install(ca, broker)
        broker.stop()
        broker.start()
        assert not is_let_in(broker, worker)


def install(ca: Path, broker: Broker) -> None:
    """Copy what the broker needs from the authority."""
    folder = broker.ca_file.parent
    for name, target in (("ca.crt", broker.ca_file), ("crl.pem", broker.crl_file)):
        shutil.copy(ca / name, target)
    for suffix in ("crt", "key"):
        shutil.copy(ca / "issued" / f"localhost.{suffix}", folder / f"broker.{suffix}")


def test_what_is_to_be_done_next_is_said(ca: Path) -> None:
    assert "copy to its machine" in pki(ca, "issue", "worker", "edge-1").errors
    client = pki(ca, "issue", "client", "alice")
    assert "stockworker broker setup. If this authority is on another machine, add --client alice," in client.errors
    operator = pki(ca, "issue", "operator", "boss")
    assert "add --operator boss --client alice," in operator.errors
    renewed = pki(ca, "renew", "edge-1")
    assert "systemctl reload 'stockworker@*'" in renewed.errors
    revoked = pki(ca, "revoke", "edge-1")
    for words in ("dispatcher.denied_workers", str(ca / "crl.pem"), "systemctl restart mosquitto"):
        assert words in revoked.errors
    assert pki(ca, "crl", "--quiet").errors == ""


def test_the_list_tells_who_expires(ca: Path) -> None:
    pki(ca, "issue", "worker", "edge-1")
    assert pki(ca, "list").status == 0
    pki(ca, "issue", "worker", "edge-2", "--days", "20")
    done = pki(ca, "list", "--json")
    assert done.status == 1
    assert [(line["kind"], line["name"], line["standing"]) for line in done.json_lines] == [
        ("authority", "stockworker fleet", "valid"),
        ("worker", "edge-1", "valid"),
        ("worker", "edge-2", "expires soon"),
    ]
    pki(ca, "renew", "edge-2")
    assert pki(ca, "list").status == 0
    assert "replaced" in pki(ca, "list", "--all").output


def test_an_authority_in_its_last_year_is_told(tmp_path: Path) -> None:
    pki(tmp_path / "ca", "init", "--days", "300")
    done = pki(tmp_path / "ca", "list")
    assert done.status == 1
    assert "expires soon" in done.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("issue", "worker", "+"), "'+' is not a valid ID"),
        (("issue", "worker", "edge-1", "--host", "edge"), "--host requires KIND broker"),
        (("issue", "broker", "../broker"), "'../broker' is neither a host name"),
        (("sign", "worker", "edge-1", "/nonexistent.csr"), "/nonexistent.csr: can't be read: No such file"),
        (("renew", "edge-1"), "'edge-1': it never had a certificate"),
        (("revoke", "edge-1"), "'edge-1' is not the name or serial number"),
        (("sign", "worker"), "NAME and REQUEST, or --folder FOLDER, must be given"),
        (("sign", "worker", "edge-1", "--folder", "/nonexistent"), "--folder excludes NAME and REQUEST"),
        (("sign", "worker", "--folder", "/nonexistent"), "/nonexistent: can't be read: No such file"),
        (("sign", "worker", "--folder", "/proc/self/attr"), "contains no file whose name ends in .csr"),
        (("issue", "broker", "a", "b", "--host", "c"), "--host requires one NAME"),
        (("init",), "already contains a certificate authority"),
    ],
)
def test_what_is_refused_is_explained(ca: Path, words: tuple[str, ...], text: str) -> None:
    done = pki(ca, *words)
    assert done.status in {2, 78}
    assert text in done.errors
    assert done.output == ""


def test_a_key_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    for status in (0, 2):
        assert run(CONFIG, "pki", "request", "edge-1", "--out", str(tmp_path)).status == status


def test_a_folder_of_requests_is_signed(ca: Path, tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    for name in ("edge-1", "edge-2"):
        run(CONFIG, "pki", "request", name, "--out", str(requests))
    signed = pki(ca, "sign", "worker", "--folder", str(requests), "--json")
    assert [(line["name"], line["is_new"]) for line in signed.json_lines] == [("edge-1", True), ("edge-2", True)]
    again = pki(ca, "sign", "worker", "--folder", str(requests))
    assert (again.status, again.output) == (0, "")
    assert "nothing to do" in again.errors


def test_many_names_get_certificates(ca: Path) -> None:
    issued = pki(ca, "issue", "worker", "edge-1", "edge-2", "edge-1")
    assert issued.status == 0
    assert issued.output.split() == [
        str(ca / "issued" / f"{name}.{end}") for name in ("edge-1", "edge-2") for end in ("crt", "key")
    ]


# --- passphrases ------------------------------------------------------------------------------------------------------


def test_a_passphrase_from_a_file(tmp_path: Path) -> None:
    ca, right, wrong = tmp_path / "ca", tmp_path / "right", tmp_path / "wrong"
    right.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    assert pki(ca, "init", "--passphrase-file", str(right)).status == 0
    assert b"ENCRYPTED" in (ca / "ca.key").read_bytes()
    assert pki(ca, "issue", "worker", "edge-1", "--passphrase-file", str(right)).status == 0
    refused = pki(ca, "issue", "worker", "edge-2", "--passphrase-file", str(wrong))
    assert (refused.status, "the passphrase is wrong" in refused.errors) == (78, True)
    mute = pki(ca, "issue", "worker", "edge-2")
    assert (mute.status, "use a terminal, or --passphrase-file" in mute.errors) == (78, True)
    assert pki(ca, "list").status == 0


def test_a_passphrase_at_the_terminal(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    assert at_terminal(("correct horse", "correct horse"), "init", "--encrypt", "--ca", str(ca)) == 0
    assert at_terminal(("correct horse",), "issue", "worker", "edge-1", "--ca", str(ca)) == 0
    assert at_terminal(("battery staple",), "issue", "worker", "edge-2", "--ca", str(ca)) == 78
    assert at_terminal(("one", "other"), "init", "--encrypt", "--ca", str(tmp_path / "other")) == 2


def at_terminal(answers: Sequence[str], *words: str) -> int:
    """Run a command in a session of its own, so that the terminal is its standard input and no other."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "stockworker", "pki", *words]
    try:
        with subprocess.Popen(
            command, stdin=its, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stderr is not None
            for answer in answers:
                while process.stderr.read(1) not in {b":", b""}:  # what is typed before a prompt is dropped
                    pass
                os.write(ours, f"{answer}\n".encode())
            process.communicate(timeout=TIMEOUT_S)
            return process.returncode
    finally:
        os.close(ours)
        os.close(its)
