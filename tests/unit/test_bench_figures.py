"""The arithmetic of the benchmarks: medians, spread, ratios and tables."""

from pathlib import Path

import pytest

from bench import report
from bench.moments import medians
from bench.pairs import ratios, too_costly
from bench.report import FIGURES, NOTHING, Figure, Findings

RATE = Figure("jobs/s", "drain", "jobs")
TIME = Figure("p50 ms", "latency", "start p50", more_is_better=False, digits=2)
TITLES = {"stockworker": "stockworker", "nats": "NATS", "huey": "huey"}


def found() -> Findings:
    findings = Findings(ceilings={"rows/s": 1234.5, "p50 ms": 0.123}, machine={"Commit": "abc"})
    for queue, rates, times in (
        ("stockworker", (90, 100, 120), (2, 2)),
        ("nats", (200, 200), (4, 4)),
        ("huey", (), (8,)),
    ):
        for rate in rates:
            findings.add("drain", queue, {"jobs": rate, "CPU all": 1e6 / rate})
        for time in times:
            findings.add("latency", queue, {"start p50": time})
    return findings


def test_a_cell_has_the_median_and_half_of_the_spread() -> None:
    assert report.cell([90, 100, 120], 0) == "100 ±15%"


def test_a_cell_of_one_value_or_of_equal_values_has_no_spread() -> None:
    assert report.cell([1234.56], 1) == report.cell([1234.56, 1234.56], 1) == "1,234.6"


def test_what_was_not_measured_is_not_shown_as_a_number() -> None:
    assert report.cell([], 0) == NOTHING


def test_more_is_better_for_rates() -> None:
    assert report.share_of_best(found(), RATE, ["nats", "huey"]) == "0.50"


def test_less_is_better_for_times() -> None:
    assert report.share_of_best(found(), TIME, ["nats", "huey"]) == "2.00"


def test_without_a_peer_there_is_no_ratio() -> None:
    assert report.share_of_best(found(), RATE, ["huey"]) == NOTHING


def test_a_loss_of_nothing_has_no_ratio() -> None:
    findings = Findings()
    lost = Figure("lost", "worker-killed", "lost", more_is_better=False)
    for queue in ("stockworker", "nats"):
        findings.add("worker-killed", queue, {"lost": 0})
    assert report.share_of_best(findings, lost, ["nats"]) == NOTHING


def test_the_table_has_only_what_was_measured() -> None:
    rows = report.table(found(), TITLES).splitlines()
    assert rows[0] == "|  | stockworker | NATS | huey | times the best peer |"
    assert rows[2] == "| drain, 1 worker, jobs/s | 100 ±15% | 200 | - | 0.50 |"
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        "| drain, 1 worker, jobs/s",
        "| idle: submit to start, p50 ms",
        "| drain: CPU µs per job, all but the client",
    ]


def test_each_figure_is_shown_once() -> None:
    keys = [(figure.workload, figure.key) for figure in FIGURES]
    assert len(keys) == len(set(keys))


def test_limits_of_the_machine_have_the_digits_that_they_need() -> None:
    assert report.ceilings(found()).splitlines()[2:] == ["| rows/s | 1,234 |", "| p50 ms | 0.12 |"]


def test_findings_survive_a_file(tmp_path: Path) -> None:
    report.save(found(), tmp_path / "new" / "findings.json")
    assert report.load(tmp_path / "new" / "findings.json") == found()


def test_findings_of_another_schema_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="measure again"):
        report.load(tmp_path / "old.json")


def test_sections_of_a_page_are_replaced() -> None:
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nafter\n"
    assert report.with_sections(page, {"a": "new\n"}) == "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n"


def test_a_page_without_the_section_is_refused() -> None:
    with pytest.raises(ValueError, match="'b'"):
        report.with_sections("<!-- a -->\n<!-- /a -->\n", {"b": ""})


def test_ratios_are_taken_pair_by_pair() -> None:
    ratio = ratios(
        [({"cost": 10.0}, {"cost": 5.0}), ({"cost": 100.0}, {"cost": 100.0}), ({"cost": 1.0}, {"cost": 16.0})]
    )
    assert str(ratio["cost"]) == "2.000 (0.500 to 16.000)"


def test_a_figure_that_one_checkout_does_not_have_is_left_out() -> None:
    assert list(ratios([({"both": 1.0, "old": 1.0}, {"both": 1.0, "new": 1.0})])) == ["both"]


def test_only_checked_costs_above_the_limit_are_too_high() -> None:
    found_ratios = ratios([({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.16, "b": 1.14, "c": 2.0})])
    assert too_costly(found_ratios, ["a", "b"]) == ["a"]


def test_a_moment_belongs_to_the_last_job_that_began_before_it() -> None:
    began = [10.0, 20.0, 30.0]
    moments = [
        (10.002, "starts"),
        (10.001, "sent"),
        (20.004, "starts"),
        (20.003, "sent"),
        (30.003, "starts"),
        (9.0, "sent"),
    ]
    assert {what: round(at) for what, at in medians(began, moments).items()} == {"sent": 2000, "starts": 3000}


def test_only_the_first_moment_of_a_kind_counts_and_rare_kinds_do_not() -> None:
    began = [10.0, 20.0, 30.0]
    moments = [(at + delay, "sent") for at in began for delay in (0.001, 0.005)]
    assert list(medians(began, [*moments, (10.001, "rare")])) == ["sent"]


def test_the_timeline_shows_each_hop() -> None:
    findings = Findings(timeline={"sent": 900.0, "starts": 1100.0}, messages={"jobs/ack": 1.0, "jobs/request": 0.04})
    rows = report.timeline(findings).splitlines()
    assert rows[2:4] == ["| sent | 900 | 900 |", "| starts | 1,100 | 200 |"]
    assert rows[-3:] == ["| Topic | messages per job |", "|---|---:|", "| `jobs/ack` | 1.0 |"]
