"""``stockworker broker setup --remove``: gives Mosquitto back to the distribution."""

import argparse
from pathlib import Path
from typing import Final

from stockworker.adapters import systemd
from stockworker.broker.host import ACL, CONFIG, DROP_IN, FOLDER, BrokerHost
from stockworker.broker.identity import FILES
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_line

_UNIT: Final = "mosquitto"


def take_down(arguments: argparse.Namespace) -> int:
    """Delete what the setup has written; keep copies of configuration and access list. Other files stay."""
    machine = BrokerHost(arguments.root)
    ours = [
        path for path in (CONFIG, DROP_IN, ACL, *(FOLDER / name for name in FILES)) if machine.read(path) is not None
    ]
    for path in ours:
        if arguments.dry_run:
            print_line(f"would remove {path}")
            continue
        if path in {CONFIG, ACL}:
            print_line(f"kept {machine.back_up(path)}")
        machine.remove(path)
        print_line(f"removed {path}")
    if not ours:
        print_line("nothing to do")
    elif arguments.root == Path("/") and not arguments.dry_run:
        systemd.reload_units()
        if systemd.is_active(_UNIT):
            systemd.order("restart", _UNIT)
            print_line(f"restarted {_UNIT}: it has the distribution's configuration again, without a sandbox")
    return Exit.OK
