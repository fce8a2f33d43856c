"""The steps that `stockworker pki` and `broker setup` print, taken one after another, below folders."""

import re
import shlex
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.errors import CertificateRefused
from stockworker.pki.access_list import users_of
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.exits import Exit
from tests.harness.advice import follows
from tests.harness.broker_place import NO_CONFIG, Place, new_place
from tests.harness.command import Finished, run

NAME = "mq.example.org"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The machine of the broker; the authority's commands run there too."""
    return new_place(tmp_path / "root")


def pki(place: Place, action: str, *words: str) -> Finished:
    done = run(NO_CONFIG, "pki", action, *words, "--ca", str(place.ca))
    assert done.status == Exit.OK, done.errors
    return done


def users(place: Place) -> dict[str, str]:
    """The access control list: names with their roles, without the dispatcher, which is always there."""
    listed = users_of((place.folder / "acl").read_text())
    assert listed.pop("dispatcher") == "dispatcher"
    return listed


def at(place: Place, now: datetime) -> AuthorityFolder:
    return AuthorityFolder(place.ca, now, users=users(place))


def now() -> datetime:
    return clock.utc_now().replace(microsecond=0)


@follows(
    "next: on the broker's machine run 'stockworker broker setup'; then 'stockworker pki issue' for all participants",
    "next: 'stockworker pki issue dispatcher dispatcher', then a certificate for each worker, client and operator",
)
def test_from_nothing_to_a_fleet(place: Place) -> None:
    assert "next: on the broker's machine run 'stockworker broker setup'" in pki(place, "init").errors
    first = place.setup("--host", NAME)
    assert "next: 'stockworker pki issue dispatcher dispatcher'" in first.errors
    pki(place, "issue", "dispatcher", "dispatcher")
    for kind, name in (("worker", "edge-1-1"), ("client", "desk-1"), ("operator", "admin")):
        pki(place, "issue", kind, name)
    last = place.setup()
    assert "next:" not in last.errors.replace("next: systemctl enable --now mosquitto", "")
    assert users(place) == {"desk-1": "client", "admin": "operator"}


@follows(
    "then on the broker's machine: stockworker broker setup. If this authority is on another machine, add …, and the "
    "--bridge options of the broker"
)
@pytest.mark.parametrize("is_local", [True, False])
def test_a_new_client_gets_its_rights(place: Place, tmp_path: Path, *, is_local: bool) -> None:
    pki(place, "init")
    place.setup("--host", NAME)
    pki(place, "issue", "operator", "admin")
    advice = pki(place, "issue", "client", "desk-1").errors
    (options,) = re.findall(
        r"stockworker broker setup. If this authority is on another machine, add (.*), and the", advice
    )
    if is_local:
        place.setup()
    else:
        place.ca.rename(tmp_path / "distant")
        place.setup(*shlex.split(options))
    assert users(place) == {"admin": "operator", "desk-1": "client"}


@follows("then on the broker's machine: stockworker broker setup; it removed the name after its expiry")
def test_an_expired_client_comes_back(place: Place) -> None:
    pki(place, "init")
    place.setup("--host", NAME)
    long_ago = at(place, now() - timedelta(days=400))
    long_ago.issue(CertificateKind.CLIENT, Subject("desk-1"), timedelta(days=100))
    place.setup()
    assert users(place) == {"desk-1": "removed"}
    assert "it removed the name after its expiry" in pki(place, "renew", "desk-1").errors
    place.setup()
    assert users(place) == {"desk-1": "client"}


@follows("…; if its key was stolen: stockworker pki revoke …")
def test_a_stolen_key_is_revoked_and_the_new_one_stays(place: Place) -> None:
    pki(place, "init")
    pki(place, "issue", "worker", "edge-1-1")
    advice = pki(place, "renew", "edge-1-1", "--new-key").errors
    (command,) = re.findall(r"if its key was stolen: stockworker (.*)", advice)
    _, action, serial = command.split()
    pki(place, action, serial)
    states = {each["serial"]: each["standing"] for each in pki(place, "list", "--all", "--json").json_lines[1:]}
    assert sorted(states.values()) == ["revoked", "valid"]
    assert states[serial] == "revoked"


@follows("copy … to the authority, and run there: stockworker pki sign KIND … …")
def test_a_request_is_signed(place: Place, tmp_path: Path) -> None:
    pki(place, "init")
    asked = run(NO_CONFIG, "pki", "request", "edge-1-1", "--out", str(tmp_path))
    ((file, command),) = re.findall(r"copy (\S+) to the authority, and run there: stockworker (.*)", asked.errors)
    _, action, kind, name, request = command.split()
    assert (kind, request) == ("KIND", Path(file).name)
    pki(place, action, "worker", name, file)


@follows(
    "… is in the broker's access control list (…). … Choose another name. If all certificates of this name are revoked, run "
    "'stockworker broker setup' first: it removes its rights"
)
def test_a_name_of_a_client_becomes_that_of_a_worker(place: Place) -> None:
    pki(place, "init")
    pki(place, "issue", "client", "desk-1")
    place.setup("--host", NAME)
    pki(place, "revoke", "desk-1")
    with pytest.raises(CertificateRefused, match=r"run 'stockworker broker setup' first: it removes its rights"):
        at(place, now()).issue(CertificateKind.WORKER, Subject("desk-1"))
    at(place, now()).issue(CertificateKind.WORKER, Subject("desk-2"))
    place.setup()
    assert users(place) == {"desk-1": "removed"}
    at(place, now()).issue(CertificateKind.WORKER, Subject("desk-1"))


@follows(
    "… …: this name has a certificate of kind …, whose holder would get the rights of kind …. Use another name, or revoke "
    "that certificate: stockworker pki revoke …"
)
@pytest.mark.parametrize("remedy", ["another name", "revoke"])
def test_a_worker_gets_no_rights_of_a_client(place: Place, remedy: str) -> None:
    pki(place, "init")
    pki(place, "issue", "worker", "edge-1-1")
    refused = place.setup("--host", NAME, "--client", "edge-1-1")
    assert refused.status == Exit.CONFIG
    (command,) = re.findall(r"or revoke that certificate: stockworker (.*)", refused.errors)
    name = "desk-1"
    if remedy == "revoke":
        _, action, name = command.split()
        pki(place, action, name)
    assert place.setup("--host", NAME, "--client", name).status == Exit.OK
    assert users(place)[name] == "client"


@follows("…: names no listener. Run 'stockworker broker setup' first")
def test_a_broker_that_was_not_set_up_is_not_checked(place: Place) -> None:
    def checked() -> Finished:
        return run(NO_CONFIG, "broker", "check", "--root", str(place.root))

    assert "names no listener. Run 'stockworker broker setup' first" in checked().errors
    pki(place, "init")
    place.setup("--host", NAME, "--address", "127.0.0.1")
    assert "names no listener" not in checked().errors
