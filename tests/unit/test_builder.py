"""The builder of the packages: which version it builds."""

import pytest

from builder.__main__ import ROOT, released

PROJECT = '[project]\nversion = "0.2.0"\n'
OLD = "# For tools.\n- semver: 0.1.0-0.1\n"


def test_a_version_needs_an_entry_at_the_top_of_the_changelog() -> None:
    new = "# For tools.\n- semver: 0.2.0-0.1\n"
    assert released(PROJECT, new + OLD) == "0.2.0"
    for changelog in ("", OLD, OLD + new):
        with pytest.raises(SystemExit, match=r"write an entry for 0\.2\.0-0\.1, above all others"):
            released(PROJECT, changelog)


def test_the_version_of_this_tree_has_an_entry() -> None:
    assert released((ROOT / "pyproject.toml").read_text(), (ROOT / "packaging" / "changelog.yml").read_text())
