"""Reads the messages of Celery and the jobs of RQ without running any code of them. Pure."""

# RQ stores a job as a pickle, usually compressed. To open a pickle can run any code, so `_DataOnly` opens those of plain
# values alone: text, numbers, lists, dictionaries. A pickle that names a class or a function is refused.

import io
import pickle
import zlib
from typing import Any, Final, NoReturn

from stockworker.protocol.fields import parse_json

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Most bytes that a compressed job becomes. The dispatcher accepts far less, and a small one could become gigabytes."""

_PARTS: Final = 2


class UnsafeData(Exception):
    """Serialized data that only the program that wrote them can open."""


class _DataOnly(pickle.Unpickler):
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
    raw = data.encode() if isinstance(data, str) else bytes(data)
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(raw, _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"is larger than {_MOST_BYTES} bytes when it is unpacked")
    except zlib.error:
        pass  # RQ also stores without compression
    call = parse_json(raw.decode()) if raw[:1] == b"[" else _plain(raw)
    if not isinstance(call, list | tuple) or len(call) != 4 or not isinstance(call[0], str):  # noqa: PLR2004 (see above)
        raise ValueError("is not a job of RQ, which is (function, instance, args, kwargs)")
    function, instance, args, kwargs = call
    if instance is not None:
        raise UnsafeData("calls a method of an object, which only its own program can open")
    return {"function": function, "args": list(args), "kwargs": dict(kwargs)}


def _plain(raw: bytes) -> Any:
    try:
        return _DataOnly(io.BytesIO(raw)).load()
    except UnsafeData:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged pickle raises any exception)
        raise ValueError(f"is neither a pickle nor JSON: {type(error).__name__}") from None
