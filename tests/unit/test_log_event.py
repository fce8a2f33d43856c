"""Log events behave as frozen dataclasses do."""

from typing import Any

import pytest

from stockworker.logs.events import LinkDown, LinkUp
from stockworker.logs.worker_events import AttemptCompleted

DOWN = LinkDown(broker="b", reason="r")


def test_equal_fields_of_one_class_are_equal() -> None:
    assert LinkDown(reason="r", broker="b") == DOWN
    assert hash(LinkDown(reason="r", broker="b")) == hash(DOWN)
    assert LinkDown(broker="b", reason="other") != DOWN
    assert LinkUp(broker="b") != DOWN


def test_inherited_fields_are_first() -> None:
    event = AttemptCompleted(ran_s=0.5, job="j1", type="t", attempt=1)
    assert repr(event) == "AttemptCompleted(job='j1', type='t', attempt=1, ran_s=0.5)"


def test_an_event_does_not_change() -> None:
    event: Any = DOWN
    with pytest.raises(AttributeError):
        event.broker = "other"
    with pytest.raises(AttributeError):
        del event.broker
    assert LinkDown(broker="b", reason="r") == DOWN


@pytest.mark.parametrize("fields", [{}, {"broker": "b"}, {"broker": "b", "reason": "r", "more": 1}], ids=str)
def test_fields_must_be_complete_and_known(fields: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="LinkDown has the fields"):
        LinkDown(**fields)
