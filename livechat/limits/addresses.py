"""Owns what one address may do: connect, hold connections, show tokens that are no good. Pure, in bounded memory.

It must not refuse anybody itself; it says whom.

    connection   within the limit      beyond it          beyond it for twice the burst
                 served                429, Retry-After   dropped, for even an answer costs
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import attrs

from livechat.limits.buckets import Buckets
from livechat.limits.settings import AddressLimits

IPV6_PREFIX_BITS: Final = 64
"""What one customer has at least (RFC 6177), so what counts as one address."""
FULL_RETRY_MS: Final = 5_000
"""When to try again for whom holds too many connections: nobody knows when one of them ends."""


@attrs.frozen
class Refusal:
    """Why a connection is not served."""

    retry_after_ms: int
    is_flood: bool = False
    """So many were refused already that this one is not worth an answer."""


class Addresses:
    """What the addresses of one server have asked lately.

    Args:
        trusted_proxies: hosts or networks that connect for others; their clients count by themselves.
    """

    def __init__(self, limits: AddressLimits, trusted_proxies: Sequence[str] = ()) -> None:
        connects = (limits.connects_per_min / 60, limits.connects_burst, limits.remembered)
        self._limits = limits
        self._proxies = [ip_network(proxy, strict=False) for proxy in trusted_proxies]
        self._connects = Buckets(*connects)
        self._answers = Buckets(*connects)
        self._failures = Buckets(limits.failures_per_min / 60, limits.failures_burst, limits.remembered)
        self._open: dict[str, int] = {}
        """Connections by address; those that have one only."""

    def name(self, host: str) -> str | None:
        """Return what an IP literal counts as; None: it is not limited."""
        address = plain(host)
        if address.is_loopback and self._limits.spare_loopback:
            return None
        if any(address in proxy for proxy in self._proxies):
            return None
        return counted_as(address)

    def connect(self, host: str, now: float) -> Refusal | None:
        """Count a connection that was accepted; None: it may stay, until `disconnect`.

        Args:
            now: monotonic seconds.
        """
        name = self.name(host)
        if name is None:
            return None
        refusal = self._refusal(name, now)
        if refusal is None:
            self._open[name] = self._open.get(name, 0) + 1
        return refusal

    def disconnect(self, host: str) -> None:
        """Note the end of a connection that was not refused."""
        name = self.name(host)
        if name is None:
            return
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]

    def connect_behind_proxy(self, host: str, now: float) -> Refusal | None:
        """Count a WebSocket that came through a proxy; None: it may stay.

        How many a client of a proxy holds is not counted: the proxy is the one to limit that.
        """
        name = self.name(host)
        wait_ms = None if name is None else self._connects.take(name, now)
        return None if wait_ms is None else Refusal(wait_ms)

    def wait_ms(self, host: str, now: float) -> int | None:
        """Return when a token from here will be looked at again, in milliseconds; None: at once."""
        name = self.name(host)
        return None if name is None else self._failures.wait_ms(name, now)

    def failed(self, host: str, now: float) -> None:
        """Count a token that was no good."""
        name = self.name(host)
        if name is not None:
            self._failures.take(name, now)

    def _refusal(self, name: str, now: float) -> Refusal | None:
        most = self._limits.connections
        wait_ms = FULL_RETRY_MS if most and self._open.get(name, 0) >= most else self._connects.take(name, now)
        if wait_ms is None:
            return None
        return Refusal(wait_ms, is_flood=self._answers.take(name, now) is not None)


def plain(host: str) -> IPv4Address | IPv6Address:
    """Return the address of an IP literal, without a scope; an IPv4 address stays one in IPv6 clothes."""
    address = ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def counted_as(address: IPv4Address | IPv6Address) -> str:
    """Return the name of all addresses that count as one."""
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, IPV6_PREFIX_BITS), strict=False))
    return str(address)
