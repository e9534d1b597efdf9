"""Handles op 20: MESSAGE_CREATE.

It must not assign `seq` or decide membership: the store does, in the transaction of the insert.
"""

from __future__ import annotations

from hashlib import blake2b
from json import JSONEncoder
from typing import Any, Final

import attrs

from livechat.cluster.backplane import ChannelNotice, UserNotice
from livechat.error import EmptyMessage, LiveError, MessageTooLong
from livechat.handlers import views
from livechat.handlers.ask import Asked
from livechat.handlers.attachments import claim_of
from livechat.handlers.content import Draft, filtered
from livechat.handlers.node import Node
from livechat.protocol.codec import unstructure
from livechat.protocol.events import MessageCreated, Notification
from livechat.protocol.requests import MessageCreate
from livechat.protocol.types import UserId
from livechat.store.operations import CreateMessage
from livechat.store.rows import MessageRow, Stored, new_message_id

PREVIEW_CHARS: Final = 100
"""Code points of a message that a NOTIFICATION shows."""
_canonical: Final = JSONEncoder(sort_keys=True).encode


def create(call: Asked, request: MessageCreate) -> None:
    """Op 20 → ACK MessageCreated if the request carried an id; MESSAGE_EVENT to all subscribers.

    The author's own sessions hear the event too, this one after the ACK.
    """
    call.nonce = request.nonce
    content, claim = request.content, None
    problem = find_problem(request, call.node.limits.message_chars)
    if problem is None:
        try:
            content = filter_content(call, request)
            if request.attachment is not None:
                claim = claim_of(call.node, request.attachment.url)
        except LiveError as refusal:
            problem = refusal
    if problem is not None and request.nonce is None:
        raise problem

    def committed(stored: Stored) -> None:
        if not call.wants_ack:
            call.succeed_silently()
        else:
            call.ack(
                MessageCreated(
                    stored.message_id,
                    stored.channel_id,
                    stored.seq,
                    stored.timestamp,
                    stored.duplicate,
                    request.nonce,
                )
            )
        if stored.message is not None:
            _publish(call.node, stored.message, stored.mentioned)

    attachment: dict[str, Any] | None = None
    if request.attachment is not None:
        attachment = attrs.asdict(request.attachment)
    call.submit(
        CreateMessage(
            # By position, as by name it takes twice as long.
            request.channel_id,
            call.user_id,
            content,
            request.message_type,
            attachment,
            request.mentions or (),
            request.nonce,
            b"" if request.nonce is None else body_digest(request),
            new_message_id(),
            call.node.now_ms(),
            problem,
            call.is_admin,
            claim,
        ),
        committed,
    )


def _publish(node: Node, row: MessageRow, mentioned: tuple[UserId, ...]) -> None:
    """Tell the channel, and those whom the message mentions wherever they look."""
    node.backplane.publish(ChannelNotice(views.message(row)))
    for user_id in mentioned:
        notification = Notification(
            kind="mention",
            channel_id=row.channel_id,
            message_id=row.message_id,
            seq=row.seq,
            user_id=row.author_id,
            preview=row.content[:PREVIEW_CHARS],
        )
        node.backplane.publish(UserNotice(user_id, notification))


def find_problem(request: MessageCreate, chars_max: int) -> LiveError | None:
    """Return what is wrong with a message's body, or None.

    Args:
        chars_max: the most code points of content.
    """
    if len(request.content) > chars_max:
        return MessageTooLong(f"content: expected at most {chars_max} characters, got {len(request.content)}")
    if request.attachment is None and not request.content.strip():
        return EmptyMessage("content: expected some text")
    return None


def filter_content(call: Asked, request: MessageCreate) -> str:
    """Return what is to be stored of a message's content.

    Raises:
        LiveError: the content filter refuses the message, or failed.
    """
    content_filter = call.node.content_filter
    if content_filter is None:
        return request.content
    name = None if request.attachment is None else request.attachment.name
    draft = Draft(request.channel_id, call.user_id, request.message_type, request.content, name)
    return filtered(content_filter, draft)


def body_digest(request: MessageCreate) -> bytes:
    """Return 16 bytes that differ when two submitted bodies do, unfiltered; the nonce itself has no part in it."""
    body = unstructure(request)
    body.pop("nonce", None)
    return blake2b(_canonical(body).encode(), digest_size=16).digest()
