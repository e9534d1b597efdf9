"""One send per delivery and nothing else: what a loop in Python can do at most on a core without joining messages.

It must not be taken for a server: it decodes nothing, and whoever does not read in time ends it. The number that a
message begins with is found among what came, and put into an event that was encoded beforehand.
"""

from __future__ import annotations

import re
import select
import socket
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import Final

import attrs

from benchmarks.peers.chat import open_listener, tell_port
from benchmarks.support.dialects import CONTENT_CHARS, DIGITS, MARK, MASKED
from livechat.protocol.frames import serialize_frame

RECEIVE_BYTES: Final = 65_536
SAID: Final = re.compile(re.escape(MARK) + rb"\d{%d}" % DIGITS)
SAID_BYTES: Final = len(MARK) + DIGITS
EVENT: Final = (
    b'{"op":101,"d":{"message_id":"msg_0000000000000000000000","channel_id":"%s","seq":1000000,'
    b'"author_id":"member-0-0","message_type":"TEXT","content":"%s","timestamp":1700000000000}}'
)
ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Source: RFC 6455 section 1.3."""


@attrs.define(slots=True, eq=False)
class Room:
    """How to tell all members something."""

    before: bytes
    """What comes before the number in a frame of an event."""
    after: bytes
    sends: list[Callable[[bytes], int]] = attrs.Factory(list)


@attrs.define(slots=True, eq=False)
class Member:
    """A connection."""

    sock: socket.socket
    room: Room
    tail: bytes = b""
    """The end of what was read, in which a mark may have begun."""


def room_of(name: bytes) -> Room:
    """Make a room; all its frames are the same but for the number."""
    said = MARK + bytes(DIGITS)
    before, after = serialize_frame(EVENT % (name, said.ljust(CONTENT_CHARS, b".")), binary=False).split(said)
    return Room(before, after)


def upgrade(sock: socket.socket) -> bytes:
    """Answer a connection's upgrade; return the room it asks for. It blocks."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(RECEIVE_BYTES)
    key = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
    assert key is not None, "an upgrade"
    accept = b64encode(sha1(key[1] + ACCEPT_GUID).digest())
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    ready = serialize_frame(b'{"op":4}', binary=False)
    sock.sendall(answer + b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept + ready)
    return head.split(b"/", 2)[1]


def hear(member: Member) -> bool:
    """Tell the room what one says; returns False once it says no more."""
    data = member.sock.recv(RECEIVE_BYTES)
    if not data:
        return False
    data = member.tail + data.translate(MASKED)
    room, end = member.room, 0
    for said in SAID.finditer(data):
        end = said.end()
        frame = room.before + said[0] + room.after
        for send in room.sends:
            send(frame)
    member.tail = data[max(end, len(data) - SAID_BYTES + 1) :]
    return True


def main() -> None:
    """Serve until killed."""
    listener = open_listener()
    tell_port(listener)
    rooms: dict[bytes, Room] = {}
    members: dict[int, Member] = {}
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd != listener.fileno():
                if not hear(members[fd]):
                    epoll.unregister(fd)
                continue
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = upgrade(sock)
            sock.setblocking(False)
            room = rooms.get(name) or rooms.setdefault(name, room_of(name))
            room.sends.append(sock.send)
            members[sock.fileno()] = Member(sock, room)
            epoll.register(sock, select.EPOLLIN)


if __name__ == "__main__":
    main()
