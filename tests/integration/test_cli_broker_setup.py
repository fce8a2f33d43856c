"""`stockworker broker setup` below a folder: a real Mosquitto tries out what it makes."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.pki.certificates import Authority, Subject
from stockworker.pki.inspection import inspect
from stockworker.terminal.exits import Exit
from tests.harness.advice import follows
from tests.harness.broker import Broker
from tests.harness.broker_place import DEBIANS, NO_CONFIG, Place, new_place
from tests.harness.command import Finished, run

NOTHING = "nothing to do\n"
SANDBOX = Path(__file__).parents[2] / "systemd" / "mosquitto.service.d" / "stockworker.conf"


@pytest.fixture
def bare(tmp_path: Path) -> Place:
    return new_place(tmp_path / "root")


@pytest.fixture
def place(bare: Place) -> Place:
    """The machine has the authority as well."""
    bare.pki("init")
    return bare


@pytest.fixture
def done(place: Place) -> Place:
    """And was set up."""
    finished = place.setup()
    assert finished.status == Exit.OK, finished.errors
    return place


def wrote(finished: Finished) -> set[str]:
    assert finished.status == Exit.OK, finished.errors
    return {line.rpartition("/")[2] for line in finished.output.splitlines() if line.startswith("wrote ")}


def test_one_command_is_enough_and_the_next_has_nothing_to_do(place: Place) -> None:
    first = place.setup("--host", "mq.example.org", "--host", "10.0.0.5")
    assert wrote(first) == {"acl", "broker.crt", "broker.key", "ca.crt", "crl.pem", "stockworker.conf"}
    assert inspect(place.folder / "broker.crt")[0].hosts == {"mq.example.org", "10.0.0.5", "localhost"}
    assert {file.stat().st_mode & 0o7777 for file in (*place.folder.iterdir(), place.config)} == {0o640}
    assert not list(place.ca.rglob("mq.example.org.key")), "the key is the broker's alone"
    assert "pki issue dispatcher dispatcher" in first.errors

    before = place.files()
    assert place.setup().output == NOTHING
    assert place.files() == before


def test_a_dry_run_shows_and_changes_nothing(place: Place) -> None:
    before = place.files()
    shown = place.setup("--dry-run", "--host", "mq.example.org")
    assert shown.status == Exit.OK
    for words in ("+listener 8883", "issue a certificate for mq.example.org, localhost", "would restart mosquitto"):
        assert words in shown.output
    assert place.files() == before
    assert (place.ca / "issued.jsonl").read_text() == ""

    assert place.setup("--host", "mq.example.org").status == Exit.OK
    assert place.setup("--dry-run").output == NOTHING


def test_whoever_gets_a_certificate_gets_into_the_access_list(done: Place) -> None:
    done.pki("issue", "client", "desk-1")
    assert "+user desk-1" in done.setup("--dry-run").output
    assert "would reload mosquitto" in done.setup("--dry-run").output
    assert wrote(done.setup()) == {"acl"}
    assert "user desk-1" in (done.folder / "acl").read_text()
    assert done.setup().output == NOTHING


def test_options_of_the_last_run_apply_until_others_are_given(done: Place) -> None:
    assert wrote(done.setup("--profile", "wan", "--operator", "anna")) == {"acl", "stockworker.conf"}
    assert done.setup().output == NOTHING
    assert "max_connections" in done.config.read_text()
    wrote(done.setup("--profile", "production"))
    assert "max_connections" not in done.config.read_text()
    assert "user anna" in (done.folder / "acl").read_text()
    wrote(done.setup("--operator", "ben"))
    assert "# removed\nuser anna\n" in (done.folder / "acl").read_text()


@follows(
    "…: was edited by hand. Compare with --dry-run, move your own lines to another file in …, and replace the file with --force, which keeps a copy",
)
@pytest.mark.parametrize("name", ["conf.d/stockworker.conf", "stockworker/acl"])
def test_what_somebody_else_has_edited_is_left_alone_unless_forced(done: Place, name: str) -> None:
    file = done.mosquitto / name
    file.write_text(file.read_text() + "# by hand\n")
    before = done.files()

    refused = done.setup()
    assert refused.status == Exit.CONFIG
    assert str(Path("/etc/mosquitto") / name) in refused.errors
    assert "-# by hand" in done.setup("--dry-run").output
    assert done.files() == before

    assert wrote(done.setup("--force")) == {file.name}
    (kept,) = file.parent.glob(f"{file.name}.edited-*")
    assert "# by hand" in kept.read_text()
    assert "# by hand" not in file.read_text()
    assert done.setup().output == NOTHING


@pytest.mark.parametrize("edited", ["{broken", "[1]", '{"profile": "prod"}'])
def test_where_it_no_longer_says_what_it_was_asked_for_nothing_is_guessed(done: Place, edited: str) -> None:
    done.config.write_text(f"{done.config.read_text()}# Asked for: {edited}\n")
    before = done.files()
    refused = done.setup("--force")
    assert refused.status == Exit.CONFIG
    assert (
        "/etc/mosquitto/conf.d/stockworker.conf: the line with the options of the last run is not valid"
        in refused.errors
    )
    assert "Delete that line" in refused.errors
    assert done.files() == before


def test_what_the_printing_commands_have_made_is_taken_over(done: Place) -> None:
    done.config.write_text(run(NO_CONFIG, "broker", "config").output)
    (done.folder / "acl").write_text(run(NO_CONFIG, "acl").output)
    assert wrote(done.setup()) == {"acl", "stockworker.conf"}


def test_what_mosquitto_does_not_start_with_is_not_put_in_place(place: Place) -> None:
    (place.mosquitto / "conf.d" / "old.conf").write_text("# one line\nkeepalive 60\n")
    before = place.files()

    refused = place.setup()

    assert refused.status == Exit.CONFIG
    assert "keepalive" in refused.errors
    assert "/etc/mosquitto/conf.d/old.conf:2" in refused.errors
    assert place.files() == before


def test_a_second_listener_on_the_port_is_found(place: Place) -> None:
    (place.mosquitto / "conf.d" / "old.conf").write_text("listener 8883\n")
    refused = place.setup()
    assert refused.status == Exit.CONFIG
    assert "Address already in use" in refused.errors


def test_a_configuration_that_mosquitto_would_not_read_is_not_written(place: Place) -> None:
    (place.mosquitto / "mosquitto.conf").write_text("")
    refused = place.setup()
    assert refused.status == Exit.CONFIG
    assert "include_dir /etc/mosquitto/conf.d" in refused.errors
    (place.mosquitto / "mosquitto.conf").unlink()
    assert "Install the package 'mosquitto'" in place.setup().errors


@follows(
    "Run 'stockworker pki request … --out …' here and 'stockworker pki sign broker … ….csr' at the authority. Copy ca.crt, "
    "crl.pem and ….crt (as …) into …, rename ….key there to …, and run this command again"
)
def test_without_an_authority_it_says_what_to_run_where(bare: Place, tmp_path: Path) -> None:
    refused = bare.setup("--host", "mq.example.org")
    assert refused.status == Exit.CONFIG
    for words in ("pki request mq.example.org --out", "pki sign broker mq.example.org", "broker.crt"):
        assert words in refused.errors

    distant, name = Place(tmp_path / "distant"), "mq.example.org"
    distant.pki("init")
    assert run(NO_CONFIG, "pki", "request", name, "--out", str(bare.folder)).status == Exit.OK
    distant.pki("sign", "broker", name, str(bare.folder / f"{name}.csr"))
    for file in ("ca.crt", "crl.pem"):
        shutil.copy(distant.ca / file, bare.folder)
    shutil.copy(distant.ca / "issued" / f"{name}.crt", bare.folder / "broker.crt")
    (bare.folder / f"{name}.key").rename(bare.folder / "broker.key")
    assert "stockworker.conf" in wrote(bare.setup("--host", name))


def elsewhere(
    place: Place,
    *hosts: str,
    lifetime: timedelta = timedelta(days=300),
    authority_lifetime: timedelta = timedelta(days=900),
) -> None:
    """Bring the broker's files from an authority on another machine."""
    now = datetime.fromtimestamp(clock.wall(), UTC)
    authority = Authority.create("elsewhere", now, authority_lifetime)
    identity = authority.issue(Subject(hosts[0], tuple(hosts)), now, lifetime)
    place.folder.mkdir()
    for name, content in {
        "ca.crt": authority.certificate_pem,
        "crl.pem": authority.revocation_list((), now),
        "broker.crt": identity.certificate_pem,
        "broker.key": identity.key_pem,
    }.items():
        (place.folder / name).write_bytes(content)


def test_files_of_another_authority_are_taken_as_they_are(place: Place) -> None:
    elsewhere(place, "mq.example.org")
    before = {file.name: file.read_bytes() for file in place.folder.iterdir()}
    assert "stockworker.conf" in wrote(place.setup("--client", "desk-1"))
    assert {name: (place.folder / name).read_bytes() for name in before} == before
    assert place.setup().output == NOTHING
    assert "user desk-1" in (place.folder / "acl").read_text()

    refused = place.setup("--host", "other.example.org")
    assert refused.status == Exit.CONFIG
    assert "is not valid for other.example.org" in refused.errors


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("ca.crt", "would not trust the broker's certificate"),
        ("crl.pem", "crl.pem is missing"),
        ("broker.key", "broker.key is missing"),
    ],
)
def test_files_that_do_not_fit_are_found(bare: Place, broken: str, said: str) -> None:
    elsewhere(bare, "mq.example.org")
    if broken == "ca.crt":
        other = Authority.create("other", datetime.fromtimestamp(clock.wall(), UTC))
        (bare.folder / broken).write_bytes(other.certificate_pem)
    else:
        (bare.folder / broken).unlink()
    refused = bare.setup()
    assert refused.status == Exit.CONFIG
    assert said in refused.errors
    assert not bare.config.exists()


def test_a_certificate_that_has_ended_is_found(bare: Place) -> None:
    elsewhere(bare, "mq.example.org", lifetime=timedelta(seconds=-60))
    refused = bare.setup()
    assert refused.status == Exit.CONFIG
    assert "certificate has expired" in refused.errors


def test_a_list_that_has_run_out_would_shut_everybody_out(bare: Place) -> None:
    elsewhere(bare, "mq.example.org", authority_lifetime=timedelta(seconds=-60))
    refused = bare.setup()
    assert refused.status == Exit.CONFIG
    assert "crl.pem has expired" in refused.errors


def test_what_was_written_is_put_back_if_not_all_can_be(done: Place) -> None:
    done.pki("issue", "client", "desk-1")
    done.config.with_name("stockworker.conf.new").mkdir()  # where it is written before it gets its name
    before = done.files()
    failed = done.setup("--profile", "wan")
    assert failed.status == Exit.CONFIG
    assert "all files were restored" in failed.errors
    assert {name: content for name, (content, _) in done.files().items()} == {
        name: content for name, (content, _) in before.items()
    }


def test_a_renewed_certificate_and_a_new_list_come_from_the_authority(place: Place) -> None:
    place.setup("--host", "mq.example.org")
    key = (place.folder / "broker.key").read_bytes()
    place.pki("issue", "worker", "edge-1")
    place.pki("renew", "mq.example.org", "--days", "500")
    place.pki("revoke", "edge-1")

    assert wrote(place.setup()) == {"broker.crt", "crl.pem"}

    assert (place.folder / "broker.crt").read_bytes() == (place.ca / "issued" / "mq.example.org.crt").read_bytes()
    assert (place.folder / "broker.key").read_bytes() == key
    assert (place.folder / "crl.pem").read_bytes() == (place.ca / "crl.pem").read_bytes()


def test_a_certificate_is_issued_anew_before_it_ends_and_for_more_hosts(place: Place) -> None:
    place.setup("--host", "mq.example.org")
    place.pki("renew", "mq.example.org", "--days", "29")
    assert {"broker.crt", "broker.key"} <= wrote(place.setup())
    hosts = inspect(place.folder / "broker.crt")[0].hosts
    assert hosts == {"mq.example.org", "localhost"}
    changed = wrote(place.setup("--host", "10.0.0.5"))
    assert changed == {"broker.crt", "broker.key", "stockworker.conf"}
    assert inspect(place.folder / "broker.crt")[0].hosts == {*hosts, "10.0.0.5"}


def test_the_certificate_in_use_is_renewed_under_its_name(place: Place) -> None:
    assert "the broker's certificate (mq.example.org) expires on " in place.setup("--host", "mq.example.org").errors
    before = (place.folder / "broker.crt").read_bytes()

    renewed = place.setup("--renew")

    assert wrote(renewed) == {"broker.crt", "broker.key"}
    assert "in 396 days" in renewed.errors
    assert (place.folder / "broker.crt").read_bytes() != before
    assert inspect(place.folder / "broker.crt")[0].hosts == {"mq.example.org", "localhost"}
    wrote(place.setup("--renew", "--host", "10.0.0.5"))
    assert inspect(place.folder / "broker.crt")[0].hosts == {"10.0.0.5", "localhost"}


@follows(
    "…: the authority is not on this machine. Run 'stockworker pki renew …' at the authority, copy ….crt here as …, and "
    "run this command without --renew"
)
def test_a_certificate_of_another_machine_is_renewed_there(place: Place, tmp_path: Path) -> None:
    distant, name = Place(tmp_path / "distant"), "mq.example.org"
    distant.pki("init")
    distant.pki("issue", "broker", name)
    place.folder.mkdir()
    for source, target in (("ca.crt", "ca.crt"), ("crl.pem", "crl.pem"), (f"issued/{name}.key", "broker.key")):
        shutil.copy(distant.ca / source, place.folder / target)
    shutil.copy(distant.ca / "issued" / f"{name}.crt", place.folder / "broker.crt")
    refused = place.setup("--renew")
    assert refused.status == Exit.CONFIG
    assert f"Run 'stockworker pki renew {name}' at the authority" in refused.errors

    before = (place.folder / "broker.crt").read_bytes()
    distant.pki("renew", name)
    shutil.copy(distant.ca / "issued" / f"{name}.crt", place.folder / "broker.crt")
    wrote(place.setup())
    assert (place.folder / "broker.crt").read_bytes() != before


def test_lost_files_are_made_again_for_the_same_hosts(place: Place) -> None:
    place.setup()
    place.setup("--host", "mq.example.org")
    hosts = inspect(place.folder / "broker.crt")[0].hosts
    assert "mq.example.org" in hosts
    shutil.rmtree(place.folder)

    wrote(place.setup())

    assert inspect(place.folder / "broker.crt")[0].hosts == hosts
    assert place.setup().output == NOTHING


@follows(
    "the authority has certificates for several brokers (…). Name the hosts of this one with --host, each one that clients dial"
)
def test_without_configuration_several_brokers_of_one_authority_are_not_mixed_up(place: Place) -> None:
    place.setup()
    place.setup("--host", "mq.example.org")
    shutil.rmtree(place.folder)
    place.config.unlink()
    refused = place.setup()
    assert refused.status == Exit.CONFIG
    assert "mq.example.org). Name the hosts of this one with --host" in refused.errors
    wrote(place.setup("--host", "mq.example.org"))


def test_a_lost_certificate_comes_from_the_authority(place: Place) -> None:
    place.setup("--host", "mq.example.org")
    before = (place.folder / "broker.crt").read_bytes()
    (place.folder / "broker.crt").unlink()
    assert wrote(place.setup()) == {"broker.crt"}
    assert (place.folder / "broker.crt").read_bytes() == before


@follows(
    "…: Mosquitto's configuration writes here, and in its sandbox it runs as user …, who can't. Run 'chown -R …: …' first"
)
def test_the_sandbox_is_set_up_with_the_folders_that_mosquitto_writes(place: Place) -> None:
    sandboxed(place)
    data = place.root / "srv" / "mosq"
    data.mkdir(parents=True)
    main = place.mosquitto / "mosquitto.conf"
    main.write_text(DEBIANS.replace("/var/lib/mosquitto/", "/srv/mosq/"))

    refused = place.setup()
    assert refused.status == Exit.CONFIG
    assert "Run 'chown -R mosquitto: /srv/mosq' first" in refused.errors
    assert not place.config.exists()

    shutil.chown(data, "mosquitto")
    assert "stockworker.conf" in wrote(place.setup())
    assert "ReadWritePaths=/srv/mosq\n" in place.drop_in.read_text()
    assert place.drop_in.stat().st_mode & 0o777 == 0o644
    assert place.setup().output == NOTHING

    main.write_text(DEBIANS.replace("/var/lib/mosquitto/", "/home/mosq/"))
    before = place.files()
    assert "Mosquitto's sandbox hides this folder" in place.setup().errors
    assert place.files() == before


def test_another_sandbox_needs_a_restart(done: Place) -> None:
    sandboxed(done)
    shown = done.setup("--dry-run").output
    assert "+NoNewPrivileges=yes" in shown
    assert "would restart mosquitto: it enters its sandbox" in shown
    wrote(done.setup())
    done.drop_in.write_text(done.drop_in.read_text() + "# by hand\n")
    assert f"{Path('/etc/systemd/system/mosquitto.service.d/stockworker.conf')}: was edited" in done.setup().errors


def test_removal_gives_mosquitto_back(place: Place) -> None:
    before = place.files()
    sandboxed(place)
    wrote(place.setup())
    assert "would remove /etc/mosquitto/stockworker/broker.key" in place.setup("--remove", "--dry-run").output
    removed = place.setup("--remove")
    assert removed.status == Exit.OK
    assert not place.drop_in.exists()
    left = {name: content for name, content in place.files().items() if ".edited-" not in name}
    assert left == before
    assert place.setup("--remove").output == NOTHING
    assert "stockworker.conf" in wrote(place.setup())


def sandboxed(place: Place) -> None:
    """Install the rules of the sandbox, as the package stockworker-broker does."""
    rules = place.root / "usr" / "share" / "stockworker-broker" / "sandbox.conf"
    rules.parent.mkdir(parents=True)
    shutil.copy(SANDBOX, rules)


def test_development_needs_no_certificate(bare: Place) -> None:
    assert wrote(bare.setup("--profile", "development")) == {"stockworker.conf"}
    assert bare.setup().output == NOTHING


def test_passwords_need_no_revocation_list(done: Place, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    options = ("--password-file", str(passwords))
    refused = done.setup(*options)
    assert refused.status == Exit.CONFIG
    assert "passwords does not exist" in refused.errors
    (done.root / str(passwords)[1:]).parent.mkdir(parents=True)
    (done.root / str(passwords)[1:]).touch()
    shutil.chown(done.root / str(passwords)[1:], group=(done.folder / "acl").stat().st_gid)
    assert wrote(done.setup(*options)) == {"stockworker.conf"}


def test_a_bridge_keeps_its_secret_id_and_reaches_nobody_while_it_is_tried_out(done: Place, tmp_path: Path) -> None:
    with Broker(tmp_path / "central") as central:
        shown = central.identity("paris")
        for source, name in ((shown.certificate, "bridge.crt"), (shown.key, "bridge.key")):
            shutil.copyfile(source, done.folder / name)
            (done.folder / name).chmod(0o644)
        options = ("--profile", "bridge", "--name", "paris", "--central", f"localhost:{central.port}")
        wrote(done.setup(*options))
        assert "paris-" not in central.log
    assert done.setup(*options).output == NOTHING
    assert done.setup().output == NOTHING
