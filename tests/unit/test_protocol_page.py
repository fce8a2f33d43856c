"""The documentation of topics and states, generated from their tables."""

from docs.pages import protocol
from stockworker.protocol.lifecycle import TRANSITIONS
from stockworker.protocol.topics import TOPICS, TopicKind


def test_every_topic_has_a_row_with_its_roles() -> None:
    rows = protocol.topics().splitlines()[2:]
    assert len(rows) == len(TOPICS)
    progress = next(row for row in rows if str(TopicKind.PROGRESS) in row)
    assert progress.startswith(
        "| `jobs/progress/{worker_id}/{job_id}/{client_id}` or `jobs/progress/{worker_id}/{job_id}` | worker (own id) "
        "| client (own id), operator | 0 | how far"
    )


def test_every_transition_has_a_row_and_is_drawn() -> None:
    page = protocol.lifecycle()
    for (before, trigger), after in TRANSITIONS.items():
        assert f"| {before} | `{trigger}` | {after} |" in page
        drawn = [line for line in page.splitlines() if line.startswith(f"    {before} --> {after} : ")]
        assert any(trigger in line for line in drawn)
