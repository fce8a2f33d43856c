"""Files of a configuration, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stockworker import config
from stockworker.errors import ConfigError

Write = Callable[..., Path]


def writer(folder: Path) -> Write:
    """Writes a file of the configuration, private to its owner; returns the main file's path."""

    def write(text: str, name: str = "job_processor.yml") -> Path:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o600)
        return folder / "job_processor.yml"

    return write


def errors(path: Path, instance: str | None = None) -> list[str]:
    """The errors of a configuration, a line each, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, instance)
    return str(caught.value).replace(f"{path.parent}/", "").splitlines()
