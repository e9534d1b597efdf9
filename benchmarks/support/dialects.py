"""Owns how the chat servers that are compared are spoken to: joining a room, and saying something in it. Pure.

It must not know sockets. What comes back is not parsed but searched for `MARK`, which is the same for all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from benchmarks.support.gateway import ACK, CHANNEL_CREATE, CHANNEL_JOIN, MESSAGE_CREATE, frame

CONTENT_CHARS: Final = 200
MARK: Final = b"mark~#~"
"""Begins the content, and a number of `DIGITS` digits follows: so a message is known without being decoded."""
DIGITS: Final = 10

IDENTIFY, MEMBER_ADD = 3, 33
_TEXT, _BINARY = 0x1, 0x2
_KEY: Final = b"\x5a" * 4
"""All bytes of the masking key are the same, so it matters not where in the frame a byte stands."""
MASKED: Final = bytes(byte ^ _KEY[0] for byte in range(256))
"""What `bytes.translate` masks a phrase with, or unmasks it."""

Exchange = tuple[bytes, bytes, int]
"""What to send, what will be found in the answer, and how many times."""


class Dialect(Protocol):
    """What one kind of server understands."""

    def target(self, room: int, member: int) -> str:
        """Return what a member's upgrade asks for."""
        ...

    def greet(self, room: int, member: int) -> Exchange:
        """Return what a member says after the upgrade, to be in its room."""
        ...

    def found(self, room: int, members: int) -> Sequence[Exchange]:
        """Return what the first member, once it is connected, says to make a room for so many."""
        ...

    def phrase(self, room: int) -> Phrase:
        """Return what the first member of a room says."""
        ...


class Phrase:
    """A client's frame that differs in nothing but a number: it is masked once, and numbered in no time.

    Args:
        payload: holds `content()` once.
    """

    def __init__(self, payload: bytes, opcode: int = _TEXT) -> None:
        masked = frame(payload, opcode, _KEY)
        number = MARK + b"0" * DIGITS
        _, after = payload.split(number)
        self._before = masked[: len(masked) - len(after) - DIGITS]
        self._after = masked[len(masked) - len(after) :]
        assert masked == self.number(0), "the phrase is whole"

    def number(self, index: int) -> bytes:
        """Return the frame of message number `index`."""
        return b"".join((self._before, (b"%0*d" % (DIGITS, index)).translate(MASKED), self._after))


class Plain:
    """The small programs of `benchmarks.peers`: the path says who one is and where."""

    def target(self, room: int, member: int) -> str:
        """See `Dialect`."""
        return f"/{room_name(room)}/{user_name(room, member)}"

    def greet(self, room: int, member: int) -> Exchange:
        """See `Dialect`."""
        return b"", b'{"op":4}', 1

    def found(self, room: int, members: int) -> Sequence[Exchange]:
        """See `Dialect`."""
        return ()

    def phrase(self, room: int) -> Phrase:
        """See `Dialect`."""
        return Phrase(_compact({"op": MESSAGE_CREATE, "d": {"channel_id": room_name(room), "content": content()}}))


class Livechat(Plain):
    """Livechat itself. Who will be a member is made one before it connects: else all would hear of each other."""

    def __init__(self, token: str) -> None:
        self._token = token

    def target(self, room: int, member: int) -> str:
        """See `Dialect`."""
        return "/ws"

    def greet(self, room: int, member: int) -> Exchange:
        """See `Dialect`; members are shown as offline, for the same reason."""
        who = {"token": self._token, "user_id": user_name(room, member), "status": "OFFLINE"}
        return packet(IDENTIFY, who), b'{"op":4,', 1

    def found(self, room: int, members: int) -> Sequence[Exchange]:
        """See `Dialect`."""
        name = room_name(room)
        acknowledged = b'{"op":%d,' % ACK
        added = [
            packet(MEMBER_ADD, {"channel_id": name, "user_id": user_name(room, member)}, member)
            for member in range(1, members)
        ]
        # No more at a time than a server lets wait for its store.
        return [
            (packet(CHANNEL_CREATE, {"channel_id": name, "capacity": members}, 0), acknowledged, 1),
            (packet(CHANNEL_JOIN, {"channel_id": name}, 0), acknowledged, 1),
            *((b"".join(part), acknowledged, len(part)) for part in _parts(added, 100)),
        ]


class SocketIo:
    """Socket.IO, version 4 of Engine.IO's protocol, WebSocket from the start."""

    def target(self, room: int, member: int) -> str:
        """See `Dialect`."""
        who = f"room={room_name(room)}&user={user_name(room, member)}"
        return f"/socket.io/?EIO=4&transport=websocket&{who}"

    def greet(self, room: int, member: int) -> Exchange:
        """See `Dialect`."""
        return frame(b"40"), b'40{"sid"', 1

    def found(self, room: int, members: int) -> Sequence[Exchange]:
        """See `Dialect`."""
        return ()

    def phrase(self, room: int) -> Phrase:
        """See `Dialect`."""
        return Phrase(b"42" + _compact(["message", {"content": content()}]))


class Nats:
    """Core NATS by WebSocket: a room is a subject."""

    def target(self, room: int, member: int) -> str:
        """See `Dialect`."""
        return "/"

    def greet(self, room: int, member: int) -> Exchange:
        """See `Dialect`."""
        connect = b'CONNECT {"verbose":false,"pedantic":false,"echo":true}\r\n'
        return frame(connect + b"SUB %s 1\r\nPING\r\n" % room_name(room).encode(), _BINARY), b"PONG\r\n", 1

    def found(self, room: int, members: int) -> Sequence[Exchange]:
        """See `Dialect`."""
        return ()

    def phrase(self, room: int) -> Phrase:
        """See `Dialect`; the publisher makes the whole event, as there is no server to do so."""
        event = {
            "message_id": f"msg_{0:022d}",
            "channel_id": room_name(room),
            "seq": 1_000_000,
            "author_id": user_name(room, 0),
            "message_type": "TEXT",
            "content": content(),
            "timestamp": 1_700_000_000_000,
        }
        payload = _compact({"op": 101, "d": event})
        return Phrase(b"PUB %s %d\r\n%s\r\n" % (room_name(room).encode(), len(payload), payload), _BINARY)


def room_name(room: int) -> str:
    """Return a room's name."""
    return f"room-{room}"


def user_name(room: int, member: int) -> str:
    """Return a member's name, one of its own in every room."""
    return f"member-{room}-{member}"


def content() -> str:
    """Return what a message says: a mark, the number 0, padding."""
    return f"{MARK.decode()}{0:0{DIGITS}}".ljust(CONTENT_CHARS, ".")


def packet(op: int, d: Mapping[str, object] | None, request_id: int | None = None) -> bytes:
    """Return the frame of one of livechat's packets."""
    envelope = {"op": op, "d": d} | ({} if request_id is None else {"id": request_id})
    return frame(_compact(envelope))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _parts(values: Sequence[bytes], length: int) -> list[Sequence[bytes]]:
    return [values[start : start + length] for start in range(0, len(values), length)]
