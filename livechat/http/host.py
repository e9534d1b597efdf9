"""Owns HTTP/1.1 on a connection whose first bytes were read already: a small ASGI host over h11.

It must not know what it serves. An application that raises costs its own response (500), never the server.

Source: RFC 9112 by h11; ASGI 3.0 (HTTP connection scope).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import attrs
import h11
import structlog
import trio

from livechat.gateway.head import HEAD_BYTES_MAX
from livechat.gateway.transport import Transport, send_all

log = structlog.get_logger("livechat.http")

Message = MutableMapping[str, Any]
Application = Callable[
    [Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

SEND_TIMEOUT_S: Final = 30.0
"""A client that does not read its response for so long is cut."""
DRAIN_BYTES_MAX: Final = 65_536
"""How much of a body that the application did not read is skipped to keep the connection."""
LINGER_BYTES_MAX: Final = 1 << 20
LINGER_S: Final = 2.0
"""How much, and for how long, a connection that we end is still read."""


@attrs.frozen
class HttpLimits:
    """What a client may ask of the host."""

    body_bytes: int
    """A larger request body is refused with 413."""
    idle_s: float
    """Within it the next request's head must come, and within it again its body."""


class _BodyTooLarge(Exception):
    """The request body passed its limit."""


class HttpHost:
    """Serves one application on any number of connections."""

    def __init__(self, application: Application, limits: HttpLimits) -> None:
        self._application = application
        self._limits = limits

    async def serve(self, transport: Transport, received: bytes) -> None:
        """Serve the requests of one connection until either side ends it.

        Args:
            transport: left open; the caller closes it.
            received: what was read of the first request, and maybe more.
        """
        connection = _HttpConnection(self._application, self._limits, transport, received)
        try:
            while await connection.serve_request():
                pass
            await _linger(transport)
        except (OSError, trio.ClosedResourceError, trio.TooSlowError):
            pass


async def refuse(transport: Transport, status: int, reason: str) -> None:
    """Answer a request that is none with a bare status, and end the connection; the caller closes it.

    Args:
        reason: one line of ASCII, sent as the body.
    """
    body = f"{reason}\n".encode("ascii")
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    try:
        with trio.fail_after(SEND_TIMEOUT_S):
            await send_all(transport, head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await _linger(transport)
    except (OSError, trio.ClosedResourceError, trio.TooSlowError):
        pass


async def _linger(transport: Transport) -> None:
    """Say that nothing more comes and read what does, up to the client's own end, within bounds.

    Closing a socket with unread bytes in it sends a reset, which may take our last response along
    (RFC 9112, section 9.6): it is just who sent too much that would never learn so.
    """
    transport.send_eof()
    left = LINGER_BYTES_MAX
    with trio.move_on_after(LINGER_S):
        while left > 0 and (data := await transport.receive()):
            left -= len(data)


def _status_of(failure: Exception) -> int:
    """Return the status of a request that the client itself spoiled; raise what is no request's fault."""
    if isinstance(failure, _BodyTooLarge):
        return 413
    if isinstance(failure, h11.RemoteProtocolError):
        return failure.error_status_hint
    raise failure


class _HttpConnection:
    def __init__(
        self, application: Application, limits: HttpLimits, transport: Transport, received: bytes
    ) -> None:
        self._application = application
        self._limits = limits
        self._transport = transport
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._h11.receive_data(received)
        self._body_bytes = 0
        self._deadline = 0.0
        """By when the head, or the whole body, must have come: not each of its bytes."""

    async def serve_request(self) -> bool:
        """Serve one request; return whether the connection can take another."""
        self._deadline = trio.current_time() + self._limits.idle_s
        try:
            event = await self._next_event()
        except h11.RemoteProtocolError as exc:
            await self._respond_bare(exc.error_status_hint)
            return False
        if not isinstance(event, h11.Request):
            return False
        self._body_bytes = 0
        self._deadline = trio.current_time() + self._limits.idle_s
        status = await self._run_application(event)
        if status is not None:
            await self._respond_bare(status)
            return False
        return await self._is_reusable()

    async def _run_application(self, event: h11.Request) -> int | None:
        """Let the application answer; return the status that the host must answer with instead, if any.

        Raises:
            OSError, trio.ClosedResourceError, trio.TooSlowError: the connection failed.
        """
        request = _Request(self, event)
        path = event.target.decode("latin-1").partition("?")[0]
        try:
            await self._application(self._scope(event), request.receive, request.send)
        except Exception:
            # What the connection made it raise is known already, however the application wrapped it.
            if request.failure is None:
                log.exception("http application failed", path=path)
                return 500
        if request.failure is not None:
            return _status_of(request.failure)
        if self._h11.our_state is h11.SEND_RESPONSE:
            log.error("http application gave no response", path=path)
            return 500
        return None

    async def _is_reusable(self) -> bool:
        """Skip what is left of the body and start over, if both sides want to."""
        skipped = 0
        try:
            while self._h11.their_state is h11.SEND_BODY and skipped <= DRAIN_BYTES_MAX:
                event = await self._next_event()
                if isinstance(event, h11.Data):
                    skipped += len(event.data)
        except (h11.RemoteProtocolError, _BodyTooLarge):
            return False
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _next_event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self.write(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
            with trio.fail_at(self._deadline):
                self._h11.receive_data(await self._transport.receive())
        if isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_bytes > self._limits.body_bytes:
                raise _BodyTooLarge
        return event

    async def write(self, event: Any) -> None:
        """Send one h11 event."""
        data = self._h11.send(event)
        if data:
            with trio.fail_after(SEND_TIMEOUT_S):
                await send_all(self._transport, data)

    async def read_body(self) -> Message:
        """Return the next part of the request body as an ASGI message."""
        if self._h11.their_state is not h11.SEND_BODY:
            return {"type": "http.disconnect"}
        event = await self._next_event()
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def _respond_bare(self, status: int) -> None:
        """Answer with a status and no body, and close; only if no response has begun."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("content-length", "0"), ("connection", "close")]
        await self.write(h11.Response(status_code=status, headers=headers))
        await self.write(h11.EndOfMessage())

    def _scope(self, request: h11.Request) -> dict[str, Any]:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "https" if self._transport.is_tls else "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": (self._transport.peer_host, 0),
            "server": (self._transport.local_host, 0),
        }


_SPOILED: Final = (
    _BodyTooLarge,
    h11.RemoteProtocolError,
    OSError,
    trio.ClosedResourceError,
    trio.TooSlowError,
)
"""What reading a request or writing its response may raise through no fault of the application."""


class _Request:
    """The ASGI side of one request.

    Once the connection failed it every call raises that failure: frameworks answer whatever was raised in them
    with a 500 of their own, and a client whose body was too large must learn that instead.
    """

    def __init__(self, connection: _HttpConnection, event: h11.Request) -> None:
        self.failure: Exception | None = None
        self._connection = connection
        self._is_head = event.method == b"HEAD"
        self._body_read = False

    async def receive(self) -> Message:
        self._raise_failure()
        if self._body_read:
            # The response is under way: there is nothing more to hear but the client's going, which a
            # write notices as well.
            await trio.sleep_forever()
        try:
            message = await self._connection.read_body()
        except _SPOILED as exc:
            self.failure = exc
            raise
        self._body_read = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self._raise_failure()
        try:
            await self._write(message)
        except _SPOILED as exc:
            self.failure = exc
            raise

    async def _write(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            await self._connection.write(h11.Response(status_code=message["status"], headers=headers))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if body and not self._is_head:
                await self._connection.write(h11.Data(data=body))
            if not message.get("more_body", False):
                await self._connection.write(h11.EndOfMessage())

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
