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
