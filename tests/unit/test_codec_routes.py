"""No field of a message outside of its body can be forgotten: on its topic, in its properties, or repeated in the body."""

import json
from dataclasses import replace

import pytest

from stockworker.protocol import codec, job, topics
from stockworker.protocol.codec import encode
from stockworker.protocol.ids import ClientId, JobType
from stockworker.protocol.packet import NO_PROPERTIES
from stockworker.protocol.topics import TopicKind
from tests.unit.test_codec import DROPPED, MOVED, RECORDED, includes, mistaken, recorded_packet

LEVELS = [
    pytest.param(kind, index, id=f"{kind}.{index}")
    for kind, route in codec._ROUTES.items()
    if kind is not TopicKind.QUEUE  # `encode_submit` makes this topic: see below
    for index in range(len(route.levels))
]
REPLYING = [kind for kind, route in codec._ROUTES.items() if route.replies and kind is not TopicKind.QUEUE]


def misplaced() -> list[str]:
    """The recorded messages that are not on their topic, or lack what older peers read in the body."""
    wrong = mistaken()
    for name, message in RECORDED.items():
        old, new = recorded_packet(name), encode(message)
        in_body = old.body and not old.topic.startswith("jobs/queue/")
        kept = (
            {field: value for field, value in json.loads(old.body).items() if field not in DROPPED} if in_body else {}
        )
        same_reply = new.properties.correlation_data == old.properties.correlation_data
        if (
            new.topic != MOVED.get(name, old.topic)
            or not same_reply
            or not includes(json.loads(new.body) if in_body else {}, kept)
        ):
            wrong.append(name)
    return wrong


def test_nothing_is_misplaced_while_every_route_is_complete() -> None:
    assert misplaced() == []


@pytest.mark.parametrize(("kind", "index"), LEVELS)
def test_a_level_of_a_topic_that_the_encoder_forgets_is_noticed(
    kind: TopicKind, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = codec._ROUTES[kind]
    levels = tuple((lambda _message: "forgotten") if at == index else level for at, level in enumerate(route.levels))
    monkeypatch.setitem(codec._ROUTES, kind, replace(route, levels=levels))
    assert misplaced()


@pytest.mark.parametrize("kind", [kind for kind, route in codec._ROUTES.items() if route.repeated])
def test_an_id_that_the_encoder_no_longer_repeats_in_the_body_is_noticed(
    kind: TopicKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(codec._ROUTES, kind, replace(codec._ROUTES[kind], repeated=()))
    assert misplaced()


@pytest.mark.parametrize("kind", [kind for kind, route in codec._ROUTES.items() if route.implied])
def test_a_field_that_its_topic_no_longer_implies_is_noticed(kind: TopicKind, monkeypatch: pytest.MonkeyPatch) -> None:
    route = codec._ROUTES[kind]
    monkeypatch.setitem(
        codec._ROUTES, kind, replace(route, implied={name: not value for name, value in route.implied.items()})
    )
    assert misplaced()


@pytest.mark.parametrize("kind", REPLYING)
def test_a_reply_that_is_forgotten_is_noticed(kind: TopicKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "reply_properties", lambda _reply: NO_PROPERTIES)
    monkeypatch.setattr(codec, "answer_properties", lambda _reply: NO_PROPERTIES)
    monkeypatch.setattr(codec, "read_reply", lambda _properties: None)
    assert any(
        recorded_packet(name).topic.startswith(f"{kind}/") or recorded_packet(name).topic == kind
        for name in misplaced()
    )


@pytest.mark.parametrize("forgotten", ["priority", "type", "client_id"])
def test_a_level_of_a_submission_that_is_forgotten_is_noticed(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = topics.queue

    def queue(priority: job.Priority, job_type: JobType, client_id: ClientId | None) -> str:
        match forgotten:
            case "priority":
                return make(
                    job.Priority.LOW if priority is job.Priority.HIGH else job.Priority.HIGH, job_type, client_id
                )
            case "type":
                return make(priority, JobType("forgotten"), client_id)
            case _:
                return make(priority, job_type, None)

    monkeypatch.setattr(topics, "queue", queue)
    assert misplaced()
