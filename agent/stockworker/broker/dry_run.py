"""Mosquitto with files before they are in their places: its whole configuration, where it disturbs nobody."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from stockworker.adapters import mosquitto
from stockworker.broker.host import MAIN, BrokerHost, File, explained, make_folder, put
from stockworker.broker.trial import Trial, included_folders
from stockworker.errors import ConfigError


def rehearse(
    machine: BrokerHost, files: Sequence[File], needed: Sequence[PurePath], tls: tuple[str, PurePath] | None
) -> None:
    """Start a Mosquitto with files as they are to be.

    Args:
        machine: what else there is.
        files: as they are to be.
        needed: those that they name besides, and that stay as they are.
        tls: the value of the option `listener` that is to speak TLS, and the file of the authority that its
            certificate must be of; None without TLS.

    Raises:
        ConfigError: it does not start, or clients would not trust it.
    """
    ours = {file.path: file for file in files}
    included = {file.path: file for file in machine.included()}
    folders = included_folders(included[MAIN].content.decode(errors="replace"))
    configuration = {**included, **{path: file for path, file in ours.items() if path.parent in folders}}
    with _stage() as stage:
        paths = frozenset((*ours, *needed, *folders))
        trial = Trial(stage, paths, stage / "scratch", mosquitto.free_port)
        for path in needed:
            _copy(machine.place(path), _below(stage, path))
        for path, file in ours.items():
            put(_below(stage, path), file.content)
        for path, file in configuration.items():
            put(_below(stage, path), trial.harmless(file.content.decode(errors="replace")).encode())
        try:
            mosquitto.try_out(
                _below(stage, MAIN), stage / "scratch", tls and (trial.ports[tls[0]], _below(stage, tls[1]))
            )
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(stage), "")) from None


@contextmanager
def _stage() -> Iterator[Path]:
    """A folder that Mosquitto may enter, and in it `scratch`, where it may write."""
    with TemporaryDirectory(prefix="stockworker-") as name, explained():
        stage = Path(name)
        scratch = stage / "scratch"
        (scratch / "persistence_location").mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(stage, group=mosquitto.USER)
            stage.chmod(0o750)
            for folder in (scratch, scratch / "persistence_location"):
                shutil.chown(folder, mosquitto.USER, mosquitto.USER)
        yield stage


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its owner and mode, by which Mosquitto may read it or not."""
    make_folder(target.parent)
    shutil.copy2(source, target)
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)


def _below(stage: Path, path: PurePath) -> Path:
    return stage / path.relative_to("/")
