"""How messages become JSON and back: derived from the classes in `messages`, the only place that lists their fields."""

# A field of a message is declared as ``slots: Annotated[Slots, Wire("how many jobs it runs at once")]``:
#
# - Its **kind** defines which JSON values are legal, and what they become. It follows from the type (`bool` is a flag,
#   an enumeration is a choice, a tuple is a list, a dataclass is an object), or is given with it where bounds belong to
#   it: ``Slots = Annotated[int, Integer(1, 1024)]``.
# - `Wire` has the meaning of the field, and its name in JSON where that is another than the attribute's. Names in JSON
#   are fixed for ever (schema 1); names of attributes follow the glossary.
# - `Level` instead of `Wire` makes the value a level of the topic, where the broker can prove who writes it.
# - A **default** makes a field optional. It is left out of the JSON where it has its default, and absent or null in the
#   JSON means the default. None is never written. A flag or a list of plain values may always be absent.
#
# From a class follows its `Plan`: the fields in order. `straight_code` makes functions of it that read and write them. The
# same plan makes the tables in docs/protocol.md and the strategies of the property tests, so that none of them can forget
# a field. `codec` adds by hand what is not a plain JSON object: submissions, replies, and topics that carry two messages.

import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum, StrEnum
from functools import cached_property, partial
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from stockworker.protocol.fields import (
    LATEST_TIME,
    FieldError,
    check_choice,
    check_flag,
    check_identifier,
    check_integer,
    check_job_identifier,
    check_list,
    check_number,
    check_object,
    check_text,
    expected,
)
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.json_text import flag_text, number_text, quoted, quoted_content
from stockworker.protocol.straight_code import reader, writer

MAX_ENTRIES: Final = 4096
"""Most entries of any list that is accepted; the body's size is the limit that counts."""

C = TypeVar("C")


class _Mark(Enum):
    """Not a value."""

    REQUIRED = "the field must be present"


REQUIRED: Final = _Mark.REQUIRED


# --- kinds of values --------------------------------------------------------------------------------------------------


class Kind:
    """Which JSON values a field may have, and what they become.

    Attributes:
        read: checks a JSON value, and returns what the class holds; raises `FieldError`.
        passes: an expression about the JSON value ``v``: where it is true, `read` returns ``v`` itself. Code without calls
            is faster. Empty where no value passes, or none does so often that it matters.
        write: what the class holds, as a JSON value; None where it is one already.
        text: what the class holds, as JSON text; None where that takes `write` and a JSON encoder.
        absent: what an absent field of this kind means, where its class gives no default.
        notation: which values are legal, for the documentation.
    """

    read: Callable[[Any], Any]
    passes: str = ""
    write: Callable[[Any], Any] | None = None
    text: Callable[[Any], str] | None = None
    absent: Any = REQUIRED
    notation: str


class Text(Kind):
    """A string of at most `longest` characters, or as long as the message allows."""

    def __init__(self, longest: int | None = None) -> None:
        self.longest = longest
        self.read = check_text if longest is None else partial(check_text, longest=longest)
        self.passes = "type(v) is str and v.isascii()" + ("" if longest is None else f" and len(v) <= {longest}")
        self.text = quoted_content if longest is None else quoted
        self.notation = "text" if longest is None else f"text, at most {longest:,} characters"


class TextOrFalse(Kind):
    """A string, or false where it was left out although it exists."""

    def __init__(self) -> None:
        self.passes = "type(v) is str and v.isascii()"
        self.notation = "text, or `false`"

    def read(self, value: Any) -> str | Literal[False]:
        return False if value is False else check_text(value)

    def text(self, value: str | Literal[False]) -> str:
        return "false" if value is False else quoted(value)


class Identifier(Kind):
    """An ID: one level of a topic."""

    def __init__(self) -> None:
        self.read = check_identifier
        self.passes = "type(v) is str and MATCHES_ID(v)"
        self.text = quoted
        self.notation = "ID"


class JobIdentifier(Kind):
    """A job ID: one level of a topic."""

    def __init__(self) -> None:
        self.read = check_job_identifier
        self.passes = "type(v) is str and MATCHES_JOB_ID(v)"
        self.text = quoted
        self.notation = "job ID"


class Integer(Kind):
    """A whole number within bounds, both included."""

    def __init__(self, lowest: int, highest: int) -> None:
        self.lowest, self.highest = lowest, highest
        self.read = partial(check_integer, lowest=lowest, highest=highest)
        self.passes = f"type(v) is int and {lowest} <= v <= {highest}"
        self.text = int.__repr__
        self.notation = f"whole number, {_bounds(lowest, highest)}"


class Number(Kind):
    """A number within bounds, both included."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.highest = lowest, highest
        self.read = partial(check_number, lowest=lowest, highest=highest)
        self.passes = f"type(v) is float and {float(lowest)!r} <= v <= {float(highest)!r}"
        self.text = number_text
        self.notation = f"number, {_bounds(lowest, highest)}"


class Duration(Number):
    """Seconds."""

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__(lowest, highest)
        self.notation = f"seconds, {_bounds(lowest, highest)}"


class Time(Number):
    """A point in time."""

    def __init__(self) -> None:
        super().__init__(0.0, LATEST_TIME)
        self.notation = "seconds since the epoch"


class Flag(Kind):
    """True or false; absent is false."""

    def __init__(self) -> None:
        self.read = check_flag
        self.passes = "type(v) is bool"
        self.text = flag_text
        self.absent = False
        self.notation = "true or false"


class Choice(Kind):
    """One of the words of an enumeration."""

    def __init__(self, of: type[StrEnum]) -> None:
        self.of = of
        self.notation = f"one of {', '.join(f'`{word}`' for word in of)}"
        self.text = quoted
        self._words = {word.value: word for word in of}

    def read(self, value: Any) -> StrEnum:
        # A look-up is several times as fast as a call of the enumeration.
        if type(value) is str and value in self._words:
            return self._words[value]
        return check_choice(value, self.of)


class Label(Kind):
    """A number of an enumeration, by its name in lower case."""

    def __init__(self, of: type[IntEnum]) -> None:
        self.of = of
        self._by_label = {member.name.lower(): member for member in of}
        self.notation = f"one of {', '.join(f'`{label}`' for label in self._by_label)}"

    def read(self, value: Any) -> IntEnum:
        label = check_text(value)
        if label not in self._by_label:
            raise FieldError(f"{label[:20]!r} is not one of {', '.join(self._by_label)}")
        return self._by_label[label]

    def write(self, value: IntEnum) -> str:
        return value.name.lower()

    def text(self, value: IntEnum) -> str:
        return quoted(value.name.lower())


class Items(Kind):
    """A list. One of plain values may be absent, and is empty then; one of objects is the point of its message."""

    def __init__(self, item: Kind, most: int = MAX_ENTRIES) -> None:
        self.item = item
        self.read = partial(check_list, check=item.read, most=most)
        self.absent = REQUIRED if isinstance(item, Object) else ()
        if item.text is not None:
            self._text_of_item = item.text
            self.text = self._listed
        self.notation = f"list of {item.notation}s"

    def write(self, values: tuple[Any, ...]) -> list[Any]:
        return list(values if self.item.write is None else map(self.item.write, values))

    def _listed(self, values: tuple[Any, ...]) -> str:
        return f"[{','.join(map(self._text_of_item, values))}]"


class Unordered(Kind):
    """A list whose order means nothing: a set, written in order."""

    def __init__(self, item: Kind) -> None:
        self.item = item
        self.absent = frozenset()
        self.notation = f"list of {item.notation}s"

    def read(self, value: Any) -> frozenset[Any]:
        return frozenset(check_list(value, self.item.read, MAX_ENTRIES))

    def write(self, values: frozenset[Any]) -> list[Any]:
        return sorted(values)


class Table(Kind):
    """An object with any keys of one kind, and values of another: as pairs, in the order in which they came."""

    def __init__(self, key: Kind, value: Kind) -> None:
        self.key, self.value = key, value
        self.notation = f"object: {key.notation} to {value.notation}"

    def read(self, value: Any) -> tuple[tuple[Any, Any], ...]:
        found = []
        for key, each in check_object(value).items():
            try:
                found.append((self.key.read(check_text(key)), self.value.read(each)))
            except FieldError as error:
                raise error.inside(key[:80].encode(errors="replace").decode()) from None
        return tuple(found)

    def write(self, pairs: tuple[tuple[Any, Any], ...]) -> dict[str, Any]:
        return dict(pairs)


class Object(Kind):
    """The fields of another class."""

    def __init__(self, plan: "Plan[Any]") -> None:
        self.plan = plan
        self.read = plan.read
        self.write = plan.write
        self.text = plan.text
        self.notation = f"`{plan.cls.__name__}` object"


def _bounds(lowest: float, highest: float) -> str:
    # A bound that only keeps nonsense out is not worth a place in the documentation.
    return f"{lowest:,.15g} to {highest:,.15g}" if highest < 1 << 31 else f"at least {lowest:,.15g}"


# --- fields -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wire:
    """What a field means, and its name in JSON where that is not the attribute's.

    With `always` it is written even where it has its default, because older peers or programs that read it rely on that.
    """

    meaning: str
    name: str = ""
    always: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """The field is this level of the topic.

    With `also_in_body` it is written into the body, too, for people and tools that watch: and read from there where an
    older worker leaves the level out. Without, a topic that lacks the level means the default (see `topics.Topic.bare`).
    """

    name: str
    also_in_body: bool = False


@dataclass(frozen=True, slots=True)
class PlanField:
    """A field of the body, as its class declares it.

    Attributes:
        attribute: its name in the class, and `name` in JSON.
        kind: which values are legal.
        meaning: for the documentation.
        silent: the class's default, which is not written; `REQUIRED` if every value is.
        absent: what is read where the field is absent or null; `REQUIRED` if that is an error.
    """

    attribute: str
    name: str
    kind: Kind
    meaning: str
    silent: Any
    absent: Any


class Plan(Generic[C]):
    """How one class is read and written; made once for each class by `plan_of`.

    Args:
        cls: a dataclass.
        fields: those that are in the body, in order.
        levels: attributes that are levels of the topic.
    """

    def __init__(self, cls: type[C], fields: tuple[PlanField, ...], levels: Mapping[str, Level]) -> None:
        self.cls = cls
        self.levels = levels
        self.fields = fields

    @cached_property
    def values(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """Returns the values of `fields` in a body, checked.

        Raises:
            FieldError: a field is missing or wrong.
        """
        return reader(self.fields, REQUIRED)

    @cached_property
    def members(self) -> Callable[[C], str]:
        """Returns the members of the JSON object of a message: each begins with a comma."""
        return writer(self.fields, REQUIRED)

    @cached_property
    def make(self) -> Callable[..., C]:
        """Makes an object of a body, and of the values of what is not in the body, by name.

        Raises:
            FieldError: a field is missing or wrong.
        """
        return reader(self.fields, REQUIRED, self.cls)

    def read(self, value: Any) -> C:
        """Make an object of the class, all of whose fields are in the body.

        Raises:
            FieldError: a field is missing or wrong.
        """
        if type(value) is not dict:
            raise expected("an object", value)
        return self.make(value)

    def text(self, message: C) -> str:
        """The JSON object of `message`, as text."""
        return f"{{{self.members(message)[1:]}}}"

    def write(self, message: C) -> dict[str, Any]:
        """The JSON object of `message`."""
        body: dict[str, Any] = {}
        for each in self.fields:
            value = getattr(message, each.attribute)
            if value is not None and (each.silent is REQUIRED or value != each.silent):
                body[each.name] = value if each.kind.write is None else each.kind.write(value)
        return body


def shown(message: Any) -> dict[str, Any]:
    """`message` as commands print it with --json: by attribute, and by the name on the wire where that is another.

    Programs that were written for the names on the wire go on reading those.
    """
    body: dict[str, Any] = {}
    for each in plan_of(type(message)).fields:
        value = getattr(message, each.attribute)
        if value is not None and value != each.silent:
            body[each.attribute] = body[each.name] = _shown(each.kind, value)
    return body


def _shown(kind: Kind, value: Any) -> Any:
    if isinstance(kind, Object):
        return shown(value)
    if isinstance(kind, Items):
        return [_shown(kind.item, each) for each in value]
    return value if kind.write is None else kind.write(value)


_PLANS: Final[dict[type, Plan[Any]]] = {}


def plan_of(cls: type[C]) -> Plan[C]:
    """The plan of a class whose fields are declared as this module explains."""
    if cls not in _PLANS:
        _PLANS[cls] = _make_plan(cls)
    return _PLANS[cls]


def _make_plan(cls: type[C]) -> Plan[C]:
    fields, levels = [], {}
    hints = get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cast("Any", cls)):
        marks = get_args(hints[each.name])[1:] if get_origin(hints[each.name]) is Annotated else ()
        for mark in marks:
            if isinstance(mark, Level):
                levels[each.name] = mark
            elif isinstance(mark, Wire):
                fields.append(_plan_field(each, hints[each.name], mark))
    return Plan(cls, tuple(fields), levels)


def _plan_field(field: "dataclasses.Field[Any]", hint: Any, wire: Wire) -> PlanField:
    kind = kind_of(hint)
    default = REQUIRED if field.default is dataclasses.MISSING else field.default
    optional = None if _is_optional(hint) else kind.absent
    return PlanField(
        attribute=field.name,
        name=wire.name or field.name,
        kind=kind,
        meaning=wire.meaning,
        silent=REQUIRED if wire.always else default,
        absent=optional if default is REQUIRED else default,
    )


def kind_of(hint: Any) -> Kind:
    """The kind that follows from a type, if none is given with it."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return next((mark for mark in marks if isinstance(mark, Kind)), None) or kind_of(inner)
    if get_origin(hint) in {Union, UnionType}:
        (inner,) = (each for each in get_args(hint) if each is not NoneType)
        return kind_of(inner)
    if get_origin(hint) is tuple:
        return Items(kind_of(get_args(hint)[0]))
    if get_origin(hint) is frozenset:
        return Unordered(kind_of(get_args(hint)[0]))
    if isinstance(hint, NewType):
        return JobIdentifier() if hint is JobId else Identifier()
    return _kind_of_class(hint)


def _kind_of_class(cls: type) -> Kind:
    if cls is bool:
        return Flag()
    if cls is str:
        return Text()
    if issubclass(cls, StrEnum):
        return Choice(cls)
    if issubclass(cls, IntEnum):
        return Label(cls)
    if dataclasses.is_dataclass(cls):
        return Object(plan_of(cls))
    raise TypeError(f"{cls} has no kind of its own: give one with Annotated")


def _is_optional(hint: Any) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return NoneType in get_args(inner)
