"""``python -m docs.site FOLDER``: the documents as pages of the site, which Sphinx builds from them (`make site`)."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from docs.pages.links import relinked

ROOT: Final = Path(__file__).resolve().parent.parent
_FRONT: Final = "README.md"
_CHAPTERS: Final = {
    "Guides": (
        "tutorial",
        "operations",
        "handlers",
        "fleet",
        "migrating",
        "market-data",
        "web",
        "monitoring",
        "offline",
        "mosquitto",
        "pki",
        "encryption",
        "packages",
    ),
    "Reference": (
        "cli",
        "configuration",
        "job-types",
        "python-api",
        "limits",
        "logging",
        "lifecycle",
        "protocol",
        "glossary",
    ),
    "Background": ("ARCHITECTURE", "SECURITY", "performance", "simulation", "CONTRIBUTING", "CHANGELOG", "adr/*"),
}
"""The pages of each chapter. Sphinx reports a page that none of them has."""

_SETTINGS: Final = """\
project = "stockworker"
copyright = "the authors of stockworker"
extensions = ["myst_parser"]
myst_heading_anchors = 6
html_theme = "furo"
html_title = "stockworker"
html_show_sphinx = False
suppress_warnings = ["misc.highlighting_failure"]  # Pygments does not know mermaid, and few words of the shell
"""


def places() -> dict[str, str]:
    """The place of each document on the site, by its path in the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/adr/*.md")]
    found += [*ROOT.glob("docs/*.svg"), *ROOT.glob("docs/images/*.png")]
    names = [str(path.relative_to(ROOT)) for path in sorted(found)]
    return {name: "index.md" if name == _FRONT else name.removeprefix("docs/") for name in names}


def assemble(folder: Path) -> None:
    """Write all documents and the settings of Sphinx to a folder, with links that are right there."""
    shutil.rmtree(folder, ignore_errors=True)
    known = places()
    first_decision = min(place for place in known.values() if place.startswith("adr/"))
    for source, place in known.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            target.write_text(relinked(text, source, place, known | {"docs/adr": first_decision}), encoding="utf-8")
        else:
            shutil.copy(ROOT / source, target)
    with (folder / "index.md").open("a", encoding="utf-8") as front:
        front.writelines(_contents())
    (folder / "conf.py").write_text(_SETTINGS, encoding="utf-8")


def _contents() -> Iterator[str]:
    for chapter, pages in _CHAPTERS.items():
        options = ":hidden:\n:glob:\n:caption: " + chapter
        yield f"\n```{{toctree}}\n{options}\n\n" + "\n".join(pages) + "\n```\n"


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
