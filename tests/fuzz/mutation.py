"""Makes inputs out of others. Everything follows from the random numbers, so a seed repeats a run."""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

_BYTES: Final = b"\x00\x01\x7f\x80\xc0\xe2\xff\"'\\{}[](),:;=.|<>&*!?#%-+_ \t\r\n\x0b\x1b0919azAZ"
_NUMBERS: Final = (
    b"0", b"-1", b"1", b"127", b"255", b"256", b"65535", b"65536", b"2147483648", b"4294967296", b"9007199254740993",
    b"18446744073709551616", b"1e999", b"-0.0", b"1e-400", b"NaN", b"0x10", b"1_0", b"9" * 5_000, "٣".encode(),
)  # fmt: skip
_COUNTS: Final = (1, 1, 1, 2, 3, 8, 100, 5_000)
_NUMBER: Final = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
_MOST_CHANGES: Final = 5
_USUAL: Final = 1_000
"""Most bytes of nearly all mutants: small ones are fast, and reach most of a parser."""

_LARGE: Final = 1 / 50
"""The share of mutants that may be as large as their target allows."""


class Mutator:
    """Changes inputs.

    Args:
        random: decides everything.
        words: what means something to the parser.
        largest: most bytes of an input.
    """

    def __init__(self, random: Random, words: Sequence[bytes], largest: int) -> None:
        self._random = random
        self._largest = largest
        self._words = (*words, *_NUMBERS)
        self._changes: tuple[Callable[[bytes, bytes], bytes], ...] = (
            self._flip, self._overwrite, self._insert, self._insert, self._remove, self._repeat, self._cut, self._move,
            self._replace_number, self._splice,
        )  # fmt: skip

    def mutate(self, inputs: Sequence[bytes]) -> bytes:
        """A changed one of the inputs."""
        mutant, other = self._random.choice(inputs), self._random.choice(inputs)
        most = self._largest if self._random.random() < _LARGE else max(len(mutant), _USUAL)
        for _ in range(self._random.randint(1, _MOST_CHANGES)):
            mutant = self._random.choice(self._changes)(mutant, other)[:most]
        return mutant

    def _place(self, content: bytes) -> int:
        return self._random.randint(0, len(content))

    def _part(self, content: bytes) -> tuple[int, int]:
        """A part of the content: usually a short one."""
        start = self._place(content)
        longest = self._random.choice((1, 4, 16, len(content)))
        return start, min(len(content), start + self._random.randint(0, longest))

    def _word(self) -> bytes:
        if self._random.random() < 1 / 2:
            return self._random.choice(self._words)
        return bytes(self._random.choices(_BYTES, k=self._random.choice(_COUNTS[:5])))

    def _flip(self, content: bytes, _other: bytes) -> bytes:
        if not content:
            return content
        changed = bytearray(content)
        changed[self._random.randrange(len(content))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _overwrite(self, content: bytes, _other: bytes) -> bytes:
        start, word = self._place(content), self._word()
        return content[:start] + word + content[start + len(word) :]

    def _insert(self, content: bytes, _other: bytes) -> bytes:
        start = self._place(content)
        return content[:start] + self._word() * self._random.choice(_COUNTS) + content[start:]

    def _remove(self, content: bytes, _other: bytes) -> bytes:
        start, end = self._part(content)
        return content[:start] + content[end:]

    def _repeat(self, content: bytes, _other: bytes) -> bytes:
        start, end = self._part(content)
        times = min(self._random.choice(_COUNTS), self._largest // max(1, end - start))
        return content[:end] + content[start:end] * times + content[end:]

    def _cut(self, content: bytes, _other: bytes) -> bytes:
        return content[: self._place(content)]

    def _move(self, content: bytes, _other: bytes) -> bytes:
        start, end = self._part(content)
        rest = content[:start] + content[end:]
        place = self._place(rest)
        return rest[:place] + content[start:end] + rest[place:]

    def _replace_number(self, content: bytes, _other: bytes) -> bytes:
        numbers = list(_NUMBER.finditer(content, 0, 4_096))
        if not numbers:
            return content
        chosen = self._random.choice(numbers)
        return content[: chosen.start()] + self._random.choice(_NUMBERS) + content[chosen.end() :]

    def _splice(self, content: bytes, other: bytes) -> bytes:
        start, end = self._part(other)
        place = self._place(content)
        return content[:place] + other[start:end] + content[self._place(content[place:]) + place :]
