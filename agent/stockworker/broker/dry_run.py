"""Tests new files before they are installed: starts Mosquitto with its whole configuration in a sandbox."""

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


def dry_run(
    machine: BrokerHost, files: Sequence[File], needed: Sequence[PurePath], tls: tuple[str, PurePath] | None
) -> None:
    """Start a separate Mosquitto process with new files.

    Args:
        machine: has all other files.
        files: the new files.
        needed: existing files that the new ones refer to.
        tls: the value of the option `listener` for TLS, and the certificate file of the authority that must have
            issued the certificate of this listener; None without TLS.

    Raises:
        ConfigError: Mosquitto does not start, or clients would not trust its certificate.
    """
    new = {file.path: file for file in files}
    included = {file.path: file for file in machine.included()}
    folders = included_folders(included[MAIN].content.decode(errors="replace"))
    configuration = {**included, **{path: file for path, file in new.items() if path.parent in folders}}
    with _stage() as stage:
        paths = frozenset((*new, *needed, *folders))
        trial = Trial(stage, paths, stage / "scratch", mosquitto.free_port)
        for path in needed:
            _copy(machine.place(path), _below(stage, path))
        for path, file in new.items():
            put(_below(stage, path), file.content)
        for path, file in configuration.items():
            put(_below(stage, path), trial.sandboxed(file.content.decode(errors="replace")).encode())
        try:
            mosquitto.try_out(
                _below(stage, MAIN), stage / "scratch", tls and (trial.ports[tls[0]], _below(stage, tls[1]))
            )
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(stage), "")) from None


@contextmanager
def _stage() -> Iterator[Path]:
    """A temporary folder that Mosquitto may enter, with a folder `scratch` that it may write to."""
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
    """Copy a file with its owner and mode, so that a file that Mosquitto can't read is detected."""
    make_folder(target.parent)
    shutil.copy2(source, target)
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)


def _below(stage: Path, path: PurePath) -> Path:
    return stage / path.relative_to("/")
