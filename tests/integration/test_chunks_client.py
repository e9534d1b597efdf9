"""Live media from client to client, through a real server and over bad connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import livechat
from livechat.client.settings import CodecName
from livechat.error import Forbidden, NotInChannel, PayloadTooLarge, ProtocolError
from livechat.protocol.events import Error
from livechat.protocol.opcodes import Op
from tests.integration.test_client import PROMPT, next_of
from tests.support.lossy import lossy_relay
from tests.support.server import DEADLINE_S, SECRET, counted, running_server, wait_until

MIME = "video/mp4"
Heard = livechat.ChunkEvent | livechat.ChunkGap


async def send(client: livechat.Client, seq: int, data: bytes = b"\x00\xff", **marks: bool) -> None:
    taken = await client.send_chunk("den", "cam", seq, data, mime=MIME, **marks)
    assert (taken.channel_id, taken.stream_id, taken.chunk_seq) == ("den", "cam", seq)


async def heard(chunks: AsyncIterator[Heard], count: int) -> list[int | tuple[int, int]]:
    """Return what comes next: chunks by their number, gaps by what lies around them."""
    with trio.fail_after(DEADLINE_S):
        taken = [await anext(chunks) for _ in range(count)]
    return [(each.after, each.before) if isinstance(each, livechat.ChunkGap) else each.chunk_seq for each in taken]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_stream_goes_from_client_to_client_and_is_got_into_at_any_time(
    codec: CodecName, tmp_path: Path
) -> None:
    settings = livechat.ClientSettings(codec=codec)
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann", settings=settings) as ann,
        livechat.open_client(server.url, SECRET, user_id="bob", settings=settings) as bob,
    ):
        await ann.create_channel("den")
        await ann.join("den")
        await bob.join("den")
        chunks, events = bob.chunks("den"), bob.events()
        await send(ann, 0, b"init", init=True)
        await send(ann, 1, bytes(ann.limits.chunk_bytes), keyframe=True)
        assert await ann.post_chunk("den", "cam", 2, b"\xff", mime=MIME)
        # It was sent behind that one, and has an answer.
        await send(ann, 4)
        assert await heard(chunks, 5) == [0, 1, 2, (2, 4), 4]
        chunk = await next_of(events, livechat.ChunkEvent, chunk_seq=2)
        assert chunk == livechat.ChunkEvent(chunk.channel_id, ann.user_id, chunk.stream_id, 2, MIME, b"\xff")
        late = bob.chunks("den", user_id="ann", stream_id="cam")
        async with livechat.open_client(server.url, SECRET, user_id="cyd", settings=settings) as cyd:
            await cyd.join("den")
            joined = cyd.chunks("den")
            await send(ann, 5)
            await send(ann, 6, keyframe=True)
            await send(ann, 7)
            for each in (late, joined):
                assert await heard(each, 3) == [0, 6, 7]


async def test_what_is_refused_is_raised_or_told(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann") as ann,
        livechat.open_client(server.url, SECRET, user_id="ann") as ann_too,
    ):
        await ann.create_channel("den")
        with pytest.raises(NotInChannel):
            await send(ann, 1)
        await ann.join("den")
        await send(ann, 5)
        with pytest.raises(ProtocolError, match="chunk_seq: expected more than 5"):
            await send(ann, 5)
        with pytest.raises(Forbidden):
            await send(ann_too, 6)
        with pytest.raises(PayloadTooLarge):
            await send(ann, 6, bytes(ann.limits.chunk_bytes + 1))
        events = ann.events()
        assert await ann.post_chunk("den", "cam", 5, b"", mime=MIME)
        refused = await next_of(events, Error)
        assert (refused.code, refused.op) == (1004, Op.MEDIA_CHUNK)


async def test_viewer_and_publisher_go_on_over_cut_connections(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        lossy_relay(server.url) as relay,
        livechat.open_client(server.url, SECRET, user_id="ann", settings=PROMPT) as ann,
        livechat.open_client(relay.url, SECRET, user_id="bob", settings=PROMPT) as bob,
    ):
        await ann.create_channel("den")
        await ann.join("den")
        await bob.join("den")
        chunks, events = bob.chunks("den"), bob.events()
        session_id = bob.session_id
        await send(ann, 0, init=True)
        await send(ann, 1, keyframe=True)
        assert await heard(chunks, 2) == [0, 1]
        relay.refuses = True
        await relay.cut()
        await wait_until(lambda: counted(server)["sessions_parked"] == 1)
        await next_of(events, livechat.StateChanged, state="resuming")
        assert not await bob.post_chunk("den", "cam", 0, b"", mime=MIME)
        await send(ann, 2)
        relay.refuses = False
        await next_of(events, livechat.StateChanged, state="online")
        await send(ann, 3)
        await send(ann, 4, keyframe=True)
        # What a decoder needs comes again, and what was missed is told.
        assert await heard(chunks, 3) == [0, (1, 4), 4]
        assert bob.session_id == session_id
        # His own stream, begun before and gone on with after he was away.
        watched = ann.chunks("den")
        await send(bob, 8)
        await relay.cut()
        await next_of(events, livechat.StateChanged, state="online")
        await send(bob, 9)
        assert await heard(watched, 2) == [8, 9]
        stored = await ann.send_message("den", "chat goes on")
        assert (await next_of(events, livechat.Message)).seq == stored.seq


async def test_who_leaves_hears_no_more(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann") as ann,
        livechat.open_client(server.url, SECRET, user_id="bob") as bob,
    ):
        await ann.create_channel("den")
        await ann.join("den")
        await bob.join("den")
        chunks = bob.chunks("den")
        await send(ann, 0, init=True)
        assert await heard(chunks, 1) == [0]
        await bob.unsubscribe("den")
        await send(ann, 1)
        await bob.subscribe("den")
        await send(ann, 2)
        assert await heard(chunks, 2) == [0, 2]
        await bob.leave("den")
        await send(ann, 3)
        await bob.join("den")
        await send(ann, 4)
        assert await heard(chunks, 2) == [0, 4]
