"""Which mutants a run tries, and which tests may notice each of them. Pure."""

import ast
import fnmatch
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tests.mutation.mutators import Mutant
from tests.mutation.suite import Called

DECISIVE: Final = (
    "dispatcher/*",
    "protocol/*",
    "sealing/*",
    "shell/*",
    "worker/*",
)
ELSEWHERE: Final = {
    "dispatcher/reader_sqlite",
    "dispatcher/service",
    "dispatcher/stores",
    "sealing/cli",
    "worker/children",
    "worker/coroutine_child",
    "worker/coroutines",
    "worker/executor",
    "worker/leftovers",
    "worker/preloaded",
    "worker/runner",
    "worker/service",
}
"""Shells that tests/contract and tests/integration drive, with real processes and brokers."""


_FIRST_FILES: Final = 4
_MOST_TESTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Try:
    """A mutant to try.

    Attributes:
        module: such as `dispatcher/machine`.
    """

    module: str
    mutant: Mutant


@dataclass(frozen=True, slots=True)
class Equivalent:
    """Mutants that change nothing that matters: all with this change, at this place.

    Attributes:
        name: that of `Mutant`.
        text: the line of the change, as in `Mutant`; needed where other lines of the function have the same change.
    """

    module: str
    name: str
    change: str
    reason: str
    text: str | None = None

    def covers(self, module: str, mutant: Mutant) -> bool:
        """Whether it describes this mutant."""
        same_place = (self.module, self.name, self.change) == (module, mutant.name, mutant.change)
        return same_place and self.text in (None, mutant.text)


def chosen_modules(modules: Collection[str], patterns: Sequence[str]) -> list[str]:
    """The modules that the patterns name; without patterns, all decisive ones.

    Raises:
        ValueError: a pattern names no module.
    """
    for pattern in patterns:
        if not fnmatch.filter(modules, pattern):
            raise ValueError(
                f"{pattern!r} is not a module of the product, such as 'dispatcher/machine' or 'protocol/*'"
            )
    if patterns:
        return sorted({module for pattern in patterns for module in fnmatch.filter(modules, pattern)})
    decisive = {module for pattern in DECISIVE for module in fnmatch.filter(modules, pattern)}
    return sorted(decisive - ELSEWHERE)


def sample(mutants: Mapping[str, Sequence[Mutant]], samples: int, seed: int) -> Iterator[Try]:
    """Up to `samples` mutants of each module, on different lines, the modules in turn.

    The seed gives each mutant a rank, which depends on its own code only. So a change of a module replaces few of the
    mutants that are chosen: those of the code that it has changed. A check with a fixed seed judges a change, and not the
    luck of another choice.
    """
    drawn = {module: _first_ranks(module, found, samples, seed) for module, found in mutants.items()}
    for place in range(max(map(len, drawn.values()), default=0)):
        for module, found in drawn.items():
            if place < len(found):
                yield Try(module, found[place])


def _first_ranks(module: str, mutants: Sequence[Mutant], samples: int, seed: int) -> list[Mutant]:
    seen: Counter[tuple[str, str, str]] = Counter()
    ranked: list[tuple[bytes, Mutant]] = []
    for mutant in mutants:
        code = mutant.name, mutant.text, mutant.change
        rank = hashlib.sha256(repr((seed, module, *code, seen[code])).encode()).digest()
        seen[code] += 1
        ranked.append((rank, mutant))
    by_line: dict[int, Mutant] = {}
    for _, mutant in sorted(ranked, key=lambda each: each[0]):
        by_line.setdefault(mutant.line, mutant)
    return [*by_line.values()][:samples]


def importers(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules that import each module; both as in `Try`.

    Args:
        sources: the text of each module.
    """
    found: dict[str, set[str]] = {}
    for module, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                place = node.module.partition(".")[2].replace(".", "/")
                for name in (place, *(f"{place}/{each.name}" for each in node.names)):
                    found.setdefault(name, set()).add(module)
    return found


def stages(
    mutant: Mutant,
    module: str,
    tests: Mapping[str, Called],
    importers: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[list[str]]:
    """The tests that may notice a mutant: first the files that are most likely about it, then the others.

    These are the tests that call its function, then all tests of the module, and last those of the modules that import it.
    The last ones matter for what runs once, when a module is imported: constants, tables, and the functions that make
    them. A test is more likely about a function if it calls few others. The tests of a file stay together, because each
    file takes time to read. How fast the machine is makes no difference.
    """
    path = f"{module}.py::"
    name = path + mutant.name
    around = tuple(f"{each}.py::" for each in importers.get(module, ()))
    near: dict[str, tuple[int, int]] = {}
    for test, called in tests.items():
        if name in called.functions:
            near[test] = 0, len(called.functions)
        elif any(each.startswith(path) for each in called.functions):
            near[test] = 1, len(called.functions)
        elif around and any(each.startswith(around) for each in called.functions):
            near[test] = 2, len(called.functions)
    files: dict[str, list[str]] = {}
    for test in sorted(near, key=lambda test: (near[test], test)):
        files.setdefault(test.partition("::")[0], []).append(test)
    first: list[str] = []
    rest: list[str] = []
    for place, of_file in enumerate(files.values()):
        if place < _FIRST_FILES:
            first += of_file
        elif len(first) + len(rest) + len(of_file) <= _MOST_TESTS:
            rest += of_file
    return [stage for stage in (first, rest) if stage]
