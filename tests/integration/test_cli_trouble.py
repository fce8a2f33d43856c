"""Each error has its own text for people and an exit status for programs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.pki.certificates import Authority, Subject
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.broker import Broker
from tests.harness.command import changed, run
from tests.harness.fleet import Fleet

NOW = datetime.fromtimestamp(clock.wall(), UTC)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=0) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def config(fleet: Fleet) -> Path:
    return fleet.config_file("client")


def mqtt(fleet: Fleet, **keys: object) -> dict[str, object]:
    return {"mqtt": {"host": "localhost", "port": fleet.broker.port, **keys}}


def only_error(finished: command.Finished) -> str:
    (line,) = finished.errors.splitlines()
    assert line.startswith("stockworker: error: ")
    assert finished.output == ""
    return line


def test_nobody_listens_on_the_port(fleet: Fleet, config: Path) -> None:
    done = run(changed(config, "closed", queue=mqtt(fleet, port=1)), "stats")

    assert done.status == 69
    assert "broker localhost:1: " in only_error(done)
    assert "connection refused: is the broker running" in only_error(done)


def test_the_host_name_means_nothing(fleet: Fleet, config: Path) -> None:
    # No host name can look like that, so that no name server is asked.
    done = run(changed(config, "nameless", queue=mqtt(fleet, host="a..b")), "stats")

    assert done.status == 69
    assert "can't resolve the host name" in only_error(done)


def test_the_broker_has_another_authority(fleet: Fleet, config: Path) -> None:
    Authority.create("Another fleet", NOW).save(fleet.folder / "other")
    done = run(changed(config, "untrusting", tls={"ca_file": str(fleet.folder / "other" / "ca.crt")}), "stats")

    assert done.status == 69
    assert "the broker's certificate does not verify" in only_error(done)
    assert "the CA file must be the one of the authority that issued it" in only_error(done)


def test_the_broker_has_another_name(fleet: Fleet, config: Path) -> None:
    with Broker(fleet.folder / "elsewhere", names=("broker.example",)) as broker:
        sections: dict[str, dict[str, object]] = {
            "queue": {"mqtt": {"host": "localhost", "port": broker.port}},
            "tls": {"ca_file": str(broker.ca_file)},
        }
        done = run(changed(config, "misnamed", **sections), "stats")

    assert done.status == 69
    assert "connect by a name in the certificate" in only_error(done)


def test_the_broker_does_not_trust_our_certificate(fleet: Fleet, config: Path) -> None:
    certificate, key = Authority.create("Another fleet", NOW).issue(Subject("client"), NOW).save(fleet.folder, "forged")
    done = run(changed(config, "forged", tls={"cert_file": str(certificate), "key_file": str(key)}), "stats")

    assert done.status == 69
    assert "client certificate" in only_error(done)


def test_the_broker_does_not_let_us_in(fleet: Fleet, config: Path) -> None:
    # Without a name from a certificate, the client is anonymous.
    changes = {"require_certificate": "false", "use_identity_as_username": None}
    with Broker(fleet.folder / "closed", changes=changes) as broker:
        sections: dict[str, dict[str, object]] = {
            "queue": {"mqtt": {"host": "localhost", "port": broker.port}},
            "tls": {"ca_file": str(broker.ca_file), "cert_file": None, "key_file": None},
            "dispatcher": {"store": str(fleet.folder / "closed" / "jobs.sqlite3")},
            "worker": {"journal": str(fleet.folder / "closed" / "journal.sqlite3")},
        }
        stranger = changed(config, "anonymous", **sections)
        asked = run(stranger, "stats")
        served = {name: run(stranger, name) for name in ("worker", "dispatcher")}

    assert asked.status == 77
    assert "the broker refused the connection: not authorized" in only_error(asked)
    for service in served.values():
        assert service.status == 77
        assert "the broker refused the connection: not authorized" in service.errors


def test_our_name_is_not_on_the_access_list(fleet: Fleet) -> None:
    done = run(fleet.config_file("stranger"), "submit", "echo")

    assert done.status == 77
    assert "jobs/queue/normal/echo/stranger: not authorized" in only_error(done)
    assert "does not have 'stranger' as client or operator. In ~/.config/stockworker/client.yml" in only_error(done), (
        only_error(done)
    )
    assert "`stockworker pki issue client stranger`" in only_error(done)


@follows("In ~/.config/stockworker/client.yml, or with --config or STOCKWORKER_CONFIG, use the configuration")
@pytest.mark.parametrize(("identity", "service"), [("dispatcher", "dispatcher"), ("host-1", "worker")])
def test_a_service_is_never_to_be_made_a_client(fleet: Fleet, identity: str, service: str) -> None:
    """The access list would deny the service its own topics, and so take it out of service."""
    config = changed(fleet.config_file(identity), f"{identity}-as-client", client=None)
    done = run(config, "stats", "--answer-timeout", "10")

    assert done.status == 77
    error = only_error(done)
    assert (
        f"'{identity}' is the {service} of this machine, not a client. In ~/.config/stockworker/client.yml, or with --config "
        in error
    )
    assert "acl" not in error
    assert "pki issue" not in error
    assert run(fleet.config_file("operator"), "stats").status == 0, "as advised"


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (("retry", "j1"), "jobs/retry/client:j1"),
        (("pause", "echo", "--force"), "jobs/pause/echo"),
        (("resume", "echo"), "jobs/resume/echo"),
        (("drain", "host-1", "--force"), "workers/drain/host-1"),
        (("undrain", "host-1"), "workers/undrain/host-1"),
    ],
)
def test_what_is_for_operators_is_denied_to_clients(fleet: Fleet, words: tuple[str, ...], topic: str) -> None:
    done = run(fleet.config_file("client"), *words)

    assert done.status == 77
    error = only_error(done)
    assert f"refused a message to {topic}: not authorized (0x87)" in error
    assert "requires operator rights, and 'client' is not an operator. In ~/.config/stockworker/client.yml" in error


@pytest.mark.parametrize("command_line", ["stats", "worker", "dispatcher"])
def test_the_configuration_is_wrong(fleet: Fleet, config: Path, command_line: str) -> None:
    done = run(changed(config, "wrong", worker={"slots": 1}, log={"level": "loud"}), command_line)

    assert done.status == 78
    assert len(done.errors.splitlines()) == 2, "one line for each problem"
    assert all(line.startswith(f"stockworker: error: {fleet.folder}/wrong.yml:") for line in done.errors.splitlines())


@pytest.mark.parametrize(
    ("service", "section", "key"), [("worker", "worker", "journal"), ("dispatcher", "dispatcher", "store")]
)
def test_a_store_can_not_be_used(config: Path, service: str, section: str, key: str) -> None:
    done = run(changed(config, "homeless", **{section: {key: "/nonexistent/file.sqlite3"}}), service)

    assert done.status == 74
    assert "the folder /nonexistent does not exist" in done.errors


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("submit", "echo", '{"a": }'), "payload: is not JSON: Expecting value: line 1 column 7"),
        (("submit", "echo", "NaN"), "NaN is not JSON"),
        (("submit", "echo", "@/nonexistent"), "/nonexistent: can't be read: No such file or directory"),
        (("submit",), "name the job TYPE"),
        (("submit", "echo", "1", "--batch", "-"), "PAYLOAD can't be combined with --batch"),
        (("submit", "--batch", "-", "--id", "x"), "--id can't be combined with --batch"),
        (("submit", "--batch", "/nonexistent"), "/nonexistent: can't be read"),
        (("submit", "echo", "--skip-bad"), "--skip-bad requires --batch"),
        (("acl", "--client", "x", "--operator", "x"), "'x' is given more than once"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_not_sent(config: Path, words: tuple[str, ...], text: str) -> None:
    done = run(config, *words)

    assert done.status == 2
    assert text in only_error(done)


def test_a_payload_that_is_too_large(config: Path) -> None:
    done = run(config, "submit", "echo", "-", stdin=b'"' + b"x" * 300_000 + b'"')

    assert done.status == 2
    assert "the payload is too large" in only_error(done)


@follows(
    "…: no dispatcher answers. Start stockworker-dispatcher, or check its log. If it runs, `stockworker check` shows whether the "
    "broker lets it answer …",
    "The job may have been stored; to submit it again safely, use --id …",
)
def test_no_dispatcher_answers(tmp_path: Path) -> None:
    with Fleet(tmp_path, workers=0) as fleet:
        fleet.dispatcher.kill()
        config = fleet.config_file("client")
        submitted = run(config, "submit", "echo", "--id", "unanswered", "--answer-timeout", "1s")
        batch = run(config, "submit", "--batch", "-", "--answer-timeout", "1s", stdin=b'{"type": "echo"}')
        asked = run(config, "stats", "--answer-timeout", "1s")
        checked = run(config, "check", "--role", "client")
        fleet.dispatcher.start()
        again = [run(config, "submit", "echo", "--id", "unanswered") for _ in range(2)]
        shown = run(config, "check", "--role", "client")

    assert [done.output for done in again] == ["unanswered\n"] * 2
    assert shown.status == 0

    for done in (submitted, batch, asked):
        assert done.status == 69
        assert "no answer within 1 s: no dispatcher answers. Start stockworker-dispatcher" in only_error(done)
    assert "--id unanswered" in submitted.errors
    assert "The dispatcher answered 0 of 1 jobs" in batch.errors
    assert "dispatcher     no dispatcher answers. Start stockworker-dispatcher" in checked.output
