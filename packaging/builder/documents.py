"""Documents as packages have them: a link leads to the place where its target is installed, or is plain text."""

from pathlib import Path
from typing import Final

from builder.recipes import CORE, RECIPES
from docs.pages.links import relinked

_PLACES: Final = {
    source: target
    for recipe in (*RECIPES, CORE)  # for a document in several packages, the one of the package that all others need
    for target, source in recipe.files.items()
    if source.endswith((".md", ".png"))
}
"""The place of each document and image, by its path in the repository."""


def installed(root: Path, source: str, target: str) -> str:
    """A document of the repository, with its links as they are right at `target`."""
    return relinked((root / source).read_text(encoding="utf-8"), source, target, _PLACES)
