"""Owns an endless answer of server-sent events: it ends with its client, its source, or the right to see it.

It must not know what is sent, nor who may see it. A client that reads nothing is cut by the host; until then the
source has to bound what waits.

Source: the HTML standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from livechat.error import LiveError
from livechat.http.host import mark_endless

EVENT_STREAM: Final = "text/event-stream"
Tell = Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]]

HEARTBEAT_S: Final = 15.0
"""After so long without an event a comment is sent: proxies take a silent connection for a dead one."""
HEARTBEAT: Final = b": heartbeat\n\n"
CHECK_S: Final = 0.25
"""How often it is asked whether the client may still see it: the end of a token counts within a second."""
FAREWELL_S: Final = 0.5
"""For how long a client is told why; one that reads too slowly for that is cut."""
END: Final = "end"
"""The name of the last event."""


def serialize_event(data: str, name: str | None = None) -> bytes:
    """Return one event.

    Args:
        data: without line breaks, as JSON is.
        name: None: `message`, as clients call it.
    """
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {data}\n\n".encode()


class EventStream(Response):
    """A response that goes on until its source returns or the client has gone, which cancels the source.

    Args:
        tell: the source; it is given what sends bytes, whole events and comments.
        held: left when the response ends, whatever way.
        check: asked again and again; when it raises, the source is cancelled, and an event `end` says why.
    """

    media_type = EVENT_STREAM

    def __init__(self, tell: Tell, held: AbstractContextManager[object], check: Callable[[], None]) -> None:
        # nginx would gather it in a buffer.
        super().__init__(None, 200, {"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._tell = tell
        self._held = held
        self._check = check
        self._is_whole = True
        """Nothing is half sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it; see ASGI."""

        async def send_data(data: bytes) -> None:
            self._is_whole = False
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self._is_whole = True

        mark_endless(scope)
        with self._held:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                if scope["method"] != "HEAD":
                    await self._tell_while_allowed(send_data)
                # Else the host sees that the response has no end, and ends the connection.
                if self._is_whole:
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                nursery.cancel_scope.cancel()

    async def _tell_while_allowed(self, send_data: Callable[[bytes], Awaitable[None]]) -> None:
        refusals: list[LiveError] = []
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while not refusals:
                    await trio.sleep(CHECK_S)
                    try:
                        self._check()
                    except LiveError as refusal:
                        refusals.append(refusal)
                # Also in the middle of a write: a client that reads slowly must not be told the rest of it.
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await self._tell(send_data)
            nursery.cancel_scope.cancel()
        for refusal in refusals:
            if self._is_whole:
                reason = json.dumps({"code": refusal.code, "reason": refusal.reason})
                with trio.move_on_after(FAREWELL_S):
                    await send_data(serialize_event(reason, END))


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
