"""Links of documents, as they are right in another place."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def relinked(text: str, source: str, target: str, places: Mapping[str, str]) -> str:
    """A document of the repository as it is read at `target`: a link to what has no place becomes plain text.

    Args:
        text: Markdown.
        source: path of the document in the repository.
        target: path of the document where it is read.
        places: paths where it is read, by paths in the repository.
    """

    def relink(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        place = places.get(os.path.normpath(Path(source).parent / path))
        return words if place is None else f"[{words}]({os.path.relpath(place, Path(target).parent)}{anchor})"

    return _LINK.sub(relink, text)
