"""Owns what the chat servers in Python have in common: a port that is known, and the event that all members hear.

It must not know any library they are made of.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Final

BACKLOG: Final = 4096


def open_listener() -> socket.socket:
    """Listen on a free port of loopback."""
    return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)


def tell_port(listener: socket.socket) -> None:
    """Print the port, for whoever started the program."""
    print(listener.getsockname()[1], flush=True)


def message_event(room: str, user: str, seq: int, content: str) -> dict[str, Any]:
    """Return what all members hear of a message: the fields that livechat's event has."""
    return {
        "message_id": f"msg_{seq:022d}",
        "channel_id": room,
        "seq": seq,
        "author_id": user,
        "message_type": "TEXT",
        "content": content,
        "timestamp": time.time_ns() // 1_000_000,
    }
