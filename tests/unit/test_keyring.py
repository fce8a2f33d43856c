"""The keyring file: the meaning of its lines, and the errors for invalid ones."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.errors import ConfigError, SealRefused
from stockworker.protocol.ids import JobType
from stockworker.sealing import keyring
from stockworker.sealing.keyring import Entry, Holder, key_id
from tests.harness.seals import NOW, group, identity, line

ED = "ed25519:" + "A" * 42 + "8="
X = "x25519:" + "B" * 42 + "8="


def parsed(text: str) -> tuple[Entry, ...]:
    return keyring.parse(text, "keyring").entries


def time(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_lines_of_all_kinds() -> None:
    desk, edge, prices = parsed(
        f"# the fleet\n\n  submitter desk-1 {ED} {X} types=a,b not-before=2026-05-01 # until autumn\r\n"
        f"worker edge-7-1\t{ED} groups=prices,imports not-after=2026-05-01T09:30:00+02:00\n"
        f"group prices {X} types=price_update"
    )

    assert (desk.holder, desk.name) == (Holder.SUBMITTER, "desk-1")
    assert sorted(desk.types or ()) == ["a", "b"]
    assert (desk.not_before, desk.not_after) == (time("2026-05-01"), None)
    assert (edge.sealing, edge.types, edge.not_after) == (None, None, time("2026-05-01T07:30:00"))
    assert (edge.answers_for("prices"), edge.answers_for("logs"), desk.groups) == (True, False, None)
    assert prices.verifying is None
    assert sorted(prices.types or ()) == ["price_update"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("client desk-1", "a line must begin with one of submitter, worker, group, not with 'client'"),
        ("worker", "the name is missing; write 'worker NAME KEYS'"),
        (f"worker a/b {ED}", "'a/b' is not a valid ID"),
        (f"submitter desk-1 {ED}", "x25519 is missing; 'stockworker keys export' prints complete lines"),
        (f"group prices {X}", "types is missing"),
        (f"group prices {X} {ED} types=a", "a group has no ed25519; remove it"),
        (f"worker w {ED} types=a", "a worker has no types"),
        (f"worker w {ED} {ED}", "a field is given twice"),
        ("worker w ed25519:AAAA", "ed25519: not a key (32 bytes in base64); copy the line again"),
        ("worker w ed25519:" + "A" * 43 + "=", "ed25519: not a key"),
        ("worker w ed25519:é", "ed25519: not a key"),
        (f"worker w {ED} AAAA", "'AAAA' is not one of"),
        (f"worker w {ED} types:a", "'types:a' is not one of"),
        (f"group p {X} types=a,,b", "'' is not a valid ID"),
        (f"worker w {ED} not-after=tomorrow", "not-after must be a date or a time such as 2026-05-01"),
        (f"worker w {ED} not-before=0722-01-31", "from 1970 to 9999, not '0722-01-31'"),
        (f"worker w {ED} not-before=1970-01-01T00:00:00+00:01", "from 1970 to 9999"),
        (f"worker w {ED} not-after=9999-12-31T23:59:59-00:01", "from 1970 to 9999"),
        (f"worker w {ED} not-after=0001-01-01T00:00:00+23:59", "from 1970 to 9999"),
        (f"worker w {ED} not-after=9999-12-31T23:59:59-23:59", "from 1970 to 9999"),
        (f"worker w {ED} not-after=2026-02-30", "must be a date"),
        (f"worker w {ED} not-after=20260501", "must be a date"),
        (f"worker w {ED} not-after=2026-W18", "must be a date"),
        (f"worker w {ED} not-after=2026-05-01T09:30:00.5Z", "must be a date"),
        (f"worker w {ED} not-after=\u0662026-05-01", "must be a date"),
        (f"worker w {ED} groups=", "'' is not a valid ID"),
        (f"submitter s {ED} {X} groups=a", "a submitter has no groups"),
        (f"worker w {ED} not-before=2026-05-02 not-after=2026-05-01", "the line is never valid"),
    ],
)
def test_a_wrong_line_is_named_with_its_remedy(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        parsed(f"worker fine {ED}\n{text}\n")
    assert str(wrong.value).startswith("keyring:2: ")
    assert problem in str(wrong.value)


def test_all_wrong_lines_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as wrong:
        parsed("x\n\ny")
    assert [line.split(":")[1] for line in str(wrong.value).splitlines()] == ["1", "3"]


def test_a_line_is_shown_as_it_is_read() -> None:
    entry = line(Holder.SUBMITTER, "desk-1", identity(), ["b", "a"], NOW, NOW + 60)
    assert parsed(keyring.show(entry)) == (entry,)
    assert "types=a,b not-before=2026-09-21T14:13:20Z not-after=2026-09-21T14:14:20Z" in keyring.show(entry)


def test_the_group_of_a_type_is_the_last_to_have_begun() -> None:
    types = ["price_update"]
    lines = [
        line(Holder.GROUP, "a", group(), types),
        line(Holder.GROUP, "b", group(), types, not_before=NOW - 10, not_after=NOW + 10),
        line(Holder.GROUP, "c", group(), types, not_before=NOW + 5),
        line(Holder.GROUP, "d", group(), ["data_import"]),
    ]

    def chosen(now: float) -> str:
        found = keyring.Keyring(lines).group_for(JobType("price_update"), now)
        assert found is not None
        return found.name

    assert [chosen(NOW + offset) for offset in (-11, 0, 5, 11)] == ["a", "b", "c", "c"]
    assert keyring.Keyring(lines[1:3]).group_for(JobType("price_update"), NOW - 11) is None


def test_of_equals_the_last_line_counts() -> None:
    lines = [line(Holder.GROUP, name, group(), ["a"]) for name in ("one", "two")]
    found = keyring.Keyring(lines).group_for(JobType("a"), NOW)
    assert found is lines[1]


def test_a_key_with_two_lines_counts_if_one_of_them_does() -> None:
    desk = identity()
    lines = [line(Holder.SUBMITTER, "desk-1", desk, not_after=NOW - 1), line(Holder.SUBMITTER, "desk-1", desk)]
    ring = keyring.Keyring(lines)

    assert ring.trusted(Holder.SUBMITTER, "desk-1", desk.signing[0].id, NOW) is lines[1]
    with pytest.raises(SealRefused, match="it is missing"):
        ring.trusted(Holder.WORKER, "desk-1", desk.signing[0].id, NOW)
    with pytest.raises(SealRefused, match="is not valid at this time"):
        keyring.Keyring(lines[:1]).trusted(Holder.SUBMITTER, "desk-1", desk.signing[0].id, NOW)


def test_a_key_id_is_the_beginning_of_a_digest() -> None:
    assert key_id(bytes(32)) == "66687aadf862bd77"


def test_expiring_the_lines_of_a_holder_leaves_all_others_as_they_are() -> None:
    text = f"# fleet\nworker w {ED} # rack 7\nworker w {ED} not-after=2026-01-01\n  worker  v   {ED}\n"
    ended = keyring.expire(text, Holder.WORKER, "w", time("2026-05-01"))

    assert ended == (
        f"# fleet\nworker w {ED} not-after=2026-05-01T00:00:00Z # rack 7\nworker w {ED} not-after=2026-01-01\n  worker  v   {ED}\n"
    )


def test_a_key_that_would_begin_after_its_end_becomes_a_comment() -> None:
    text = f"worker w {ED} not-before=2026-06-01\nworker w {ED}\n"

    ended = keyring.expire(text, Holder.WORKER, "w", time("2026-05-01"))

    assert ended == f"# worker w {ED} not-before=2026-06-01\nworker w {ED} not-after=2026-05-01T00:00:00Z\n"
    assert len(keyring.parse(ended, "keyring").entries) == 1


def test_a_keyring_that_can_not_be_read_or_trusted(tmp_path: Path) -> None:
    file = tmp_path / "keyring"
    with pytest.raises(ConfigError, match="can't read the keyring: No such file"):
        keyring.load(file)
    keyring.write(file, f"worker w {ED}\n")
    assert keyring.load(file).entries
    file.chmod(0o646)
    with pytest.raises(ConfigError, match="chmod go-w"):
        keyring.load(file)


@pytest.mark.parametrize("mode", [0o664, 0o660])
def test_a_keyring_that_its_group_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keyring"
    keyring.write(file, f"worker w {ED}\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="other users than its owner can write it"):
        keyring.load(file)


def test_a_keyring_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keyring"
    keyring.write(file, f"worker w {ED}\n")
    monkeypatch.setattr(os, "geteuid", lambda: 65533)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o100644, 0, 0, 1, 33, 33, 0, 0, 0, 0)))
    with pytest.raises(ConfigError, match=f"Run 'chown root {file}' as root"):
        keyring.load(file)


def test_a_file_that_is_too_large_is_refused_and_not_read_in_part(tmp_path: Path) -> None:
    file = tmp_path / "keyring"
    file.write_text("#")
    file.chmod(0o644)
    os.truncate(file, 17 << 20)
    with pytest.raises(ConfigError, match="is larger than 16 MiB, so it is not a keyring"):
        keyring.load(file)


def test_a_keyring_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="can't be written"):
        keyring.write(tmp_path / "file" / "keyring", "")
