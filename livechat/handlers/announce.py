"""Owns announcements: checking one, storing it, telling everybody.

It must not decide who may announce; whoever calls has.
"""

from __future__ import annotations

from typing import Final, get_args

import trio

from livechat.cluster.backplane import GlobalNotice
from livechat.error import LiveError, ProtocolError
from livechat.handlers.node import Node
from livechat.protocol.events import Announcement
from livechat.protocol.types import Severity, is_text
from livechat.store.base import Outcome
from livechat.store.operations import CreateAnnouncement
from livechat.store.rows import new_announcement_id

TITLE_CHARS_MAX: Final = 200
BODY_CHARS_MAX: Final = 4000
URL_CHARS_MAX: Final = 2048
URL_SCHEMES: Final = ("https://", "http://")


async def announce(
    node: Node,
    title: str,
    body: str,
    *,
    url: str | None,
    image_url: str | None,
    severity: Severity,
    expires_at: int | None,
) -> Announcement:
    """Store an announcement, then tell everybody who is connected; who is not is told at login or resume.

    Raises:
        ProtocolError: a field is not as it must be; the reason names it.
        NotPersisted: the store is away; nobody was told, unless the action is RETRY and the commit proves good.
        Overloaded: too many operations wait.
        ShuttingDown: the store is being closed.

    Cancellation:
        Stops only the waiting; the announcement is made or not.
    """
    now_ms = node.now_ms()
    _check_text("title", title, 1, TITLE_CHARS_MAX)
    _check_text("body", body, 0, BODY_CHARS_MAX)
    _check_url("url", url)
    _check_url("image_url", image_url)
    if severity not in get_args(Severity):
        raise ProtocolError(f"severity: expected one of {', '.join(get_args(Severity))}, got {severity!r}")
    if expires_at is not None and not now_ms < expires_at < 2**63:
        raise ProtocolError("expires_at: expected milliseconds since 1970, in the future")
    announcement = Announcement(
        announcement_id=new_announcement_id(),
        title=title,
        body=body,
        severity=severity,
        created_at=now_ms,
        url=url,
        image_url=image_url,
        expires_at=expires_at,
    )
    outcomes: list[Outcome[Announcement]] = []
    answered = trio.Event()

    def done(outcome: Outcome[Announcement]) -> None:
        if not outcomes:
            node.announcing.remove(now_ms)
        outcomes.append(outcome)
        answered.set()
        if outcome.value is not None:
            # In commit order: a login that comes after it has it in READY, and is not told again. Also late: a
            # commit that was in doubt and proves good.
            node.backplane.publish(GlobalNotice(outcome.value))

    node.announcing.append(now_ms)
    try:
        node.store.submit(CreateAnnouncement(announcement), done)
    except LiveError:
        node.announcing.remove(now_ms)
        raise
    await answered.wait()
    return outcomes[0].unwrap()


def _check_text(name: str, value: str, least: int, most: int) -> None:
    if not least <= len(value) <= most:
        raise ProtocolError(f"{name}: expected {least} to {most} characters, got {len(value)}")
    if not is_text(value):
        raise ProtocolError(f"{name}: expected Unicode text without NUL and lone surrogates")


def _check_url(name: str, value: str | None) -> None:
    if value is None:
        return
    _check_text(name, value, 1, URL_CHARS_MAX)
    if not value.startswith(URL_SCHEMES):
        raise ProtocolError(f"{name}: expected https://… or http://…")
