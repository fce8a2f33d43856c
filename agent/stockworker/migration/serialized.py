"""Reads the messages of Celery and the jobs of RQ without running any code of them. Pure."""

# RQ stores a job as a pickle, usually compressed. To open a pickle can run any code, so `_DataOnly` opens those of plain
# values alone: text, numbers, lists, dictionaries. A pickle that names a class or a function is refused.
#
# A small pickle can also ask for much memory: by the index of a memo, or by a list that contains another one twice, and so on. So
# the unpickler of Python reads it, whose memo is a dictionary, and `_size` is known before anything writes them.

import io
import pickle
import zlib
from typing import Any, Final, NoReturn

from stockworker.protocol.fields import parse_json

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Most bytes that a compressed job becomes. The dispatcher accepts far less, and a small one could become gigabytes."""

_PARTS: Final = 2
_MOST_TEXT: Final = 1024 * 1024
"""More than the dispatcher accepts."""

_DEEPEST: Final = 200


class UnsafeData(Exception):
    """Serialized data that only the program that wrote them can open."""


class _DataOnly(pickle._Unpickler):  # noqa: SLF001 (see the head of this module)
    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse everything that is not plain data."""
        raise UnsafeData(f"contains an object of {module}.{name}, which only its own program can open")


def celery_message(body: Any) -> dict[str, Any]:
    """The arguments of a task of Celery's protocol 2: `[args, kwargs, embed]` as JSON.

    Raises:
        ValueError: it is not such a body.
    """
    text = body.decode() if isinstance(body, bytes) else body
    parts = parse_json(text) if isinstance(text, str) else text
    if not isinstance(parts, list) or len(parts) < _PARTS or not isinstance(parts[0], list):
        raise ValueError("is not the body of a Celery task of protocol 2, which is [args, kwargs, embed] in JSON")
    return {"args": parts[0], "kwargs": parts[1]}


def rq_job(data: Any) -> dict[str, Any]:
    """The call of a job of RQ: `(function, instance, args, kwargs)` as a pickle or as JSON.

    Raises:
        ValueError: it is not such data.
        UnsafeData: it contains other objects than plain data.
    """
    raw = data.encode() if isinstance(data, str) else data
    if not isinstance(raw, bytes):
        raise ValueError("is not the data of a job of RQ")  # noqa: TRY004 (the errors of decoders are of one kind)
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(raw, _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"is larger than {_MOST_BYTES} bytes when it is unpacked")
    except zlib.error:
        pass  # RQ also stores without compression
    call = parse_json(raw.decode()) if raw[:1] == b"[" else _plain(raw)
    match call:
        case [str() as function, instance, list() | tuple() as args, dict() as kwargs]:
            pass
        case _:
            raise ValueError("is not a job of RQ, which is (function, instance, args, kwargs)")
    if instance is not None:
        raise UnsafeData("calls a method of an object, which only its own program can open")
    if _size(call, {}) > _MOST_TEXT:
        raise ValueError(f"is larger than {_MOST_TEXT} bytes as text")
    return {"function": function, "args": list(args), "kwargs": kwargs}


def _size(value: Any, known: dict[int, int], depth: int = 0) -> int:
    """At least the length of a value as text. A value that is in others several times counts each time.

    Raises:
        ValueError: values are too deep in others, or in themselves.
    """
    if depth > _DEEPEST:
        raise ValueError("contains values that are too deep in others")
    match value:
        case str() | bytes():
            return 1 + len(value)
        case int():
            return 1 + value.bit_length() // 4
        case dict():
            parts = [*value, *value.values()]
        case list() | tuple():
            parts = list(value)
        case _:
            return 1
    if id(value) not in known:
        known[id(value)] = 1 + sum(_size(part, known, depth + 1) for part in parts)
    return known[id(value)]


def _plain(raw: bytes) -> Any:
    try:
        return _DataOnly(io.BytesIO(raw)).load()
    except UnsafeData:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged pickle raises any exception)
        raise ValueError(f"is neither a pickle nor JSON: {type(error).__name__}") from None
