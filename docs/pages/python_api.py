"""The generated parts of `docs/python-api.md`: every public name of the client and of handlers, from the code."""

import inspect
import re
from collections.abc import Iterator
from textwrap import dedent
from typing import Any, Final

from stockworker import client, errors
from stockworker.client import Client, Completion
from stockworker.errors import JobError, StockworkerError
from stockworker.handlers import api
from stockworker.protocol.job import JobOptions
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.messages import Progress, ReceiptEntry, Stats, Submission
from stockworker.protocol.views import (
    AttemptView,
    Explanation,
    JobDetails,
    JobView,
    QueueView,
    WorkerView,
)
from stockworker.protocol.wire import plan_of

SHAPES: Final = (
    JobView,
    JobDetails,
    Explanation,
    AttemptView,
    ReceiptEntry,
    Progress,
    JobFilter,
    Stats,
    QueueView,
    WorkerView,
    Submission,
)
"""What the methods of a client return and accept, apart from `Completion`."""

_ITEM: Final = re.compile(r"^(\w+): (.+?)(?=^\w+: |\Z)", re.DOTALL | re.MULTILINE)
_PARTS: Final = re.compile(r"^(Args|Returns|Raises|Attributes):\n((?:[ ]{4}.*\n|\n)+)", re.MULTILINE)
_MODULE: Final = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])|\btyping\.")
_HANDLERS: Final = ("Job", "Context", "PermanentError", "Handler")


def sections() -> dict[str, str]:
    """The generated sections of the page, by name."""
    return {
        "options": _fields(JobOptions),
        "errors": "".join(_errors()),
        "client": "\n".join(_client()),
        "shapes": "\n".join(_shapes()),
        "handlers": "\n".join(_handlers()),
    }


def methods() -> dict[str, Any]:
    """The public methods and properties of a client, in the order of the code."""
    return {name: getattr(Client, name) for name in vars(Client) if not name.startswith("_")}


def _client() -> Iterator[str]:
    yield f"### `Client`\n\n{_described(Client, signature='Client')}"
    yield _described(Client.__aenter__, "`async with client:` connects, and disconnects in the end.", raises_only=True)
    for name, method in methods().items():
        owner = "Client" if name == "from_config" else "client"
        yield f"### `Client.{name}`\n\n{_described(method, signature=f'{owner}.{name}')}"
    for name in client.__all__:
        if name not in {"Client", "Completion"}:
            yield f"### `{name}`\n\n{_described(getattr(client, name), signature=name)}"


def _shapes() -> Iterator[str]:
    yield f"### `Completion`\n\n{_described(Completion)}"
    for cls in SHAPES:
        yield f"### `{cls.__name__}`\n\n{_summary(cls)}\n\n{_fields(cls)}"


def _handlers() -> Iterator[str]:
    for name in _HANDLERS:
        found = getattr(api, name)
        if name == "Handler":
            yield f"### `Handler`\n\nA function or an `async def` function: `{_plain(str(found))}`.\n"
        else:
            yield f"### `{name}`\n\n{_described(found)}"


def _errors() -> Iterator[str]:
    yield "| Error | Subclass of | `code` | Meaning |\n|---|---|---|---|\n"
    shown = [StockworkerError, errors.ConfigError, errors.ConnectionFailed, errors.AccessDenied, errors.NoAnswer]
    shown += [errors.RequestRefused, JobError, *_below(JobError)]
    for each in shown:
        (base,) = each.__bases__
        text = _summary(each)
        yield f"| `{each.__name__}` | `{base.__name__}` | `{each.code}` | {text} |\n"


def _below(base: type[JobError]) -> list[type[JobError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, base)]
    return [each for each in found if each is not base and each is not errors.SealRefused]


def _fields(cls: type) -> str:
    """A table of the fields that have a meaning on the wire."""
    rows = (f"| `{each.attribute}` | {each.kind.notation} | {each.meaning} |\n" for each in plan_of(cls).fields)
    return "| Name | Value | Meaning |\n|---|---|---|\n" + "".join(rows)


def _summary(found: Any) -> str:
    return _marked(" ".join(inspect.getdoc(found).partition("\n\n")[0].split()))  # type: ignore[union-attr]


def _described(found: Any, before: str = "", *, signature: str = "", raises_only: bool = False) -> str:
    """A docstring in Markdown, after the signature."""
    text = inspect.getdoc(found) or ""
    if not text:
        raise ValueError(f"{found} has no docstring")
    parts = {kind: dedent(body) for kind, body in _PARTS.findall(f"{text}\n")}
    lines = [f"```text\n{_signature(found, signature)}\n```\n"] if signature else []
    lines += [before] if raises_only else [_marked(_PARTS.sub("", f"{text}\n").strip())]
    if "Returns" in parts:
        lines.append(f"\n**Returns** {_marked(' '.join(parts['Returns'].split()))}")
    for kind in ("Args", "Attributes", "Raises"):
        lines += [f"\n{line}" if not number else line for number, line in enumerate(_items(kind, parts.get(kind, "")))]
    return "\n".join(lines) + "\n"


def _items(kind: str, body: str) -> Iterator[str]:
    for name, text in _ITEM.findall(body):
        word = "raises " if kind == "Raises" else ""
        yield f"- {word}`{name}`: {_marked(' '.join(text.split()))}"


def _signature(found: Any, name: str) -> str:
    if isinstance(found, property):
        return f"{name}: {_plain(str(inspect.get_annotations(found.fget)['return']))}"  # type: ignore[arg-type]
    signature = inspect.signature(found)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    call = f"{name}{_plain(str(signature.replace(parameters=parameters))).removesuffix(' -> None')}"
    if inspect.iscoroutinefunction(found):
        return f"await {call}"
    return f"async for … in {call}" if inspect.isasyncgenfunction(found) else call


def _plain(text: str) -> str:
    """Types without the modules that define them."""
    return _MODULE.sub("", text)


def _marked(text: str) -> str:
    """The code in a docstring, as Markdown marks it."""
    return text.replace("``", "`")
