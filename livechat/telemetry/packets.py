"""Owns what an operator may see of the packets that pass: one summary line each, for whoever watches.

It must not hold what packets say: a line has names, numbers and sizes. While nobody watches, a packet costs the
gateway one look at `is_watched`. While somebody does, no packet waits for it: what a slow watcher misses is
counted, and said.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import attrs
import trio

from livechat.error import Overloaded
from livechat.protocol.codec import Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.patterns import ChannelPatterns, allowed
from livechat.protocol.types import ID_PATTERN
from livechat.telemetry.scope import shown_session

LINES_MAX: Final = 2048
"""Lines that wait for one watcher; what comes on top is dropped and counted."""
WATCHERS_MAX: Final = 16
OP_SHOWN_MAX: Final = 2**31
"""A client may send any number at all."""
OP_NAMES: Final = {int(op): op.name for op in Op}
UNKNOWN_OP: Final = "UNKNOWN"
"""The name of every number that is none of the protocol's."""
UNREADABLE: Final = "UNREADABLE"
"""The name of what came and was no packet."""
CLOSE: Final = "CLOSE"
"""The name of the line that says how a connection ended."""

Direction = Literal["in", "out"]


@attrs.frozen
class PacketLine:
    """One packet, in or out, or the end of a connection."""

    time: int
    """Milliseconds since 1970."""
    direction: Direction
    """`in`: from a client; a CLOSE `in` was begun by the client."""
    name: str
    """Of the op; `UNKNOWN`, `UNREADABLE` (no packet at all), `CLOSE` (the connection ended)."""
    peer: str
    """The client's address, as told by a trusted proxy where there is one."""
    size: int
    """Bytes of the WebSocket message."""
    op: int | None = None
    """Its number; None where there is none, or none that fits into 31 bits."""
    session: str | None = None
    """The beginning of the session id, as log lines show it."""
    user_id: str | None = None
    channel_id: str | None = None
    seq: int | None = None
    code: int | None = None
    """Of an ERROR, or of a close."""
    answers: str | None = None
    """The name of the request that an ACK or ERROR answers."""


@attrs.frozen
class PacketFilter:
    """Which lines a watcher wants; what is None excludes nothing."""

    channel_id: str | None = None
    user_id: str | None = None
    session: str | None = None
    """The beginning of a session id."""
    names: frozenset[str] | None = None
    """Of ops. ACKs and ERRORs go by their own names and by those of the requests that they answer."""
    direction: Direction | None = None
    errors_only: bool = False
    """ERRORs, closes with a code from 4000 on, and what could not be read."""
    channels: ChannelPatterns | None = None
    """Those that the watcher's token is good for: of others it sees nothing."""

    def wants(self, line: PacketLine) -> bool:
        """Tell whether a line is wanted."""
        return (
            (self.channel_id is None or line.channel_id == self.channel_id)
            and (self.user_id is None or line.user_id == self.user_id)
            and (self.session is None or (line.session is not None and _is_same(line.session, self.session)))
            and (self.names is None or line.name in self.names or line.answers in self.names)
            and (self.direction is None or line.direction == self.direction)
            and (not self.errors_only or _is_error(line))
            and (line.channel_id is None or allowed(self.channels, line.channel_id))
        )


def _is_same(shown: str, wanted: str) -> bool:
    """Compare as much of a session id as both know: nobody shows more than the beginning."""
    return shown.startswith(wanted) or wanted.startswith(shown)


def _is_error(line: PacketLine) -> bool:
    return line.name in (Op.ERROR.name, UNREADABLE) or (line.name == CLOSE and (line.code or 0) >= 4000)


class Watcher:
    """One who watches: the lines that wait for it, bounded."""

    def __init__(self, wanted: PacketFilter, lines_max: int) -> None:
        self._wanted = wanted
        self._lines_max = lines_max
        self._lines: list[PacketLine] = []
        self._dropped = 0
        self._came = trio.Event()

    def offer(self, line: PacketLine) -> None:
        """Take a line if it is wanted and there is room. Never waits."""
        if not self._wanted.wants(line):
            return
        if len(self._lines) >= self._lines_max:
            self._dropped += 1
            return
        self._lines.append(line)
        self._came.set()

    async def take(self) -> tuple[list[PacketLine], int]:
        """Wait for lines; return all that wait, and how many were dropped after them.

        Cancellation:
            Takes nothing.
        """
        await self._came.wait()
        self._came = trio.Event()
        lines, self._lines = self._lines, []
        dropped, self._dropped = self._dropped, 0
        return lines, dropped


class PacketTrace:
    """The packets of one server, as its watchers see them."""

    def __init__(self, *, lines_max: int = LINES_MAX, watchers_max: int = WATCHERS_MAX) -> None:
        self.is_watched = False
        """Whether anybody watches; else nothing here need be called."""
        self._watchers: list[Watcher] = []
        self._lines_max = lines_max
        self._watchers_max = watchers_max

    def __len__(self) -> int:
        """Count the watchers."""
        return len(self._watchers)

    @contextmanager
    def watch(self, wanted: PacketFilter) -> Iterator[Watcher]:
        """Watch while the block runs.

        Raises:
            Overloaded: too many watch.
        """
        if len(self._watchers) >= self._watchers_max:
            raise Overloaded(f"trace: {self._watchers_max} are watching, the most allowed")
        watcher = Watcher(wanted, self._lines_max)
        self._watchers.append(watcher)
        self.is_watched = True
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
            self.is_watched = bool(self._watchers)

    def came(self, packet: Packet | None, message: str | bytes, peer: str, session: Any) -> None:
        """Show a message from a client.

        Args:
            packet: what it was read as; None: it was no packet.
            session: of the connection (`livechat.hub.users.Session`), or None.
        """
        size = len(message.encode("utf-8", "surrogatepass")) if isinstance(message, str) else len(message)
        if packet is None:
            self._show("in", UNREADABLE, peer, session, size=size)
            return
        channel_id = None if packet.d is None else packet.d.get("channel_id")
        if type(channel_id) is not str or ID_PATTERN.fullmatch(channel_id) is None:
            channel_id = None  # whatever it is, it may be what somebody wrote
        name = OP_NAMES.get(packet.op, UNKNOWN_OP)
        op = packet.op if abs(packet.op) < OP_SHOWN_MAX else None
        self._show("in", name, peer, session, size=size, op=op, channel_id=channel_id)

    def went(self, packet: Outgoing, frame: bytes, peer: str, session: Any) -> None:
        """Show a packet that was handed to a connection, as the frame that it became."""
        payload = packet.payload
        data = getattr(payload, "data", None) if packet.op == Op.ACK else payload
        answered = getattr(payload, "op", None) if packet.op in (Op.ACK, Op.ERROR) else None
        self._show(
            "out",
            packet.op.name,
            peer,
            session,
            size=_payload_bytes(frame),
            op=int(packet.op),
            channel_id=getattr(data, "channel_id", None),
            seq=getattr(data, "seq", None),
            code=getattr(payload, "code", None),
            answers=None if answered is None else OP_NAMES.get(answered, UNKNOWN_OP),
        )

    def closed(self, code: int, peer: str, session: Any, *, by_peer: bool) -> None:
        """Show the end of a connection."""
        self._show("in" if by_peer else "out", CLOSE, peer, session, size=0, code=int(code))

    def _show(self, direction: Direction, name: str, peer: str, session: Any, **fields: Any) -> None:
        line = PacketLine(
            time=time.time_ns() // 1_000_000,
            direction=direction,
            name=name,
            peer=peer,
            session=None if session is None else shown_session(session.session_id),
            user_id=None if session is None else session.user_id,
            **fields,
        )
        for watcher in self._watchers:
            watcher.offer(line)


def _payload_bytes(frame: bytes) -> int:
    """Return the length of what an unmasked frame carries (RFC 6455, section 5.2)."""
    length = frame[1]
    if length < 126:
        return length
    return int.from_bytes(frame[2:4] if length == 126 else frame[2:10], "big")
