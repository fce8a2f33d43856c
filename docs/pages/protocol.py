"""The parts of the documentation that follow from the protocol's tables: topics, fields, and the states of a job."""

from collections.abc import Iterable
from typing import Final, get_args

from stockworker.protocol import wire
from stockworker.protocol.lifecycle import INITIAL, MEANING, TERMINAL, TRANSITIONS, State, Trigger
from stockworker.protocol.messages import Message, Submission
from stockworker.protocol.topics import OWN_LEVEL, TOPICS, Role, Topic
from stockworker.protocol.wire import Items, Object, PlanField, plan_of

_LIFECYCLE_HEAD: Final = """\
# The life of a job

Every job is in one of eight states, and changes its state only as drawn here. The diagram and the table are generated from
`stockworker/protocol/lifecycle.py`, which the dispatcher uses, too. A worker reports, and the dispatcher decides. It
publishes a change only once the change is on disk.

A new job is *queued*, or *scheduled* where its `not_before` lies ahead. *Completed*, *cancelled* and *expired* are
final; *failed* is the dead letter, from where an operator may send a job back (`jobs/retry/{job_id}`).
"""


def lifecycle() -> str:
    """The page about the states of a job."""
    return "\n".join((_LIFECYCLE_HEAD, *_diagram(), "", *_transitions()))


def _diagram() -> Iterable[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    direction LR"
    yield from (f"    [*] --> {state}" for state in State if state in INITIAL)
    triggers: dict[tuple[State, State], list[Trigger]] = {}
    for (before, trigger), after in TRANSITIONS.items():
        triggers.setdefault((before, after), []).append(trigger)
    for (before, after), moving in triggers.items():
        yield f"    {before} --> {after} : {', '.join(moving)}"
    yield from (f"    {state} --> [*]" for state in State if state in TERMINAL)
    yield "```"


def _transitions() -> Iterable[str]:
    yield "| From | By | To | Because |"
    yield "|---|---|---|---|"
    for (before, trigger), after in TRANSITIONS.items():
        yield f"| {before} | `{trigger}` | {after} | {MEANING[trigger]} |"
    yield ""


def sections() -> dict[str, str]:
    """The generated sections of the page about the protocol, by name."""
    return {"topics": topics()} | {f"fields of {cls.__name__}": fields(cls) for cls in classes()}


def classes() -> Iterable[type]:
    """Every class that has fields in a body: messages, and the objects in them."""
    found: dict[type, None] = {}
    for cls in (Submission, *get_args(Message)):
        _collect(cls, found)
    return found


def _collect(cls: type, found: dict[type, None]) -> None:
    for each in plan_of(cls).fields:
        found[cls] = None
        kind = each.kind.item if isinstance(each.kind, Items) else each.kind
        if isinstance(kind, Object):
            _collect(kind.plan.cls, found)


def fields(cls: type) -> str:
    """The table of a message's fields, in Markdown."""
    head = "| Field | Value | If absent | Meaning |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{each.name}` | {each.kind.notation} | {_absent(each)} | {each.meaning} |\n" for each in plan_of(cls).fields
    )


def _absent(field: PlanField) -> str:
    match field.absent:
        case wire.REQUIRED:
            return "refused"
        case None:
            return "none"
        case bool(value):
            return str(value).lower()
        case int() | float():
            return f"{field.absent:g}"
        case _:
            return "empty"


def topics() -> str:
    """The table of topics, in Markdown."""
    rows = [
        "| Topic | Published by | Read by | QoS | Carries |",
        "|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        name = topic.pattern(**{level: f"{{{level}}}" for level in topic.levels})
        bare = f" or `{name.rpartition('/')[0]}`" if topic.bare else ""
        cells = (
            f"`{name}`{bare}",
            _roles(topic, topic.publishers),
            ", ".join(filter(None, (_roles(topic, topic.subscribers), *map(str, sorted(topic.watchers))))),
            str(topic.qos),
            topic.carries,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _roles(topic: Topic, roles: frozenset[Role]) -> str:
    own = {role for role, level in OWN_LEVEL.items() if level in topic.levels}
    return ", ".join(f"{role} (own id)" if role in own else str(role) for role in Role if role in roles)
