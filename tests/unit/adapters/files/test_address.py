import ipaddress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.files.address import allowed_origins, is_public, origin_of, origins

V4 = st.ip_addresses(v=4).map(lambda one: ipaddress.IPv4Address(int(one)))
PRIVATE_4 = st.sampled_from(
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    ]
).flatmap(lambda net: st.ip_addresses(network=net))  # fmt: skip
PRIVATE_6 = st.sampled_from(
    ["::/96", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32", "2002::/16", "100::/64", "64:ff9b:1::/48"]
).flatmap(lambda net: st.ip_addresses(network=net))  # fmt: skip


def hidden(inner: ipaddress.IPv4Address) -> list[str]:
    """The same IPv4 address as IPv6 writes it."""
    return [
        str(ipaddress.IPv6Address((0xFFFF << 32) | int(inner))),
        str(ipaddress.IPv6Address((0x0064FF9B << 96) | int(inner))),
    ]


@given(PRIVATE_4)
def test_this_machine_and_this_network_are_never_public(address: ipaddress.IPv4Address) -> None:
    assert not is_public(str(address))
    assert not any(map(is_public, hidden(address)))
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80))))


@given(PRIVATE_6)
def test_nor_what_ipv6_reserves(address: ipaddress.IPv6Address) -> None:
    assert not is_public(str(address))


@given(V4)
def test_hiding_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    assert {is_public(one) for one in hidden(address)} == {is_public(str(address))}


@given(st.ip_addresses())
def test_what_python_calls_private_is_not_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert not is_public(str(address))


@pytest.mark.parametrize(
    "address", ["157.240.12.53", "2a03:2880:f003:c07:face:b00c:0:2", "64:ff9b::9df0:c35"]
)
def test_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f.1", "1.2.3.4.5", "fe80::1%eth0", "::1"])
def test_what_is_no_public_address(text: str) -> None:
    assert not is_public(text)


def test_origins() -> None:
    assert origin_of(httpx.URL("HTTPS://Graph.Example/v23.0")) == ("https", "graph.example", 443)
    assert origins("https://graph.example:8443/v23.0", None, "no url", "http://[::1") == frozenset(
        {("https", "graph.example", 8443)}
    )
    assert allowed_origins(["files.example", "[::1]:8080"]) == frozenset(
        {
            ("http", "files.example", 80),
            ("https", "files.example", 443),
            ("http", "::1", 8080),
            ("https", "::1", 8080),
        }
    )
