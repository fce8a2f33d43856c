"""Which files are the configuration, and which are not read."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockworker import config
from stockworker.errors import ConfigError
from tests.harness.config_files import Write, errors, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


def test_files_of_editors_and_packages_are_not_read_and_others_are_warned_of(write: Write) -> None:
    path = write("job_processor: {worker: {max_concurrent_jobs: 1}}")
    for name in (".site.yml.swp", "site.yml~", "site.yml.dpkg-old", "site.yml.rpmnew", "README.md", "site.yml.bak"):
        write("damaged: [", f"job_processor.d/{name}")
    (path.parent / "job_processor.d" / ".#site.yml").symlink_to("root@vm.123:456")
    (path.parent / "job_processor.d" / ".hidden.yml").symlink_to("/nonexistent")
    assert config.problems(path, "1") == []

    for name in ("job_processor.d/site.yaml", "job_processor.d/site.conf", "instances/1.yaml"):
        write("job_processor: {worker: {max_concurrent_jobs: 2}}", name)
    found = [problem.show().replace(f"{path.parent}/", "") for problem in config.problems(path, "1")]
    assert found == [
        "instances/1.yaml: warning: is ignored: its name does not end in .yml",
        "job_processor.d/site.conf: warning: is ignored: its name does not end in .yml",
        "job_processor.d/site.yaml: warning: is ignored: its name does not end in .yml",
    ]
    assert config.load(path, "1").worker.slots == 1
    (path.parent / "instances" / ".#2.yml").symlink_to("root@vm.123:456")
    assert config.instances(path) == []


def test_a_folder_that_can_not_be_listed_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("job_processor: {}")
    write("job_processor: {tls: {}}", "job_processor.d/tls.yml")
    listed = Path.iterdir

    def refuse(folder: Path) -> Iterator[Path]:
        if folder.name == "job_processor.d":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert errors(path, "1") == ["job_processor.d: can't be read: Permission denied. Correct its mode or owner"]


def test_a_file_in_place_of_the_folder_is_an_error(write: Write) -> None:
    write("", "job_processor.d")
    assert errors(write("job_processor: {}")) == [
        "job_processor.d: can't be read: Not a directory. Correct its mode or owner"
    ]


@pytest.mark.parametrize("name", ["job_processor.yml", "job_processor.d/site.yml", "instances/1.yml"])
def test_a_dangling_link_is_an_error(write: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = write("job_processor: {}")
    link = path.parent / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("/nonexistent/own.yml")
    monkeypatch.setattr("stockworker.config.loading.DEFAULT_PATH", path)
    with pytest.raises(ConfigError) as refused:
        config.load(None, "1")
    expected = "is a link to '/nonexistent/own.yml', which does not exist. Correct or remove the link"
    assert str(refused.value) == f"{link}: {expected}"
