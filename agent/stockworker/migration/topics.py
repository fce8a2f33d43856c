"""The topics of an old worker, and the records in them. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Final

from stockworker.migration.source import Raw

_DIGEST: Final = 24
_SHARED: Final = "$share/"
_QUEUE: Final = ("jobs", "queue")


def claim_id(topic: str, body: bytes) -> str:
    """The identity of a message: equal messages have the same."""
    digest = hashlib.sha256(topic.encode(errors="surrogatepass") + b"\0" + body).hexdigest()[:_DIGEST]
    return f"{topic}#{digest}"


def topic_record(topic: str, body: bytes) -> Mapping[str, Raw]:
    """The fields of a message. `priority` and `type` are those of a topic of the old guide, `jobs/queue/PRIORITY/TYPE`."""
    levels = topic.split("/")
    old = levels[2:4] if tuple(levels[:2]) == _QUEUE else []
    priority, kind = (*old, None, None)[:2]
    named = {"topic": topic, "levels": levels, "priority": priority, "type": kind}
    return {**named, "body": body, "claim_id": claim_id(topic, body)}


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter, which may be that of a shared subscription, covers a topic (MQTT 5.0, section 4.7)."""
    if topic_filter.startswith(_SHARED):
        topic_filter = topic_filter.split("/", 2)[-1]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"#", "+"}:
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(a in {"+", b} for a, b in zip(wanted, levels, strict=True))
