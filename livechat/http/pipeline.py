"""Owns the way of one request through an endpoint: who asks, is it valid, the handler, the answer.

It must not know any endpoint. The order is part of the protection: a request is authenticated by its head before
its body is read, and whatever is refused is refused before the handler runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final

import attrs
from starlette.requests import Request
from starlette.responses import Response
from structlog.contextvars import bound_contextvars

from livechat.error import LiveError
from livechat.handlers import access
from livechat.handlers.auth import Identity
from livechat.handlers.node import Node
from livechat.http import decoding, problems
from livechat.http.access import let_in
from livechat.http.endpoint import Answer, Call, Endpoint
from livechat.http.host import limit_body
from livechat.protocol.codec import unstructure
from livechat.telemetry.scope import log_fields

JSON: Final = "application/json"

Gate = Callable[[Endpoint, Call], None]
"""Asked once it is known who calls, before what the call holds is looked at; raises `LiveError` for whom it does
not let through."""


@attrs.frozen
class Pipeline:
    """What all endpoints of a server share."""

    node: Node
    on_loopback: bool
    """The server is bound to loopback only."""
    body_bytes_max: int
    """For endpoints that do not say otherwise."""
    gates: tuple[Gate, ...] = ()
    """Each is asked for each call, in this order."""

    async def run(self, endpoint: Endpoint, request: Request) -> Response:
        """Serve one request."""
        try:
            call = await self._let_in(endpoint, request)
            with bound_contextvars(**_log_fields(call)):
                answer = await endpoint.handler(call)
        except LiveError as refusal:
            self.node.instruments.counters.errors[refusal.code] += 1
            return problems.respond(refusal)
        return answer if isinstance(answer, Response) else _respond(endpoint, request, answer)

    async def _let_in(self, endpoint: Endpoint, request: Request) -> Call:
        identity = await let_in(self.node, endpoint, request, on_loopback=self.on_loopback)
        call = Call(self.node, request, identity, decoding.path_untrusted(request.path_params))
        for gate in self.gates:
            gate(endpoint, call)
        if endpoint.query is not None:
            call.query = decoding.query_untrusted(request.query_params.multi_items(), endpoint.query, call.path)
        bytes_max = self.body_bytes_max if endpoint.body_bytes_max is None else endpoint.body_bytes_max
        limit_body(request.scope, bytes_max)
        if _stated_length(request) > bytes_max:
            raise problems.too_large(bytes_max)
        if endpoint.body is not None and not endpoint.raw:
            decoding.check_is_json(request)
            data = await _read(request, bytes_max)
            call.body = decoding.body_untrusted(data or _default_body(endpoint), endpoint.body, call.path)
        if identity is not None:
            _check_channels(identity, call)
        return call


def _log_fields(call: Call) -> dict[str, str]:
    identity = call.identity_or_none
    return log_fields(user=None if identity is None else identity.user_id, channel=call.path.get("channel_id"))


def _default_body(endpoint: Endpoint) -> bytes:
    return b"{}" if endpoint.body_optional else b""


def _check_channels(identity: Identity, call: Call) -> None:
    """Refuse what names a channel, wherever it does so, for which the token is not good.

    Raises:
        Forbidden: it does.
    """
    if "channel_id" in call.path:
        access.check_channel(identity.channels, call.path["channel_id"])
    access.check_channels(identity.channels, call.query, call.body)


def _stated_length(request: Request) -> int:
    # The host has seen to it that it is a number, if it is there.
    return int(request.headers.get("content-length", "0"))


async def _read(request: Request, bytes_max: int) -> bytes:
    """Read a body whose length need not have been stated."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > bytes_max:
            raise problems.too_large(bytes_max)
    return bytes(data)


def _respond(endpoint: Endpoint, request: Request, answer: Answer) -> Response:
    headers: dict[str, str] = {"cache-control": "no-store", **answer.headers}
    if answer.value is None:
        return Response(None, answer.status, headers)
    body = json.dumps(unstructure(answer.value), ensure_ascii=False, separators=(",", ":")).encode()
    if endpoint.etag:
        tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
        headers |= {"etag": tag, "cache-control": "private, no-cache", **answer.headers}
        if matches(request.headers, tag):
            return Response(None, 304, headers)
    return Response(body, answer.status, headers, JSON)


def matches(headers: Mapping[str, str], tag: str) -> bool:
    """Tell whether a client has what bears this ETag already (RFC 9110, section 13.1.2: weak comparison)."""
    known = headers.get("if-none-match", "")
    return known.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in known.split(","))
