"""Serves the trace: every packet in and out as a line, to an operator who watches."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

import attrs
import trio
from starlette.responses import Response

from livechat.error import Overloaded, ProtocolError
from livechat.handlers.access import check_channel, check_counts
from livechat.http.endpoint import API, Call, Endpoint
from livechat.http.events import END, EVENT_STREAM, HEARTBEAT, HEARTBEAT_S, EventStream, serialize_event
from livechat.protocol.codec import unstructure
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.validators import SEQ_MAX, between, length
from livechat.telemetry.packets import CLOSE, OP_NAMES, UNKNOWN_OP, UNREADABLE, Direction, PacketFilter, Watcher

LINES_AT_ONCE: Final = 128
"""Lines encoded before other tasks get their turn."""
GATHER_S: Final = 0.05
"""How long lines gather before they are sent together; people do not see it."""
NAMES: Final = frozenset({*OP_NAMES.values(), CLOSE, UNKNOWN_OP, UNREADABLE})
WELCOME: Final = b": livechat trace\n\n"
"""Sent at once, so that whoever watches knows that nothing that follows is missed."""


@attrs.frozen
class TraceQuery:
    """Which packets are wanted; what is left out excludes nothing."""

    channel: ChannelId | None = None
    user: UserId | None = None
    session: str | None = attrs.field(default=None, validator=length(1, 64))
    """The beginning of a session id."""
    op: str | None = attrs.field(default=None, validator=length(1, 1000))
    """Names or numbers of ops, with commas between; ACK and ERROR of a request go by its name as well."""
    direction: Direction | None = None
    errors: bool = False
    """Only ERRORs, closes from 4000 on, and what was no packet."""
    limit: int | None = attrs.field(default=None, validator=between(1, SEQ_MAX))
    """End after so many lines."""


async def watch(call: Call) -> Response:
    """Send a line for each packet that passes from now on."""
    wanted: TraceQuery = call.query
    channels = None if call.identity_or_none is None else call.identity_or_none.channels
    if wanted.channel is not None:
        check_channel(channels, wanted.channel)
    with ExitStack() as stack:
        watcher = stack.enter_context(call.node.packets.watch(_filter(wanted, channels)))
        held = stack.pop_all()

    async def tell(send: Callable[[bytes], Awaitable[None]]) -> None:
        await _tell(watcher, wanted.limit, send)

    return EventStream(tell, held, partial(_check, call))


def _check(call: Call) -> None:
    """Refuse to go on for whom would not be let in by now; see `access.check_counts`."""
    if call.identity_or_none is not None:
        check_counts(call.node, call.identity_or_none)


def _filter(wanted: TraceQuery, channels: ChannelPatterns | None) -> PacketFilter:
    return PacketFilter(
        channel_id=wanted.channel,
        user_id=wanted.user,
        session=wanted.session,
        names=None if wanted.op is None else frozenset(_name(part.strip()) for part in wanted.op.split(",")),
        direction=wanted.direction,
        errors_only=wanted.errors,
        channels=channels,
    )


def _name(text: str) -> str:
    """Return the name of an op that is given by name or number.

    Raises:
        ProtocolError: there is no such op.
    """
    name = OP_NAMES.get(int(text), "") if text.isascii() and text.isdecimal() and len(text) < 5 else text.upper()
    if name not in NAMES:
        raise ProtocolError("op: expected names or numbers of ops, with commas between")
    return name


async def _tell(watcher: Watcher, limit: int | None, send: Callable[[bytes], Awaitable[None]]) -> None:
    await send(WELCOME)
    left = limit
    while left is None or left > 0:
        # A comment is due only if nothing came.
        with trio.move_on_after(HEARTBEAT_S) as waiting:
            lines, dropped = await watcher.take()
        if waiting.cancelled_caught:
            await send(HEARTBEAT)
            continue
        lines = lines[:left]
        for start in range(0, len(lines), LINES_AT_ONCE):
            part = lines[start : start + LINES_AT_ONCE]
            await send(b"".join(serialize_event(_json(line)) for line in part))
            await trio.lowlevel.checkpoint()
        if left is not None:
            left -= len(lines)
        if dropped and left != 0:
            await send(serialize_event(_json_of({"dropped": dropped}), "dropped"))
        await trio.sleep(GATHER_S)
    await send(serialize_event("{}", END))


def _json(line: object) -> str:
    return _json_of(unstructure(line))


def _json_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        f"{API}/admin/trace",
        watch,
        "admin",
        "Watch the packets",
        "admin",
        query=TraceQuery,
        answers={200: None},
        errors=(Overloaded,),
        description=(
            "Server-sent events, one for each packet, in or out, and for the end of each connection: time, "
            "direction, names and numbers, never what was said. An event `dropped` says how many lines were left "
            "out for a client that reads too slowly; `end` comes after `limit` lines, or says by `code` and "
            "`reason` that the token has expired or was revoked."
        ),
        produces={200: EVENT_STREAM},
        open_on_loopback=True,
    ),
)
