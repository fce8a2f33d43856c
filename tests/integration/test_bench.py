"""The machinery of the benchmarks, with very few jobs: what it measures is not checked, only that it measures."""

import subprocess
from pathlib import Path

import pytest

from bench.__main__ import run_once
from bench.quick import CHECKED, measured_pairs
from tests.harness import commits
from tests.harness.commits import ROOT, chosen_base

HOUR_S = 3600


def git(folder: Path, *arguments: str, at: int = 0) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    moment = f"{1_700_000_000 + at} +0000"
    environment = {
        "GIT_AUTHOR_DATE": moment,
        "GIT_COMMITTER_DATE": moment,
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment | identity, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(folder: Path, at: int) -> str:
    git(folder, "commit", "--allow-empty", "--message", f"at: {at}", at=at)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(tmp_path, "init", "--quiet")
    monkeypatch.setattr(commits, "ROOT", tmp_path)
    return tmp_path


def test_two_checkouts_are_measured_in_pairs() -> None:
    (pair,) = measured_pairs(ROOT, ROOT, pairs=1, batch=10, singles=2)
    for figures in pair:
        assert figures.keys() >= set(CHECKED)
        assert all(figures[name] > 0 for name in CHECKED)


def test_a_workload_gives_its_figures() -> None:
    measured = run_once("stockworker", "drain", scale=0.005)
    assert measured.keys() >= {"jobs", "bulk submissions", "CPU all", "CPU broker", "CPU dispatcher", "CPU worker"}
    assert all(value > 0 for value in measured.values())


def test_a_repository_without_an_earlier_commit_has_no_base(repository: Path) -> None:
    assert chosen_base(None, 4.0) is None
    commit(repository, 0)
    assert chosen_base(None, 4.0) is None


def test_the_base_is_the_newest_commit_before_this_piece_of_work(repository: Path) -> None:
    commit(repository, 0)
    landed = commit(repository, HOUR_S)
    commit(repository, 6 * HOUR_S)
    commit(repository, 7 * HOUR_S)
    assert chosen_base(None, 4.0) == landed


def test_if_all_commits_are_of_this_piece_of_work_the_base_is_the_parent(repository: Path) -> None:
    commit(repository, 0)
    parent = commit(repository, 60)
    commit(repository, 120)
    assert chosen_base(None, 4.0) == parent


def test_the_base_is_where_the_branch_has_left_main(repository: Path) -> None:
    commit(repository, 0)
    main = commit(repository, 60)
    git(repository, "update-ref", "refs/remotes/origin/main", main)
    commit(repository, 120)
    commit(repository, 180)
    assert chosen_base(None, 4.0) == main


def test_a_base_can_be_named(repository: Path) -> None:
    first = commit(repository, 0)
    commit(repository, 60)
    assert chosen_base("HEAD~1", 4.0) == first
    assert chosen_base("v9", 4.0) is None
