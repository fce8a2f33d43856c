"""Unpack gzip, bzip2, xz and zip with a bound: a few kilobytes can contain gigabytes."""

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

_GZIP: Final = b"\x1f\x8b"
_MOST_MEMBERS: Final = 65_536
"""Packers of large files begin a member every 64 KiB: these are enough for 4 GiB."""

_FIRST_FEED: Final = 256
_LARGEST_FEED: Final = 65_536
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # expect gzip's header and checksum (zlib.decompressobj)
_XZ_MEMORY: Final = 64 << 20  # xz -9 needs 65 MiB


class Damaged(Exception):
    """The bytes are not a complete archive of their kind."""


class TooLarge(Exception):
    """The unpacked data would exceed the limit."""


def is_packed(data: bytes) -> bool:
    """Recognise gzip, bzip2, xz and zip by their first bytes."""
    return data.startswith((*_STREAMS, _ZIP))


def unpack(data: bytes, limit_bytes: int) -> bytes:
    """Unpack a file: all members of gzip (RFC 1952), bzip2 or xz, or the only file in a zip archive.

    Raises:
        Damaged: the data is truncated, damaged, or none of these.
        TooLarge: it contains more than `limit_bytes`.
    """
    if data.startswith(_ZIP):
        return _unpack_zip(data, limit_bytes)
    return _unpack_members(next(filter(data.startswith, _STREAMS), _GZIP), data, limit_bytes)


def unpack_gzip(data: bytes, limit_bytes: int) -> bytes:
    """Unpack all members of a gzip file (RFC 1952, section 2.2).

    Raises:
        Damaged: the data is truncated, damaged, or not gzip.
        TooLarge: it contains more than `limit_bytes`.
    """
    return _unpack_members(_GZIP, data, limit_bytes)


def _unpack_members(magic: bytes, data: bytes, limit_bytes: int) -> bytes:
    kind, opener = _STREAMS[magic]
    unpacked = bytearray()
    packed, place = memoryview(data), 0
    for _ in range(_MOST_MEMBERS):
        if place == len(packed):
            return bytes(unpacked)
        place = _unpack_member((kind, opener()), packed, place, unpacked, limit_bytes)
    raise TooLarge(f"more than {_MOST_MEMBERS:,} {kind} members")


def _unpack_member(
    opened: tuple[str, Any], packed: memoryview, place: int, unpacked: bytearray, limit_bytes: int
) -> int:
    """Append the member that begins at a place to `unpacked`, and return the place after it.

    The libraries copy what they were given beyond the end of a member. So each gets little at first, and then twice as much
    each time.
    """
    kind, member = opened
    feed = _FIRST_FEED
    while not member.eof:
        if place == len(packed):
            raise Damaged(f"{kind} data ends too early")
        part = packed[place : place + feed]
        try:
            unpacked += member.decompress(part, limit_bytes + 1 - len(unpacked))
        except (zlib.error, OSError, lzma.LZMAError) as error:
            raise Damaged(f"damaged {kind} data: {error}") from error
        if len(unpacked) > limit_bytes:
            raise TooLarge(f"larger than {limit_bytes:,} bytes when unpacked")
        place += len(part) - len(member.unused_data)
        feed = min(2 * feed, _LARGEST_FEED)
    return place


def _unpack_zip(data: bytes, limit_bytes: int) -> bytes:
    if data.count(_ZIP_ENTRY) > _MOST_ENTRIES:  # each takes memory before anything can be counted
        raise TooLarge(f"more than {_MOST_ENTRIES:,} files in the zip archive")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_only_file(archive)) as file:
            unpacked = file.read(limit_bytes + 1)
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"damaged zip data: {type(error).__name__}") from error
    if len(unpacked) > limit_bytes:
        raise TooLarge(f"larger than {limit_bytes:,} bytes when unpacked")
    return unpacked


def _only_file(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [each for each in archive.infolist() if not each.is_dir()]
    if len(files) != 1:
        raise Damaged(f"the zip archive has {len(files):,} files; pack each file by itself")
    if files[0].compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:  # others may need gigabytes
        raise Damaged("the zip archive uses a compression other than deflate")
    return files[0]


_ZIP: Final = b"PK\x03\x04"
_ZIP_ENTRY: Final = b"PK\x01\x02"
_MOST_ENTRIES: Final = 1_000
_STREAMS: Final[Mapping[bytes, tuple[str, Callable[[], Any]]]] = {
    _GZIP: ("gzip", lambda: zlib.decompressobj(_GZIP_WINDOW)),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": ("xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)),
}
