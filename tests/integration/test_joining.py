"""`stockworker pki token`, `serve` and `join`, and archives: new machines without an operator who carries files."""

import os
import re
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from stockworker.client import Client
from tests.harness.advice import follows
from tests.harness.broker import Broker, Credentials, free_port
from tests.harness.command import TIMEOUT_S, Finished, arguments, run
from tests.harness.fleet import HANDLERS, Fleet, Service, python_handlers
from tests.harness.jobs import as_client
from tests.harness.mosquitto import is_let_in

CONFIG = Path("/nonexistent.yml")  # none of these commands reads the configuration
UNIT = Path(__file__).parents[2] / "systemd" / "stockworker@.service"
NAME = f"{os.uname().nodename}-1"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    assert pki(folder, "init").status == 0
    assert pki(folder, "issue", "broker", "mq.example.org").status == 0
    return folder


def pki(folder: Path, action: str, *words: str) -> Finished:
    return run(CONFIG, "pki", action, *words, "--ca", str(folder))


@contextmanager
def serving(ca: Path, *words: str) -> Iterator[int]:
    """`stockworker pki serve`, with what it prints in `serve.log` beside the authority; its port."""
    port = free_port()
    with (ca.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            arguments(CONFIG, "pki", "serve", "--ca", str(ca), "--listen", "127.0.0.1", "--port", str(port), *words),
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        assert b"waiting for new machines" in process.stderr.readline()
        try:
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            log.write(process.communicate(timeout=TIMEOUT_S)[1])
    assert process.returncode == 0


@follows("until … UTC, on one new machine for each line: stockworker pki join TOKEN@HOST:PORT")
def test_a_new_machine_joins(ca: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    with serving(ca, "--host", "localhost") as port:
        made = pki(
            ca, "token", "create", "--name", f"{os.uname().nodename}-*", "--server", f"localhost:{port}", "--json"
        )
        done = run(CONFIG, "pki", "join", made.json["invitation"], "--folder", str(etc))
    assert done.status == 0
    assert "next: systemctl enable --now stockworker@1" in done.errors
    assert done.output.split() == [
        str(etc / file) for file in ("tls/ca.crt", f"tls/{NAME}.crt", f"tls/{NAME}.key", "instances/1.yml")
    ]
    assert f"worker {NAME} joined from 127.0.0.1 with token {made.json['id']}" in (tmp_path / "serve.log").read_text()
    settings = yaml.safe_load((etc / "instances" / "1.yml").read_text())["job_processor"]
    assert settings["queue"]["mqtt"] == {"host": "mq.example.org"}
    assert settings["tls"]["key_file"] == str(etc / "tls" / f"{NAME}.key")
    (listed,) = pki(ca, "token", "list", "--json").json_lines
    assert (listed["id"], listed["state"], listed["used_by"]) == (made.json["id"], "used", NAME)
    assert NAME in pki(ca, "token", "list").output


def test_a_broker_lets_a_joined_worker_in(ca: Path, tmp_path: Path) -> None:
    assert pki(ca, "issue", "broker", "localhost").status == 0
    with serving(ca, "--host", "localhost", "--broker", "localhost:8883") as port:
        token = pki(ca, "token", "create", "--name", "*", "--server", f"localhost:{port}").output
        joined = run(CONFIG, "pki", "join", "-", "--folder", str(tmp_path), "--json", stdin=token.encode())
    with Broker(tmp_path / "broker") as broker:
        broker.stop()
        for source, target in (("ca.crt", broker.ca_file), ("crl.pem", broker.crl_file)):
            target.write_bytes((ca / source).read_bytes())
        for suffix in ("crt", "key"):
            (broker.ca_file.parent / f"broker.{suffix}").write_bytes(
                (ca / "issued" / f"localhost.{suffix}").read_bytes()
            )
        broker.start()
        assert is_let_in(broker, Credentials(Path(joined.json["certificate"]), Path(joined.json["key"])))


def test_an_encrypted_authority_serves(tmp_path: Path) -> None:
    ca, secret = tmp_path / "ca", tmp_path / "secret"
    secret.write_text("correct horse\n")
    assert pki(ca, "init", "--passphrase-file", str(secret)).status == 0
    with serving(ca, "--host", "localhost", "--broker", "mq", "--passphrase-file", str(secret)) as port:
        secret.unlink()
        (token, other) = pki(
            ca, "token", "create", "--name", "*", "--server", f"localhost:{port}", "--count", "2"
        ).output.split()
        assert run(CONFIG, "pki", "join", token, "--folder", str(tmp_path / "1")).status == 0
        pki(ca, "token", "revoke", other[:8])
        revoked = run(CONFIG, "pki", "join", other, "--instance", "2", "--folder", str(tmp_path / "2"))
    assert (revoked.status, "create another one" in revoked.errors) == (2, True)


@follows(
    "not a join token; copy the whole line that `stockworker pki token create` printed",
    "must be TOKEN@HOST:PORT, as `stockworker pki token create` prints it",
    "…: …; check the address, and that 'stockworker pki serve' runs there",
    "…: does not prove that name (…). Use a name that the authority's 'stockworker pki serve' has as --host, and check this "
    "machine's clock",
)
def test_what_a_machine_can_not_use_is_explained(ca: Path, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    port = free_port()
    token = pki(ca, "token", "create", "--name", "*", "--server", f"localhost:{port}").output.strip()

    def refused(invitation: str) -> str:
        done = run(CONFIG, "pki", "join", invitation, "--folder", str(etc))
        assert done.status != 0
        return done.errors

    assert "copy the whole line" in refused(token[5:])
    assert "must be TOKEN@HOST:PORT" in refused(token.partition("@")[0])
    assert "check the address, and that 'stockworker pki serve' runs there" in refused(token)
    assert not etc.exists()
    with serving(ca, "--host", "ca.example.org", "--port", str(port)):
        assert "does not prove that name" in refused(token)
    with serving(ca, "--host", "localhost", "--port", str(port)):
        (etc / "instances").mkdir(exist_ok=True)
        (etc / "instances" / "1.yml").write_text("")
        assert "move that file away" in refused(token)
        (etc / "instances" / "1.yml").unlink()
        (etc / "tls" / "ca.crt").write_text("another")
        assert "is the certificate of another authority" in refused(token)
        (etc / "tls" / "ca.crt").unlink()
        assert run(CONFIG, "pki", "join", token, "--folder", str(etc)).status == 0


def test_a_folder_that_can_not_be_written_does_not_use_up_the_token(ca: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with serving(ca, "--host", "localhost") as port:
        token = pki(ca, "token", "create", "--name", "*", "--server", f"localhost:{port}").output.strip()
        refused = run(CONFIG, "pki", "join", token, "--folder", str(tmp_path / "file"))
        assert (refused.status, "can't be written: Not a directory; run this as root" in refused.errors) == (78, True)
        assert run(CONFIG, "pki", "join", token, "--folder", str(tmp_path / "etc")).status == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("token", "create"), "--name PATTERN must be given for create"),
        (("token", "list", "--name", "*"), "--name PATTERN must be given for create, and only for it"),
        (("token", "revoke"), "ID must be given for revoke"),
        (("token", "list", "x"), "ID must be given for revoke, and only for it"),
        (("token", "create", "--name", "["), "is not a pattern of worker IDs"),
        (("token", "create", "--name", "*", "--valid", "8d"), "--valid must be at most 7d"),
        (("token", "create", "--name", "*", "--server", "a b"), "--server: 'a b' is neither a host name"),
        (("serve", "--host", "a b"), "--host: 'a b' is neither a host name"),
        (("serve", "--broker", "a:x"), "--broker: 'x' is not a port"),
        (("issue", "worker", "edge", "--archives", "x"), "is not a worker ID of the form HOST-INSTANCE"),
        (("issue", "client", "edge-1", "--archives", "x"), "--archives requires KIND worker"),
    ],
)
def test_what_the_authority_does_not_do_is_explained(ca: Path, words: tuple[str, ...], text: str) -> None:
    done = pki(ca, *words)
    assert done.status in {2, 78}
    assert text in done.errors


@follows("… is not the ID of a join token; see 'stockworker pki token list'")
def test_a_token_is_revoked_by_its_id(ca: Path) -> None:
    made = pki(ca, "token", "create", "--name", "*").output
    assert "see 'stockworker pki token list'" in pki(ca, "token", "revoke", made.strip()).errors
    (listed,) = pki(ca, "token", "list", "--json").json_lines
    assert pki(ca, "token", "revoke", listed["id"]).status == 0
    assert pki(ca, "token", "list", "--json").output == ""


@follows("…, port …: can't listen: …; choose others with --listen and --port")
def test_a_port_that_is_taken(ca: Path) -> None:
    with serving(ca) as port:
        refused = pki(ca, "serve", "--listen", "127.0.0.1", "--port", str(port))
        assert (refused.status, "choose others with --listen and --port" in refused.errors) == (78, True)
        with serving(ca):
            pass


def test_a_broker_must_be_known(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    pki(ca, "init")
    assert "--broker HOST must be given, because the authority has signed none" in pki(ca, "serve").errors
    for name in ("mq1", "mq2"):
        pki(ca, "issue", "broker", name)
    assert "has signed certificates for several brokers (mq1, mq2)" in pki(ca, "serve").errors
    pki(ca, "revoke", "mq1")
    assert pki(ca, "issue", "worker", "edge-1", "--archives", str(tmp_path / "archives")).status == 0


# --- the worker -------------------------------------------------------------------------------------------------------


def get_by_token(ca: Path, broker: str, root: Path) -> None:
    with serving(ca, "--host", "localhost", "--broker", broker) as port:
        token = pki(ca, "token", "create", "--name", "*", "--server", f"localhost:{port}").output.strip()
        assert run(CONFIG, "pki", "join", token, "--folder", str(root / "etc" / "stockworker")).status == 0


def get_by_archive(ca: Path, broker: str, root: Path) -> None:
    pki(ca, "issue", "worker", NAME, "--archives", str(ca.parent), "--broker", broker)
    unpacked(ca.parent / f"{os.uname().nodename}.tar", root)
    file = root / "etc" / "stockworker" / "instances" / "1.yml"
    file.write_text(file.read_text().replace("/etc/stockworker", str(root / "etc" / "stockworker")))


@follows(
    "next: systemctl enable --now stockworker@…",
    "then: stockworker check --instance …",
    "    stockworker check --instance …\n",
    "For the machine …, whose host name (uname -n) must be that. As root, after the package\nstockworker-agent is "
    "installed:\n\n    tar -xpf ….tar -C /\n    systemctl enable --now …\n…\n…",
)
@pytest.mark.parametrize("get", [get_by_token, get_by_archive])
def test_a_new_worker_does_jobs(tmp_path: Path, get: Callable[[Path, str, Path], None]) -> None:
    """What `systemctl` starts is the command of the unit."""
    ca, etc = tmp_path / "ca", tmp_path / "etc" / "stockworker"
    settings = {"handlers": python_handlers("echo")}
    with Fleet(tmp_path / "fleet", workers=0, settings=settings) as fleet:
        fleet.broker.authority.save(ca)
        (ca / "issued.jsonl").touch()
        get(ca, f"localhost:{fleet.broker.port}", tmp_path)
        own = {
            "worker": {"journal": str(tmp_path / "journal"), "handler_paths": [str(HANDLERS)]},
            "log": {"format": "json"},
        }
        (etc / "job_processor.yml").write_text(yaml.safe_dump({"job_processor": settings | own}))
        assert run(etc / "job_processor.yml", "check", "--instance", "1").status == 0

        (command,) = re.findall(r"^ExecStart=/usr/bin/stockworker (.*)$", UNIT.read_text(), re.MULTILINE)
        words = command.replace("%i", "1").split()
        worker = Service("worker", arguments(etc / "job_processor.yml", *words), tmp_path / "worker.log")
        worker.start()
        try:

            async def do(client: Client) -> Any:
                return await client.result(await client.submit("echo", "hello"))

            assert as_client(fleet, do)["payload"] == "hello"
        finally:
            worker.kill()


# --- archives ---------------------------------------------------------------------------------------------------------


def unpacked(archive: Path, folder: Path) -> dict[str, int]:
    """The files of an archive, with their modes."""
    subprocess.run(["tar", "-xpf", archive, "-C", folder], check=True)
    with tarfile.open(archive) as opened:
        return {entry.name: entry.mode for entry in opened}


def test_an_archive_has_all_that_a_machine_needs(ca: Path, tmp_path: Path) -> None:
    folder, root = tmp_path / "archives", tmp_path / "root"
    root.mkdir()
    names = ("edge-7-1", "edge-7-2", "edge-8-1")
    done = pki(ca, "issue", "worker", *names, "--archives", str(folder))
    assert done.output.split() == [str(folder / "edge-7.tar"), str(folder / "edge-8.tar")]
    assert [(file.name, file.stat().st_mode & 0o777) for file in sorted(folder.iterdir())] == [
        ("edge-7.tar", 0o600),
        ("edge-8.tar", 0o600),
    ]
    assert list((ca / "issued").glob("edge-*.key")) == []
    tls = "etc/stockworker/tls"
    assert unpacked(folder / "edge-7.tar", root) == {
        f"{tls}/ca.crt": 0o644,
        f"{tls}/edge-7-1.crt": 0o644,
        f"{tls}/edge-7-1.key": 0o600,
        f"{tls}/edge-7-2.crt": 0o644,
        f"{tls}/edge-7-2.key": 0o600,
        "etc/stockworker/instances/1.yml": 0o644,
        "etc/stockworker/instances/2.yml": 0o644,
        f"{tls}/edge-7.txt": 0o644,
    }
    text = (root / tls / "edge-7.txt").read_text()
    assert "systemctl enable --now stockworker@1 stockworker@2" in text
    assert "stockworker check --instance 2" in text
    settings = yaml.safe_load((root / "etc/stockworker/instances/2.yml").read_text())["job_processor"]
    assert settings["tls"]["cert_file"] == f"/{tls}/edge-7-2.crt"
    assert settings["queue"]["mqtt"]["host"] == "mq.example.org"


def test_the_archive_of_a_request_has_no_key(ca: Path, tmp_path: Path) -> None:
    requests, folder = tmp_path / "requests", tmp_path / "archives"
    run(CONFIG, "pki", "request", "edge-7-1", "--out", str(requests))
    words = ("sign", "worker", "--folder", str(requests), "--archives", str(folder), "--broker", "[::1]:8884", "--json")
    for is_new in (True, False):
        done = pki(ca, *words)
        assert (done.json["is_new"], done.json["archive"]) == (is_new, str(folder / "edge-7.tar"))
    root = tmp_path / "root"
    root.mkdir()
    assert not any(name.endswith(".key") for name in unpacked(folder / "edge-7.tar", root))
    settings = yaml.safe_load((root / "etc/stockworker/instances/1.yml").read_text())["job_processor"]
    assert settings["queue"]["mqtt"] == {"host": "::1", "port": 8884}


# --- docs/pki.md ------------------------------------------------------------------------------------------------------


def commands_of(heading: str) -> list[list[str]]:
    """The commands of a section of docs/pki.md."""
    page = (Path(__file__).parents[2] / "docs" / "pki.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [shlex.split(line)[1:] for line in section.splitlines() if line.startswith("    stockworker ")]


def test_the_commands_of_the_page_work(ca: Path, tmp_path: Path) -> None:
    serve, create, join = commands_of("New machines without copied files")
    assert (serve[:2], create[:3], join[:2]) == (["pki", "serve"], ["pki", "token", "create"], ["pki", "join"])
    here = {"ca.example.org": "localhost", "edge-*": f"{os.uname().nodename}-*"}
    with serving(ca, *(here.get(word, word) for word in serve[2:])) as port:
        made = pki(ca, *(here.get(word, word) for word in create[1:-1]), f"localhost:{port}").output.strip()
        token, _, place = join[2].partition("@")
        assert (token, place) == ("TOKEN", "ca.example.org:8884")
        assert run(CONFIG, "pki", "join", made, "--folder", str(tmp_path / "etc")).status == 0
