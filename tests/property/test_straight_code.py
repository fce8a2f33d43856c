"""Generated functions: they read and write as the kinds of the fields do."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker.protocol import messages
from stockworker.protocol.fields import LATEST_TIME, FieldError
from stockworker.protocol.ids import MATCHES_ID, MATCHES_JOB_ID
from stockworker.protocol.job import JobRecord
from stockworker.protocol.straight_code import copier
from stockworker.protocol.wire import REQUIRED, Items, Kind, Object, Plan, plan_of
from tests.harness.job_records import jobs
from tests.harness.messages import of_class


def plans(cls: type[Any]) -> Iterator[Plan[Any]]:
    plan = plan_of(cls)
    yield plan
    for field in plan.fields:
        kind = field.kind.item if isinstance(field.kind, Items) else field.kind
        if isinstance(kind, Object):
            yield from plans(kind.plan.cls)


PLANS = {plan.cls: plan for cls in (*get_args(messages.Message), messages.Submission) for plan in plans(cls)}
KINDS = {kind.passes: kind for plan in PLANS.values() for field in plan.fields if (kind := field.kind).passes}

FEWER = settings(max_examples=min(30, settings().max_examples))  # all classes share the code, and there are many

numbers = st.sampled_from([-1.0, 0.0, 0.001, 1.0, 86400.0, LATEST_TIME, 2.0**60, float("nan"), float("inf")])
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 1100),
    numbers,
    st.text(),
    st.text("aZ0._-:/", max_size=3),
    st.sampled_from(["\ud800", "x" * 65, "x" * 2049]),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@given(value=values)
def test_a_value_that_passes_is_read_as_it_is(kind: Kind, value: Any) -> None:
    if eval(kind.passes, {"v": value, "MATCHES_ID": MATCHES_ID, "MATCHES_JOB_ID": MATCHES_JOB_ID}):  # noqa: S307 (a declaration)
        assert kind.read(value) is value


@pytest.mark.parametrize("cls", PLANS, ids=lambda cls: cls.__name__)
@FEWER
@given(data=st.data())
def test_the_text_of_an_object_is_that_of_its_json_value(cls: type[Any], data: st.DataObject) -> None:
    plan, message = PLANS[cls], data.draw(of_class(cls))
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
    assert plan.text(message) == encoder.encode(plan.write(message))


@pytest.mark.parametrize("cls", PLANS, ids=lambda cls: cls.__name__)
@FEWER
@given(data=st.data())
def test_an_object_is_read_field_by_field(cls: type[Any], data: st.DataObject) -> None:
    """Whatever its fields hold, the result or the refusal is that of its kinds."""
    plan = PLANS[cls]
    body = json.loads(plan.text(data.draw(of_class(cls))))
    if body and data.draw(st.booleans()):
        body[data.draw(st.sampled_from(sorted(body)))] = data.draw(values)
    expected: list[Any] = []
    refused: FieldError | None = None
    for each in plan.fields:
        value = body.get(each.name)
        absent = value is None and each.absent is not REQUIRED
        try:
            expected.append(each.absent if absent else each.kind.read(value))
        except FieldError as error:
            refused = (error if each.name in body else FieldError("is missing")).inside(each.name)
            break
    if refused is None:
        assert plan.values(body) == tuple(expected)
        return
    with pytest.raises(FieldError) as found:
        plan.values(body)
    assert str(found.value) == str(refused)


@pytest.mark.parametrize("cls", [JobRecord, messages.Submission], ids=lambda cls: cls.__name__)
@given(data=st.data())
def test_a_copy_has_the_new_values_and_keeps_the_others(cls: type[Any], data: st.DataObject) -> None:
    old = data.draw(jobs() if cls is JobRecord else of_class(cls))
    names = data.draw(st.sets(st.sampled_from([each.name for each in dataclasses.fields(cls)])))
    new = {name: object() for name in names}
    replaced: Any = dataclasses.replace(old, **new)
    assert copier(cls)(old, **new) == replaced
    with pytest.raises(TypeError):
        copier(cls)(old, no_such_field=1)
