"""The metrics that both services have."""

from stockworker.adapters.metric import Distribution
from stockworker.shell.measures import METRICS, Measures, Surroundings

ALL_KNOWN = Surroundings(
    unconfirmed=3, dropped=4, certificate_until=1500.0, broker_certificate_until=1250.0, free_bytes=5
)
NOTHING_KNOWN = Surroundings(
    unconfirmed=0, dropped=0, certificate_until=None, broker_certificate_until=None, free_bytes=None
)


def shown(measures: Measures, around: Surroundings) -> dict[str, float | Distribution]:
    measured = list(measures.measured(around, 1000.0))
    assert {each.labels[0] for each in measured} == {"w1"}
    return {each.metric.name.removeprefix("stockworker_service_"): each.value for each in measured}


def test_every_defined_metric_has_a_value() -> None:
    measures = Measures("w1", "1.0")
    measures.unheard = 2
    measures.turn_s.observe(0.5)
    found = shown(measures, ALL_KNOWN)
    assert {f"stockworker_service_{name}" for name in found} == {metric.name for metric in METRICS}
    assert found == {
        "info": 1,
        "connected": 0,
        "connections_total": 0,
        "unconfirmed_messages": 3,
        "dropped_messages_total": 4,
        "unheard_messages_total": 2,
        "certificate_seconds": 500.0,
        "broker_certificate_seconds": 250.0,
        "free_bytes": 5,
        "turn_seconds": measures.turn_s.now(),
    }
    assert next(measures.measured(ALL_KNOWN, 0.0)).labels == ("w1", "1.0")


def test_what_is_not_known_has_no_value() -> None:
    found = shown(Measures("w1", "1.0"), NOTHING_KNOWN)
    assert {"certificate_seconds", "broker_certificate_seconds", "free_bytes"} & found.keys() == set()
    assert found["unconfirmed_messages"] == 0


def test_each_connection_counts_and_each_disconnection_shows() -> None:
    measures = Measures("w1", "1.0")
    states = []
    for up in (True, False, True):
        measures.link_changed(up=up)
        found = shown(measures, NOTHING_KNOWN)
        states.append((found["connected"], found["connections_total"]))
    assert states == [(1, 1), (0, 1), (1, 2)]
