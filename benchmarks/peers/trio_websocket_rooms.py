"""Rooms on trio-websocket as its documentation has it, requests parsed by cattrs: what livechat would be without
a stream and a codec of its own.

It speaks as much of livechat's protocol as requests are measured with: HEARTBEAT, TYPING, MESSAGE_CREATE.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

import attrs
import cattrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from benchmarks.peers.chat import message_event, open_listener, tell_port

HEARTBEAT, MESSAGE_CREATE, TYPING = 1, 20, 24
converter = cattrs.Converter()
rooms: dict[str, set[WebSocketConnection]] = defaultdict(set)
sequence = itertools.count(1)


@attrs.frozen
class Typing:
    """Somebody types."""

    channel_id: str
    typing: bool


@attrs.frozen
class MessageCreate:
    """Somebody says something."""

    channel_id: str
    content: str
    message_type: str = "TEXT"


@attrs.frozen
class Packet:
    """The envelope."""

    op: int
    d: dict[str, Any] | None = None
    id: int | None = None


async def handle(request: WebSocketRequest) -> None:
    """Answer one connection's requests, one after another."""
    _, name, user = request.path.split("/")
    connection = await request.accept()
    room = rooms[name]
    room.add(connection)
    try:
        await connection.send_message('{"op":4}')
        while True:
            packet = converter.structure(json.loads(await connection.get_message()), Packet)
            if packet.op == HEARTBEAT:
                await connection.send_message(serialize({"op": 2, "d": None}))
            elif packet.op == TYPING:
                typing = converter.structure(packet.d, Typing)
                await connection.send_message(acknowledgement(packet, {"channel_id": typing.channel_id}))
            elif packet.op == MESSAGE_CREATE:
                await say(connection, packet, name, user)
    except ConnectionClosed:
        pass
    finally:
        room.discard(connection)


async def say(connection: WebSocketConnection, packet: Packet, name: str, user: str) -> None:
    """Acknowledge a message if asked to, and send it to the room."""
    message = converter.structure(packet.d, MessageCreate)
    event = message_event(name, user, next(sequence), message.content)
    if packet.id is not None:
        facts = {field: event[field] for field in ("message_id", "channel_id", "seq", "timestamp")}
        await connection.send_message(acknowledgement(packet, facts | {"duplicate": False}))
    text = serialize({"op": 101, "d": event})
    for member in list(rooms[name]):
        try:
            await member.send_message(text)
        except ConnectionClosed:
            pass


def acknowledgement(packet: Packet, data: dict[str, Any]) -> str:
    """Return an ACK."""
    return serialize({"op": 200, "d": {"op": packet.op, "data": data}, "id": packet.id})


def serialize(packet: dict[str, Any]) -> str:
    """Return a packet's text."""
    return json.dumps(packet, separators=(",", ":"))


async def main() -> None:
    """Serve until killed."""
    listener = open_listener()
    sockets = trio.SocketListener(trio.socket.from_stdlib_socket(listener))

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            await handle(await wrap_server_stream(nursery, stream))

    tell_port(listener)
    await trio.serve_listeners(serve, [sockets])


if __name__ == "__main__":
    trio.run(main)
