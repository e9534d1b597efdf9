"""Owns what a bound media socket means to others: where clients find it, and whom it can reach. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from livechat.protocol.types import Address


def endpoint_of(bound: Address, advertise_host: str | None, local_host: str) -> Address:
    """Return what to tell a client.

    Args:
        bound: where the socket is bound.
        advertise_host: what clients are to be told; None: the address at which they reached the gateway.
        local_host: that address.
    """
    host, port = bound
    if advertise_host is not None:
        return advertise_host, port
    if ip_address(host).is_unspecified:
        return local_host.removeprefix("::ffff:"), port
    return host, port


def reachable_from(bound_host: str, address: Address) -> Address | None:
    """Return an IP address in the form in which a socket bound to a host sends to it; None if it cannot."""
    host, port = ip_address(address[0]), address[1]
    host = getattr(host, "ipv4_mapped", None) or host
    bound = ip_address(bound_host)
    if host.version == bound.version:
        return str(host), port
    # A socket bound to `::` knows IPv4 hosts by their mapped addresses.
    return (f"::ffff:{host}", port) if bound.version == 6 and bound.is_unspecified else None
