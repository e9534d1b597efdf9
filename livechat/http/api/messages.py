"""Serves messages: a channel's history, and sending for who has no session (ops 21 and 20).

It must not do either: the handlers of those ops do.
"""

from __future__ import annotations

from typing import Final

import attrs

from livechat.error import (
    ContentRejected,
    EmptyMessage,
    JoinBeforeMessaging,
    MessageTooLong,
    NonceConflict,
    ProtocolError,
)
from livechat.handlers import history, messages
from livechat.http.api.asking import ask_as_publisher, ask_as_user
from livechat.http.endpoint import API, OF_A_CHANNEL, OF_MEMBERS, READING, WRITING, Answer, Call, Endpoint
from livechat.protocol.events import HistoryPage, MessageCreated
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import NONCE_LENGTH_MAX, History, MessageCreate
from livechat.protocol.types import is_text

PATH: Final = f"{API}/channels/{{channel_id}}/messages"
KEY_HEADER: Final = "Idempotency-Key"


async def list_messages(call: Call) -> Answer:
    """Op 21."""
    return Answer(await ask_as_user(call, history.history, call.query))


async def create(call: Call) -> Answer:
    """Op 20: the first time it is made, after that it is found."""
    wanted: MessageCreate = call.body
    key = _idempotency_key_untrusted(call)
    if key is not None:
        if wanted.nonce not in (None, key):
            raise ProtocolError(f"nonce: expected that of {KEY_HEADER}, or none")
        wanted = attrs.evolve(wanted, nonce=key)
    created: MessageCreated = await ask_as_publisher(call, messages.create, wanted)
    return Answer(created, 200 if created.duplicate else 201)


def _idempotency_key_untrusted(call: Call) -> str | None:
    key = call.header(KEY_HEADER)
    if key is not None and (not 1 <= len(key) <= NONCE_LENGTH_MAX or not is_text(key)):
        raise ProtocolError(f"{KEY_HEADER.lower()}: expected 1 to {NONCE_LENGTH_MAX} characters")
    return key


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        PATH,
        list_messages,
        "messages",
        "Read the history of a channel",
        "user",
        op=Op.HISTORY,
        query=History,
        answers={200: HistoryPage},
        errors=(*OF_MEMBERS, *READING),
        description="Ascending by `seq`, SYSTEM messages included, for members. With neither `before_seq` nor "
        "`after_seq` the newest. `has_before` and `has_after` tell whether there is more: go on with the first "
        "`seq` of the page as `before_seq`, or the last one as `after_seq`.",
        etag=True,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        "messages",
        "Send a message",
        "send",
        op=Op.MESSAGE_CREATE,
        body=MessageCreate,
        answers={201: MessageCreated, 200: MessageCreated},
        errors=(
            *OF_A_CHANNEL,
            JoinBeforeMessaging,
            EmptyMessage,
            MessageTooLong,
            NonceConflict,
            ContentRejected,
            *WRITING,
        ),
        description="As MESSAGE_CREATE: it is stored, then told to all members. With the scope `chat` it is for "
        "members; who has the scope `publish` need not be one, nor who shows the shared secret. Repeated with the "
        "same key within 24 hours it is answered 200 with the first result, and told to nobody again.",
        request_headers={
            KEY_HEADER: "Names this message: sending it twice makes one. The `nonce` of MESSAGE_CREATE."
        },
    ),
)
