"""Unpack gzip with a bound: a few kilobytes can contain gigabytes."""

import zlib
from typing import Final

_MAGIC: Final = b"\x1f\x8b"
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
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            unpacked += member.decompress(data, limit_bytes + 1 - len(unpacked))
        except zlib.error as error:
            raise Damaged(f"damaged gzip data: {error}") from error
        if len(unpacked) > limit_bytes:
            raise TooLarge(f"larger than {limit_bytes:,} bytes when unpacked")
        if not member.eof:
            raise Damaged("gzip data ends too early")
        data = member.unused_data
    return bytes(unpacked)
