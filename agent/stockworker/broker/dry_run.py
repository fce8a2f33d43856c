"""Tests new files before they are installed: starts Mosquitto with its whole configuration in a sandbox."""

# Mosquitto runs as its own user, and other processes of that user may be hostile. So the folder of the dry run is closed
# to it until all files are in it, and afterwards nothing is written, read, or given away there by name.

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import mkdtemp
from typing import Final

from stockworker.adapters import mosquitto
from stockworker.adapters.files import open_file, replace_file
from stockworker.broker.host import MAIN, BrokerHost, File, explained, make_folder, put
from stockworker.broker.trial import Trial, included_folders
from stockworker.errors import ConfigError

_SCRATCH: Final = "scratch"
_PERSISTENCE: Final = "persistence_location"
_LOG_TO_STDERR: Final = b"\nlog_dest stderr\n"


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
        scratch = stage / _SCRATCH
        trial = Trial(stage, paths, scratch, mosquitto.free_port)
        for path in needed:
            _copy(machine.place(path), _below(stage, path))
        for path, file in new.items():
            put(_below(stage, path), file.content)
        for path, file in configuration.items():
            text = trial.sandboxed(file.content.decode(errors="replace")).encode()
            put(_below(stage, path), text + _LOG_TO_STDERR if path == MAIN else text)
        _open_to_mosquitto(stage)
        try:
            mosquitto.try_out(_below(stage, MAIN), scratch, tls and (trial.ports[tls[0]], _below(stage, tls[1])))
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(stage), "")) from None


@contextmanager
def _stage() -> Iterator[Path]:
    """A temporary folder that only this user can enter, with a folder `scratch`."""
    with explained():
        # Not TemporaryDirectory: some versions follow links when they delete it (CVE-2023-6597).
        stage = Path(mkdtemp(prefix="stockworker-"))
        try:
            (stage / _SCRATCH / _PERSISTENCE).mkdir(parents=True)
            yield stage
        finally:
            shutil.rmtree(stage)


def _open_to_mosquitto(stage: Path) -> None:
    """Let Mosquitto enter the stage and write to `scratch`: the last step, because it then can replace names there."""
    if os.geteuid() != 0:
        return
    for folder in (stage / _SCRATCH / _PERSISTENCE, stage / _SCRATCH):
        shutil.chown(folder, mosquitto.USER, mosquitto.USER)
    shutil.chown(stage, group=mosquitto.USER)
    stage.chmod(0o750)


def _copy(source: Path, target: Path) -> None:
    """Copy a file with its owner and mode, so that a file that Mosquitto can't read is detected."""
    make_folder(target.parent)
    with open_file(source) as file:
        status = os.fstat(file.fileno())
        replace_file(target, file.read(), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _below(stage: Path, path: PurePath) -> Path:
    return stage / path.relative_to("/")
