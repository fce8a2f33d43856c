"""`stockworker keys`: from nothing to a keyring that a fleet can use, and through a rotation."""

import subprocess
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.sealing import keyring, keys
from stockworker.sealing.keyring import Holder
from tests.harness import command
from tests.harness.advice import follows
from tests.harness.command import Finished


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "job_processor.yml"
    encryption = f"{{keyring: {tmp_path}/keyring, key: {tmp_path}/desk-1.pem, group_keys: [{tmp_path}/prices.pem]}}"
    file.write_text(f"job_processor:\n  client: {{id: desk-1}}\n  encryption: {encryption}\n")
    return file


def run(config: Path, action: str, holder: str, name: str, *more: str) -> Finished:
    return command.run(config, "keys", action, holder, name, "--file", str(config.with_name(f"{name}.pem")), *more)


def set_up(config: Path) -> list[Finished]:
    return [
        run(config, "generate", "group", "prices", "--types", "price_update,data_import"),
        run(config, "generate", "submitter", "desk-1"),
        run(config, "generate", "worker", "edge-7-1"),
    ]


def test_what_is_generated_is_printed_and_entered(config: Path) -> None:
    done = set_up(config)
    ring = keyring.load(config.with_name("keyring"))

    assert [each.status for each in done] == [0, 0, 0]
    assert "".join(each.output for each in done) == config.with_name("keyring").read_text()
    assert [(entry.holder, entry.name) for entry in ring.entries] == [
        (Holder.GROUP, "prices"),
        (Holder.SUBMITTER, "desk-1"),
        (Holder.WORKER, "edge-7-1"),
    ]
    assert sorted(ring.entries[0].types or ()) == ["data_import", "price_update"]
    assert "Copy the keyring to all machines" in done[0].errors
    for entry in ring.entries:
        made = keys.load(config.with_name(f"{entry.name}.pem"))
        assert set(entry.ids) == {*(key.id for key in made.signing), *(key.id for key in made.opening)}


def test_private_keys_are_never_printed(config: Path) -> None:
    done = [*set_up(config), run(config, "export", "submitter", "desk-1"), command.run(config, "keys", "list")]
    assert all("-----BEGIN" not in each.output + each.errors for each in done)
    pem = config.with_name("desk-1.pem").read_text().splitlines()[2]
    assert all(pem not in each.output + each.errors for each in done)


def test_a_rotation_keeps_the_old_keys_for_a_while(config: Path) -> None:
    set_up(config)
    config.with_name("keyring").write_text("# a comment\n" + config.with_name("keyring").read_text())
    before = clock.wall()
    done = run(config, "rotate", "group", "prices", "--starts-in", "2h", "--overlap", "3d")
    ring = keyring.load(config.with_name("keyring"))
    old, new = ring.named(Holder.GROUP, "prices")

    assert done.status == 0
    assert done.output.strip() == keyring.show(new)
    assert (new.types, new.not_after) == (old.types, None)
    assert before + 7190 < (new.not_before or 0) < before + 7260
    assert old.not_after == (new.not_before or 0) + 3 * 86400
    assert config.with_name("keyring").read_text().startswith("# a comment\n")
    made = keys.load(config.with_name("prices.pem"))
    assert [key.id for key in made.opening] == [*new.ids, *old.ids]
    exported = run(config, "export", "group", "prices").output.splitlines()
    assert [line.split()[2] for line in exported] == [keyring.show(entry).split()[2] for entry in (new, old)]


def test_the_list_shows_what_counts_and_what_is_here(config: Path) -> None:
    set_up(config)
    run(config, "rotate", "group", "prices")
    keys.add_generation(config.with_name("desk-1.pem"), keys.load(config.with_name("desk-1.pem")).signing[0].created)  # type: ignore[arg-type] # it has one
    done = command.run(config, "keys", "list", "--json")
    rows = {(row.get("holder"), row.get("name"), row["state"]): row for row in done.json_lines}

    assert {*rows} == {
        ("group", "prices", "active"),
        ("group", "prices", "not yet valid"),
        ("submitter", "desk-1", "active"),
        ("worker", "edge-7-1", "active"),
        (None, None, "not in the keyring"),
    }
    assert rows["submitter", "desk-1", "active"]["private"] == str(config.with_name("desk-1.pem"))
    assert "private" not in rows["worker", "edge-7-1", "active"]
    assert rows["group", "prices", "active"]["types"] == ["data_import", "price_update"]
    shown = command.run(config, "keys", "list").output.splitlines()
    assert shown[0].split() == [
        "HOLDER",
        "NAME",
        "SIGNING",
        "SEALING",
        "STATE",
        "UNTIL",
        "PRIVATE",
        "AGE",
        "TYPES",
        "GROUPS",
    ]
    assert len(shown) == 7


def test_what_can_not_be_done_says_what_to_do(config: Path) -> None:
    untyped = run(config, "generate", "group", "prices")
    assert (untyped.status, untyped.output) == (2, "")
    assert "a group requires --types" in untyped.errors
    assert "--types is not allowed for a worker" in run(config, "generate", "worker", "w", "--types", "a").errors
    assert "can't read the keyring" in run(config, "rotate", "group", "prices").errors
    set_up(config)
    assert (
        "use 'stockworker keys rotate group prices'"
        in run(config, "generate", "group", "prices", "--types", "a").errors
    )
    assert "has no worker edge-8" in run(config, "rotate", "worker", "edge-8").errors
    assert (
        "it is the file of a group"
        in command.run(config, "keys", "export", "worker", "w", "--file", str(config.with_name("prices.pem"))).errors
    )
    assert keyring.load(config.with_name("keyring")).named(Holder.WORKER, "w") == []


def test_the_groups_of_a_worker_are_entered_and_kept_in_a_rotation(config: Path) -> None:
    set_up(config)
    made = run(config, "generate", "worker", "edge-8", "--groups", "prices,imports")
    run(config, "rotate", "worker", "edge-8")
    listed = command.run(config, "keys", "list", "--json")

    assert "groups=imports,prices" in made.output
    assert [row.get("groups") for row in listed.json_lines] == [None, None, None, *[["imports", "prices"]] * 2]
    exported = run(config, "export", "worker", "edge-8").output.splitlines()
    assert [line.split()[4] for line in exported] == ["groups=imports,prices"] * 2
    assert "groups=other" in run(config, "export", "worker", "edge-8", "--groups", "other").output
    refused = run(config, "generate", "group", "others", "--types", "a", "--groups", "prices")
    assert "--groups is only allowed for a worker, not for a group" in refused.errors


@pytest.mark.parametrize("mode", [0o664, 0o660])
def test_a_keyring_that_others_can_write_is_refused_until_the_remedy_was_applied(config: Path, mode: int) -> None:
    set_up(config)
    ring = config.with_name("keyring")
    ring.chmod(mode)
    refused = command.run(config, "keys", "list")
    assert (refused.status, refused.output) == (78, "")
    assert f"Run 'chmod go-w {ring}'" in refused.errors

    subprocess.run(["chmod", "go-w", ring], check=True)
    assert command.run(config, "keys", "list").status == 0


def test_a_file_that_is_there_is_not_overwritten(config: Path) -> None:
    file = config.with_name("prices.pem")
    file.write_text("precious")
    done = run(config, "generate", "group", "prices", "--types", "a")

    assert done.status == 78
    assert file.read_text() == "precious"
    assert not config.with_name("keyring").exists()


def test_openssl_understands_the_files(config: Path) -> None:
    set_up(config)
    shown = subprocess.run(
        ["openssl", "pkey", "-in", config.with_name("prices.pem"), "-noout", "-text"], capture_output=True, check=True
    )
    assert b"X25519 Private-Key" in shown.stdout


@follows(
    "… has no … …; 'stockworker keys list' shows its lines",
    "… may have private keys of groups. Rotate these: stockworker keys rotate group …",
)
def test_a_removed_party_is_no_longer_in_the_keyring(config: Path) -> None:
    set_up(config)
    file = config.with_name("keyring")
    file.write_text(file.read_text().replace("submitter", "# the shop\nsubmitter") + "\n# the end\n")
    before = file.read_text().splitlines()
    run(config, "rotate", "worker", "edge-7-1")
    lines = [line for line in file.read_text().splitlines() if line.startswith("worker edge-7-1 ")]

    done = command.run(config, "keys", "remove", "worker", "edge-7-1")

    assert (done.status, done.output.splitlines()) == (0, lines)
    assert len(lines) == 2
    assert file.read_text().splitlines() == [line for line in before if not line.startswith("worker")]
    assert "Rotate these: stockworker keys rotate group prices" in done.errors
    assert config.with_name("edge-7-1.pem").exists(), "what it has signed can still be examined"
    again = command.run(config, "keys", "remove", "worker", "edge-7-1")
    assert (again.status, again.output) == (2, "")
    assert "has no worker edge-7-1" in again.errors
    assert "edge-7-1" not in command.run(config, "keys", "list").output
    assert run(config, "rotate", "group", "prices").status == 0
