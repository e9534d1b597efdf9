"""MEDIA_CHUNK over real connections: who gets a stream, from where on, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livechat
from livechat.gateway.backlog import Backlog
from livechat.gateway.egress import EgressQueue
from livechat.hub.settings import ChunkSettings
from livechat.protocol.outgoing import ChunkMark
from livechat.protocol.types import ChannelId, StreamId, UserId
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CHUNK,
    CHUNK_EVENT,
    CREATE,
    DELETE,
    ERROR,
    HEARTBEAT,
    HISTORY,
    JOIN,
    LEAVE,
    RESUME,
    RESUMED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Client,
    connected,
    identified,
)
from tests.support.resume import drop
from tests.support.server import SECRET, running_server, wait_until

X = {"channel_id": "x"}
CAM: dict[str, Any] = {**X, "stream_id": "cam", "mime": "video/mp4"}


def chunk(seq: int, data: bytes = b"\x00\xff", **fields: Any) -> dict[str, Any]:
    return {**CAM, "chunk_seq": seq, "data": data, **fields}


def heard(seq: int, data: bytes = b"\x00\xff", user_id: str = "ann", **fields: Any) -> dict[str, Any]:
    return {**chunk(seq, data, **fields), "user_id": user_id}


@asynccontextmanager
async def ann_and_bob(
    data_dir: Path, *, binary: bool = False, **overrides: Any
) -> AsyncGenerator[tuple[livechat.Server, Client, Client]]:
    """Both are in the channel `x`."""
    async with (
        running_server(data_dir, **overrides) as server,
        identified(server, "ann", binary=binary) as ann,
        identified(server, "bob", binary=binary) as bob,
    ):
        await ann.ack(CREATE, X)
        await ann.ack(JOIN, X)
        await bob.ack(JOIN, X)
        await ann.expect(CHANNEL_EVENT)
        yield server, ann, bob


# --- who gets it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_a_chunk_goes_to_all_others_at_once_and_is_kept_nowhere(tmp_path: Path, *, binary: bool) -> None:
    async with (
        ann_and_bob(tmp_path, binary=binary) as (server, ann, bob),
        identified(server, "ann", binary=not binary) as ann_too,
    ):
        for seq, data in ((5, b""), (6, b"\x00\xff" * 100_000)):
            await ann.send_bytes(CHUNK, chunk(seq, data))
            for client in (bob, ann_too):
                assert await client.expect(CHUNK_EVENT) == heard(seq, data)
        await ann.expect_silence()
        sent = server.statistics()["store"]["operations"]
        taken = {"channel_id": "x", "stream_id": "cam", "chunk_seq": 7}
        await ann.send_bytes(CHUNK, chunk(7), id=1)
        assert await ann.expect(ACK) == {"op": CHUNK, "data": taken}
        assert server.statistics()["store"]["operations"] == sent
        history = await ann.ack(HISTORY, X)
        assert (history["last_seq"], {m["message_type"] for m in history["messages"]}) == (2, {"SYSTEM"})


async def test_nothing_of_a_channel_is_heard_by_who_is_no_member_or_does_not_listen(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, bob), identified(server, "cyd") as cyd:
        await bob.ack(UNSUBSCRIBE, X)
        await ann.send_bytes(CHUNK, chunk(1))
        await ann.expect_silence()
        await bob.expect_silence()
        await cyd.send_bytes(CHUNK, chunk(1))
        assert (await cyd.expect(ERROR))["code"] == 2004
        await bob.ack(UNSUBSCRIBE, X)
        await bob.send_bytes(CHUNK, chunk(1))
        assert await ann.expect(CHUNK_EVENT) == heard(1, user_id="bob")
        await ann.ack(LEAVE, X)
        await ann.send_bytes(CHUNK, chunk(2))
        assert (await ann.expect(ERROR))["code"] == 2004


# --- late joiners ----------------------------------------------------------------------------------------


async def test_who_joins_later_gets_the_last_init_and_goes_on_with_a_keyframe(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, bob):
        told: list[dict[str, Any]] = [{"init": True}, {"keyframe": True}, {"init": True}, {}]
        for seq, fields in enumerate(told, 1):
            await ann.send_bytes(CHUNK, chunk(seq, **fields))
            assert await bob.expect(CHUNK_EVENT) == heard(seq, **fields)
        await bob.ack(UNSUBSCRIBE, X)
        async with identified(server, "bob") as bob_too, identified(server, "cyd") as cyd:
            assert (await cyd.request(JOIN, X))["op"] == ACK
            await bob.ack(SUBSCRIBE, X)
            for client in (bob_too, cyd, bob):
                assert await client.expect(CHUNK_EVENT) == heard(3, init=True)
            # It hears the channel already: nothing begins.
            await bob_too.expect(CHANNEL_EVENT)
            await bob_too.ack(SUBSCRIBE, X)
            await ann.send_bytes(CHUNK, chunk(5))
            await ann.send_bytes(CHUNK, chunk(6, init=True))
            await ann.send_bytes(CHUNK, chunk(7, keyframe=True))
            await ann.send_bytes(CHUNK, chunk(8))
            for client in (bob_too, cyd, bob):
                assert await client.expect(CHUNK_EVENT) == heard(6, init=True)
                assert await client.expect(CHUNK_EVENT) == heard(7, keyframe=True)
                assert await client.expect(CHUNK_EVENT) == heard(8)


async def test_a_resumed_session_goes_on_like_who_joins(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, bob):
        await ann.send_bytes(CHUNK, chunk(1, init=True, keyframe=True))
        await bob.expect(CHUNK_EVENT)
        await drop(bob)
        await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
        await ann.send_bytes(CHUNK, chunk(2))
        await ann.expect_silence()
        async with connected(server) as bob_again:
            await bob_again.send(RESUME, {"session_id": bob.ready["session_id"], "token": SECRET})
            await bob_again.expect(RESUMED)
            assert await bob_again.expect(CHUNK_EVENT) == heard(1, init=True, keyframe=True)
            await ann.send_bytes(CHUNK, chunk(3))
            await ann.send_bytes(CHUNK, chunk(4, keyframe=True))
            assert await bob_again.expect(CHUNK_EVENT) == heard(4, keyframe=True)


# --- the end of a stream -----------------------------------------------------------------------------------


async def test_a_stream_outlives_its_connection_and_ends_with_its_session(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, bob):
        streams = server._node.streams
        await ann.send_bytes(CHUNK, chunk(5, init=True))
        await bob.expect(CHUNK_EVENT)
        await drop(ann)
        await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
        assert len(streams) == 1
        async with connected(server) as ann_again:
            await ann_again.send(RESUME, {"session_id": ann.ready["session_id"], "token": SECRET})
            await ann_again.expect(RESUMED)
            await ann_again.send_bytes(CHUNK, chunk(5))
            assert (await ann_again.expect(ERROR))["reason"].startswith("chunk_seq: expected more than 5")
            await ann_again.send_bytes(CHUNK, chunk(6))
            assert await bob.expect(CHUNK_EVENT) == heard(6)
            async with identified(server, "ann") as ann_too:
                await ann_too.expect(CHUNK_EVENT)
                await ann_too.send_bytes(CHUNK, chunk(7))
                assert (await ann_too.expect(ERROR))["code"] == 1007
        await wait_until(lambda: not len(streams))
        assert streams.kept_bytes == 0


async def test_a_stream_ends_with_its_publishers_membership(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, bob):
        await ann.send_bytes(CHUNK, chunk(1, init=True))
        await bob.expect(CHUNK_EVENT)
        await ann.ack(LEAVE, X)
        await bob.expect(CHANNEL_EVENT)
        assert not len(server._node.streams)


async def test_a_silent_stream_ends(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path, chunks=ChunkSettings(silence_ms=1)) as (server, ann, bob):
        await ann.send_bytes(CHUNK, chunk(9, init=True))
        await bob.expect(CHUNK_EVENT)
        await wait_until(lambda: not len(server._node.streams))
        await ann.send_bytes(CHUNK, chunk(1))
        assert await bob.expect(CHUNK_EVENT) == heard(1)


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "unsubscribed", "silent", "session over", "deleted"])
async def test_nobody_waits_for_a_keyframe_of_a_stream_that_is_over_or_not_heard(tmp_path: Path, how: str) -> None:
    settings = ChunkSettings(silence_ms=300 if how == "silent" else 30_000)
    async with ann_and_bob(tmp_path, binary=True, chunks=settings) as (server, ann, bob):
        await ann.send(CHUNK, chunk(1))
        await bob.expect(CHUNK_EVENT)
        (bobs,) = server._node.users.sessions_of(UserId("bob"))
        queue = bobs.outlet.sink  # type: ignore[union-attr]
        assert isinstance(queue, EgressQueue)
        # He has lost the next one.
        queue._backlog = Backlog()
        mark = ChunkMark((ChannelId("x"), UserId("ann"), StreamId("cam")), is_keyframe=False)
        assert queue._backlog.append_chunk(b"late", mark, bytes_max=0, frames_max=0) == 1
        if how == "left":
            await ann.ack(LEAVE, X)
        elif how == "unsubscribed":
            await bob.ack(UNSUBSCRIBE, X)
        elif how == "session over":
            await ann.ws.aclose(1000)
        elif how == "deleted":
            await ann.ack(DELETE, X)
        await wait_until(lambda: queue._backlog is None)


async def test_a_chunk_in_a_text_frame_is_refused_by_its_data(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (_, ann, bob):
        refusal = await ann.refused(CHUNK, {**CAM, "chunk_seq": 1, "data": "AAAA"}, id=1)
        assert (refusal["code"], refusal["reason"][:5]) == (1004, "data:")
        await bob.expect_silence()


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_a_chunk_that_is_too_large_is_refused_and_the_connection_stays(
    tmp_path: Path, *, binary: bool
) -> None:
    limits = ChunkSettings(data_bytes=100_000, init_bytes=10)
    async with ann_and_bob(tmp_path, binary=binary, chunks=limits) as (_, ann, bob):
        assert ann.hello["limits"]["chunk_bytes"] == 100_000
        for size, fields in ((100_001, {}), (300_000, {}), (11, {"init": True})):
            await ann.send_bytes(CHUNK, chunk(1, bytes(size), **fields), id=size)
            assert (await ann.expect(ERROR))["code"] == 1005
        # The larger limit is that of chunks alone.
        await ann.send_bytes(HEARTBEAT, {"filler": bytes(70_000)})
        assert (await ann.expect(ERROR))["code"] == 1005
        await ann.send_bytes(CHUNK, chunk(1, bytes(100_000)))
        assert await bob.expect(CHUNK_EVENT) == heard(1, bytes(100_000))


async def test_chunks_and_their_bytes_have_limits_of_their_own(tmp_path: Path) -> None:
    few = livechat.RateLimits(chunks_burst=3, chunks_per_s=1, chunk_bytes_burst=300_000, chunk_bytes_per_s=1)
    async with ann_and_bob(tmp_path, rates=few) as (_, ann, bob):
        for seq, size in ((1, 200_000), (2, 200_000), (3, 1), (4, 1)):
            await ann.send_bytes(CHUNK, chunk(seq, bytes(size)))
        refusals = [await ann.expect(ERROR) for _ in range(2)]
        assert [(refusal["code"], refusal["op"]) for refusal in refusals] == [(1006, CHUNK)] * 2
        assert [(await bob.expect(CHUNK_EVENT))["chunk_seq"] for _ in range(2)] == [1, 3]
        await ann.say("x", "chat goes on")


async def test_a_user_has_so_many_streams_in_a_channel(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path, chunks=ChunkSettings(streams_per_user=2)) as (_, ann, bob):
        for name in ("a", "b", "c"):
            await ann.send_bytes(CHUNK, chunk(1, stream_id=name))
        assert (await ann.expect(ERROR))["code"] == 9001
        assert [(await bob.expect(CHUNK_EVENT))["stream_id"] for _ in range(2)] == ["a", "b"]


async def test_chunks_behind_a_join_wait_for_it(tmp_path: Path) -> None:
    async with ann_and_bob(tmp_path) as (server, ann, _), identified(server, "cyd") as cyd:
        await cyd.send(JOIN, X)
        for seq in range(40):
            await cyd.send_bytes(CHUNK, chunk(seq))
        await ann.expect(CHANNEL_EVENT)
        assert [(await ann.expect(CHUNK_EVENT))["chunk_seq"] for _ in range(40)] == list(range(40))
