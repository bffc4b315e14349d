"""Addresses at which a cloud hands its machines credentials: nothing is ever sent there.

Link-local ones (RFC 3927, RFC 4291) are where most clouds do; some chose others, listed below.
"""

from __future__ import annotations

import ipaddress

#: Metadata services beyond link-local: AWS and Oracle over IPv6, Alibaba's, Azure's WireServer.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd00:c1::a9fe:a9fe", "100.100.100.200", "168.63.129.16"),
    )
)


def is_address(host: str) -> bool:
    """Whether a URL's host is written as an address, which nobody resolves."""
    return _read(host) is not None


def hands_out_credentials(host: str) -> bool:
    """Whether this is such an address, also an IPv4 one written as IPv6; False for a name."""
    address = _read(host)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    meant = mapped or address
    return meant.is_link_local or meant in _METADATA


def _read(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
