"""Rooms on python-socketio under uvicorn, over WebSocket only, on uvloop where that is installed."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs

import socketio
import uvicorn

from benchmarks.peers.chat import message_event, open_listener, tell_port

sio = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], ping_interval=3600, http_compression=False)
members: dict[str, tuple[str, str]] = {}
sequence = itertools.count(1)


@sio.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any]) -> None:
    """Enter the room that the address names."""
    query = parse_qs(environ["QUERY_STRING"])
    room, user = query["room"][0], query["user"][0]
    members[sid] = room, user
    await sio.enter_room(sid, room)


@sio.event  # type: ignore[untyped-decorator]
async def message(sid: str, d: dict[str, str]) -> None:
    """Say to all what one says."""
    room, user = members[sid]
    await sio.emit("message", message_event(room, user, next(sequence), d["content"]), room=room)


@sio.event  # type: ignore[untyped-decorator]
async def disconnect(sid: str) -> None:
    """Forget who left."""
    members.pop(sid, None)


def main() -> None:
    """Serve until killed."""
    listener = open_listener()
    config = uvicorn.Config(
        socketio.ASGIApp(sio),
        log_level="error",
        access_log=False,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
    tell_port(listener)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
