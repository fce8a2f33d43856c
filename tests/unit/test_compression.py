"""Unpacks archives with a bound on their size, and on the work."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
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
    assert compression.is_packed(packed)
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


def zipped(*files: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("folder/", b"")
        for number, content in enumerate(files):
            archive.writestr(f"{number}.csv", content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "pack", [bz2.compress, lzma.compress, zipped, lambda data: bz2.compress(data[:9]) + bz2.compress(data[9:])]
)
def test_other_archives_are_unpacked(pack: Any) -> None:
    packed = pack(CONTENT)
    assert compression.is_packed(packed)
    assert compression.unpack(packed, len(CONTENT)) == CONTENT
    with pytest.raises(compression.TooLarge, match="when unpacked"):
        compression.unpack(packed, len(CONTENT) - 1)
    with pytest.raises(compression.Damaged):
        compression.unpack(packed[: len(packed) // 2], len(CONTENT))


@pytest.mark.parametrize(
    ("packed", "error", "message"),
    [
        (zipped(b"a", b"b"), compression.Damaged, "has 2 files"),
        (zipped(), compression.Damaged, "has 0 files"),
        (zipped(b"a", method=zipfile.ZIP_LZMA), compression.Damaged, "other than deflate"),
        (zipped(*[b""] * 1_001), compression.TooLarge, "more than 1,000 files"),
        (
            zipped(b"aaaa", method=zipfile.ZIP_STORED).replace(b"aaaa", b"aaab"),
            compression.Damaged,
            "damaged zip data: BadZipFile",
        ),
        (b"PK\3\4" + struct.pack("<I", 7), compression.Damaged, "damaged zip data: BadZipFile"),
    ],
)
def test_other_zip_archives_are_refused(packed: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compression.unpack(packed, 1_000)


def test_only_gzip_is_unpacked_as_gzip() -> None:
    with pytest.raises(compression.Damaged):
        compression.unpack_gzip(bz2.compress(b"a"), 1_000)
