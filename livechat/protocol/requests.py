"""Owns the payloads a client may send: one frozen class per opcode, valid by construction.

It must not decode bytes (see `codec`) or know what a request does (see `livechat.handlers`).
A class whose values do not fit raises `ValueError` whose text begins with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import attrs

from livechat.protocol.opcodes import Op
from livechat.protocol.types import (
    ChannelId,
    ChannelMode,
    FloorIndicator,
    Frequency,
    JobId,
    PresenceStatus,
    SessionId,
    Ssrc,
    StreamId,
    UserId,
)
from livechat.protocol.validators import SEQ_MAX, between, json_object, length, seqs
from livechat.protocol.value import value

NAME_LENGTH_MAX: Final = 100
NONCE_LENGTH_MAX: Final = 64
TOKEN_LENGTH_MAX: Final = 8192
MENTIONS_MAX: Final = 100
CAPACITY_MAX: Final = 100_000
LIST_LIMIT_MAX: Final = 200
HISTORY_LIMIT_MAX: Final = 100
CHANNELS_MAX: Final = 10_000
"""Channels that one RESUME or SYNC may name."""
JOBS_MAX: Final = 1000
"""Jobs that one RESUME or IDENTIFY may name."""
SETTINGS_BYTES_MAX: Final = 16_384
"""All of a user's settings, as JSON in UTF-8 without white space."""
SETTINGS_LEVELS_MAX: Final = 32
"""Objects and lists within each other: far below where parsers and serializers of clients and servers give up."""
STATUS_TEXT_MAX: Final = 128
MIME_LENGTH_MAX: Final = 127
PRIORITY_MAX: Final = 2**31 - 1
CONTENT_LENGTH_PARSED: Final = 65_536
"""Content beyond the configured limit gets 3001, not 1004, so parsing lets more through."""

_U32 = between(0, 2**32 - 1)
_SEQ = between(0, SEQ_MAX)
_NAME = length(1, NAME_LENGTH_MAX)
_PRIORITY = between(0, PRIORITY_MAX)
_TOKEN = length(0, TOKEN_LENGTH_MAX)


@attrs.frozen
class Heartbeat:
    """Op 1. d is null."""


@attrs.frozen
class Identify:
    """Op 3. Who speaks, proven by a token."""

    token: str = attrs.field(repr=False, validator=_TOKEN)
    user_id: UserId | None = None
    priority: int = attrs.field(default=100, validator=_PRIORITY)
    """Of FLOOR_REQUESTs that state none."""
    device: str | None = attrs.field(default=None, validator=length(0, NAME_LENGTH_MAX))
    status: PresenceStatus = "ONLINE"
    presence_batches: bool = False
    """The client reads PRESENCE_EVENTs that carry many users at once, in `users`."""
    jobs: dict[JobId, int] | None = attrs.field(default=None, validator=seqs(JOBS_MAX, "jobs"))
    """Jobs of the user whose later events are to follow READY, each with the last `event_seq` that was seen."""


@attrs.frozen
class Resume:
    """Op 5. Continue a session whose connection was lost."""

    session_id: SessionId = attrs.field(repr=False)
    token: str = attrs.field(repr=False, validator=_TOKEN)
    channels: dict[ChannelId, int] | None = attrs.field(default=None, validator=seqs(CHANNELS_MAX))
    """What the client has seen of each channel; left out: from where the session's own egress stood. What the
    operating system took from that and never delivered is then missed, and nothing says so."""
    presence_batches: bool = False
    """As in IDENTIFY."""
    jobs: dict[JobId, int] | None = attrs.field(default=None, validator=seqs(JOBS_MAX, "jobs"))
    """The last `event_seq` that the client has seen of each job; left out: as with the channels."""


@attrs.frozen
class ChannelCreate:
    """Op 10. With `freq` alone it is Mini LiveChat's: push-to-talk, not durable."""

    channel_id: ChannelId
    channel_name: str | None = attrs.field(default=None, validator=_NAME)
    mode: ChannelMode | None = None
    durable: bool | None = None
    capacity: int = attrs.field(default=100, validator=between(1, CAPACITY_MAX))
    private: bool = False
    max_speakers: int | None = attrs.field(default=None, validator=between(1, 1000))
    freq: Frequency | None = None

    @property
    def effective_mode(self) -> ChannelMode:
        """`mode`, or what it is when left out."""
        if self.mode is not None:
            return self.mode
        return "ptt" if self.freq is not None else "conference"

    @property
    def effective_durable(self) -> bool:
        """`durable`, or what it is when left out: false only for Mini LiveChat's bare `freq`."""
        if self.durable is not None:
            return self.durable
        return not (self.freq is not None and self.mode is None)


@attrs.frozen
class MediaAddress:
    """Where a receive-only client wants its media: its own IP address and a UDP port."""

    host: str = attrs.field(validator=length(0, 255))
    port: int = attrs.field(validator=between(1, 65535))


@attrs.frozen
class MediaOffer:
    """What a client can do: SRTP profiles in its order of preference, a stated address."""

    profiles: tuple[str, ...] | None = attrs.field(default=None, validator=length(0, 16))
    address: MediaAddress | None = None


@attrs.frozen
class Track:
    """A stream the client insists on sending with this ssrc."""

    kind: Literal["audio", "video"]
    ssrc: Ssrc = attrs.field(validator=_U32)


@attrs.frozen
class ChannelJoin:
    """Op 11. With `ssrc`, `media` or `tracks` it allocates a media peer."""

    channel_id: ChannelId
    ssrc: Ssrc | None = attrs.field(default=None, validator=_U32)
    media: MediaOffer | None = None
    ufrag: str | None = attrs.field(default=None, validator=length(0, 256))
    sdp_offer: str | None = attrs.field(default=None, validator=length(0, 65536), repr=False)
    tracks: tuple[Track, ...] | None = attrs.field(default=None, validator=length(0, 16))

    @property
    def wants_voice(self) -> bool:
        """Whether a media peer is asked for."""
        return not (self.ssrc is None and self.media is None and not self.tracks and self.sdp_offer is None)


@attrs.frozen
class ChannelLeave:
    """Op 12."""

    channel_id: ChannelId


@attrs.frozen
class ChannelUpdate:
    """Op 13. Fields left out stay as they are."""

    channel_id: ChannelId
    channel_name: str | None = attrs.field(default=None, validator=_NAME)
    capacity: int | None = attrs.field(default=None, validator=between(1, CAPACITY_MAX))
    private: bool | None = None
    max_speakers: int | None = attrs.field(default=None, validator=between(1, 1000))


@attrs.frozen
class ChannelDelete:
    """Op 14."""

    channel_id: ChannelId


@attrs.frozen
class ChannelList:
    """Op 15. d may be null; `after` is the `next` of the page before."""

    limit: int = attrs.field(default=100, validator=between(1, LIST_LIMIT_MAX))
    after: ChannelId | None = None


@attrs.frozen
class ChannelInfo:
    """Op 16."""

    channel_id: ChannelId


@attrs.frozen
class Attachment:
    """A file that a message refers to; its bytes travel elsewhere."""

    url: str = attrs.field(validator=length(1, 2048))
    name: str = attrs.field(validator=length(1, 255))
    bytes: int = attrs.field(validator=between(0, 2**53))
    mime: str = attrs.field(validator=length(1, MIME_LENGTH_MAX))


@value
class MessageCreate:
    """Op 20. `content` is empty only beside an attachment."""

    channel_id: ChannelId
    content: str = attrs.field(validator=length(0, CONTENT_LENGTH_PARSED), repr=False)
    message_type: Literal["TEXT", "FILE", "IMAGE"] = "TEXT"
    attachment: Attachment | None = None
    nonce: str | None = attrs.field(default=None, validator=length(1, NONCE_LENGTH_MAX))
    mentions: tuple[UserId, ...] | None = attrs.field(default=None, validator=length(0, MENTIONS_MAX))


@attrs.frozen
class History:
    """Op 21. Messages before or after a seq; with neither the newest."""

    channel_id: ChannelId
    before_seq: int | None = attrs.field(default=None, validator=_SEQ)
    after_seq: int | None = attrs.field(default=None, validator=_SEQ)
    limit: int = attrs.field(default=20, validator=between(1, HISTORY_LIMIT_MAX))

    json_schema: ClassVar[Mapping[str, Any]] = {
        "not": {
            "required": ["before_seq", "after_seq"],
            "properties": {"before_seq": {"type": "integer"}, "after_seq": {"type": "integer"}},
        }
    }

    def __attrs_post_init__(self) -> None:
        if self.before_seq is not None and self.after_seq is not None:
            raise ValueError("after_seq: expected before_seq or after_seq, got both")


@attrs.frozen
class SyncRange:
    """What to replay of a channel: all that lies strictly between."""

    after: int = attrs.field(validator=_SEQ)
    before: int | None = attrs.field(default=None, validator=_SEQ)
    """None: up to now."""


@attrs.frozen
class Sync:
    """Op 22. Replay the missing events of channels."""

    channels: dict[ChannelId, SyncRange] = attrs.field(validator=length(0, CHANNELS_MAX))


@value
class Read:
    """Op 23. Everything up to `seq` was read."""

    channel_id: ChannelId
    seq: int = attrs.field(validator=_SEQ)


@value
class Typing:
    """Op 24."""

    channel_id: ChannelId
    typing: bool


@attrs.frozen
class Focus:
    """Op 25. The channel that is on this session's screen; None: no one."""

    channel_id: ChannelId | None = None


@attrs.frozen
class Subscribe:
    """Op 26. This session receives the channel's events again."""

    channel_id: ChannelId


@attrs.frozen
class Unsubscribe:
    """Op 27. This session receives only unread counts of the channel."""

    channel_id: ChannelId


@attrs.frozen
class PresenceUpdate:
    """Op 28. What others see of this session; OFFLINE hides it."""

    status: PresenceStatus
    text: str | None = attrs.field(default=None, validator=length(0, STATUS_TEXT_MAX))


@attrs.frozen
class MediaChunk:
    """Op 29. A piece of live media for whoever hears the channel now; it takes a binary frame."""

    channel_id: ChannelId
    stream_id: StreamId
    """The publisher's own name of the stream, of which there may be several in a channel."""
    chunk_seq: int = attrs.field(validator=_SEQ)
    """Rises within a stream; one that does not rise begins the stream anew, and takes `init`."""
    mime: str = attrs.field(validator=length(1, MIME_LENGTH_MAX))
    data: bytes = attrs.field(repr=False)
    keyframe: bool = False
    """Who has seen nothing of the stream before, or has lost a chunk, can go on from here."""
    init: bool = False
    """What a decoder needs first; the last one of a stream is kept for those who join later."""


@attrs.frozen
class FloorRequest:
    """Op 30. Somebody presses the button of a push-to-talk channel."""

    channel_id: ChannelId
    priority: int | None = attrs.field(default=None, validator=_PRIORITY)
    """None: that of IDENTIFY."""
    indicator: FloorIndicator = "normal"


@attrs.frozen
class FloorRelease:
    """Op 31. Give the floor back, or wait for it no more."""

    channel_id: ChannelId


@attrs.frozen
class FloorPing:
    """Op 32. The holder of the floor is still there; to be said every 2 s."""

    channel_id: ChannelId


@attrs.frozen
class MemberAdd:
    """Op 33. Make somebody a member, or give a member another role; it lifts a ban."""

    channel_id: ChannelId
    user_id: UserId
    role: Literal["member", "moderator"] | None = None
    """None: `member` for a new one."""


@attrs.frozen
class MemberRemove:
    """Op 34. End somebody's membership; with `ban` it can't be taken up again."""

    channel_id: ChannelId
    user_id: UserId
    ban: bool = False


@attrs.frozen
class MemberList:
    """Op 35. `after` is the `next` of the page before."""

    channel_id: ChannelId
    limit: int = attrs.field(default=100, validator=between(1, LIST_LIMIT_MAX))
    after: UserId | None = None


@attrs.frozen
class SettingsSet:
    """Op 36. Keys that are given replace those of the same name; null takes one away."""

    settings: dict[str, Any] = attrs.field(
        repr=False, validator=json_object(SETTINGS_BYTES_MAX, SETTINGS_LEVELS_MAX)
    )


Request = (
    Heartbeat
    | Identify
    | Resume
    | ChannelCreate
    | ChannelJoin
    | ChannelLeave
    | ChannelUpdate
    | ChannelDelete
    | ChannelList
    | ChannelInfo
    | MessageCreate
    | History
    | Sync
    | Read
    | Typing
    | Focus
    | Subscribe
    | Unsubscribe
    | PresenceUpdate
    | MediaChunk
    | FloorRequest
    | FloorRelease
    | FloorPing
    | MemberAdd
    | MemberRemove
    | MemberList
    | SettingsSet
)

REQUESTS: Final[dict[int, type[Request]]] = {
    Op.HEARTBEAT: Heartbeat,
    Op.IDENTIFY: Identify,
    Op.RESUME: Resume,
    Op.CHANNEL_CREATE: ChannelCreate,
    Op.CHANNEL_JOIN: ChannelJoin,
    Op.CHANNEL_LEAVE: ChannelLeave,
    Op.CHANNEL_UPDATE: ChannelUpdate,
    Op.CHANNEL_DELETE: ChannelDelete,
    Op.CHANNEL_LIST: ChannelList,
    Op.CHANNEL_INFO: ChannelInfo,
    Op.MESSAGE_CREATE: MessageCreate,
    Op.HISTORY: History,
    Op.SYNC: Sync,
    Op.READ: Read,
    Op.TYPING: Typing,
    Op.FOCUS: Focus,
    Op.SUBSCRIBE: Subscribe,
    Op.UNSUBSCRIBE: Unsubscribe,
    Op.PRESENCE_UPDATE: PresenceUpdate,
    Op.MEDIA_CHUNK: MediaChunk,
    Op.FLOOR_REQUEST: FloorRequest,
    Op.FLOOR_RELEASE: FloorRelease,
    Op.FLOOR_PING: FloorPing,
    Op.MEMBER_ADD: MemberAdd,
    Op.MEMBER_REMOVE: MemberRemove,
    Op.MEMBER_LIST: MemberList,
    Op.SETTINGS_SET: SettingsSet,
}
"""Every opcode a client may send. What is not here is unknown (1003)."""
