"""The machinery of `make bench-market`, with very few bars: what it measures is not checked, only that it measures."""

from pathlib import Path

import pytest

from bench.market import contestants, measure, report, report_fleet, tasks, write_file


@pytest.mark.parametrize("task", ["import", "analyse", "analyse_pure"])
def test_each_task_gives_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str) -> None:
    source = tmp_path / "bars.csv"
    write_file(source, symbols=2, days=60)
    found = measure(task, source, rounds=1)
    assert found.keys() == contestants(task).keys()
    assert all(figure > 0 for figures in found.values() for figure in figures.values())
    report("Title", found)
    assert capsys.readouterr().out.count("ratio") == len(found)


def test_a_scale_makes_all_files_smaller() -> None:
    whole, part = ([symbols for *_, symbols, _ in tasks(scale)] for scale in (1, 0.001))
    assert (whole, part) == ([100, 300, 8_000, 1, 1, 500], [1, 3, 8, 1, 1, 1])


def test_a_fleet_gives_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_fleet(3, 1, tmp_path)
    shown = capsys.readouterr().out
    assert [shown.count(words) for words in ("1 job ", "2 jobs", "3 jobs")] == [1, 1, 1]
