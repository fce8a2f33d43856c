"""``stockworker broker check``: whether the Mosquitto of this machine reacts. systemd restarts it if it does not."""

import argparse

from stockworker.adapters.mosquitto import hangs
from stockworker.broker.host import CONFIG, BrokerHost
from stockworker.broker.trial import LOOPBACK, option
from stockworker.errors import ConfigError, ConnectionFailed
from stockworker.terminal.exits import Exit


def check(arguments: argparse.Namespace) -> int:
    """Fail if Mosquitto hangs. If it does not run, systemd knows that without this check."""
    listener = option((BrokerHost(arguments.root).read(CONFIG) or b"").decode(errors="replace"), "listener")
    if listener is None:
        raise ConfigError(f"{CONFIG}: names no listener. Run 'stockworker broker setup' first")
    port, _, address = listener.partition(" ")
    if hangs(address.strip() or LOOPBACK, int(port)):
        raise ConnectionFailed(f"Mosquitto hangs: connections to its port {port} wait, and get no answer")
    return Exit.OK
