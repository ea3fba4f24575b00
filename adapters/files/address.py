"""Which addresses may be asked on a stranger's word: the public ones, however they are written."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import httpx

Origin = tuple[str, str, int]
"""Scheme, host, port."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to IP addresses as text, best first. Raises OSError."""

PORTS: Final = {"http": 80, "https": 443}
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that is given out for the Internet
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # how an IPv6-only network reaches IPv4


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the operating system, once."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """False for this machine, this network, and whatever is reserved, also when it hides in an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return _public_4(found)
    if found.ipv4_mapped is not None:
        return _public_4(found.ipv4_mapped)
    if found in _NAT64:
        return _public_4(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    # 6to4 is given up (RFC 7526); its relays would carry us to the IPv4 address inside.
    return found in _UNICAST and found not in _SIX_TO_FOUR and found.is_global


def _public_4(address: ipaddress.IPv4Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved)


def origin_of(url: httpx.URL) -> Origin:
    """Names in small letters, the port always said."""
    return url.scheme, url.host.lower(), url.port or PORTS.get(url.scheme, 0)


def origins(*urls: str | None) -> frozenset[Origin]:
    """Of the addresses an operator configured; what is no URL is left out."""
    found: set[Origin] = set()
    for url in urls:
        try:
            found.add(origin_of(httpx.URL(url or "")))
        except httpx.InvalidURL:
            continue
    return frozenset(one for one in found if one[1])


def allowed_origins(hosts: Iterable[str]) -> frozenset[Origin]:
    """Of `[media] allow_hosts`: "host" at the usual ports, "host:port" at that one; http or https."""
    found: set[Origin] = set()
    for host in hosts:
        for scheme in PORTS:
            found |= origins(f"{scheme}://{host}")
    return frozenset(found)
