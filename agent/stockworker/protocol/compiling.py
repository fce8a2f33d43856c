"""Makes a function of lines of code that this program has written itself: the only place where it does so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast


def compiled(name: str, lines: Sequence[str], names: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function `name` that the lines define.

    Args:
        name: of the function.
        lines: made of declarations in this code, and of nothing else.
        names: what the function may use besides built-in functions.
    """
    scope = dict(names)
    exec("\n".join(lines), scope)  # noqa: S102 (see `lines`)
    return cast("Callable[..., Any]", scope[name])
