"""Streams of server-sent events, as ASGI sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import trio
import trio.testing
from starlette.types import Message

from livechat.error import InvalidToken
from livechat.http.events import FAREWELL_S, EventStream


class Peer:
    """Who reads a response, as long as it does."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.stuck_at: int | None = None
        """From this message on it reads nothing."""

    async def receive(self) -> Message:
        await trio.sleep_forever()
        raise AssertionError

    async def send(self, message: Message) -> None:
        if self.stuck_at is not None and len(self.messages) >= self.stuck_at:
            await trio.sleep_forever()
        self.messages.append(message)


async def tell(send: Callable[[bytes], Awaitable[None]]) -> None:
    await send(b"data: 1\n\n")
    await send(b"data: 2\n\n")
    await trio.sleep_forever()


def refuse() -> None:
    raise InvalidToken("token: revoked")


async def served(peer: Peer) -> float:
    """Serve a stream that may not be seen any more; return how long it took."""
    began_at = trio.current_time()
    scope = {"type": "http", "method": "GET"}
    await EventStream(tell, nullcontext(), refuse)(scope, peer.receive, peer.send)
    return trio.current_time() - began_at


async def test_what_may_be_seen_no_more_ends_with_the_reason(autojump_clock: trio.testing.MockClock) -> None:
    peer = Peer()
    assert await served(peer) < 1
    assert [message.get("body") for message in peer.messages[1:]] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
        b'event: end\ndata: {"code": 1001, "reason": "token: revoked"}\n\n',
        b"",
    ]
    assert not peer.messages[-1]["more_body"]


async def test_who_reads_nothing_is_cut_in_time_without_an_end(autojump_clock: trio.testing.MockClock) -> None:
    for stuck_at in (2, 3):
        peer = Peer()
        peer.stuck_at = stuck_at
        assert await served(peer) < FAREWELL_S + 0.5
        assert all(message["more_body"] for message in peer.messages[1:])
        assert len(peer.messages) == stuck_at
