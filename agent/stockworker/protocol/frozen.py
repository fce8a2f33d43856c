"""``dataclass(frozen=True, slots=True)`` in a quarter of its time: each start of a process makes more than a hundred."""

# The `dataclasses` of Python 3.11 and 3.12 compile six functions for each such class. Here a class compiles one, its
# ``__init__``. The others name no field, so all classes share them. To a type checker there is no difference.

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from collections.abc import Callable, Sequence
    from operator import attrgetter
    from typing import Any, TypeVar

    from stockworker.protocol.compiling import compiled

    T = TypeVar("T")

    def dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
        """Declare a dataclass. Its behaviour is that of one of the standard library."""
        if not (frozen and slots):
            raise TypeError("for other dataclasses use the standard library")

        def make(cls: type[T]) -> type[T]:
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
            fields = dataclasses.fields(made)
            methods = {"__init__": _initializer(made, fields), **_SHARED, **_comparisons(fields)}
            for name, method in methods.items():
                if name not in cls.__dict__:
                    setattr(made, name, method)
            return made

        return make

    def _initializer(cls: type, fields: Sequence["dataclasses.Field[Any]"]) -> Callable[..., None]:
        names: dict[str, Any] = {"ABSENT": object()}
        parameters: dict[bool, list[str]] = {False: [], True: []}
        lines = []
        for each in fields:
            name, value = each.name, each.name
            parameter = name
            if each.default is not dataclasses.MISSING:
                names[f"default_{name}"] = each.default
                parameter = f"{name}=default_{name}"
            elif each.default_factory is not dataclasses.MISSING:
                names[f"make_{name}"] = each.default_factory
                parameter, value = f"{name}=ABSENT", f"make_{name}() if {name} is ABSENT else {name}"
            parameters[each.kw_only].append(parameter)
            names[f"set_{name}"] = getattr(cls, name).__set__
            lines.append(f" set_{name}(self, {value})")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        by_name = ["*", *parameters[True]] if parameters[True] else []
        head = f"def __init__({', '.join(['self', *parameters[False], *by_name])}):"
        made = compiled("__init__", [head, *lines, " return"], names)
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made

    def _comparisons(fields: Sequence["dataclasses.Field[Any]"]) -> dict[str, Callable[..., Any]]:
        compared = _values([each.name for each in fields if each.compare])
        shown = [each.name for each in fields if each.repr]

        def equal(self: Any, other: object) -> bool:
            return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

        def digest(self: Any) -> int:
            return hash(compared(self))

        def show(self: Any) -> str:
            return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

        return {"__eq__": equal, "__hash__": digest, "__repr__": show}

    def _values(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
        if len(names) > 1:
            return attrgetter(*names)
        return lambda each: tuple([getattr(each, name) for name in names])

    def _refuse_setting(_self: object, name: str, _value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deleting(_self: object, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self: Any) -> list[Any]:
        return [getattr(self, each.name) for each in dataclasses.fields(self)]

    def _set_state(self: Any, state: Sequence[Any]) -> None:
        for each, value in zip(dataclasses.fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)

    _SHARED = {
        "__setattr__": _refuse_setting,
        "__delattr__": _refuse_deleting,
        "__getstate__": _state,
        "__setstate__": _set_state,
    }

__all__ = ["dataclass"]
