"""Which hosts, ports and addresses a fetch may reach."""

from ipaddress import ip_address

import pytest

from stockworker.adapters.http_hosts import Host, Hosts, is_public, read_host, read_network


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Prices.Example", Host("prices.example")),
        ("prices.example:8443", Host("prices.example", 8443)),
        ("10.1.2.3", Host("10.1.2.3")),
        ("10.1.2.3:80", Host("10.1.2.3", 80)),
        ("::1", Host("::1")),
        ("[0:0::1]:8080", Host("::1", 8080)),
        ("[2001:DB8::1]", Host("2001:db8::1")),
    ],
)
def test_a_host_is_listed_by_name_or_address(text: str, host: Host) -> None:
    assert read_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["", "a b", "http://a", "a/b", "u@a", "a:", "a:x", "a:0", "a:65536", "[a]", "[::1", "::1]:80", "é", "a:80:80"],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host|has no valid port"):
        read_host(text)


def test_a_host_is_asked_at_its_ports_alone() -> None:
    hosts = Hosts(map(read_host, ("plain.example", "other.example:8443", "both.example", "both.example:8080", "::1")))
    allowed = {
        ("plain.example", 80), ("PLAIN.example", 443), ("other.example", 8443), ("both.example", 8080), ("both.example", 80),
        ("0::1", 80),
    }  # fmt: skip
    for name in ("plain.example", "PLAIN.example", "other.example", "both.example", "0::1"):
        for port in (22, 80, 443, 8080, 8443):
            refusal = hosts.refusal(name, port)
            canonical = {("PLAIN.example", 80), ("plain.example", 443), ("both.example", 443), ("0::1", 443)}
            assert (refusal is None) == ((name, port) in allowed | canonical), (name, port)
            assert refusal in {None, f"port {port} of the host {name} is not allowed"}
    assert hosts.refusal("evil.example", 80) == "the host evil.example is not allowed"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.1", "10.9.8.7", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "168.63.129.16", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::169.254.169.254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:a9fe:a9fe::", "2002:7f00:1::", "2001:0:a9fe:a9fe::1", "fc00::1",
        "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1",
        "2001:db8::1", "4000::1",
    ],
)  # fmt: skip
def test_an_address_of_a_site_or_cloud_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    hosts = Hosts([read_host("data.example")])
    assert not hosts.may_lead_to("data.example", address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "100.128.0.1", "168.63.129.17", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_listed_address_leads_to_itself_and_localhost_to_this_machine() -> None:
    hosts = Hosts(map(read_host, ("10.1.2.3", "localhost:8080", "data.example")))
    assert hosts.may_lead_to("10.1.2.3", "10.1.2.3")
    assert hosts.may_lead_to("LOCALHOST", "127.0.0.1")
    assert hosts.may_lead_to("localhost", "::1")
    assert not hosts.may_lead_to("localhost", "10.1.2.3")
    assert not hosts.may_lead_to("data.example", "10.1.2.3")


def test_names_may_lead_to_networks_that_are_allowed() -> None:
    hosts = Hosts([read_host("data.example")], map(read_network, ("10.1.0.0/16", "fd00::1")))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::1"):
        assert hosts.may_lead_to("data.example", address)
    for address in ("10.2.0.1", "fd00::2", "127.0.0.1"):
        assert not hosts.may_lead_to("data.example", address)


@pytest.mark.parametrize("text", ["", "10.1.2.3/8", "10.0.0.0/33", "data.example"])
def test_a_network_is_written_as_such(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address or a network"):
        read_network(text)
