"""Documents as packages have them: a link leads to the place where its target is installed, or is plain text."""

import os
import re
from pathlib import Path
from typing import Final

from builder.recipes import CORE, RECIPES

_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
_PLACES: Final = {
    source: target
    for recipe in (*RECIPES, CORE)  # for a document in several packages, the one of the package that all others need
    for target, source in recipe.files.items()
    if source.endswith((".md", ".png"))
}
"""The place of each document and image, by its path in the repository."""


def installed(root: Path, source: str, target: str) -> str:
    """A document of the repository, with its links as they are right at `target`."""

    def relink(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        place = _PLACES.get(os.path.normpath(Path(source).parent / path))
        return text if place is None else f"[{text}]({os.path.relpath(place, Path(target).parent)}{anchor})"

    return _LINK.sub(relink, (root / source).read_text(encoding="utf-8"))
