"""Rooms on the package `websockets`: its asyncio server and its `broadcast`; compressed as it comes, or not."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.peers.chat import message_event, open_listener, tell_port

rooms: dict[str, set[ServerConnection]] = defaultdict(set)
sequence = itertools.count(1)


async def handle(connection: ServerConnection) -> None:
    """Say to all what one says."""
    assert connection.request is not None
    _, name, user = connection.request.path.split("/")
    room = rooms[name]
    room.add(connection)
    await connection.send('{"op":4}')
    try:
        async for text in connection:
            content = json.loads(text)["d"]["content"]
            event = message_event(name, user, next(sequence), content)
            broadcast(room, json.dumps({"op": 101, "d": event}, separators=(",", ":")))
    except ConnectionClosed:
        pass
    finally:
        room.discard(connection)


async def main() -> None:
    """Serve until killed."""
    listener = open_listener()
    compression = "deflate" if os.environ.get("PEER_DEFLATE") == "1" else None
    async with serve(handle, sock=listener, compression=compression, ping_interval=None):
        tell_port(listener)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
