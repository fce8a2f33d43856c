"""Which mutants a run tries, and which tests may notice each of them. Pure."""

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
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
    "worker/executor",
    "worker/runner",
    "worker/service",
}
"""Shells that tests/contract and tests/integration drive, with real processes and brokers."""


_FIRST_FILES: Final = 4
_MOST_CPU_S: Final = 60.0


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
    """

    module: str
    name: str
    change: str
    reason: str

    def covers(self, module: str, mutant: Mutant) -> bool:
        """Whether it describes this mutant."""
        return (self.module, self.name, self.change) == (module, mutant.name, mutant.change)


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
    """Up to `samples` mutants of each module, on different lines, the modules in turn."""
    drawn = {module: _draw(found, samples, _dice(f"{seed} {module}")) for module, found in mutants.items()}
    for place in range(max(map(len, drawn.values()), default=0)):
        for module, found in drawn.items():
            if place < len(found):
                yield Try(module, found[place])


def _dice(seed: str) -> Random:
    return Random(seed)  # noqa: S311 (it must be predictable)


def _draw(mutants: Sequence[Mutant], samples: int, dice: Random) -> list[Mutant]:
    by_line: dict[int, list[Mutant]] = {}
    for mutant in mutants:
        by_line.setdefault(mutant.line, []).append(mutant)
    lines = dice.sample(sorted(by_line), min(samples, len(by_line)))
    return [dice.choice(by_line[line]) for line in lines]


def stages(mutant: Mutant, module: str, tests: Mapping[str, Called]) -> list[list[str]]:
    """The tests that may notice a mutant: first the files that are most likely about it, then the others.

    These are the tests that call its function. Outside of functions, they are all tests of the module. A test is more
    likely about a function if it calls few others. The tests of a file stay together, because each file takes time to read.
    """
    path = f"{module}.py::"
    name = path + mutant.name
    near: dict[str, tuple[bool, int]] = {}
    for test, called in tests.items():
        exact = name in called.functions
        if exact or (not mutant.in_function and any(each.startswith(path) for each in called.functions)):
            near[test] = not exact, len(called.functions)
    files: dict[str, list[str]] = {}
    for test in sorted(near, key=lambda test: (near[test], tests[test].cpu_s, test)):
        files.setdefault(test.partition("::")[0], []).append(test)
    first, rest = [], []
    left_s = _MOST_CPU_S
    for place, of_file in enumerate(files.values()):
        left_s -= sum(tests[test].cpu_s for test in of_file)
        if place < _FIRST_FILES:
            first += of_file
        elif left_s > 0:
            rest += of_file
    return [stage for stage in (first, rest) if stage]
