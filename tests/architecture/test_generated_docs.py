"""Documents that are generated from the code match the code."""

from pathlib import Path

import pytest

from docs import generate
from stockworker import config


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    assert name not in generate.outdated(), f"{name} is outdated: run make docs"


def test_the_shipped_configuration_is_valid_and_changes_nothing(tmp_path: Path) -> None:
    sample = Path("etc/stockworker/job_processor.yml")
    empty = tmp_path / "job_processor.yml"
    empty.touch()

    assert config.problems(sample) == []
    assert config.load(sample) == config.load(empty)


@pytest.mark.parametrize("section", ["tls", "handlers"])
def test_a_section_that_the_shipped_configuration_shows_is_not_turned_on_in_part(tmp_path: Path, section: str) -> None:
    """A user removes the "# " in front of a section only, and not in front of its keys."""
    sample = Path("etc/stockworker/job_processor.yml").read_text(encoding="utf-8")
    file = tmp_path / "job_processor.yml"
    file.write_text(sample.replace(f"# {section}:", f"{section}:"))
    (problem,) = config.problems(file)
    assert f"{section}: is empty" in problem.show()


def test_what_the_shipped_configuration_shows_is_valid(tmp_path: Path) -> None:
    """Removing the "# " in front of the keys that are not set gives a working file."""
    sample = Path("etc/stockworker/job_processor.yml").read_text(encoding="utf-8")
    file = tmp_path / "job_processor.yml"
    file.write_text(
        "\n".join(
            line.replace("# ", "", 1) if line.startswith("  ") and line.lstrip().startswith("# ") else line
            for line in sample.splitlines()
        )
    )

    loaded = config.load(file)

    assert loaded.tls is not None
    assert loaded.worker.tags == ("ssd", "eu")
    assert next(iter(loaded.handlers.values())).limits.memory_bytes == 512 * 1024**2
