"""Unpacks gzip with a bound on its size, and on the work."""

import gzip
import zlib
from typing import Any

import pytest

from stockworker.adapters import compression

EMPTY = gzip.compress(b"", mtime=0)
CONTENT = bytes(range(256)) * 400


class CountingZlib:
    """Counts the bytes that zlib is given."""

    error = zlib.error

    def __init__(self) -> None:
        self.fed = 0

    def decompressobj(self, window: int) -> Any:
        count, member = self, zlib.decompressobj(window)

        class Member:
            eof = property(lambda _: member.eof)
            unused_data = property(lambda _: member.unused_data)

            def decompress(self, part: bytes, most: int = 0) -> bytes:
                count.fed += len(part)
                return member.decompress(part, most)

        return Member()


@pytest.mark.parametrize("parts", [[b""], [b"a"], [b"first,", b"second"], [b"", b"a", b""], [CONTENT] * 3])
def test_all_members_are_unpacked(parts: list[bytes]) -> None:
    packed = b"".join(gzip.compress(part) for part in parts)
    assert compression.is_gzip(packed)
    assert compression.unpack(packed, len(b"".join(parts))) == b"".join(parts)
    if b"".join(parts):
        with pytest.raises(compression.TooLarge):
            compression.unpack(packed, len(b"".join(parts)) - 1)
    for cut in (1, 9, len(packed) - 12):
        with pytest.raises(compression.Damaged):
            compression.unpack(packed[:-cut], 1_000_000)
    with pytest.raises(compression.Damaged):
        compression.unpack(packed + b"x", 1_000_000)


def test_the_work_for_many_members_grows_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = []
    for count in (1_000, 10_000):
        counting = CountingZlib()
        monkeypatch.setattr(compression, "zlib", counting)
        assert compression.unpack(EMPTY * count, 1) == b""
        fed.append(counting.fed)
    assert fed[1] < 12 * fed[0]
    assert fed[1] < 20 * len(EMPTY) * 10_000


def test_members_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_MOST_MEMBERS", 10)
    assert compression.unpack(EMPTY * 9, 1) == b""
    with pytest.raises(compression.TooLarge, match="more than 10 gzip members"):
        compression.unpack(EMPTY * 11, 1)
