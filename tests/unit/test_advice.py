"""Each advice is followed as a user would follow it: the problem is seen, the advice is done, the problem is gone."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from stockworker.adapters import clock
from stockworker.adapters.tls import client_context
from stockworker.cli import main
from stockworker.cli.wiring import worker_seal
from stockworker.client import client_name, make_submission
from stockworker.client.sealing import ClientSealing
from stockworker.config import load
from stockworker.config.secrets import read_secret
from stockworker.errors import ConfigError, StockworkerError
from stockworker.protocol.ids import ClientId
from stockworker.sealing.keyring import Holder, expire
from stockworker.trusted_files import open_trusted
from tests.harness.advice import follows


class Desk:
    """A folder with a configuration, and the commands that run there."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.config = folder / "job_processor.yml"
        self._capsys = capsys
        self.configure()

    def configure(self, **sections: Any) -> None:
        self.config.write_text(yaml.safe_dump({"job_processor": sections}))

    def run(self, *words: str) -> str:
        """Run a command that must succeed; return its output."""
        status = main(["--config", str(self.config), *words])
        shown = self._capsys.readouterr()
        assert status == 0, shown
        return shown.out

    def fail(self, *words: str) -> str:
        """Run a command that must fail; return its error, or the failed checks."""
        assert main(["--config", str(self.config), *words]) != 0
        shown = self._capsys.readouterr()
        return shown.err or "\n".join(line for line in shown.out.splitlines() if line.startswith("FAIL"))

    def obey(self, text: str, *more: str) -> str:
        """Run the first product command that an error quotes."""
        return self.run(*shlex.split(quoted(text)[0])[1:], *more)

    def problem(self) -> str:
        """What `check` finds wrong; empty if nothing is."""
        main(["--config", str(self.config), "check", "--offline", "--role", "client"])
        lines = self._capsys.readouterr().out.splitlines()
        return "\n".join(line for line in lines if not line.startswith("ok"))


def quoted(text: str) -> list[str]:
    """The commands that an error quotes."""
    return re.findall(r"['`]((?:stockworker|chmod|mkdir) [^'`]+)['`]", text)


def shell(text: str) -> None:
    (command,) = quoted(text)
    subprocess.run(shlex.split(command), check=True)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


# --- authority --------------------------------------------------------------------------------------------------------


@follows("… contains no certificate authority; create one with 'stockworker pki init'")
def test_no_authority(desk: Desk) -> None:
    ca = ("--ca", str(desk.folder / "ca"))
    desk.obey(desk.fail("pki", "issue", "worker", "edge-1", *ca), *ca)
    desk.run("pki", "issue", "worker", "edge-1", *ca)


@follows("… has a certificate; renew it with 'stockworker pki renew …'")
def test_a_certificate_that_exists(desk: Desk) -> None:
    ca = ("--ca", str(desk.folder / "ca"))
    desk.run("pki", "init", *ca)
    desk.run("pki", "issue", "worker", "edge-1", *ca)
    assert "edge-1" in desk.obey(desk.fail("pki", "issue", "worker", "edge-1", *ca), *ca)


@follows("… is not the name or serial number of a certificate; see 'stockworker pki list --all'")
def test_a_certificate_that_is_misspelt(desk: Desk) -> None:
    ca = ("--ca", str(desk.folder / "ca"))
    desk.run("pki", "init", *ca)
    desk.run("pki", "issue", "worker", "edge-1", *ca)
    (line,) = (
        line for line in desk.obey(desk.fail("pki", "revoke", "egde", *ca), *ca).splitlines() if "edge-1" in line
    )
    desk.run("pki", "revoke", line.split()[1], *ca)


@follows("…: …; issue one with 'stockworker pki issue'")
def test_a_renewal_of_nothing(desk: Desk) -> None:
    ca = ("--ca", str(desk.folder / "ca"))
    desk.run("pki", "init", *ca)
    assert quoted(desk.fail("pki", "renew", "edge-1", *ca)) == ["stockworker pki issue"]
    desk.run("pki", "issue", "worker", "edge-1", *ca)
    desk.run("pki", "renew", "edge-1", *ca)


@follows(
    "create it with 'stockworker pki request', or correct the path",
    "…: the key type must be …; create the request with 'stockworker pki request'",
)
@pytest.mark.parametrize("existing", ["none", "ed448"])
def test_a_request_that_is_not_usable(desk: Desk, existing: str) -> None:
    ca, request = ("--ca", str(desk.folder / "ca")), desk.folder / "edge-1.csr"
    desk.run("pki", "init", *ca)
    if existing == "ed448":
        made = CertificateSigningRequestBuilder().subject_name(Name([])).sign(ed448.Ed448PrivateKey.generate(), None)
        request.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    assert quoted(desk.fail("pki", "sign", "worker", "edge-1", str(request), *ca)) == ["stockworker pki request"]
    desk.run("pki", "request", "edge-1", "--out", str(desk.folder))
    desk.run("pki", "sign", "worker", "edge-1", str(request), *ca)


@follows("restore it from a backup, or create another authority with 'stockworker pki init'")
def test_an_authority_whose_key_is_lost(desk: Desk) -> None:
    folder = desk.folder / "ca"
    desk.run("pki", "init", "--ca", str(folder))
    backup = (folder / "ca.key").rename(desk.folder / "backup")
    error = desk.fail("pki", "issue", "worker", "edge-1", "--ca", str(folder))
    desk.obey(error, "--ca", str(desk.folder / "other"))
    desk.run("pki", "issue", "worker", "edge-1", "--ca", str(desk.folder / "other"))
    backup.rename(folder / "ca.key")
    desk.run("pki", "issue", "worker", "edge-1", "--ca", str(folder))


# --- keys for sealing -------------------------------------------------------------------------------------------------


def files(desk: Desk, name: str) -> tuple[str, ...]:
    return ("--keyring", str(desk.folder / "keyring"), "--file", str(desk.folder / f"{name}.pem"))


@follows("copy the keyring of the fleet there, or create it with 'stockworker keys generate'")
def test_no_keyring(desk: Desk) -> None:
    assert quoted(desk.fail("keys", "list", "--keyring", str(desk.folder / "keyring"))) == ["stockworker keys generate"]
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    assert "alice" in desk.run("keys", "list", "--keyring", str(desk.folder / "keyring"))


@follows(
    "copy it from a backup, or create new keys with 'stockworker keys generate'",
    "…: contains no private key in PEM format; move it away, and …",
)
@pytest.mark.parametrize("existing", ["none", "text"])
def test_a_file_without_keys(desk: Desk, existing: str) -> None:
    file = desk.folder / "alice.pem"
    if existing == "text":
        file.write_text("text")
        file.chmod(0o600)
    assert quoted(desk.fail("keys", "export", "submitter", "alice", *files(desk, "alice"))) == [
        "stockworker keys generate"
    ]
    file.unlink(missing_ok=True)
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    assert desk.run("keys", "export", "submitter", "alice", *files(desk, "alice"))


@follows(
    "… already has … …; use 'stockworker keys rotate … …'. If its private keys are lost, remove its lines from the keyring first"
)
def test_keys_that_exist(desk: Desk) -> None:
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    error = desk.fail("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    desk.obey(error, *files(desk, "alice"))
    (desk.folder / "alice.pem").unlink()
    (desk.folder / "keyring").write_text("")
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))


@follows(
    "… already exists; print its lines for the keyring with 'stockworker keys export', or move it away",
    "… has no … …; add the output of 'stockworker keys export … …'",
)
@pytest.mark.parametrize("action", ["generate", "rotate"])
def test_a_keyring_that_has_lost_a_line(desk: Desk, action: str) -> None:
    keyring = desk.folder / "keyring"
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    keyring.write_text("")
    assert quoted(desk.fail("keys", action, "submitter", "alice", *files(desk, "alice")))[0].startswith(
        "stockworker keys export"
    )
    keyring.write_text(desk.run("keys", "export", "submitter", "alice", *files(desk, "alice")))
    desk.run("keys", "rotate", "submitter", "alice", *files(desk, "alice"))


@follows("… has no job types for group …; name them with --types")
def test_a_group_whose_types_are_lost(desk: Desk) -> None:
    desk.run("keys", "generate", "group", "prices", "--types", "add", *files(desk, "prices"))
    (desk.folder / "keyring").write_text("")
    assert "--types" in desk.fail("keys", "export", "group", "prices", *files(desk, "prices"))
    desk.run("keys", "export", "group", "prices", "--types", "add", *files(desk, "prices"))


@follows("encryption.key is required to submit sealed jobs; create one with 'stockworker keys generate'")
def test_a_client_without_a_key(desk: Desk) -> None:
    desk.run("keys", "generate", "group", "prices", "--types", "add", *files(desk, "prices"))
    encryption = {"keyring": str(desk.folder / "keyring")}
    desk.configure(client={"id": "alice"}, encryption=encryption)
    assert quoted(desk.problem()) == ["stockworker keys generate"]
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    desk.configure(client={"id": "alice"}, encryption={**encryption, "key": str(desk.folder / "alice.pem")})
    assert "encryption.key" not in desk.problem()


@follows("…. Run 'stockworker keys rotate' for it, and copy the keyring to all machines")
def test_keys_that_expire_soon(desk: Desk) -> None:
    keyring, soon = desk.folder / "keyring", clock.utc_now() + timedelta(days=9)
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    keyring.write_text(expire(keyring.read_text(), Holder.SUBMITTER, "alice", soon.timestamp()))
    desk.configure(client={"id": "alice"}, encryption={"keyring": str(keyring), "key": str(desk.folder / "alice.pem")})
    assert "Run 'stockworker keys rotate' for it" in desk.problem()
    desk.run("keys", "rotate", "submitter", "alice", *files(desk, "alice"))
    assert "keys rotate" not in desk.problem()


# --- modes of files ---------------------------------------------------------------------------------------------------


def read(file: Path) -> None:
    open_trusted(file).close()


def read_private(file: Path) -> None:
    open_trusted(file, private=True).close()


def read_password(file: Path) -> None:
    read_secret("password_file", file)


@follows(
    "…: other users than its owner can write it, and so decide whom to trust. Run 'chmod go-w …'",
    "…: other users can read these private keys. Run 'chmod 600 …'",
    "…: every user of this machine can read or change it. Run 'chmod o-rw …'",
)
@pytest.mark.parametrize(("mode", "use"), [(0o666, read), (0o644, read_private), (0o644, read_password)])
def test_a_file_that_is_open_to_others(tmp_path: Path, mode: int, use: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        use(file)
    shell(str(caught.value))
    use(file)


@follows("every user of this machine can read …. Run 'chmod o-rw …', and replace the key")
def test_a_private_key_that_is_open_to_all(desk: Desk) -> None:
    key = desk.folder / "key"
    key.write_text("key")
    key.chmod(0o644)
    desk.configure(tls={"cert_file": str(key), "key_file": str(key)})
    shell(desk.problem().splitlines()[0])
    assert "every user" not in desk.problem()


@follows("every user of this machine can read it. Run 'chmod o-rw …', or use '…'")
def test_a_password_that_is_open_to_all(desk: Desk) -> None:
    desk.configure(queue={"mqtt": {"username": "alice", "password": "secret"}})
    desk.config.chmod(0o644)
    line = next(line for line in desk.problem().splitlines() if "every user" in line)
    subprocess.run(shlex.split(quoted(line)[0]), check=True)
    assert "every user" not in desk.problem()


# --- configuration ----------------------------------------------------------------------------------------------------


@follows(
    "set either 'password' or 'password_file', not both",
    "set either 'location' or 'location_file', not both",
    "set either 'python' or 'command', not both",
    "handlers.…: this type has no handler. Set 'python: module:function' or 'command: [...]' (built-in or installed types: …)",
    "is empty; set a value, or remove the key",
)
@pytest.mark.parametrize(
    ("section", "wrong", "right", "advice"),
    [
        (
            "queue",
            {"mqtt": {"username": "a", "password": "b", "password_file": "/c"}},
            {"mqtt": {"username": "a", "password": "b"}},
            "set either 'password' or 'password_file'",
        ),
        (
            "market_data",
            {"location": "/a", "location_file": "/b"},
            {"location": "/a"},
            "set either 'location' or 'location_file'",
        ),
        (
            "handlers",
            {"mine": {"python": "json:dumps", "command": ["true"]}},
            {"mine": {"command": ["true"]}},
            "set either 'python' or 'command'",
        ),
        (
            "handlers",
            {"mine": {"settings": {"a": "b"}}},
            {"mine": {"python": "json:dumps"}},
            "Set 'python: module:function' or 'command: [...]'",
        ),
        ("queue", {"mqtt": {"username": ""}}, {"mqtt": {"username": "a"}}, "is empty; set a value, or remove the key"),
    ],
)
def test_a_configuration(desk: Desk, section: str, wrong: object, right: object, advice: str) -> None:
    def found() -> str:
        main(["--config", str(desk.config), "check", "--offline", "--role", "worker"])
        return desk._capsys.readouterr().out

    desk.configure(**{section: wrong})
    assert advice in found()
    desk.configure(**{section: right})
    assert advice not in found()


@follows("is empty: the lines below it are missing or comments. Set its keys, or remove this line, too")
@pytest.mark.parametrize("remedy", ["job_processor:\n  worker: {slots: 1}\n", "job_processor: {}\n"])
def test_a_section_without_keys(desk: Desk, remedy: str) -> None:
    desk.config.write_text("job_processor:\n  worker:\n  #  slots: 1\n")
    assert "Set its keys, or remove this line" in desk.fail("check", "--offline")
    desk.config.write_text(remedy.replace("slots", "max_concurrent_jobs"))
    desk.run("check", "--offline")


@follows("…. The systemd unit creates it at start; without systemd run 'mkdir -p …'")
def test_no_folder_for_the_journal(desk: Desk) -> None:
    desk.configure(worker={"journal": str(desk.folder / "new/journal")})

    def found() -> str:
        main(["--config", str(desk.config), "check", "--offline", "--role", "worker"])
        return desk._capsys.readouterr().out

    shell(found())
    assert "mkdir" not in found()


def issue(desk: Desk, kind: str, name: str) -> dict[str, str]:
    ca = desk.folder / "ca"
    if not ca.exists():
        desk.run("pki", "init", "--ca", str(ca))
    desk.run("pki", "issue", kind, name, "--ca", str(ca))
    return {"cert_file": f"{ca}/issued/{name}.crt", "key_file": f"{ca}/issued/{name}.key"}


@follows("…. Set tls.cert_file and tls.key_file to the certificate of this ID. …")
def test_a_certificate_of_another(desk: Desk) -> None:
    desk.configure(client={"id": "alice"}, tls=issue(desk, "client", "bob"))
    assert "Set tls.cert_file" in desk.problem()
    desk.configure(client={"id": "alice"}, tls=issue(desk, "client", "alice"))
    assert desk.problem() == ""


@follows("Or, if no other machine or service uses that certificate, set the ID to …")
def test_an_id_that_is_wrong(desk: Desk) -> None:
    own = issue(desk, "client", "bob")
    desk.configure(client={"id": "alice"}, tls=own)
    name = re.findall(r"set the ID to '(.*)'", desk.problem())[0]
    desk.configure(client={"id": name}, tls=own)
    assert desk.problem() == ""


@follows(
    "it is probably the key of another ID. Set tls.cert_file and tls.key_file to the certificate and key of this one (a "
    "systemd unit loads the key that is named after its ID). If it is this user's own key, make this user its owner"
)
def test_the_key_of_another_is_not_to_be_opened(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """To let this user read it would give a handler the identity of the dispatcher."""
    others, own = issue(desk, "dispatcher", "dispatcher"), issue(desk, "worker", "edge-1")

    def without_access(path: Path, **options: bool) -> Any:
        if str(path) == others["key_file"]:
            raise PermissionError(13, "Permission denied")
        return open_trusted(path, **options)

    monkeypatch.setattr("stockworker.adapters.tls.open_trusted", without_access)
    with pytest.raises(ConfigError, match=r"Set tls\.cert_file and tls\.key_file") as caught:
        client_context(None, Path(others["cert_file"]), Path(others["key_file"]))
    assert "readable" not in str(caught.value)
    client_context(None, Path(own["cert_file"]), Path(own["key_file"]))


@follows(
    "name the job TYPE, or a file with --batch FILE",
    "… can't be combined with --batch; set it in each line of the file",
)
@pytest.mark.parametrize("wrong", [(), ("add", "1", "--batch", "FILE"), ("--id", "a", "--batch", "FILE")])
@pytest.mark.parametrize("right", [("add",), ("--batch", "FILE")])
def test_a_submission(desk: Desk, wrong: tuple[str, ...], right: tuple[str, ...]) -> None:
    """The right one fails only for want of a broker."""
    file = desk.folder / "batch"
    file.write_text('{"type": "add", "id": "a", "payload": 1}\n')
    desk.configure(queue={"mqtt": {"host": "127.0.0.1", "port": 1}})

    def submit(words: tuple[str, ...]) -> int:
        named = [str(file) if word == "FILE" else word for word in words]
        return main(["--config", str(desk.config), "submit", *named])

    assert submit(wrong) == 2
    assert submit(right) == 69


@follows("write the secret into its first line, or correct the path", "write the passphrase into its first line")
def test_a_secret_that_is_missing(desk: Desk) -> None:
    file = desk.folder / "password"
    with pytest.raises(ConfigError, match="write the secret into its first line, or correct the path"):
        read_password(file)
    words = ("pki", "init", "--ca", str(desk.folder / "ca"), "--passphrase-file", str(file))
    assert "write the passphrase into its first line" in desk.fail(*words)
    file.write_text("a long passphrase\n")
    file.chmod(0o600)
    read_password(file)
    desk.run(*words)


def test_a_payload_that_is_not_json(desk: Desk) -> None:
    desk.configure(queue={"mqtt": {"host": "127.0.0.1", "port": 1}})
    error = desk.fail("submit", "add", "text")
    examples = re.findall(r"'([^']+)'", error)
    assert len(examples) == 2
    for example in (*examples, "5"):
        assert "JSON" not in desk.fail("submit", "add", example)


@follows(
    "{} is no longer supported. Set 'backend: mqtt' and 'mqtt: {{host: ...}}'. Waiting jobs stay in the old queue, so let the "
    "old workers empty it first. Old and new workers can run on the same machine"
)
def test_an_old_backend(desk: Desk) -> None:
    desk.configure(queue={"backend": "redis", "redis": {"host": "a"}})
    assert "Set 'backend: mqtt' and 'mqtt: {host: ...}'" in desk.problem()
    desk.configure(queue={"backend": "mqtt", "mqtt": {"host": "localhost"}, "redis": {"host": "a"}})
    assert "backend" not in desk.problem()


@follows("…: the common name is not a valid ID: …. Set 'client.id', or issue another certificate")
def test_a_certificate_whose_name_is_no_id(desk: Desk) -> None:
    issue(desk, "client", "alice")
    authority = desk.folder / "ca/ca.crt"
    tls = {"cert_file": str(authority), "key_file": str(desk.folder / "ca/ca.key")}
    desk.configure(tls=tls)
    with pytest.raises(ConfigError, match=r"Set 'client\.id'"):
        client_name(load(desk.config))
    desk.configure(tls=tls, client={"id": "alice"})
    assert client_name(load(desk.config)) == "alice"


@follows("… is missing; 'stockworker keys export' prints complete lines")
def test_a_line_of_a_keyring_that_is_not_complete(desk: Desk) -> None:
    keyring = desk.folder / "keyring"
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    keyring.write_text("submitter alice\n")
    assert quoted(desk.fail("keys", "list", "--keyring", str(keyring))) == ["stockworker keys export"]
    keyring.unlink()
    keyring.write_text(desk.run("keys", "export", "submitter", "alice", *files(desk, "alice")))
    desk.run("keys", "list", "--keyring", str(keyring))


@follows(
    "the keyring lists no valid key for … … (private keys on this machine: …). Add the output of 'stockworker keys export … …' "
    "to the keyring on all machines",
    "the keyring has no valid group for …. Add one with 'stockworker keys generate group NAME --types …', and copy its key to "
    "the workers",
)
def test_a_keyring_that_does_not_list_what_a_client_needs(desk: Desk) -> None:
    keyring = desk.folder / "keyring"
    desk.run("keys", "generate", "submitter", "alice", *files(desk, "alice"))
    keyring.write_text("")
    encryption = {"keyring": str(keyring), "key": str(desk.folder / "alice.pem")}
    desk.configure(client={"id": "alice"}, encryption=encryption)

    def refusal() -> str:
        sealing = ClientSealing(ClientId("alice"), load(desk.config).encryption)
        try:
            asyncio.run(sealing.seal_all([make_submission("add", id="a")]))
        except StockworkerError as error:
            return str(error)
        return ""

    generate = shlex.split(quoted(refusal())[0].replace("NAME", "prices"))[1:]
    desk.run(*generate, *files(desk, "prices"))
    exported = desk.obey(refusal(), *files(desk, "alice"))
    keyring.write_text(keyring.read_text() + exported)
    assert refusal() == ""


@follows("encryption.key is required to sign results; create one with 'stockworker keys generate'")
def test_a_worker_without_a_key(desk: Desk) -> None:
    desk.run("keys", "generate", "group", "prices", "--types", "add", *files(desk, "prices"))
    encryption = {"keyring": str(desk.folder / "keyring"), "group_keys": [str(desk.folder / "prices.pem")]}
    desk.configure(worker={"id": "edge-1"}, encryption=encryption)
    with pytest.raises(ConfigError) as caught:
        worker_seal(load(desk.config))
    assert quoted(str(caught.value)) == ["stockworker keys generate"]
    desk.run("keys", "generate", "worker", "edge-1", *files(desk, "edge-1"))
    desk.configure(worker={"id": "edge-1"}, encryption={**encryption, "key": str(desk.folder / "edge-1.pem")})
    worker_seal(load(desk.config))


@follows(
    "aliases (*name) are not supported; write the value itself",
    "merge keys (<<) are not supported; write the keys themselves, or use a drop-in file",
)
@pytest.mark.parametrize("wrong", ["{log: &a {level: info}, worker: *a}", "{log: {<<: {level: info}}}"])
def test_yaml_that_is_not_supported(desk: Desk, wrong: str) -> None:
    desk.config.write_text(f"job_processor: {wrong}\n")
    assert "not supported; write the" in desk.problem()
    desk.config.write_text("job_processor: {log: {level: info}}\n")
    assert desk.problem() == ""


@follows("… already contains a certificate authority; to replace it, move it away first")
def test_an_authority_that_exists(desk: Desk) -> None:
    ca = ("--ca", str(desk.folder / "ca"))
    desk.run("pki", "init", *ca)
    assert "move it away first" in desk.fail("pki", "init", *ca)
    (desk.folder / "ca").rename(desk.folder / "old")
    desk.run("pki", "init", *ca)


@follows("…: the first line is empty; write the passphrase into it")
def test_an_empty_passphrase(desk: Desk) -> None:
    file = desk.folder / "passphrase"
    file.write_text("\n")
    words = ("pki", "init", "--ca", str(desk.folder / "ca"), "--passphrase-file", str(file))
    assert "write the passphrase into it" in desk.fail(*words)
    file.write_text("a long passphrase\n")
    desk.run(*words)
