from __future__ import annotations

import pytest

from livechat.client.error import SubscriberTooSlow
from livechat.client.streams import StreamBook
from livechat.client.subscribers import Subscribers
from livechat.client.watching import Chunks, watch
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.types import UserId
from tests.client.test_streams import brief, chunk
from tests.support.client_events import DEN, HALL


class Room:
    """Live streams, and who watches them."""

    def __init__(self) -> None:
        self.book = StreamBook()
        self.subscribers = Subscribers(buffered_max=100, chunk_bytes_max=1000)

    def publish(self, *chunks: ChunkEvent) -> None:
        for event in chunks:
            for each in self.book.take(event):
                self.subscribers.publish(each)

    def watch(self, channel_id: str = DEN, user_id: str | None = None, stream_id: str | None = None) -> Chunks:
        return watch(self.book, self.subscribers.subscribe, channel_id, user_id, stream_id)

    async def rest(self, chunks: Chunks) -> list[int | tuple[int, int]]:
        """Return what comes up to here."""
        chunks.close()
        return brief([each async for each in chunks])


async def test_who_watches_from_the_beginning_gets_everything_and_what_is_missing() -> None:
    room = Room()
    chunks = room.watch()
    room.publish(chunk(1, init=True), chunk(2, keyframe=True), chunk(3), chunk(6, keyframe=True))
    assert await room.rest(chunks) == [1, 2, 3, (3, 6), 6]


async def test_who_comes_later_begins_with_the_init_and_goes_on_with_a_keyframe() -> None:
    room = Room()
    room.publish(chunk(1, init=True), chunk(2, keyframe=True), chunk(3))
    chunks = room.watch()
    room.publish(chunk(4), chunk(6), chunk(7, init=True), chunk(8, keyframe=True), chunk(9), chunk(11))
    assert await room.rest(chunks) == [1, 7, 8, 9, (9, 11), 11]


async def test_a_stream_without_keyframes_is_got_into_at_once() -> None:
    room = Room()
    room.publish(chunk(1, init=True), chunk(2))
    chunks = room.watch()
    room.publish(chunk(3), chunk(4))
    assert await room.rest(chunks) == [1, 3, 4]


@pytest.mark.parametrize("has_init", [False, True])
async def test_a_stream_that_begins_anew_is_got_into_from_there(*, has_init: bool) -> None:
    room = Room()
    room.publish(chunk(5, keyframe=True), chunk(6))
    chunks = room.watch()
    room.publish(*([chunk(0, init=True)] if has_init else []), chunk(1), chunk(2))
    assert await room.rest(chunks) == [0, 1, 2] if has_init else [1, 2]


async def test_only_what_is_wanted_is_handed_over() -> None:
    room = Room()
    mic = {"stream_id": "mic"}
    room.publish(chunk(1, init=True), chunk(1, init=True, **mic))  # type: ignore[arg-type]
    watchers = [
        room.watch(stream_id="mic"),
        room.watch(user_id=UserId("bob")),
        room.watch(user_id="somebody"),
        room.watch(HALL),
    ]
    room.publish(chunk(2), chunk(2, **mic), chunk(7, channel_id=HALL))  # type: ignore[arg-type]
    assert [await room.rest(each) for each in watchers] == [[1, 2], [1, 1, 2, 2], [], [7]]


async def test_who_does_not_read_is_ended_by_the_bytes_that_wait() -> None:
    room = Room()
    chunks = room.watch()
    room.publish(*(chunk(seq, data=bytes(400)) for seq in (1, 2)))
    assert brief([await anext(chunks)]) == [1]
    room.publish(*(chunk(seq, data=bytes(400)) for seq in (3, 4, 5)))
    assert brief([await anext(chunks) for _ in range(2)]) == [2, 3]
    with pytest.raises(SubscriberTooSlow, match="800 bytes of media chunks"):
        await anext(chunks)


async def test_a_single_chunk_may_be_larger_than_what_may_wait() -> None:
    room = Room()
    chunks = room.watch()
    room.publish(chunk(1, data=bytes(5000)))
    assert await room.rest(chunks) == [1]


async def test_watching_ends_with_the_client() -> None:
    room = Room()
    chunks = room.watch()
    room.subscribers.end(None)
    assert [each async for each in chunks] == []
