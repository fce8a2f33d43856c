"""`.ci/commit-subjects`: which subjects it accepts, and which commits it checks."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "commit-subjects"
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path, subject: str) -> str:
    git(folder, "commit", "--quiet", "--allow-empty", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


def check(folder: Path, base: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, base], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.mark.parametrize(
    "subject",
    [
        "dispatcher: keep leases in one table",
        "systemd: rate-limit status updates in Notifier",
        "docs, cli: process every option",
        "worker/turn: pass the time as an argument",
        "x: " + "y" * 33 + " " + "z" * 34,
    ],
)
def test_a_good_subject_passes(repository: Path, subject: str) -> None:
    base = commit(repository, "Old form.")
    commit(repository, subject)

    done = check(repository, base)

    assert done.returncode == 0, done.stderr
    assert f"checked all commits since {base}: 1, with 0 problems" in done.stdout


@pytest.mark.parametrize(
    ("subject", "problem"),
    [
        ("Keep leases in one table", "write `area: imperative`"),
        ("Dispatcher: keep leases in one table", "write `area: imperative`"),
        ("dispatcher: Keep leases in one table", "write `area: imperative`"),
        ("dispatcher: kept", "write `area: imperative`"),
        ("dispatcher: keeps leases in one table", "begin with an imperative, not 'keeps'"),
        ("dispatcher: moved leases to one table", "begin with an imperative, not 'moved'"),
        ("dispatcher: keeping leases in one table", "begin with an imperative, not 'keeping'"),
        ("dispatcher: keep leases in one table.", "leave out the full stop"),
        ("x: " + "y" * 33 + " " + "z" * 35 + "z", "73 characters, 72 at most"),
    ],
)
def test_a_bad_subject_fails(repository: Path, subject: str, problem: str) -> None:
    base = commit(repository, "Old form.")
    bad = commit(repository, subject)

    done = check(repository, base)

    assert done.returncode == 1
    assert done.stderr.startswith(bad[:7])
    assert problem in done.stderr


def test_a_merge_is_left_out(repository: Path) -> None:
    base = commit(repository, "Old form.")
    git(repository, "checkout", "--quiet", "-b", "side")
    commit(repository, "docs: add a page")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "-m", "Merge branch 'side'", "side")

    done = check(repository, base)

    assert done.returncode == 0
    assert ": 1, with 0 problems" in done.stdout


def test_without_the_base_only_the_newest_commit_is_checked(repository: Path) -> None:
    commit(repository, "Old form.")
    commit(repository, "docs: add a page")

    done = check(repository, "1" * 40)

    assert done.returncode == 0
    assert "only the newest commit" in done.stdout
    assert "this clone does not have it" in done.stdout


def test_a_shallow_clone_is_named_as_the_reason(repository: Path, tmp_path: Path) -> None:
    base = commit(repository, "Old form.")
    commit(repository, "docs: add a page")
    commit(repository, "No area")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", str(clone))

    done = check(clone, base)

    assert done.returncode == 1
    assert "only the newest commit" in done.stdout
    assert "this clone is shallow: run 'git fetch --unshallow'" in done.stdout


def test_without_a_repository_nothing_is_checked(tmp_path: Path) -> None:
    done = check(tmp_path, "1" * 40)

    assert done.returncode == 0
    assert "checked nothing, because this is not a git repository" in done.stdout
