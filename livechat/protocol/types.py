"""Owns the names of things that cross the wire: ids, roles, modes, profiles.

It must not hold behaviour beyond what makes a text fit: everything here is a plain `str` or `int` at run time.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NewType

UserId = NewType("UserId", str)
ChannelId = NewType("ChannelId", str)
SessionId = NewType("SessionId", str)
MessageId = NewType("MessageId", str)
AnnouncementId = NewType("AnnouncementId", str)
JobId = NewType("JobId", str)
FileId = NewType("FileId", str)
StreamId = NewType("StreamId", str)
Ssrc = NewType("Ssrc", int)

Frequency = NewType("Frequency", str)
"""Mini LiveChat's radio frequency, a number or a text on the wire; it marks a channel as push-to-talk."""

ID_LENGTH_MAX: Final = 64
ID_PATTERN: Final = re.compile(r"[\w.:@-]{1,64}")
"""1-64 letters or digits of any script, or one of `_ . : @ -`; use with `fullmatch`."""

ChannelMode = Literal["conference", "ptt"]
Role = Literal["owner", "moderator", "member"]
PresenceStatus = Literal["ONLINE", "AWAY", "OFFLINE"]
RekeyCause = Literal["demand", "age", "worn", "resumed", "moved"]
Severity = Literal["info", "warning", "critical"]
MessageType = Literal["TEXT", "FILE", "IMAGE", "SYSTEM"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FloorIndicator = Literal["normal", "broadcast", "imminent_peril", "emergency"]
FloorDenial = Literal["queue_full", "taken"]
"""Why nobody may even wait: as many as may are waiting; or nobody may here."""
FloorRevocation = Literal["preempted", "ping_timeout", "max_duration", "disconnect", "admin_revoke"]
StreamKey = tuple[ChannelId, UserId, StreamId]
"""Names a media stream: channel, publisher and `stream_id`."""
Address = tuple[str, int]
"""A UDP address: (IP literal, port)."""


def is_text(value: str) -> bool:
    """Tell whether every store and codec can hold `value`: no NUL, no lone surrogate."""
    if "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
