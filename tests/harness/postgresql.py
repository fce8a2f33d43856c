"""A throw-away PostgreSQL cluster on a socket in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_DEBIAN_ROOT = Path("/usr/lib/postgresql")


def _program(name: str) -> Path:
    on_path = shutil.which(name)
    if on_path is not None:
        return Path(on_path)
    versions = sorted(_DEBIAN_ROOT.glob(f"*/bin/{name}"), key=lambda path: int(path.parent.parent.name))
    if not versions:
        raise FileNotFoundError(f"{name} is not installed: apt install postgresql")
    return versions[-1]


def _run(*command: str | Path) -> None:
    """Run a PostgreSQL program, as the user postgres if the test runs as root: the server refuses to run as root."""
    as_user: Sequence[str] = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    subprocess.run([*as_user, *command], check=True, capture_output=True, cwd="/")


@contextmanager
def postgresql_cluster() -> Iterator[str]:
    """Yield the DSN of a running server with an empty database; it listens on no network."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:  # short: a socket's path ends at 107 bytes
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = Path(folder, "data")
        _run(_program("initdb"), "--auth=trust", "--username=stockworker", "--no-sync", "--pgdata", data)
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        pg_ctl = _program("pg_ctl")
        _run(pg_ctl, "start", "--wait", "--pgdata", data, "--log", Path(folder, "log"), "--options", options)
        try:
            yield f"postgresql://stockworker@/postgres?host={quote(folder, safe='')}"
        finally:
            _run(pg_ctl, "stop", "--wait", "--mode=immediate", "--pgdata", data)
