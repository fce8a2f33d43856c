"""How much each address may ask of the authority."""

# Every address has an allowance that grows with time. A connection costs one, and a failed attempt many: a fleet behind
# one address can join together, but a guesser gets a few attempts a minute. The secret of a token has 192 bits, so this is
# not what protects it: it bounds the work for a flood, and the lines in the log.

import ipaddress
from collections import OrderedDict
from typing import Final

MOST_CONNECTIONS: Final = 64
MOST_OF_ONE: Final = 16
BURST: Final = 250.0
PER_S: Final = 4.0
FAILURE_COSTS: Final = 25.0
_MOST_ADDRESSES: Final = 10_000


def network_of(address: str) -> str:
    """What one holder of addresses can't change easily: an IPv4 address, or the first half of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class ConnectionLimits:
    """The connections and limits of all addresses. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._open: dict[str, int] = {}

    def opened(self, network: str, now: float) -> bool:
        """Count a new connection; whether it may stay. If so, `closed` must follow."""
        left = self._left_of(network, now)
        if left < 1 or sum(self._open.values()) >= MOST_CONNECTIONS or self._open.get(network, 0) >= MOST_OF_ONE:
            return False
        self._set(network, left - 1, now)
        self._open[network] = self._open.get(network, 0) + 1
        return True

    def closed(self, network: str) -> None:
        """Count the end of a connection."""
        self._open[network] -= 1
        if not self._open[network]:
            del self._open[network]

    def failed(self, network: str, now: float) -> None:
        """Count a failed attempt."""
        self._set(network, self._left_of(network, now) - FAILURE_COSTS, now)

    def _left_of(self, network: str, now: float) -> float:
        left, at = self._left.get(network, (BURST, now))
        return min(BURST, left + (now - at) * PER_S)

    def _set(self, network: str, left: float, now: float) -> None:
        self._left[network] = max(left, -FAILURE_COSTS), now
        self._left.move_to_end(network)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
