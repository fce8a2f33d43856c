"""A machine and the authority, in one process: with the libraries of each distribution."""

import asyncio
from pathlib import Path

import pytest

from stockworker.pki.certificates import MakeKey, make_ed25519, make_p256
from stockworker.pki.inspection import inspect
from stockworker.pki.join_client import JoiningMachine, join
from tests.harness.joining import serving


@pytest.mark.parametrize("make_key", [make_p256, make_ed25519])
def test_a_machine_joins(tmp_path: Path, make_key: MakeKey) -> None:
    async def run() -> None:
        async with serving(tmp_path / "ca") as server:
            machine = JoiningMachine(tmp_path / "etc", "edge-7-1", "1")
            machine.install(await join(server.invitation(), machine, "edge-7-1", make_key))
            assert inspect(machine.certificate)[0].name == "edge-7-1"
            assert machine.key.stat().st_mode & 0o777 == 0o600
            assert machine.configuration.read_text().count("edge-7-1") == 2
            assert server.names() == ["edge-7-1"]

    asyncio.run(run())
