"""Kinds of value that payloads have besides those of messages, and the error text for an unknown name."""

from collections.abc import Callable, Collection
from typing import Any, Final

from stockworker.adapters.http_hosts import read_host, read_network
from stockworker.protocol.fields import FieldError, check_list, check_text
from stockworker.protocol.suggestion import suggestion
from stockworker.protocol.wire import Items, Kind


class Checked(Kind):
    """A string that `check` turns into a value; it raises `ValueError` with the problem for any other string."""

    def __init__(self, notation: str, check: Callable[[str], Any]) -> None:
        self.notation = notation
        self.check = check

    def read(self, value: Any) -> Any:
        text = check_text(value)
        try:
            return self.check(text)
        except ValueError as error:
            raise FieldError(str(error)) from None


class Custom(Kind):
    """Any value that `read` accepts."""

    def __init__(self, notation: str, read: Callable[[Any], Any]) -> None:
        self.notation = notation
        self.read = read


class Several(Items):
    """A list with at least one entry."""

    def __init__(self, item: Kind, most: int) -> None:
        super().__init__(item, most)
        self.most = most
        self.read = self._read
        self.notation = f"list, 1 to {most:,} entries: {item.notation}"

    def _read(self, value: Any) -> tuple[Any, ...]:
        found = check_list(value, self.item.read, self.most)
        if not found:
            raise FieldError(f"must have 1 to {self.most:,} entries")
        return found


class Written(Kind):
    """A value in a result: it is documented, and not checked.

    Attributes:
        place: the way from this value to the objects inside it: ``[]`` in a list, ``.<symbol>`` in an object.
        classes: the classes of these objects; each is one of them.
    """

    def __init__(self, notation: str, place: str = "", *classes: type) -> None:
        self.notation = notation
        self.place = place
        self.classes = classes

    def read(self, value: Any) -> Any:
        return value


def unknown(what: str, name: str, known: Collection[str]) -> FieldError:
    """The error about an unknown name: which name was probably meant, and which names are known."""
    if not known:
        return FieldError(f"unknown {what} {name[:40]!r}; no {what} is stored here yet, so import its data first")
    same = {each.lower(): each for each in known}.get(name.lower())
    hint = f"; did you mean {same!r}?" if same else suggestion(name, known) or "."
    return FieldError(f"unknown {what} {name[:40]!r}{hint} Known: {', '.join(list(known)[:40])}")


HOSTS: Final = Items(Checked("host", read_host), most=1_000)
NETWORKS: Final = Items(Checked("network", read_network), most=1_000)
"""Settings of what may be fetched; `stockworker.adapters.http_hosts` has the rules."""
