"""Owns the rate limits of the HTTP API: the gateway's own, for each user, or address where nobody says who asks.

It must not know any endpoint; each says by which op of the gateway it counts.
"""

from __future__ import annotations

from livechat.error import RateLimited
from livechat.gateway.rates import RateLimiters
from livechat.http.endpoint import Call, Endpoint
from livechat.protocol.opcodes import Op


class RateGate:
    """Lets calls through, or says when to try again."""

    def __init__(self, limiters: RateLimiters) -> None:
        self._limiters = limiters

    def __call__(self, endpoint: Endpoint, call: Call) -> None:
        """See `livechat.http.pipeline.Gate`."""
        name = _name(call)
        if name is None:
            return
        # Whatever has no op of its own counts as any request that has none.
        op = Op.CHANNEL_INFO if endpoint.op is None else endpoint.op
        wait_ms = self._limiters.take(name, op, call.node.now())
        if wait_ms is not None:
            raise RateLimited(f"too many requests; try again in {wait_ms} ms", retry_after_ms=wait_ms)


def _name(call: Call) -> str | None:
    """Return by what a call is counted; None: it is not."""
    if call.identity_or_none is not None:
        # An id holds no space.
        return f"user {call.identity_or_none.user_id}"
    return None if call.request.client is None else call.node.addresses.name(call.request.client.host)
