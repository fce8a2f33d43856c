"""Randomness in blocks: every bit is used once, and none is predictable."""

import os

import pytest

from stockworker.adapters.randomness import SystemEntropy


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The blocks that were read, each of which counts up from another number."""
    found: list[bytes] = []

    def urandom(size: int) -> bytes:
        found.append(bytes((len(found) + each) % 256 for each in range(size)))
        return found[-1]

    monkeypatch.setattr(os, "urandom", urandom)
    return found


def test_numbers_are_the_bytes_of_the_block_in_order(blocks: list[bytes]) -> None:
    entropy = SystemEntropy()
    assert [entropy.getrandbits(16) for _ in range(3)] == [0x0001, 0x0203, 0x0405]
    assert entropy.getrandbits(12) == 0x060
    assert entropy.getrandbits(1) == 0
    assert len(blocks) == 1


def test_a_new_block_is_read_when_too_few_bytes_are_left(blocks: list[bytes]) -> None:
    entropy = SystemEntropy()
    for _ in range(585):
        entropy.getrandbits(56)
    assert len(blocks) == 1
    assert entropy.getrandbits(16) == 0x0102
    assert len(blocks) == 2


def test_numbers_have_as_many_bits_as_asked_for() -> None:
    entropy = SystemEntropy()
    for bits in (1, 7, 8, 12, 53, 62, 64):
        numbers = [entropy.getrandbits(bits) for _ in range(200)]
        assert max(numbers) < 1 << bits
        assert max(numbers).bit_length() == bits
    floats = [entropy.random() for _ in range(1000)]
    assert 0.0 <= min(floats) < 0.1
    assert 0.9 < max(floats) < 1.0
    assert len({*floats}) == 1000
