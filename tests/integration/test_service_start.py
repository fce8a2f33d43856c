"""What a service tells systemd while it can't be ready yet."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import yaml


def test_a_dispatcher_that_reads_its_store_asks_for_time(tmp_path: Path) -> None:
    config = tmp_path / "job_processor.yml"
    broker = {"backend": "mqtt", "mqtt": {"host": "localhost", "port": 1}}
    sections = {"queue": broker, "dispatcher": {"store": str(tmp_path / "jobs.sqlite3")}}
    config.write_text(yaml.safe_dump({"job_processor": sections}))
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.settimeout(30)
        manager.bind(str(tmp_path / "notify"))
        command = [sys.executable, "-m", "stockworker", "--config", str(config), "dispatcher"]
        with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}) as dispatcher:
            try:
                assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=")
            finally:
                dispatcher.kill()
