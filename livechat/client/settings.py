"""Owns the settings of a client. It must not hold state."""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from livechat.protocol.types import PresenceStatus

CodecName = Literal["msgpack", "json"]
LINGER_S_MAX = 0.1
CHUNK_BYTES_BUFFERED_MAX: Final = 32 * 2**20


def _linger(_instance: object, _attribute: object, value: float) -> None:
    if not 0 <= value <= LINGER_S_MAX:
        raise ValueError(f"linger_s: expected 0 to {LINGER_S_MAX}, got {value}")


def _at_least_one(_instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    if value < 1:
        raise ValueError(f"{attribute.name}: expected at least 1, got {value}")


INTERNAL_ERRORS_MAX: Final = 3
"""So often something that the server failed at (9000) is tried again: it may fail at it for ever."""


@attrs.frozen
class Backoff:
    """How long to wait between tries: a random part of `base_s` * `factor` ** tries, at most `cap_s`."""

    base_s: float = 1.0
    factor: float = 1.5
    cap_s: float = 30.0
    tries_max: int | None = 10
    """Tries in a row that fail before the client gives up; None: it never does."""

    def ceiling_s(self, tries: int) -> float:
        """Return the longest wait after so many tries that failed."""
        # The exponent is bounded because a float is, and a client may try for weeks.
        return min(self.cap_s, self.base_s * self.factor ** min(tries, 100))


@attrs.frozen
class ClientSettings:
    """How a client connects, waits and bounds what it keeps."""

    codec: CodecName = "msgpack"
    device: str | None = None
    """Told in IDENTIFY: what the user would call this client."""
    priority: int = 100
    """Told in IDENTIFY: of claims to the floor of push-to-talk channels that state none."""
    status: PresenceStatus = "ONLINE"
    """What others see from the start; `Client.set_presence` changes it."""

    backoff: Backoff = Backoff()
    """Between tries to connect, and of what the server refuses for now without saying for how long."""
    connect_timeout_s: float = 30.0
    """From dialling to READY or RESUMED, for every try."""
    request_timeout_s: float = 30.0
    """How long a request waits for its answer, reconnects included."""
    send_timeout_s: float = 120.0
    """How long a message is tried, reconnects included, before it is given up."""
    flush_timeout_s: float = 5.0
    """How long leaving the block waits for messages that were posted and not answered."""
    close_timeout_s: float = 2.0
    """How long the server may take to answer our close frame."""
    heartbeats_missed_max: int = attrs.field(default=2, validator=_at_least_one)
    """So many heartbeats without an answer, and the connection counts as dead."""

    linger_s: float = attrs.field(default=0.0, validator=_linger)
    """How long packets may gather before they are written; 0: what comes while a write is on its way."""
    packets_joined_max: int = attrs.field(default=50, validator=_at_least_one)
    """Packets that go out by one write."""
    frame_bytes_max: int = 32 * 2**20
    """A larger WebSocket message from the server ends the connection; READY of many channels is large."""

    sends_in_flight: int = attrs.field(default=1, validator=_at_least_one)
    """Messages of one channel under way at a time. More are faster, but one that must be repeated (1006, 3005)
    then falls behind those that were sent after it."""
    outbox_max: int = attrs.field(default=1000, validator=_at_least_one)
    """Messages waiting for their answer, over all channels; past it `post` raises."""
    events_held_max: int = attrs.field(default=500, validator=_at_least_one)
    """Events of one channel kept while an earlier one is missing; more are fetched again instead."""
    events_buffered_max: int = attrs.field(default=10_000, validator=_at_least_one)
    """Events waiting for one subscriber; past it the subscription ends."""
    chunk_bytes_buffered_max: int = attrs.field(default=CHUNK_BYTES_BUFFERED_MAX, validator=_at_least_one)
    """Bytes of media chunks waiting for one subscriber; past it the subscription ends."""
    job_events_kept: int = attrs.field(default=1000, validator=_at_least_one)
    """The newest events of jobs that are kept, for who asks for a job after it has begun (`Client.job_events`)."""
    messages_kept: int = 100
    """The newest messages of every channel that are kept in `Client.channels`."""
