"""Owns a message on its way as its sender sees it: shown at once, confirmed or rolled back later.

It must not send or retry (see `outbox`).

    pending ──► confirmed      stored; `seq` says where
            ──► rolled_back    surely not stored; `error` says why
            ──► unknown        given up without an answer: stored or not, nobody has said
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import trio

from livechat.client.error import OutcomeUnknown
from livechat.protocol.events import MessageCreated
from livechat.protocol.requests import MessageCreate
from livechat.protocol.types import ChannelId

SendState = Literal["pending", "confirmed", "rolled_back", "unknown"]


class SentMessage:
    """A message that was posted.

    Args:
        request: what was posted.
        changed: called when its state has changed.
    """

    def __init__(self, request: MessageCreate, changed: Callable[[SentMessage], None]) -> None:
        assert request.nonce is not None
        self.channel_id: ChannelId = request.channel_id
        self.content: str = request.content
        self.nonce: str = request.nonce
        """The MESSAGE_EVENT of this message carries it, too."""
        self.state: SendState = "pending"
        self.created: MessageCreated | None = None
        """Once confirmed: what the server made of it."""
        self.error: Exception | None = None
        """Why it is rolled back or unknown."""
        self._changed = changed
        self._settled = trio.Event()

    @property
    def seq(self) -> int | None:
        """Its place in the channel, once confirmed."""
        return None if self.created is None else self.created.seq

    def __repr__(self) -> str:
        return f"<SentMessage {self.nonce} in {self.channel_id}: {self.state} seq={self.seq}>"

    async def wait(self) -> MessageCreated:
        """Wait until it is confirmed.

        Raises:
            LiveError: the server refused it, or could not store it.
            NotSent: it was given up before it was sent.
            OutcomeUnknown: it was given up after it was sent.

        Cancellation:
            It goes on its way.
        """
        await self._settled.wait()
        if self.error is not None:
            raise self.error
        assert self.created is not None
        return self.created

    def settle(self, created: MessageCreated | None, error: Exception | None) -> None:
        """Take the outcome."""
        self.created, self.error = created, error
        if error is None:
            self.state = "confirmed"
        else:
            self.state = "unknown" if isinstance(error, OutcomeUnknown) else "rolled_back"
        self._settled.set()
        self._changed(self)


@attrs.frozen
class SendChanged:
    """A message that was posted has another state than before; `pending` is told as well, when it is posted."""

    message: SentMessage
    state: SendState
