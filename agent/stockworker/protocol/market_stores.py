"""Workers whose market-data stores differ: an import on one and an analysis on another do not meet."""

from collections.abc import Iterable, Mapping
from typing import Final

LONGEST_IDENTITY: Final = 16
"""Characters of the identity of a store: 16 hexadecimal digits, drawn when the store is made."""

_SHOWN: Final = 5
"""Stores, and workers of each, that a text names at most."""


def by_store(workers: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
    """The workers that use each store, both in order, from pairs of a worker and the identity of its store."""
    found: dict[str, list[str]] = {}
    for worker, store in sorted(workers):
        if store is not None:
            found.setdefault(store, []).append(worker)
    return dict(sorted(found.items()))


def describe(users: Mapping[str, list[str]]) -> str:
    """Name the stores with their workers: ``3f2a…: w1, w2; 9b1c…: w3``."""
    shown = [f"{store[:LONGEST_IDENTITY]}: {_first(workers)}" for store, workers in list(users.items())[:_SHOWN]]
    return "; ".join([*shown, *(["…"] if len(users) > _SHOWN else [])])


def _first(workers: list[str]) -> str:
    return ", ".join([*workers[:_SHOWN], *([f"and {len(workers) - _SHOWN} more"] if len(workers) > _SHOWN else [])])


def warning(users: Mapping[str, list[str]]) -> str | None:
    """The text for people if there are several stores; None otherwise."""
    if len(users) < 2:  # noqa: PLR2004 (one store, or none)
        return None
    return (
        f"workers have {len(users)} different market-data stores ({describe(users)}), so an analysis can miss what another "
        "worker imported. Let all workers use one PostgreSQL database, or keep the jobs of a symbol together with tags: "
        "docs/market-data.md, Several machines"
    )
