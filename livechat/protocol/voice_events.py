"""Owns what is told of voice: where and under which keys it goes, who speaks, who has the floor.

It must not decide anything of it.
"""

from __future__ import annotations

import attrs

from livechat.protocol.types import (
    ChannelId,
    FloorDenial,
    FloorIndicator,
    FloorRevocation,
    RekeyCause,
    Ssrc,
    UserId,
)


@attrs.frozen
class MediaGrant:
    """Where to send media and under which keys (base64 of master key and salt)."""

    host: str
    port: int
    ssrc: Ssrc
    profile: str
    client_key: str = attrs.field(repr=False)
    server_key: str = attrs.field(repr=False)
    rtcp_mux: bool


@attrs.frozen
class MediaUpdate:
    """Op 118: the session's voice in a channel has new keys, or another address to send to.

    They are valid at once, the old keys for 10 s more. Without `media` the voice is over: join again.
    """

    channel_id: ChannelId
    cause: RekeyCause
    """Why: an operator wants it, the keys are old or near the end of their lifetime, the client may have missed
    the change before, or another process relays for the channel."""
    media: MediaGrant | None = None


@attrs.frozen
class SpeakingEvent:
    """Op 121: somebody begins or ends to speak."""

    channel_id: ChannelId
    user_id: UserId
    ssrc: Ssrc
    """What receivers see on the wire."""
    speaking: bool
    level_db: int
    """How loud, in dB relative to full scale: 0 to -127."""


@attrs.frozen
class ActiveSpeaker:
    """Who speaks in a channel now."""

    user_id: UserId
    ssrc: Ssrc
    """What receivers see on the wire."""
    level_db: int
    """How loud it began, in dB relative to full scale: 0 to -127."""


@attrs.frozen
class FloorGranted:
    """Op 110, to who asked for the floor, and has it now: this user's media is forwarded, and nobody else's."""

    channel_id: ChannelId
    user_id: UserId
    duration: int
    """Milliseconds until it is taken away at the latest."""


@attrs.frozen
class FloorDeny:
    """Op 111, to who asked for the floor and neither has it nor waits for it."""

    channel_id: ChannelId
    reason: FloorDenial


@attrs.frozen
class FloorTaken:
    """Op 112, to everybody but the holder: somebody talks."""

    channel_id: ChannelId
    user_id: UserId
    indicator: FloorIndicator


@attrs.frozen
class FloorIdle:
    """Op 113, to everybody: nobody has the floor, and nobody waits for it."""

    channel_id: ChannelId


@attrs.frozen
class FloorRevoke:
    """Op 114, to who had the floor until now and has not given it back."""

    channel_id: ChannelId
    cause: FloorRevocation


@attrs.frozen
class FloorQueuePosInfo:
    """Op 115, to who waits for the floor, when its place changes or it asks again."""

    channel_id: ChannelId
    queue_position: int
    """From 1; the first is granted the floor next."""
    queue_size: int


@attrs.frozen
class FloorPong:
    """Op 116, the answer to a FLOOR_PING of the holder."""

    channel_id: ChannelId


FloorEvent = FloorGranted | FloorDeny | FloorTaken | FloorIdle | FloorRevoke | FloorQueuePosInfo | FloorPong


@attrs.frozen
class FloorHeld:
    """Who has the floor of a push-to-talk channel."""

    user_id: UserId
    indicator: FloorIndicator
    queue_size: int
    """How many wait for it."""
