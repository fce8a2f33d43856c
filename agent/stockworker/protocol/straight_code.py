"""Functions that read, write and copy the fields of a class without a loop: this module writes them, once per class."""

# Messages are most of what both services do with their time. A loop over the fields of a class, which asks each field
# how it is read, takes two to three times as long as code that names the fields. So this module writes that code, from
# the same fields, as `dataclasses` does for ``__init__``. It is made when a class is first read or written: a process
# that never sends a message does not pay for it.
#
# `reader` and `writer` show what they write for a field ``ran_s`` with the kind `Duration` and the default None. The
# condition there is `Kind.passes`. A value that does not pass goes to `Kind.read`, which converts or refuses it. So the
# condition is never a rule of its own: a test compares both for each kind.

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from stockworker.protocol.compiling import compiled
from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import MATCHES_ID, MATCHES_JOB_ID
from stockworker.protocol.json_text import json_text, quoted

_NAMES: Final = {"MATCHES_ID": MATCHES_ID, "MATCHES_JOB_ID": MATCHES_JOB_ID, "FieldError": FieldError}
"""What `Kind.passes` may use besides built-in functions."""


C = TypeVar("C")


class FieldKind(Protocol):
    """What this module uses of a `stockworker.protocol.wire.Kind`."""

    read: Callable[[Any], Any]
    passes: str
    write: Callable[[Any], Any] | None
    text: Callable[[Any], str] | None


class DeclaredField(Protocol):
    """What this module uses of a `stockworker.protocol.wire.PlanField`."""

    @property
    def attribute(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> FieldKind: ...

    @property
    def silent(self) -> Any: ...

    @property
    def absent(self) -> Any: ...


def reader(
    fields: Sequence[DeclaredField], required: object, make: Callable[..., Any] | None = None
) -> Callable[..., Any]:
    """Make the function that reads the fields of a JSON object.

    ::

        v = get('ran_s')
        if v is None: f5 = absent5
        elif type(v) is float and 0.0 <= v <= 1e12: f5 = v
        else: name = 'ran_s'; f5 = read5(v)

    Args:
        fields: in order.
        required: `PlanField.absent` of a field that must be present.
        make: what it returns is made by this function, which gets the values by name, and whatever the reader gets
            besides the object. Without, it returns a tuple.
    """
    names: dict[str, Any] = _NAMES | {"make": make}
    lines = ["def read(body, **others):", " get, name = body.get, ''", " try:", "  pass"]
    for number, each in enumerate(fields):
        names[f"read{number}"] = each.kind.read
        lines.append(f"  v = get({each.name!r})")
        branch = "if"
        if each.absent is not required:
            names[f"absent{number}"] = each.absent
            lines.append(f"  if v is None: f{number} = absent{number}")
            branch = "elif"
        if each.kind.passes:
            lines.append(f"  {branch} {each.kind.passes}: f{number} = v")
            branch = "elif"
        checked = f"name = {each.name!r}; f{number} = read{number}(v)"
        lines.append(f"  {checked}" if branch == "if" else f"  else: {checked}")
    lines += [
        " except FieldError as error:",
        "  raise (error if name in body else FieldError('is missing')).inside(name) from None",
    ]
    values = "".join(f"f{number}, " for number in range(len(fields)))
    by_name = "".join(f"{each.attribute}=f{number}, " for number, each in enumerate(fields))
    lines.append(f" return ({values})" if make is None else f" return make({by_name}**others)")
    return compiled("read", lines, names)


def writer(fields: Sequence[DeclaredField], required: object) -> Callable[[Any], str]:
    """Make the function that writes the members of a JSON object: each begins with a comma.

    ::

        v = message.ran_s
        if v is not None: text += ',"ran_s":' + write5(v)

    Args:
        fields: in order.
        required: `PlanField.silent` of a field that is always written.
    """
    names: dict[str, Any] = {}
    lines = ["def write(message):", " text = ''"]
    for number, each in enumerate(fields):
        names[f"write{number}"] = each.kind.text or _plainly(each.kind.write)
        names[f"silent{number}"] = each.silent
        added = f"text += {f',{quoted(each.name)}:'!r} + write{number}(v)"
        lines.append(f" v = message.{each.attribute}")
        if each.absent is required and each.silent is required:
            lines.append(f" {added}")
        elif each.silent is required or each.silent is None:
            lines.append(f" if v is not None: {added}")
        else:
            lines.append(f" if v is not None and v != silent{number}: {added}")
    return compiled("write", [*lines, " return text"], names)


def copier(cls: type[C]) -> Callable[..., C]:
    """Make what `dataclasses.replace` is, for one class. It takes an object, and new values by name."""
    fields = dataclasses.fields(cast("type[Any]", cls))
    parameters = ", ".join(f"{each.name}=KEPT" for each in fields)
    arguments = ", ".join(
        f"{f'{each.name}=' if each.kw_only else ''}old.{each.name} if {each.name} is KEPT else {each.name}"
        for each in sorted(fields, key=lambda each: each.kw_only is True)
    )
    lines = [f"def copy(old, *, {parameters}):", f" return cls({arguments})"]
    return compiled("copy", lines, {"cls": cls, "KEPT": object()})


def _plainly(write: Callable[[Any], Any] | None) -> Callable[[Any], str]:
    return json_text if write is None else lambda value: json_text(write(value))
