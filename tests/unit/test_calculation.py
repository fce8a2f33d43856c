"""An indicator of a payload: its name with or without parameters, and the label of its values."""

from typing import Any

import pytest

from stockworker.market.calculation import Calculation, read_calculation
from stockworker.protocol.fields import FieldError


@pytest.mark.parametrize(
    ("item", "label"),
    [
        ("rsi", "rsi_14"),
        ("obv", "obv"),
        ({"name": "sma", "period": 50}, "sma_50"),
        ({"name": "bollinger"}, "bollinger_20_2"),
        ({"name": "bollinger", "deviations": 2.5}, "bollinger_20_2.5"),
        ({"name": "macd", "slow": 30}, "macd_12_30_9"),
        ({"name": "bollinger", "deviations": 2.0000001}, "bollinger_20_2.0000001"),
    ],
)
def test_a_label_contains_the_parameters(item: Any, label: str) -> None:
    assert read_calculation(item).label == label


@pytest.mark.parametrize(
    "item", ["rsi", {"name": "rsi"}, {"name": "rsi", "period": None}, {"name": "rsi", "period": 14.0}]
)
def test_an_absent_parameter_and_null_mean_the_default(item: Any) -> None:
    assert read_calculation(item) == Calculation("rsi", (14,))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("smaa", r"^unknown indicator 'smaa'; did you mean 'sma'\? Known: sma, ema, "),
        ("bolinger", r"did you mean 'bollinger'\?"),
        ("RSI", r"^unknown indicator 'RSI'; did you mean 'rsi'\?"),
        ("Sma", r"^unknown indicator 'Sma'; did you mean 'sma'\?"),
        ({"name": "macd", "period": None}, "^unknown parameter of macd 'period'"),
        ({"name": "sma", "perod": 5}, r"^unknown parameter of sma 'perod'; did you mean 'period'\?"),
        ({"name": "sma", "period": 0}, "^period: must be from 1 to 1000"),
        ({"name": "rsi", "period": 1}, "^period: must be from 2 to 1000"),
        ({"name": "sma", "period": 2.5}, "period: must be a whole number"),
        ({"name": "sma", "period": "5"}, "^period: expected a number, got the string '5'"),
        ({"name": "sma", "period": True}, "^period: expected a number"),
        ({"period": 5}, "^name: is missing"),
        ({"name": ["sma"]}, "^name: expected a string, got a list"),
        (5, "expected an object"),
        (None, "expected an object"),
    ],
)
def test_a_wrong_indicator_is_explained(item: Any, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        read_calculation(item)
