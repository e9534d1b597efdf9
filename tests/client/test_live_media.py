"""Media chunks between a client and its connection."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from livechat.client.client import Client
from livechat.client.error import ClientClosed, ConnectionLost
from livechat.client.events import ChunkGap, StateChanged
from livechat.client.runner import PACKETS_AHEAD
from livechat.client.settings import ClientSettings
from livechat.error import NotInChannel, PayloadTooLarge
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.events import Error
from livechat.protocol.opcodes import Op
from tests.support.client_pair import next_of, online
from tests.support.fake_gateway import FakeConnection, channel, ready, resumed, resumed_channel

CAM: dict[str, Any] = {"channel_id": "den", "stream_id": "cam", "mime": "video/mp4"}
TAKEN = {"channel_id": "den", "stream_id": "cam", "chunk_seq": 7}


async def say_chunk(server: FakeConnection, seq: int, **fields: Any) -> None:
    await server.send_bytes(
        Op.MEDIA_CHUNK_EVENT, {**CAM, "user_id": "bob", "chunk_seq": seq, "data": b"\xff", **fields}
    )


async def post(client: Client, seq: int, data: bytes = b"\xff", **marks: bool) -> bool:
    return await client.post_chunk("den", "cam", seq, data, mime="video/mp4", **marks)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_chunks_go_and_come_whatever_the_codec(autojump_clock: MockClock, codec: Any) -> None:
    seen: list[tuple[str, int]] = []

    def on_packet(direction: str, packet: dict[str, Any]) -> None:
        seen.append((direction, packet["op"]))

    async with (
        online(settings=ClientSettings(codec=codec), on_packet=on_packet) as pair,
        trio.open_nursery() as tasks,
    ):
        events, chunks = pair.client.events(), pair.client.chunks("den")

        async def publish() -> None:
            taken = await pair.client.send_chunk("den", "cam", 7, b"\x00\xff", mime="video/mp4", init=True)
            assert taken.chunk_seq == 7

        tasks.start_soon(publish)
        frame = await pair.server.receive_frame()
        assert isinstance(frame, bytes), "what carries bytes is binary"
        packet = pair.server.parse(frame)
        assert packet["d"] == {**CAM, "chunk_seq": 7, "data": b"\x00\xff", "init": True}
        await pair.server.ack(packet, TAKEN)
        await say_chunk(pair.server, 1, keyframe=True)
        await say_chunk(pair.server, 4)
        for heard in (events, chunks):
            assert (await next_of(heard, ChunkEvent)).keyframe
            gap = await next_of(heard, ChunkGap)
            assert (gap.after, gap.before, gap.user_id) == (1, 4, "bob")
            assert (await next_of(heard, ChunkEvent)).data == b"\xff"
    assert seen[3:5] == [("out", Op.MEDIA_CHUNK), ("in", Op.ACK)]


async def test_a_refused_chunk_raises_and_one_without_an_answer_is_told(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as tasks:
        events = pair.client.events()

        async def publish() -> None:
            with pytest.raises(NotInChannel):
                await pair.client.send_chunk("den", "cam", 7, b"", mime="video/mp4")
            assert await post(pair.client, 8)

        tasks.start_soon(publish)
        await pair.server.refuse(await pair.server.expect(Op.MEDIA_CHUNK), 2004)
        packet = await pair.server.expect(Op.MEDIA_CHUNK)
        assert "id" not in packet
        await pair.server.send(Op.ERROR, {"code": 2004, "reason": "no", "retryable": False, "op": 29})
        assert (await next_of(events, Error)).op == Op.MEDIA_CHUNK


async def test_a_chunk_that_is_too_large_is_refused_before_it_leaves(autojump_clock: MockClock) -> None:
    async with online() as pair:
        assert pair.client.limits.chunk_bytes == 262_144
        for send in (pair.client.send_chunk, pair.client.post_chunk):
            with pytest.raises(PayloadTooLarge, match="at most 262144 bytes, got 262145"):
                await send("den", "cam", 1, bytes(262_145), mime="video/mp4")
            with pytest.raises(ValueError, match="chunk_seq"):
                await send("den", "cam", -1, b"", mime="video/mp4")
        # Larger than what other packets may be, but not than a chunk.
        assert await post(pair.client, 1, bytes(262_144))
        assert len((await pair.server.expect(Op.MEDIA_CHUNK))["d"]["data"]) == 262_144


async def test_a_chunk_waits_for_room_and_not_for_an_answer(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as tasks:
        stream = pair.gateway.streams[0]
        stream.is_stuck = True
        posted: list[int] = []

        async def publish() -> None:
            for seq in range(100):
                await post(pair.client, seq, bytes(200_000))
                posted.append(seq)

        tasks.start_soon(publish)
        await wait_all_tasks_blocked()
        # What the connection has queued is bounded as well; nothing is unbounded, nothing waits for an ACK.
        assert PACKETS_AHEAD < len(posted) < 30
        await trio.aclose_forcefully(stream)
        await pair.server.closed()
        again = await pair.gateway.accept()
        await again.resume()
        tasks.cancel_scope.cancel()


async def test_while_there_is_no_session_a_chunk_is_not_sent(autojump_clock: MockClock) -> None:
    async with online() as pair:
        events = pair.client.events()
        await pair.server.drop()
        await next_of(events, StateChanged, state="resuming")
        assert not await post(pair.client, 1)
        again = await pair.gateway.accept()
        await again.resume()
        await again.send(Op.RESUMED, resumed(den=resumed_channel(5)))
        await next_of(events, StateChanged, state="online")
        assert await post(pair.client, 2)
        assert (await again.expect(Op.MEDIA_CHUNK))["d"]["chunk_seq"] == 2
    with pytest.raises(ClientClosed):
        await post(pair.client, 3)


async def test_a_chunk_that_may_have_come_is_not_sent_again(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as tasks:

        async def publish() -> None:
            with pytest.raises(ConnectionLost):
                await pair.client.send_chunk("den", "cam", 1, b"", mime="video/mp4")
            await pair.client.send_chunk("den", "cam", 7, b"", mime="video/mp4")

        tasks.start_soon(publish)
        await pair.server.expect(Op.MEDIA_CHUNK)
        await pair.server.drop()
        again = await pair.gateway.accept()
        await again.resume()
        await again.send(Op.RESUMED, resumed(den=resumed_channel(5)))
        packet = await again.expect(Op.MEDIA_CHUNK)
        assert packet["d"]["chunk_seq"] == 7
        await again.ack(packet, TAKEN)


async def test_who_was_away_is_told_what_it_missed(autojump_clock: MockClock) -> None:
    async with online() as pair:
        chunks = pair.client.chunks("den")
        await say_chunk(pair.server, 1, init=True)
        await say_chunk(pair.server, 2, keyframe=True)
        for _ in range(2):
            await next_of(chunks, ChunkEvent)
        await pair.server.drop()
        again = await pair.gateway.accept()
        await again.resume()
        await again.send(Op.RESUMED, resumed(den=resumed_channel(5)))
        await say_chunk(again, 1, init=True)
        await say_chunk(again, 9, keyframe=True)
        assert (await anext(chunks)).init  # type: ignore[union-attr]
        assert isinstance(gap := await anext(chunks), ChunkGap)
        assert (gap.after, gap.before) == (2, 9)
        assert (await anext(chunks)).chunk_seq == 9  # type: ignore[union-attr]


async def test_of_a_channel_that_is_not_heard_no_chunk_is_told(autojump_clock: MockClock) -> None:
    async with online(channel("den", 5), channel("hall")) as pair, trio.open_nursery() as tasks:
        chunks = pair.client.chunks("den")
        tasks.start_soon(pair.client.unsubscribe, "den")
        await pair.server.ack(await pair.server.expect(Op.UNSUBSCRIBE), {"channel_id": "den"})
        messages = pair.client.messages("hall")
        await say_chunk(pair.server, 1, init=True)
        await pair.server.say(1, channel_id="hall")
        await anext(messages)
        chunks.close()
        assert [each async for each in chunks] == []
        assert [each async for each in closed(pair.client)] == []


def closed(client: Client) -> Any:
    """Return who would come now, and goes at once."""
    chunks = client.chunks("den")
    chunks.close()
    return chunks


async def test_in_a_new_session_streams_are_told_anew(autojump_clock: MockClock) -> None:
    async with online() as pair:
        await say_chunk(pair.server, 1, init=True)
        await next_of(pair.client.chunks("den"), ChunkEvent)
        events = pair.client.events()
        await pair.server.drop()
        again = await pair.gateway.accept()
        await again.resume()
        await again.send(Op.INVALID_SESSION, {"reason": "over"})
        await again.expect(Op.IDENTIFY)
        await again.send(Op.READY, ready(channel("den", 5), session="sess_2"))
        await next_of(events, StateChanged, state="online", new_session=True)
        assert [each async for each in closed(pair.client)] == []
