"""Unpack gzip with a bound: a few kilobytes can contain gigabytes."""

import zlib
from typing import Final

_MAGIC: Final = b"\x1f\x8b"
_MOST_MEMBERS: Final = 65_536
"""Packers of large files begin a member every 64 KiB: these are enough for 4 GiB."""

_FIRST_FEED: Final = 256
_LARGEST_FEED: Final = 65_536
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # expect gzip's header and checksum (zlib.decompressobj)


class Damaged(Exception):
    """The bytes are not a complete gzip file."""


class TooLarge(Exception):
    """The unpacked data would exceed the limit."""


def is_gzip(data: bytes) -> bool:
    """Recognise gzip by its first two bytes (RFC 1952, section 2.3.1)."""
    return data.startswith(_MAGIC)


def unpack(data: bytes, limit_bytes: int) -> bytes:
    """Unpack all members of a gzip file (RFC 1952, section 2.2).

    Raises:
        Damaged: the data is truncated, damaged, or not gzip.
        TooLarge: it contains more than `limit_bytes`.
    """
    unpacked = bytearray()
    packed, place = memoryview(data), 0
    for _ in range(_MOST_MEMBERS):
        if place == len(packed):
            return bytes(unpacked)
        place = _unpack_member(packed, place, unpacked, limit_bytes)
    raise TooLarge(f"more than {_MOST_MEMBERS:,} gzip members")


def _unpack_member(packed: memoryview, place: int, unpacked: bytearray, limit_bytes: int) -> int:
    """Append the member that begins at a place to `unpacked`, and return the place after it.

    zlib copies what it was given beyond the end of a member. So it gets little at first, and then twice as much each time.
    """
    member = zlib.decompressobj(_GZIP_WINDOW)
    feed = _FIRST_FEED
    while not member.eof:
        if place == len(packed):
            raise Damaged("gzip data ends too early")
        part = packed[place : place + feed]
        try:
            unpacked += member.decompress(part, limit_bytes + 1 - len(unpacked))
        except zlib.error as error:
            raise Damaged(f"damaged gzip data: {error}") from error
        if len(unpacked) > limit_bytes:
            raise TooLarge(f"larger than {limit_bytes:,} bytes when unpacked")
        place += len(part) - len(member.unused_data)
        feed = min(2 * feed, _LARGEST_FEED)
    return place
