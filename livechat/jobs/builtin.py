"""Owns the kinds of jobs that every server does: `export_history` and `announce`.

It must not do more than an embedder's own kinds could.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, Final

import attrs

from livechat.handlers import views
from livechat.handlers.access import check_channels
from livechat.handlers.announce import BODY_CHARS_MAX, TITLE_CHARS_MAX, URL_CHARS_MAX, announce
from livechat.handlers.auth import ADMIN_SCOPE
from livechat.handlers.node import Node
from livechat.jobs.desk import JobDesk
from livechat.jobs.kinds import JobContext, JobKind, JobUpdate, Progress, Result
from livechat.protocol.codec import unstructure
from livechat.protocol.types import ChannelId, Severity
from livechat.protocol.validators import SEQ_MAX, between, length
from livechat.store.queries import GetHistory

PAGE_MESSAGES: Final = 200
EXPORTS_AT_ONCE: Final = 4
NDJSON: Final = "application/x-ndjson"


@attrs.frozen
class ExportHistory:
    """Which part of which channel is wanted."""

    channel_id: ChannelId
    after_seq: int = attrs.field(default=0, validator=between(0, SEQ_MAX))
    """Messages after this one."""


@attrs.frozen
class Announce:
    """What everybody is to be told."""

    title: str = attrs.field(validator=length(1, TITLE_CHARS_MAX))
    body: str = attrs.field(default="", validator=length(0, BODY_CHARS_MAX))
    severity: Severity = "info"
    url: str | None = attrs.field(default=None, validator=length(1, URL_CHARS_MAX))
    image_url: str | None = attrs.field(default=None, validator=length(1, URL_CHARS_MAX))
    expires_at: int | None = attrs.field(default=None, validator=between(0, SEQ_MAX))


def register(desk: JobDesk, node: Node) -> None:
    """Have a server do these kinds."""
    exporting = partial(_export_history, node)
    desk.add_kind(
        JobKind(
            "export_history",
            exporting,
            ExportHistory,
            safe_to_rerun=True,
            concurrency=EXPORTS_AT_ONCE,
            permit=lambda identity, wanted: check_channels(identity.channels, wanted),
        )
    )
    desk.add_kind(JobKind("announce", partial(_announce, node), Announce, scope=ADMIN_SCOPE))


async def _export_history(node: Node, job: JobContext[ExportHistory]) -> AsyncGenerator[JobUpdate, None]:
    """Write a channel's messages as the protocol has them, SYSTEM messages included, one JSON object a line.

    The store lets members read it, and admins, for each page anew.
    """
    wanted = job.input
    seq, until, written = wanted.after_seq, None, 0
    async with job.open_output(f"{wanted.channel_id}.ndjson", NDJSON) as file:
        while until is None or seq < until:
            page = await node.store.fetch(
                GetHistory(wanted.channel_id, job.user_id, job.is_admin, after_seq=seq, limit=PAGE_MESSAGES)
            )
            # What comes while we write is for the next export.
            until = page.last_seq if until is None else until
            rows = [row for row in page.messages if row.seq <= until]
            if not rows:
                break
            for row in rows:
                await file.write(_line(unstructure(views.message(row))))
            written, seq = written + len(rows), rows[-1].seq
            yield Progress(min(1.0, seq / until))
    yield Result({"channel_id": wanted.channel_id, "messages": written, "last_seq": seq})


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


async def _announce(node: Node, job: JobContext[Announce]) -> AsyncGenerator[JobUpdate, None]:
    """Tell everybody; see `Server.announce`."""
    wanted = job.input
    made = await announce(
        node,
        wanted.title,
        wanted.body,
        url=wanted.url,
        image_url=wanted.image_url,
        severity=wanted.severity,
        expires_at=wanted.expires_at,
    )
    yield Result({"announcement_id": made.announcement_id})
