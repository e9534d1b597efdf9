"""Owns what a client tells its application beyond the server's own events.

It must not know where they go.
"""

from __future__ import annotations

from typing import Literal

import attrs

from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.events import (
    Announcement,
    ChannelEvent,
    Error,
    Message,
    Notification,
    ReadEvent,
    SettingsEvent,
    TypingEvent,
    UnreadEvent,
    UserPresence,
)
from livechat.protocol.jobs import JobEvent
from livechat.protocol.types import ChannelId, JobId, StreamId, UserId
from livechat.protocol.voice_events import FloorEvent, MediaUpdate, SpeakingEvent

State = Literal["connecting", "online", "resuming", "offline"]
"""`connecting` until the first READY; `resuming` from a loss of the connection until the next READY or RESUMED;
`offline` once the client has ended."""


@attrs.frozen
class StateChanged:
    """The client is in another state than before."""

    state: State
    reason: str = ""
    """Why the connection ended."""
    retry_in_s: float | None = None
    """With `resuming`: when it is tried again."""
    new_session: bool = False
    """With `online`: the old session could not be resumed. Its voice is gone; all else was set up again."""


@attrs.frozen
class Gap:
    """Events of a channel that are not handed over: those strictly between `after` and `before`.

    They could not be had, or were not asked for (between UNSUBSCRIBE and SUBSCRIBE).
    """

    channel_id: ChannelId
    after: int
    before: int


@attrs.frozen
class JobGap:
    """Events of a job that are not handed over: those strictly between `after` and `before`."""

    job_id: JobId
    after: int
    """The last `event_seq` that was handed over."""
    before: int | None
    """None: the server knows nothing of the job (any more), and no more of it comes."""


@attrs.frozen
class ChunkGap:
    """The numbers of a live stream jump: chunks strictly between `after` and `before` are missing, and will be.

    So it is if its publisher counts by ones; if not, nothing need be missing. What the server dropped because we
    read too slowly ends with a keyframe, where the stream marks any; an `init` chunk from within the gap, or from
    before it, comes ahead of that.
    """

    channel_id: ChannelId
    user_id: UserId
    """Who publishes the stream."""
    stream_id: StreamId
    after: int
    before: int


@attrs.frozen
class ChannelLost:
    """The user is in a channel no more, and how that came about was not heard."""

    channel_id: ChannelId
    after: int
    """The last seq that was handed over."""
    reason: str


ServerEvent = (
    Message
    | ChannelEvent
    | ReadEvent
    | UserPresence
    | TypingEvent
    | SpeakingEvent
    | UnreadEvent
    | Notification
    | Announcement
    | SettingsEvent
    | FloorEvent
    | JobEvent
    | MediaUpdate
    | ChunkEvent
    | Error
)
"""What the server tells. `Error` is one that answers no request of ours."""

SessionEvent = ServerEvent | StateChanged | Gap | ChannelLost | JobGap | ChunkGap
Sequenced = Message | ChannelEvent
"""What has a place in a channel's one sequence; a ChannelEvent only with a `seq`."""
