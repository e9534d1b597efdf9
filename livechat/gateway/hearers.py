"""Owns who hears a channel in the shape in which one loop sends to them all: pieces of a turn's size, by codec.

It must not know what is sent, nor notice who comes and goes: it is made anew then (`flusher`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from livechat.gateway.egress import EgressQueue
from livechat.hub.users import Session
from livechat.protocol.codec import Codec

AT_ONCE_MAX: Final = 256
"""Connections that are sent something without other tasks getting their turn, about a millisecond."""


class Piece:
    """Sessions that are sent the same without other tasks getting their turn."""

    __slots__ = ("codec", "queues", "sessions")

    def __init__(
        self, sessions: Sequence[Session], codec: Codec | None = None, queues: Sequence[EgressQueue] = ()
    ) -> None:
        self.sessions = sessions
        self.codec = codec
        """Of all its queues; None: these sessions are reached through their outlets."""
        self.queues = queues
        """Of its sessions, in their order."""


class Hearers:
    """The sessions that hear a channel at one moment."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        by_codec: dict[Codec, tuple[list[Session], list[EgressQueue]]] = {}
        others = []
        for session in sessions:
            queue = None if session.outlet is None else session.outlet.sink
            if not isinstance(queue, EgressQueue):
                others.append(session)
                continue
            group = by_codec.get(queue.codec)
            if group is None:
                group = by_codec[queue.codec] = ([], [])
            group[0].append(session)
            group[1].append(queue)
        self.pieces = [
            Piece(members[start : start + AT_ONCE_MAX], codec, queues[start : start + AT_ONCE_MAX])
            for codec, (members, queues) in by_codec.items()
            for start in range(0, len(members), AT_ONCE_MAX)
        ]
        self.pieces += [Piece(others[start : start + AT_ONCE_MAX]) for start in range(0, len(others), AT_ONCE_MAX)]

    @cached_property
    def places(self) -> dict[Session, int]:
        """In which piece each of them is."""
        return {session: place for place, piece in enumerate(self.pieces) for session in piece.sessions}
