"""An attacker with an account on a machine of the fleet: it can change a folder in which root works, and plants links there.

In these tests every user can change the folder. A folder that belongs to the user of a service is the same to root.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from repository.errors import Refused
from repository.folder import place, refuse_links, sweep
from stockworker.adapters import clock, mosquitto
from stockworker.broker import dry_run
from stockworker.cli import main
from stockworker.dispatcher.stores import open_store
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.exits import Exit
from tests.harness.command import Finished, run

NO_CONFIG = Path("/nonexistent.yml")
MAIN = "include_dir /etc/mosquitto/conf.d\n"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The folder that the attacker can change."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A folder of root, to which the planted links lead."""
    folder = tmp_path / "roots"
    folder.mkdir()
    (folder / "passwords").write_text("secret")
    return folder


@pytest.fixture(autouse=True)
def _nothing_of_root_changes(roots: Path) -> Iterator[None]:
    """The check of every test: what the links lead to is as before."""
    before = state(roots)
    yield
    assert state(roots) == before


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for file in (folder, *folder.rglob("*")):
        status = file.lstat()
        found[str(file)] = (
            status.st_mode,
            status.st_uid,
            status.st_mtime_ns,
            file.read_bytes() if file.is_file() else b"",
        )
    return found


def is_refused(done: Finished, link: str) -> None:
    assert done.status != Exit.OK
    assert f"{link!r} is a link" in done.errors
    assert "Remove it" in done.errors
    assert "Traceback" not in done.errors


# --- certificates and keys --------------------------------------------------------------------------------------------


def request(out: Path) -> Finished:
    return run(NO_CONFIG, "pki", "request", "edge-1", "--out", str(out))


@pytest.mark.parametrize("name", ["edge-1.csr", "edge-1.key"])
@pytest.mark.parametrize("target", ["passwords", "new"])
def test_a_request_is_not_written_through_a_link(shared: Path, roots: Path, name: str, target: str) -> None:
    (shared / name).symlink_to(roots / target)
    done = request(shared)
    assert done.status != Exit.OK
    assert name in done.errors


def test_a_request_is_not_written_into_a_folder_behind_a_link(shared: Path, roots: Path) -> None:
    (shared / "tls").symlink_to(roots)
    is_refused(request(shared / "tls"), "tls")
    is_refused(request(shared / "tls" / "new"), "tls")


def test_an_authority_is_not_created_behind_a_link(shared: Path, roots: Path) -> None:
    (shared / "ca").symlink_to(roots)
    is_refused(run(NO_CONFIG, "pki", "init", "--ca", str(shared / "ca")), "ca")


@pytest.fixture
def authority(shared: Path) -> Path:
    """An authority in the shared folder, with the certificate of a worker."""
    folder = AuthorityFolder(shared, datetime.fromtimestamp(clock.wall(), UTC))
    folder.create("Fleet")
    folder.issue(CertificateKind.WORKER, Subject("edge-1"))
    shared.chmod(0o777)
    return shared


@pytest.mark.parametrize(
    "words", [("issue", "worker", "edge-2"), ("renew", "edge-1", "--new-key")], ids=lambda words: words[0]
)
def test_a_certificate_is_not_written_behind_a_link(authority: Path, roots: Path, words: tuple[str, ...]) -> None:
    shutil.rmtree(authority / "issued")
    (authority / "issued").symlink_to(roots)
    is_refused(run(NO_CONFIG, "pki", *words, "--ca", str(authority)), "issued")


@pytest.mark.parametrize("name", ["crl.pem", "issued.jsonl"])
def test_a_file_of_the_authority_is_not_replaced_through_a_link(authority: Path, roots: Path, name: str) -> None:
    (authority / name).rename(authority / "moved")
    (authority / name).symlink_to(authority / "moved")
    is_refused(run(NO_CONFIG, "pki", "revoke", "edge-1", "--ca", str(authority)), name)
    assert roots.exists()


@pytest.mark.parametrize("names", [("a.pem", "../ring"), ("new/a.pem", "../ring"), ("../a.pem", "new/ring")])
def test_private_keys_are_not_written_into_a_folder_behind_a_link(
    shared: Path, roots: Path, names: tuple[str, str]
) -> None:
    (shared / "keys").symlink_to(roots)
    file, ring = (f"{shared}/keys/{name}" if ".." not in name else str(shared / name[3:]) for name in names)
    is_refused(run(NO_CONFIG, "keys", "generate", "worker", "edge-1", "--file", file, "--keyring", ring), "keys")


# --- the setup of a broker --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The folder `etc/mosquitto` of a machine: the administrator gave it to Mosquitto."""
    folder = tmp_path / "machine" / "etc" / "mosquitto"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "mosquitto.conf").write_text(MAIN)
    folder.chmod(0o777)
    return folder


def setup(machine: Path, *words: str) -> Finished:
    root = machine.parent.parent
    return run(NO_CONFIG, "broker", "setup", "--root", str(root), "--ca", str(root / "ca"), *words)


@pytest.mark.parametrize("folder", ["conf.d", "stockworker"])
def test_the_files_of_a_broker_are_not_written_behind_a_link(machine: Path, roots: Path, folder: str) -> None:
    assert run(NO_CONFIG, "pki", "init", "--ca", str(machine.parent.parent / "ca")).status == Exit.OK
    if folder == "conf.d":
        (machine / folder).rmdir()
    (machine / folder).symlink_to(roots)
    is_refused(setup(machine), folder)


def test_the_log_of_a_dry_run_has_no_name(machine: Path, roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mosquitto's user plants links as soon as it can write to the folder of the dry run."""
    try_out = mosquitto.try_out
    planted: list[Path] = []

    def plant_first(config: Path, folder: Path, tls: tuple[int, Path] | None) -> None:
        for name in ("stderr", "stdout", "log"):
            (folder / name).symlink_to(roots / "passwords")
        planted.append(folder)
        try_out(config, folder, tls)

    monkeypatch.setattr(mosquitto, "try_out", plant_first)
    root = str(machine.parent.parent)
    assert main(["broker", "setup", "--root", root, "--ca", root, "--profile", "development"]) == Exit.OK
    assert planted


def test_a_dry_run_gives_nothing_away_below_a_folder_that_it_gave_away(
    roots: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else Mosquitto's user replaces the inner folder by a link, and gets what the link leads to."""
    (scratch := tmp_path / "stage" / "scratch").mkdir(parents=True)
    (scratch / "persistence_location").mkdir()
    scratch.parent.chmod(0o700)
    given: list[Path] = []

    def give(path: Path, *_user: str, **_group: str) -> None:
        assert not set(path.parents) & set(given)
        assert scratch.parent.stat().st_mode & 0o777 == 0o700, "no other user can enter yet"
        given.append(path)

    monkeypatch.setattr(shutil, "chown", give)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    dry_run._open_to_mosquitto(scratch.parent)
    assert given == [scratch / "persistence_location", scratch, scratch.parent]
    assert scratch.parent.stat().st_mode & 0o777 == 0o750
    assert roots.exists()


# --- the copy of the store --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_copy_of_the_store_is_not_made_where_others_can_replace_it(shared: Path, mode: int) -> None:
    shared.chmod(mode)
    done = run(NO_CONFIG, "backup", str(shared / "copy"))
    assert done.status == Exit.USAGE
    assert "can replace files in this folder" in done.errors
    assert not (shared / "copy").exists()


@pytest.mark.parametrize("part", ["-wal", "-shm", "-journal"])
def test_no_link_beside_the_store_is_followed(tmp_path: Path, shared: Path, roots: Path, part: str) -> None:
    """SQLite opens these files by name, in the folder of the dispatcher; it refuses links itself."""
    store, config = shared / "jobs.sqlite3", tmp_path / "job_processor.yml"
    open_store(store).close()
    config.write_text(f"job_processor: {{dispatcher: {{store: {store}}}}}")
    (shared / f"{store.name}{part}").symlink_to(roots / "passwords")
    run(config, "backup", str(tmp_path / "copy"))
    assert (roots / "passwords").read_text() == "secret"


# --- the repository of packages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "apt", "apt/dists/.InRelease.new"])
def test_nothing_is_published_where_a_link_is(shared: Path, roots: Path, name: str) -> None:
    (shared / name).parent.mkdir(parents=True, exist_ok=True)
    (shared / name).symlink_to(roots / "passwords")
    with pytest.raises(Refused, match=r"is a link to .*passwords.*Remove it, and find out who made it"):
        refuse_links(shared)


PLANTED: dict[str, Callable[[Path], None]] = {
    "apt": lambda folder: place(folder / "apt" / "dists" / "InRelease", b"signed"),
    "InRelease": lambda folder: place(folder / "InRelease", b"signed"),
    ".InRelease.new": lambda folder: place(folder / "InRelease", b"signed"),
    "InRelease.new": lambda folder: place(folder / "InRelease", b"signed"),
    "pool": lambda folder: sweep(folder, []),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("target", [".", "passwords", "new"])
def test_a_link_that_was_planted_after_the_check_is_not_followed(
    shared: Path, roots: Path, name: str, target: str
) -> None:
    (shared / name).symlink_to(roots / target)
    try:
        PLANTED[name](shared)
    except Refused as error:
        assert f"{name!r} is a link" in str(error)  # noqa: PT017 (only some are refused; the rest replace the link)
