"""Owns who is turned away before anything is served: addresses that ask too often, upgrades that are none.

It must not accept or close connections; the listener does.
"""

from __future__ import annotations

from collections.abc import Callable

from livechat.error import RateLimited
from livechat.gateway.head import RequestHead, may_open, original_peer
from livechat.gateway.transport import Transport
from livechat.http import problems
from livechat.http.host import refuse
from livechat.limits.addresses import Addresses, Refusal
from livechat.telemetry.counters import Counters


class Doorkeeper:
    """The listener's `Doorkeeper`, and what is to be told of an upgrade by its head alone.

    Args:
        now: monotonic seconds.
        origins: of the pages that may open a WebSocket; without any, all may.
        counters: where those that are turned away are counted.
    """

    def __init__(
        self,
        addresses: Addresses,
        now: Callable[[], float],
        *,
        origins: tuple[str, ...],
        trusted_proxies: tuple[str, ...],
        counters: Counters,
    ) -> None:
        self._refused = counters.refused
        self._addresses = addresses
        self._now = now
        self._origins = origins
        self._trusted_proxies = trusted_proxies

    def connect(self, host: str) -> Refusal | None:
        """Count a connection; None: it may stay, until `disconnect`."""
        return self._addresses.connect(host, self._now())

    def disconnect(self, host: str) -> None:
        """Note the end of a connection that might stay."""
        self._addresses.disconnect(host)

    async def refuse(self, transport: Transport, refusal: Refusal) -> None:
        """Tell a client when to come back (429), and end the connection; the caller closes it."""
        wait_ms = refusal.retry_after_ms
        reason = f"too many connections from this address; try again in {wait_ms} ms"
        problem = problems.problem_of(RateLimited(reason, retry_after_ms=wait_ms))
        headers = {"content-type": problems.PROBLEM_JSON, "retry-after": str(-(-wait_ms // 1000))}
        await refuse(transport, 429, problems.serialize(problem), headers)

    async def refuse_slow(self, transport: Transport) -> None:
        """Tell a client that its request did not come whole in time (408); the caller closes."""
        await _refuse_plainly(transport, 408, "expected the head of a request sooner")

    async def turns_away(self, transport: Transport, head: RequestHead) -> bool:
        """Answer an upgrade that is none, comes too often or from a foreign page; return whether it was that."""
        client, _ = original_peer(head, transport.peer_host, transport.is_tls, self._trusted_proxies)
        if client != transport.peer_host:
            # The connection is a trusted proxy's, so it was not counted yet.
            refusal = self._addresses.connect_behind_proxy(client, self._now())
            if refusal is not None:
                self._refused["limit"] += 1
                await self.refuse(transport, refusal)
                return True
        fault = head.upgrade_fault
        if fault is not None:
            self._refused["bad_upgrade"] += 1
            await _refuse_plainly(transport, 400, fault)
            return True
        if not may_open(head, self._origins):
            self._refused["origin"] += 1
            await _refuse_plainly(transport, 403, "origin: not one of those that this server allows")
            return True
        return False


async def _refuse_plainly(transport: Transport, status: int, reason: str) -> None:
    await refuse(transport, status, f"{reason}\n".encode("ascii"), {"content-type": "text/plain"})
