"""Owns the requests that have no answer yet, but for messages (see `outbox`).

It must not send. A request that came while there was no session waits for one. If the connection ends before the
answer, a request that may be repeated is sent again; of any other nobody can say whether it was done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from livechat.protocol.opcodes import Op

Answer = Callable[[Any, Exception | None], None]
"""Takes the end of a request: (ACK.data, None) or (None, why there is none). Called once."""

REPEATABLE: Final = frozenset(
    {
        Op.CHANNEL_UPDATE,
        Op.CHANNEL_LIST,
        Op.CHANNEL_INFO,
        Op.HISTORY,
        Op.READ,
        Op.FOCUS,
        Op.SUBSCRIBE,
        Op.UNSUBSCRIBE,
        Op.PRESENCE_UPDATE,
        Op.FLOOR_REQUEST,
        Op.MEMBER_LIST,
        Op.SETTINGS_SET,
    }
)
"""Done twice they are as done once."""


def ignore(_data: Any, _error: Exception | None) -> None:
    """Be the `Answer` of a request that nobody waits for."""


@attrs.define(eq=False)
class Request:
    """A request without an answer."""

    request_id: int
    op: int
    payload: Any
    answer: Answer
    outlives: bool
    """Whether it waits for the next connection; the client's own housekeeping does not."""
    was_taken: bool = False
    """It was given to a connection."""


class Pending:
    """All requests of one client that have no answer yet, in the order in which they were made."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._untaken: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: Request) -> None:
        """Take a request."""
        self._requests[request.request_id] = request
        self._untaken.append(request)

    def get(self, request_id: object) -> Request | None:
        """Return a request that has no answer yet."""
        return self._requests.get(request_id) if isinstance(request_id, int) else None

    def due(self) -> list[Request]:
        """Return what to send now, in order; it counts as taken. Ask only while there is a session."""
        due = [request for request in self._untaken if request.request_id in self._requests]
        self._untaken.clear()
        for request in due:
            request.was_taken = True
        return due

    def remove(self, request_id: int) -> None:
        """Forget a request: it has its answer."""
        self._requests.pop(request_id, None)

    def withdraw(self, request_id: int) -> None:
        """Answer nobody. What has left is still done by the server, so its effect is still taken from its ACK."""
        request = self._requests.get(request_id)
        if request is not None and request.was_taken:
            request.answer = ignore
            request.outlives = False
        else:
            self.remove(request_id)

    def lost(self, unsent: set[int]) -> list[Request]:
        """Keep what may be sent again; return the rest, which is forgotten.

        Args:
            unsent: ids of those that had not left yet.
        """
        lost = [request for request in self._requests.values() if not _is_kept(request, unsent)]
        for request in lost:
            del self._requests[request.request_id]
        self._untaken = list(self._requests.values())
        for request in self._untaken:
            request.was_taken = False
        return lost

    def close(self) -> list[Request]:
        """Forget everything, and return it."""
        requests = list(self._requests.values())
        self._requests.clear()
        self._untaken.clear()
        return requests


def _is_kept(request: Request, unsent: set[int]) -> bool:
    if not request.outlives:
        return False
    return not request.was_taken or request.request_id in unsent or request.op in REPEATABLE
