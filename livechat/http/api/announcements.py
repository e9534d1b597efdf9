"""Serves announcements: making one, and those that were made since a time."""

from __future__ import annotations

from typing import Final

import attrs

from livechat.handlers.announce import BODY_CHARS_MAX, TITLE_CHARS_MAX, URL_CHARS_MAX, announce
from livechat.http.endpoint import API, READING, WRITING, Answer, Call, Endpoint
from livechat.protocol.events import Announcement
from livechat.protocol.types import Severity
from livechat.protocol.validators import SEQ_MAX, between, length
from livechat.store.queries import GetAnnouncements

LIMIT_MAX: Final = 100
A_URL: Final = {"schema": {"pattern": r"^https?://[^\u0000]*$"}}
"""What `announce` checks."""


@attrs.frozen
class AnnouncementCreate:
    """What everybody is to be told."""

    title: str = attrs.field(validator=length(1, TITLE_CHARS_MAX))
    body: str = attrs.field(default="", validator=length(0, BODY_CHARS_MAX))
    severity: Severity = "info"
    url: str | None = attrs.field(default=None, validator=length(1, URL_CHARS_MAX), metadata=A_URL)
    """Where to read more; http or https."""
    image_url: str | None = attrs.field(default=None, validator=length(1, URL_CHARS_MAX), metadata=A_URL)
    """A picture to show; http or https."""
    expires_at: int | None = attrs.field(default=None, validator=between(0, SEQ_MAX))
    """From when on nobody is told of it any more, in milliseconds since 1970; in the future."""


@attrs.frozen
class AnnouncementQuery:
    """Which announcements are wanted."""

    since: int = attrs.field(default=0, validator=between(0, SEQ_MAX))
    """Milliseconds since 1970; those made then or later."""
    limit: int = attrs.field(default=LIMIT_MAX, validator=between(1, LIMIT_MAX))
    """The newest of them, at most."""


@attrs.frozen
class AnnouncementList:
    """Announcements that have not expired, ascending by time."""

    announcements: list[Announcement]


async def create(call: Call) -> Answer:
    """Make an announcement; see `Server.announce`."""
    wanted: AnnouncementCreate = call.body
    made = await announce(
        call.node,
        wanted.title,
        wanted.body,
        url=wanted.url,
        image_url=wanted.image_url,
        severity=wanted.severity,
        expires_at=wanted.expires_at,
    )
    return Answer(made, 201)


async def list_since(call: Call) -> Answer:
    """Return those made since a time."""
    wanted: AnnouncementQuery = call.query
    found = await call.node.store.fetch(GetAnnouncements(wanted.since, call.node.now_ms(), wanted.limit))
    return Answer(AnnouncementList(list(found)))


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "POST",
        f"{API}/announcements",
        create,
        "announcements",
        "Tell everybody something",
        "admin",
        body=AnnouncementCreate,
        answers={201: Announcement},
        errors=WRITING,
        description="Who is connected hears it at once (ANNOUNCEMENT), the others when they log in or resume.",
    ),
    Endpoint(
        "GET",
        f"{API}/announcements",
        list_since,
        "announcements",
        "List announcements",
        "user",
        query=AnnouncementQuery,
        answers={200: AnnouncementList},
        errors=READING,
        needs_user=False,
    ),
)
