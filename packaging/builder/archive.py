"""A .deb is an ar(5) archive with three members, see deb(5)."""

import lzma
from pathlib import Path
from typing import Final

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_SIZE: Final = slice(48, 58)
_DATA: Final = b"data.tar.xz"


def tighten(deb: Path) -> None:
    """Compress the files in a .deb again: the output of nfpm's own xz is a sixth larger than that of liblzma."""
    rest = deb.read_bytes().removeprefix(_MAGIC)
    out = bytearray(_MAGIC)
    while rest:
        header, size = rest[:_HEADER], int(rest[_SIZE])
        content = rest[_HEADER : _HEADER + size]
        rest = rest[_HEADER + size + size % 2 :]
        if header.startswith(_DATA):
            content = lzma.compress(lzma.decompress(content), preset=9 | lzma.PRESET_EXTREME)
            header = header[: _SIZE.start] + b"%-10d" % len(content) + header[_SIZE.stop :]
        out += header + content + b"\n" * (len(content) % 2)
    deb.write_bytes(out)
