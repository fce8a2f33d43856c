"""Which commit a check compares this checkout with.

It is BASE, if that is given. Otherwise it is the merge base with ``origin/main``. If that is this commit itself, as in a
fresh clone, it is the newest earlier commit that does not belong to the same piece of work: it is at least `SAME_WORK_H`
hours older. If there is none, it is the first parent.
"""

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SAME_WORK_H: Final = 4.0
"""A commit that is older than this, in hours, belongs to an earlier piece of work."""


def git(*arguments: str) -> str | None:
    """What git prints; None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def chosen_base(wanted: str | None = None, same_work_h: float = SAME_WORK_H) -> str | None:
    """The commit to compare with; None if this clone does not have it."""
    if wanted:
        return git("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    head = git("rev-parse", "--verify", "--quiet", "HEAD")
    merge_base = git("merge-base", "HEAD", "origin/main")
    if head is None or (merge_base and merge_base != head):
        return merge_base
    written_at = git("log", "-1", "--format=%ct", "HEAD")
    before = int(written_at or 0) - round(same_work_h * 3600)
    earlier = git("rev-list", "-1", "--first-parent", f"--before={before}", "HEAD")
    return earlier or git("rev-parse", "--verify", "--quiet", "HEAD~1")
