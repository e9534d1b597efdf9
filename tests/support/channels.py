"""Channels for tests that care only about who is in them."""

from __future__ import annotations

from livechat.hub.channels import ChannelFacts
from livechat.protocol.types import ChannelId, UserId


def make_facts(name: str, *, durable: bool = True) -> ChannelFacts:
    """Return a public conference channel whose id and name are `name`."""
    return ChannelFacts(
        channel_id=ChannelId(name),
        channel_name=name,
        mode="conference",
        durable=durable,
        capacity=100,
        private=False,
        owner_id=UserId("owner"),
        created_at=0,
    )
