"""A throw-away MariaDB on a socket in a folder of its own."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql

from tests.harness.waiting import wait_until

_TIMEOUT_S = 60.0


@contextmanager
def mariadb_server() -> Iterator[str]:
    """Yield the URL of a running server with an empty database; it listens on no network."""
    with tempfile.TemporaryDirectory(prefix="mdb-") as folder:  # short: a socket's path ends at 107 bytes
        user = pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            user = "mysql"
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        data, socket = Path(folder, "data"), Path(folder, "socket")
        shared = ["--no-defaults", f"--user={user}", f"--datadir={data}"]
        install = ["mariadb-install-db", *shared, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(install, check=True, capture_output=True, cwd=folder)
        server = [
            "/usr/sbin/mariadbd",
            *shared,
            "--skip-networking",
            f"--socket={socket}",
            f"--pid-file={folder}/pid",
            f"--log-error={folder}/log",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=64M",
        ]
        with subprocess.Popen(server, cwd=folder) as process:
            try:
                wait_until(socket.exists, "MariaDB listens", _TIMEOUT_S)
                with pymysql.connect(unix_socket=str(socket), user="root") as connection, connection.cursor() as cursor:
                    cursor.execute("CREATE DATABASE old")
                yield f"mariadb://root@localhost/old?unix_socket={socket}"
            finally:
                process.kill()  # nothing needs to be kept
