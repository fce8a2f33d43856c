"""Which hosts a fetch may ask, at which ports, and to which addresses their names may lead. Pure."""

# The party that runs the DNS of a listed name decides to which address it leads: also to this machine, to one beside it,
# or to the one where a cloud gives credentials to any process. So a name may lead to public addresses, and to others only if
# they are configured. The rules know the addresses that mean another one: an IPv4 address inside an IPv6 address is
# judged by itself.

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from stockworker.protocol.frozen import dataclass

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

STANDARD_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}

_LISTED: Final = re.compile(
    r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::(?P<port6>[0-9]{1,5}))?|(?P<name>[^\s/@:\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
)
_HIGHEST_PORT: Final = 65_535
_THIS_MACHINE: Final = "localhost"  # leads to this machine by definition (RFC 6761, section 6.3)

_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this host (RFC 791)
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # between providers and customers (RFC 6598); Alibaba's credentials: 100.100.100.200
            "127.0.0.0/8",  # this machine (RFC 1122)
            "168.63.129.16/32",  # Azure's services for its machines
            "169.254.0.0/16",  # the local link (RFC 3927); most clouds' credentials: 169.254.169.254
            "172.16.0.0/12",  # private (RFC 1918)
            "192.0.0.0/24",  # protocols (RFC 6890); Oracle's credentials: 192.0.0.192
            "192.0.2.0/24",  # documentation (RFC 5737)
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "192.168.0.0/16",  # private (RFC 1918)
            "198.18.0.0/15",  # measurements (RFC 2544)
            "198.51.100.0/24",  # documentation (RFC 5737)
            "203.0.113.0/24",  # documentation (RFC 5737)
            "224.0.0.0/4",  # multicast (RFC 5771)
            "240.0.0.0/4",  # reserved (RFC 1112), and broadcast
            "2001::/23",  # protocols (RFC 2928); Teredo, which contains an IPv4 address (RFC 4380)
            "2001:db8::/32",  # documentation (RFC 3849)
            "2002::/16",  # 6to4, which contains an IPv4 address (RFC 3056)
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
"""The addresses that networks give to machines (RFC 4291). Outside of it are loopback, link-local, private (fc00::/7, with
the credentials of AWS and Google) and multicast addresses, and those that contain an IPv4 address."""

_WITH_V4: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""Mapped addresses (RFC 4291, section 2.5.5.2), and NAT64 (RFC 6052), through which machines without IPv4 reach all of it."""


@dataclass(frozen=True, slots=True)
class Host:
    """A listed host: a name in lower case or an address, and its port; None means the standard ports."""

    name: str
    port: int | None = None


def read_host(text: str) -> Host:
    """Read ``name``, ``name:port``, ``address``, ``address:port`` or ``[IPv6 address]:port``.

    Raises:
        ValueError: it has another form.
    """
    found = _address(text)
    if isinstance(found, IPv6Address):  # without brackets
        return Host(str(found))
    match = _LISTED.fullmatch(text)
    if match is None or not text.isascii() or (match["v6"] and _address(match["v6"]) is None):
        raise ValueError(f"{text[:60]!r} is not a host; write a name or an address, such as prices.example:8443")
    port = match["port6"] or match["port"]
    if port is not None and not 0 < int(port) <= _HIGHEST_PORT:
        raise ValueError(f"{text[:60]!r} has no valid port; use 1 to {_HIGHEST_PORT}")
    return Host(_canonical(match["v6"] or match["name"]), None if port is None else int(port))


def read_network(text: str) -> Network:
    """Read an address, or a network such as ``10.0.0.0/8``.

    Raises:
        ValueError: it is neither.
    """
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not an address or a network, such as 10.0.0.0/8: {error}") from None


class Hosts:
    """The hosts that may be asked, and the addresses besides public ones to which their names may lead."""

    def __init__(self, listed: Iterable[Host], networks: Iterable[Network] = ()) -> None:
        self._listed = frozenset(listed)
        self._names = frozenset(host.name for host in self._listed)
        self._networks = tuple(networks)

    def refusal(self, host: str, port: int) -> str | None:
        """Why a host may not be asked at this port; None if it may."""
        name = _canonical(host)
        if name not in self._names:
            return f"the host {host} is not allowed"
        standard = port in STANDARD_PORTS.values() and Host(name) in self._listed
        if not standard and Host(name, port) not in self._listed:
            return f"port {port} of the host {host} is not allowed"
        return None

    def may_lead_to(self, host: str, address: str) -> bool:
        """Whether a listed host may lead to this address: a listed address leads to itself."""
        found = _innermost(ip_address(address))
        if is_public(found) or any(found in network for network in self._networks):
            return True
        if host.lower() == _THIS_MACHINE:
            return found.is_loopback
        return _address(host) == ip_address(address)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet, and to no machine of this site or cloud by its kind."""
    address = _innermost(address)
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 address means, or the address itself."""
    if isinstance(address, IPv6Address) and any(address in network for network in _WITH_V4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _canonical(host: str) -> str:
    found = _address(host)
    return host.lower() if found is None else str(found)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
