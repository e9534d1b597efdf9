"""Owns what an endpoint of the HTTP API is: one value that routing, validation, access and OpenAPI all read.

It must not serve anything (`pipeline` does) or know any resource (`livechat.http.api`).

A new resource is a module `livechat/http/api/<resource>.py` with `ENDPOINTS`, named in `livechat.http.app`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import attrs
from starlette.requests import Request
from starlette.responses import Response

from livechat.error import (
    AccessDenied,
    BackendUnavailable,
    ChannelNotFound,
    LiveError,
    NotInChannel,
    NotPersisted,
    Overloaded,
    ShuttingDown,
)
from livechat.handlers.auth import Identity
from livechat.handlers.node import Node
from livechat.protocol.opcodes import Op
from livechat.protocol.patterns import ChannelPatterns

API: Final = "/api/v1"
"""Before the path of every resource."""
OPERATOR: Final = "operator"
"""What an actor is called who proved to be one without saying who."""

Access = Literal["public", "user", "publish", "send", "admin"]
"""Who may call an endpoint: anybody; whoever has a token of scope `chat`; of scope `publish`; of either of the
two; of scope `admin`. The scope `admin` opens all of them, and so does the shared secret."""

READING: Final[tuple[type[LiveError], ...]] = (Overloaded, ShuttingDown, BackendUnavailable)
"""What an endpoint that reads the store may end with."""
WRITING: Final[tuple[type[LiveError], ...]] = (NotPersisted, Overloaded, ShuttingDown)
"""What an endpoint that changes the store may end with."""
OF_A_CHANNEL: Final[tuple[type[LiveError], ...]] = (ChannelNotFound, AccessDenied)
"""What an endpoint may end with that knows a channel by its id."""
OF_MEMBERS: Final[tuple[type[LiveError], ...]] = (*OF_A_CHANNEL, NotInChannel)
"""What an endpoint may end with that is for the members of a channel."""


@attrs.frozen
class Answer:
    """What a handler answers."""

    value: object = None
    """An instance of the class that `Endpoint.answers` has for the status; None: no body."""
    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define(slots=True, eq=False)
class Call:
    """A request that was let in: its sender is known, what it holds is valid."""

    node: Node
    request: Request
    identity_or_none: Identity | None
    """Who asks. None: the endpoint is public, or for an operator who did not say who that is."""
    path: Mapping[str, str]
    """The parameters of the path by name. `channel_id` and `user_id` are ids; others are 1 to 128 characters."""
    body: Any = None
    """An instance of `Endpoint.body`."""
    query: Any = None
    """An instance of `Endpoint.query`."""

    @property
    def identity(self) -> Identity:
        """Who asks; not for public endpoints, nor for those of the `admin` scope (see `actor`)."""
        assert self.identity_or_none is not None
        return self.identity_or_none

    def header(self, name: str) -> str | None:
        """Return a header of the request as text; see `text_of`."""
        return text_of(self.request, name)

    @property
    def channels(self) -> ChannelPatterns | None:
        """The channels that the token of the one who asks is good for; None: all."""
        return None if self.identity_or_none is None else self.identity_or_none.channels

    @property
    def actor(self) -> str:
        """What to call the one who asks, for logs and events."""
        return OPERATOR if self.identity_or_none is None else self.identity_or_none.user_id


def text_of(request: Request, name: str) -> str | None:
    """Return a header as text; clients write UTF-8 where HTTP knows bytes only."""
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1").decode("utf-8", "replace")


Handler = Callable[[Call], Awaitable[Answer | Response]]
"""Raises `LiveError` for what is refused. A `Response` is sent as it is: streams, files, pages."""


@attrs.frozen
class Endpoint:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    """GET answers HEAD as well."""
    path: str
    """`/api/v1/jobs/{job_id}`: what is in braces is one segment, and comes in `Call.path`."""
    handler: Handler
    tag: str
    """The resource, as the reference groups it."""
    summary: str
    """A few words for the reference, in the imperative."""
    access: Access
    body: type[Any] | None = None
    """An attrs class that the JSON body is validated by; unknown fields are ignored. A field that is called like a
    parameter of the path is filled from there."""
    query: type[Any] | None = None
    """An attrs class that the query is validated by; else as `body`."""
    answers: Mapping[int, type[Any] | None] = attrs.field(factory=lambda: {200: None})
    """Each status of success, with the attrs class of its JSON; None: no body, or see `produces`."""
    errors: tuple[type[LiveError], ...] = ()
    """What it may end with beside what any endpoint of its kind may."""
    description: str = ""
    """More for the reference, in whole sentences."""
    raw: bool = attrs.field(default=False, kw_only=True)
    """The handler reads the body itself (`Call.request.stream()`)."""
    body_optional: bool = attrs.field(default=False, kw_only=True)
    """An empty body stands for `{}`."""
    consumes: str = attrs.field(default="application/json", kw_only=True)
    """The media type of the body of a raw endpoint; empty: it has none."""
    produces: Mapping[int, str] = attrs.field(factory=dict, kw_only=True)
    """The media type of each answer that is not JSON."""
    body_bytes_max: int | None = attrs.field(default=None, kw_only=True)
    """A larger body is refused (413); None: the limit of the whole server."""
    open_on_loopback: bool = attrs.field(default=False, kw_only=True)
    """It only reads, and needs no token while the server is bound to loopback only and asked from there."""
    needs_user: bool = attrs.field(default=True, kw_only=True)
    """False: whoever has the shared secret need not say who that is. So it is with all of `access="admin"`."""
    op: Op | None = attrs.field(default=None, kw_only=True)
    """Which op of the gateway does the same, where its rate is limited by itself."""
    etag: bool = attrs.field(default=False, kw_only=True)
    """A GET whose answer carries an ETag, and that answers 304 to whoever has that one (If-None-Match)."""
    request_headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """Headers that the handler reads, each with what it is for."""
    answer_headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """Headers that an answer of success may carry, each with what it is for."""
