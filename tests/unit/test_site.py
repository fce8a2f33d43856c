"""The documents as pages of the site."""

import re
from pathlib import Path

from docs import site
from docs.pages.links import relinked

LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def test_every_link_of_a_page_leads_to_another_page(tmp_path: Path) -> None:
    site.assemble(tmp_path)
    pages = sorted(tmp_path.rglob("*.md"))
    assert len(pages) == sum(place.endswith(".md") for place in site.places().values())
    for page in pages:
        for link in LINK.findall(page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_each_page_is_in_one_chapter(tmp_path: Path) -> None:
    site.assemble(tmp_path)
    trees = re.findall(r"```\{toctree\}\n.*?\n\n(.*?)```", (tmp_path / "index.md").read_text(), re.DOTALL)
    listed = [name for tree in trees for name in tree.split()]
    found = [page.relative_to(tmp_path) for name in listed for page in tmp_path.glob(f"{name}.md")]
    assert len(found) == len(set(found))
    assert {str(page) for page in found} | {"index.md"} == {
        place for place in site.places().values() if place.endswith(".md")
    }


def test_a_link_to_what_has_no_page_becomes_text() -> None:
    places = {"README.md": "index.md", "docs/web.md": "web.md"}
    text = "[web](docs/web.md#start), [code](agent/x.py), [other](https://example.org/a.md)"
    assert (
        relinked(text, "README.md", "index.md", places)
        == "[web](web.md#start), code, [other](https://example.org/a.md)"
    )
    assert relinked("[front](../README.md)", "docs/web.md", "web.md", places) == "[front](index.md)"
