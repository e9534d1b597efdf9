"""Owns the way of events to the application: any number of subscribers, each with a bounded buffer of its own.

It must not know what events mean. Publishing never waits. Who does not read keeps up nobody: past the bound the
subscription ends, and says so once what is in its buffer was read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import trio

from livechat.client.error import SubscriberTooSlow
from livechat.client.settings import CHUNK_BYTES_BUFFERED_MAX
from livechat.protocol.chunks import ChunkEvent

T = TypeVar("T")


class Subscription(Generic[T]):
    """An endless iterator of events, from the moment it was made.

    It ends with its client. Drop it, or `close` it, to end it before.

    Args:
        convert: returns what the subscriber gets for an event, or None if it is not for it.
        buffered_max: events that may wait.
        chunk_bytes_max: bytes of media chunks among them.
    """

    def __init__(self, convert: Callable[[Any], T | None], buffered_max: int, chunk_bytes_max: int) -> None:
        self._convert = convert
        self._buffered_max = buffered_max
        self._chunk_bytes_max = chunk_bytes_max
        self._chunk_bytes = 0
        self._buffer: deque[T] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._has_ended = False
        self._error: Exception | None = None

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next event.

        Raises:
            SubscriberTooSlow: too many had to wait; from here on some are missing.
            ClientError, LiveError: the client has ended by that.

        Cancellation:
            No event was taken.
        """
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                raise StopAsyncIteration
            await self._arrived.park()
        item = self._buffer.popleft()
        self._chunk_bytes -= _chunk_bytes(item)
        return item

    def close(self) -> None:
        """End it; what is in its buffer can still be read."""
        self.end(None)

    def end(self, error: Exception | None) -> None:
        """End it, with an error or without."""
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            self._arrived.unpark_all()

    def put(self, event: Any) -> None:
        """Take an event, if it is for this subscriber."""
        if self._has_ended:
            return
        item = self._convert(event)
        if item is None:
            return
        if len(self._buffer) >= self._buffered_max:
            self.end(SubscriberTooSlow(f"{self._buffered_max} events waited for a subscriber that does not read"))
            return
        chunk_bytes = self._chunk_bytes + _chunk_bytes(item)
        if chunk_bytes > self._chunk_bytes_max and self._buffer:
            waited = f"{self._chunk_bytes} bytes of media chunks waited"
            self.end(SubscriberTooSlow(f"{waited} for a subscriber that does not read"))
            return
        self._chunk_bytes = chunk_bytes
        self._buffer.append(item)
        self._arrived.unpark()


class Subscribers:
    """All subscriptions of a client.

    Args:
        buffered_max: events that may wait for each.
        chunk_bytes_max: bytes of media chunks among them.
    """

    def __init__(self, buffered_max: int, chunk_bytes_max: int = CHUNK_BYTES_BUFFERED_MAX) -> None:
        self._buffered_max = buffered_max
        self._chunk_bytes_max = chunk_bytes_max
        # Weak: who has stopped reading and forgot to say so gets nothing any more.
        self._subscriptions: WeakSet[Subscription[Any]] = WeakSet()
        self._ended = False
        self._error: Exception | None = None

    def __len__(self) -> int:
        return len(self._subscriptions)

    def subscribe(self, convert: Callable[[Any], T | None]) -> Subscription[T]:
        """Make a subscription; see `Subscription`."""
        subscription = Subscription(convert, self._buffered_max, self._chunk_bytes_max)
        if self._ended:
            subscription.end(self._error)
        else:
            self._subscriptions.add(subscription)
        return subscription

    def publish(self, event: Any) -> None:
        """Give an event to all; never waits."""
        for subscription in list(self._subscriptions):
            subscription.put(event)

    def end(self, error: Exception | None) -> None:
        """End all subscriptions, and those that are made from now on."""
        self._ended = True
        self._error = error
        for subscription in list(self._subscriptions):
            subscription.end(error)


def _chunk_bytes(item: object) -> int:
    return len(item.data) if isinstance(item, ChunkEvent) else 0
