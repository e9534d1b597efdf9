"""Owns HTTP/1.1 on a connection whose first bytes were read already: a small ASGI host over h11.

It must not know what it serves. An application that raises costs its own response (500), never the server.

Source: RFC 9112 by h11; ASGI 3.0 (HTTP connection scope).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import attrs
import h11
import structlog
import trio

from livechat.gateway.head import (
    HEAD_BYTES_MAX,
    RequestHead,
    is_forwarded_https,
    is_trusted,
    original_peer,
)
from livechat.gateway.transport import Transport, send_all
from livechat.http.target import fault_of, path_of

log = structlog.get_logger("livechat.http")

Message = MutableMapping[str, Any]
Application = Callable[
    [Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}
LIMIT_EXTENSION: Final = "livechat.body_limit"
"""The ASGI extension by which an application sets the limit of a request's body: a function of the bytes."""
ENDLESS_EXTENSION: Final = "livechat.endless"
"""The ASGI extension by which an application says that its response has no end of its own: a function."""
SEND_TIMEOUT_S: Final = 30.0
"""A client that reads nothing of its response for so long is cut."""
SEND_BYTES: Final = 65_536
"""How much of a response is handed to the connection at a time: more need not be read within one timeout."""
BODY_RATE_MIN: Final = 16_384
"""Bytes a second. A body may take `HttpLimits.idle_s`, and longer if it comes at least this fast."""
DRAIN_BYTES_MAX: Final = 65_536
"""How much of a body that the application did not read is skipped to keep the connection."""
EVENTS_AT_ONCE: Final = 32
"""Events of one connection before other tasks get their turn: one read may hold ten thousand chunks of a byte."""
LINGER_BYTES_MAX: Final = 1 << 20
LINGER_S: Final = 2.0
"""How much, and for how long, a connection that we end is still read."""


@attrs.frozen
class HttpLimits:
    """What a client may ask of the host."""

    body_bytes: int
    """A larger request body is refused with 413."""
    idle_s: float
    """Within it the next request's head must come, and its body at `BODY_RATE_MIN` once it is over."""


class _BodyTooLarge(Exception):
    """The request body passed its limit."""

    status = 413


class _RequestTooSlow(Exception):
    """Something of a request came, but not all of it in time."""


Describe = Callable[[int], tuple[str, bytes]]
"""Returns the media type and the body of the host's own answer of a status; an empty body: none."""


def _say_nothing(_status: int) -> tuple[str, bytes]:
    return "", b""


def limit_body(scope: MutableMapping[str, Any], bytes_max: int) -> None:
    """Give a request another limit of its body than the host's; nothing happens if another host serves it."""
    limit = scope.get("extensions", {}).get(LIMIT_EXTENSION)
    if limit is not None:
        limit(bytes_max)


def mark_endless(scope: MutableMapping[str, Any]) -> None:
    """Say that a response goes on until somebody ends it, so that a drain does not wait for it."""
    mark = scope.get("extensions", {}).get(ENDLESS_EXTENSION)
    if mark is not None:
        mark()


class HttpHost:
    """Serves one application on any number of connections."""

    def __init__(
        self,
        application: Application,
        limits: HttpLimits,
        describe: Describe = _say_nothing,
        trusted_proxies: tuple[str, ...] = (),
    ) -> None:
        self._application = application
        self._limits = limits
        self._describe = describe
        self._trusted_proxies = trusted_proxies
        self._open: set[_HttpConnection] = set()
        self._is_closing = False
        self._one_less = trio.lowlevel.ParkingLot()

    def close(self) -> None:
        """Take no more requests: who is not being answered is let go, the others after their response."""
        self._is_closing = True
        for connection in self._open:
            connection.close()

    async def wait_idle(self) -> None:
        """Wait until no request is being answered, but for those whose response has no end."""
        while any(connection.is_awaited for connection in self._open):
            await self._one_less.park()

    async def serve(self, transport: Transport, received: bytes) -> None:
        """Serve the requests of one connection until either side ends it.

        Args:
            transport: left open; the caller closes it.
            received: what was read of the first request, and maybe more.
        """
        shared = (self._application, self._limits, self._describe, self._trusted_proxies)
        connection = _HttpConnection(*shared, transport, received, self._one_less.unpark_all)
        if self._is_closing:
            # Its head was read before: it gets its answer.
            connection.close()
        self._open.add(connection)
        try:
            while await connection.serve_request():
                pass
            await _linger(transport)
        except (OSError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        finally:
            self._open.discard(connection)
            self._one_less.unpark_all()


async def refuse(transport: Transport, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Answer a request that is not looked at any further, and end the connection; the caller closes it."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"content-length: {len(body)}",
        f"date: {formatdate(usegmt=True)}",
        "connection: close",
    ]
    try:
        with trio.fail_after(SEND_TIMEOUT_S):
            await send_all(transport, "\r\n".join([*lines, "", ""]).encode("ascii") + body)
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


def _response(status: int, headers: list[Any]) -> h11.Response:
    """Return the head of a response, with the words for those who read it by eye."""
    return h11.Response(status_code=status, headers=headers, reason=PHRASES.get(status, ""))


def _status_of(failure: Exception) -> int:
    """Return the status of a request that the client itself spoiled; raise what is no request's fault."""
    if isinstance(failure, _BodyTooLarge):
        return 413
    if isinstance(failure, _RequestTooSlow):
        return 408
    if isinstance(failure, h11.RemoteProtocolError):
        return failure.error_status_hint
    raise failure


class _HttpConnection:
    def __init__(
        self,
        application: Application,
        limits: HttpLimits,
        describe: Describe,
        trusted_proxies: tuple[str, ...],
        transport: Transport,
        received: bytes,
        on_change: Callable[[], object],
    ) -> None:
        self._on_change = on_change
        """Called when `is_awaited` is no longer so."""
        self._application = application
        self._limits = limits
        self._describe = describe
        self._trusted_proxies = trusted_proxies
        self._transport = transport
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._h11.receive_data(received)
        self._body_bytes = 0
        self._body_bytes_max = 0
        self._body_stated = 0
        """How long the body is by its head; 0 where that is not said."""
        self._is_head = False
        self._deadline = 0.0
        """By when the head, or the whole body, must have come: not each of its bytes."""
        self._events_at_once = 0
        self.is_awaited = False
        """A request is being answered, and that will have an end."""
        self._is_closing = False
        self._between: trio.CancelScope | None = None
        """Around the wait for a request after the first."""
        self._is_first = True

    def close(self) -> None:
        """Take no more requests than one whose head is there."""
        self._is_closing = True
        if self._between is not None:
            self._between.cancel()

    async def serve_request(self) -> bool:
        """Serve one request; return whether the connection can take another."""
        self._deadline = trio.current_time() + self._limits.idle_s
        try:
            event = await self._next_request()
        except (h11.RemoteProtocolError, _RequestTooSlow) as exc:
            await self._respond_bare(_status_of(exc))
            return False
        if not isinstance(event, h11.Request):
            return False
        self.is_awaited = True
        try:
            return await self._serve(event) and not self._is_closing
        finally:
            self.end_awaited()

    def end_awaited(self) -> None:
        """Let nobody wait for the request that is being answered."""
        self.is_awaited = False
        self._on_change()

    async def _next_request(self) -> Any:
        """Return the next request; None: none is wanted any more."""
        if self._is_first:
            # Its head was read, whatever it is.
            self._is_first = False
            return await self._next_event()
        with trio.CancelScope() as self._between:
            return await self._next_event()
        return None

    async def _serve(self, event: h11.Request) -> bool:
        self._body_bytes = 0
        self._body_bytes_max = self._limits.body_bytes
        # h11 has seen to it that it is a number.
        self._body_stated = int(dict(event.headers).get(b"content-length", b"0"))
        self._is_head = event.method == b"HEAD"
        self._deadline = trio.current_time() + self._limits.idle_s
        status = fault_of(event) or await self._run_application(event)
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
            while self._h11.their_state is h11.SEND_BODY and skipped <= DRAIN_BYTES_MAX and not self.is_last:
                event = await self._next_event()
                if isinstance(event, h11.Data):
                    skipped += len(event.data)
        except (h11.RemoteProtocolError, _BodyTooLarge, _RequestTooSlow):
            return False
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True

    async def _next_event(self) -> Any:
        self._events_at_once += 1
        if self._events_at_once >= EVENTS_AT_ONCE:
            self._events_at_once = 0
            await trio.lowlevel.checkpoint()
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                await self.write(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
            try:
                with trio.fail_at(self._deadline):
                    self._h11.receive_data(await self._transport.receive())
            except trio.TooSlowError:
                if self._h11.their_state is h11.IDLE and not self._h11.trailing_data[0]:
                    raise  # between two requests nobody waits for an answer
                raise _RequestTooSlow from None
        if isinstance(event, h11.Data):
            self._body_bytes += len(event.data)
            if self._body_bytes > self._body_bytes_max:
                raise _BodyTooLarge
            self._deadline += len(event.data) / BODY_RATE_MIN
        return event

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after the response that is to begin.

        Because the server stops, or the body is too long to skip it.
        """
        left = self._body_stated - self._body_bytes
        return self._is_closing or (self._h11.their_state is h11.SEND_BODY and left > DRAIN_BYTES_MAX)

    async def write(self, event: Any) -> None:
        """Send one h11 event."""
        data = self._h11.send(event) or b""
        # Each part has its own deadline: a long response to a slow client goes on as long as it is read.
        for start in range(0, len(data), SEND_BYTES):
            with trio.fail_after(SEND_TIMEOUT_S):
                await send_all(self._transport, data[start : start + SEND_BYTES])

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

    async def wait_gone(self) -> None:
        """Wait until the client has ended its side or the connection is broken.

        What else it sends meanwhile is kept for its next request, as much as a head may have; of who sends more
        the going is noticed by writing only.
        """
        ahead = len(self._h11.trailing_data[0])
        try:
            while ahead <= HEAD_BYTES_MAX:
                data = await self._transport.receive()
                self._h11.receive_data(data)
                if not data:
                    return
                ahead += len(data)
        except (OSError, trio.ClosedResourceError):
            return
        await trio.sleep_forever()

    def limit_body(self, bytes_max: int) -> None:
        """Set how large the body of the request that is served may be."""
        self._body_bytes_max = bytes_max

    async def _respond_bare(self, status: int) -> None:
        """Answer with a status of the host's own, and close; only if no response has begun."""
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        media_type, body = self._describe(status)
        headers = [("content-length", str(len(body))), ("connection", "close"), ("date", formatdate(usegmt=True))]
        if body:
            headers.append(("content-type", media_type))
        await self.write(_response(status, headers))
        if body and not self._is_head:
            await self.write(h11.Data(data=body))
        await self.write(h11.EndOfMessage())

    def _origin_of(self, request: h11.Request) -> tuple[str, bool]:
        """Return who asks, and whether by https, also through proxies that are trusted."""
        transport = self._transport
        if not is_trusted(transport.peer_host, self._trusted_proxies):
            return transport.peer_host, transport.is_tls
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
        head = RequestHead("", "", headers)
        client, _ = original_peer(head, transport.peer_host, transport.is_tls, self._trusted_proxies)
        return client, is_forwarded_https(head)

    def _scope(self, request: h11.Request) -> dict[str, Any]:
        target = path_of(request.method, request.target)
        assert target is not None
        path, _, query = target.partition(b"?")
        client, is_https = self._origin_of(request)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "https" if is_https else "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": (client, 0),
            "server": (self._transport.local_host, 0),
            "extensions": {LIMIT_EXTENSION: self.limit_body, ENDLESS_EXTENSION: self.end_awaited},
        }


_SPOILED: Final = (
    _BodyTooLarge,
    _RequestTooSlow,
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
            # The response is under way: there is nothing more to hear but the client's going.
            await self._connection.wait_gone()
            return {"type": "http.disconnect"}
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
            headers = [*message.get("headers", []), (b"date", formatdate(usegmt=True).encode())]
            if self._connection.is_last:
                headers.append((b"connection", b"close"))
            await self._connection.write(_response(message["status"], headers))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if body and not self._is_head:
                await self._connection.write(h11.Data(data=body))
            if not message.get("more_body", False):
                await self._connection.write(h11.EndOfMessage())

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
