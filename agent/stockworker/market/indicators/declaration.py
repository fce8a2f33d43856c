"""The declaration of an indicator."""

from collections.abc import Callable
from typing import Final

from stockworker.handlers.api import Json
from stockworker.market.columns import Values
from stockworker.protocol.fields import FieldError, check_number
from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that an indicator takes; a count of days unless it is not `whole`."""

    name: str
    default: float
    lowest: float = 1
    highest: float = 1_000
    whole: bool = True

    def read(self, value: Json) -> float:
        """The parameter for a JSON value; its default for null."""
        if value is None:
            return self.default
        given = check_number(value, self.lowest, self.highest)
        if self.whole and not given.is_integer():
            raise FieldError("must be a whole number")
        return int(given) if self.whole else given


@dataclass(frozen=True, slots=True)
class Indicator:
    """An entry of the table.

    Attributes:
        title: its full name.
        compute: makes its values from columns and the parameters, in this order.
        parameters: the numbers that a job may choose.
        bars_needed: number of bars before the first value, by its parameters.
        windowed: whether each value depends on that many bars only, and not on all before it.
        formula: how it is computed; C, H, L, V are close, high, low and volume, n is the period.
        source: where the formula was published; empty if it is common knowledge.
        differs: where its values are not those of TA-Lib.
        needs: the fields of a bar that it uses besides the close.
        outputs: the names of its values, if it has several.
    """

    title: str
    compute: Callable[..., Values]
    parameters: tuple[Parameter, ...]
    bars_needed: Callable[..., int]
    formula: str
    source: str = ""
    differs: str = ""
    needs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    windowed: bool = False


RANGE: Final = ("high", "low")
CANDLE: Final = ("open", "high", "low")
VOLUME: Final = ("volume",)
FLOW: Final = ("high", "low", "volume")


def of_period(default: int, lowest: int = 1) -> tuple[Parameter]:
    return (Parameter("period", default, lowest),)


def of_periods(**defaults: int) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, default) for name, default in defaults.items())


def one_period(period: int) -> int:
    return period


def one_bar() -> int:
    return 1


def with_change(period: int) -> int:
    return period + 1


WILDER: Final = "J. W. Wilder, New Concepts in Technical Trading Systems (1978)"
MAGAZINE: Final = "Technical Analysis of Stocks & Commodities"
UNDEFINED: Final = "If {}, it is null; in TA-Lib it is 0."

FIRST_DAY: Final = (
    "The first day counts with H - L; TA-Lib leaves it out, because its true range needs the close before."
)
