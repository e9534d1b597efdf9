"""Every request as a method: what it sends, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from livechat.client.api import Requests
from livechat.client.client import Client
from livechat.client.error import ConnectionLost
from livechat.client.settings import ClientSettings
from livechat.error import AlreadyInChannel, RateLimited
from livechat.protocol import events
from livechat.protocol.chunks import ChunkTaken
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import MediaAddress, MediaOffer, Track
from livechat.protocol.types import Ssrc
from tests.support.client_pair import online
from tests.support.fake_gateway import FakeConnection, channel, message

DETAILS = channel("den", 5) | {"capacity": 10, "created_at": 1, "peers": [{"user_id": "bob", "ssrc": 7}]}
SUMMARY = {
    "channel_id": "den",
    "channel_name": "Den",
    "mode": "ptt",
    "durable": True,
    "capacity": 5,
    "private": False,
    "member_count": 2,
    "created_at": 1,
}
GRANT = {
    "host": "127.0.0.1",
    "port": 10_000,
    "ssrc": 77,
    "profile": "AEAD_AES_128_GCM",
    "client_key": "a2V5",
    "server_key": "a2V5",
    "rtcp_mux": True,
}
REF = {"channel_id": "den"}
VOICE = MediaOffer(("AEAD_AES_128_GCM",), MediaAddress("127.0.0.1", 5004))
JOINED = REF | {"mode": "ptt", "active_members": [{"user_id": "ann", "ssrc": None}], "last_seq": 5}
CREATED = {"channel_id": "den", "channel_name": "Den", "mode": "ptt", "durable": False, "capacity": 5}

Call = Callable[[Client], Awaitable[Any]]

CALLS: list[tuple[str, Call, Op, Any, Any, Any]] = [
    (
        "create",
        lambda client: client.create_channel("den", channel_name="Den", mode="ptt", durable=False, capacity=5),
        Op.CHANNEL_CREATE,
        CREATED,
        CREATED,
        events.ChannelCreated,
    ),
    ("join", lambda client: client.join("den"), Op.CHANNEL_JOIN, REF, JOINED, events.ChannelJoined),
    (
        "join with voice",
        lambda client: client.join("den", ssrc=77, media=VOICE, tracks=[Track("audio", Ssrc(77))]),
        Op.CHANNEL_JOIN,
        REF
        | {
            "ssrc": 77,
            "media": {"profiles": ["AEAD_AES_128_GCM"], "address": {"host": "127.0.0.1", "port": 5004}},
            "tracks": [{"kind": "audio", "ssrc": 77}],
        },
        JOINED | {"media": GRANT},
        events.ChannelJoined,
    ),
    ("leave", lambda client: client.leave("den"), Op.CHANNEL_LEAVE, REF, REF, None),
    (
        "update",
        lambda client: client.update_channel("den", channel_name="New", private=False),
        Op.CHANNEL_UPDATE,
        REF | {"channel_name": "New", "private": False},
        REF,
        None,
    ),
    ("delete", lambda client: client.delete_channel("den"), Op.CHANNEL_DELETE, REF, REF, None),
    (
        "list",
        lambda client: client.list_channels(limit=5, after="a"),
        Op.CHANNEL_LIST,
        {"limit": 5, "after": "a"},
        {"channels": [SUMMARY], "next": "den"},
        events.ChannelPage,
    ),
    ("info", lambda client: client.info("den"), Op.CHANNEL_INFO, REF, DETAILS, events.ChannelDetails),
    (
        "subscribe",
        lambda client: client.subscribe("den"),
        Op.SUBSCRIBE,
        REF,
        REF | {"last_seq": 5},
        None,
    ),
    (
        "request the floor",
        lambda client: client.request_floor("den", priority=7, indicator="broadcast"),
        Op.FLOOR_REQUEST,
        REF | {"priority": 7, "indicator": "broadcast"},
        REF,
        None,
    ),
    ("release the floor", lambda client: client.release_floor("den"), Op.FLOOR_RELEASE, REF, REF, None),
    ("ping the floor", lambda client: client.ping_floor("den"), Op.FLOOR_PING, REF, REF, None),
    ("unsubscribe", lambda client: client.unsubscribe("den"), Op.UNSUBSCRIBE, REF, REF, None),
    (
        "add member",
        lambda client: client.add_member("den", "bob", role="moderator"),
        Op.MEMBER_ADD,
        REF | {"user_id": "bob", "role": "moderator"},
        REF | {"user_id": "bob", "role": "moderator"},
        events.MemberAdded,
    ),
    (
        "remove member",
        lambda client: client.remove_member("den", "bob", ban=True),
        Op.MEMBER_REMOVE,
        REF | {"user_id": "bob", "ban": True},
        REF | {"user_id": "bob"},
        None,
    ),
    (
        "members",
        lambda client: client.members("den", limit=5, after="al"),
        Op.MEMBER_LIST,
        REF | {"limit": 5, "after": "al"},
        REF | {"members": [{"user_id": "bob", "role": "owner", "joined_at": 1}], "next": "bob"},
        events.MemberPage,
    ),
    (
        "read",
        lambda client: client.read("den", 5),
        Op.READ,
        REF | {"seq": 5},
        REF | {"read_seq": 5, "unread": 0},
        events.ReadDone,
    ),
    ("focus", lambda client: client.focus("den"), Op.FOCUS, REF, REF, None),
    ("no focus", lambda client: client.focus(None), Op.FOCUS, {}, {"channel_id": None}, None),
    (
        "chunk",
        lambda client: client.send_chunk("den", "cam", 7, b"\xff", mime="video/mp4", keyframe=True),
        Op.MEDIA_CHUNK,
        REF | {"stream_id": "cam", "chunk_seq": 7, "mime": "video/mp4", "data": b"\xff", "keyframe": True},
        REF | {"stream_id": "cam", "chunk_seq": 7},
        ChunkTaken,
    ),
    ("typing", lambda client: client.typing("den"), Op.TYPING, REF | {"typing": True}, None, None),
    (
        "presence",
        lambda client: client.set_presence("AWAY", "lunch"),
        Op.PRESENCE_UPDATE,
        {"status": "AWAY", "text": "lunch"},
        {"status": "AWAY"},
        None,
    ),
    (
        "settings",
        lambda client: client.set_settings({"a": 1, "b": None}),
        Op.SETTINGS_SET,
        {"settings": {"a": 1, "b": None}},
        {"settings": {"a": 1}},
        dict,
    ),
]


@pytest.mark.parametrize(
    ("call", "op", "said", "data", "kind"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS]
)
async def test_a_method_is_its_request(
    autojump_clock: MockClock, call: Call, op: Op, said: Any, data: Any, kind: Any
) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def ask() -> None:
            result = await call(pair.client)
            assert result is None if kind is None else isinstance(result, kind)

        nursery.start_soon(ask)
        packet = await pair.server.expect(op)
        assert packet["d"] == said
        await pair.server.ack(packet, data)


def test_every_method_is_tried() -> None:
    methods = {name for name in vars(Requests) if not name.startswith("_")} - {"history", "is_online", "limits"}
    assert len(methods) == len({case[0] for case in CALLS} - {"join with voice", "no focus"})


async def test_the_grant_of_a_voice_is_returned(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def ask() -> None:
            joined = await pair.client.join("den", ssrc=77)
            assert joined.media is not None
            assert (joined.media.ssrc, joined.media.client_key) == (77, "a2V5")

        nursery.start_soon(ask)
        await pair.server.ack(await pair.server.expect(Op.CHANNEL_JOIN), JOINED | {"media": GRANT})


async def test_plain_values_go_and_come(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def ask() -> None:
            assert await pair.client.request(99, {"x": [1]}) == {"y": 2}
            assert await pair.client.request(98) is None

        nursery.start_soon(ask)
        packet = await pair.server.receive()
        assert (packet["op"], packet["d"]) == (99, {"x": [1]})
        await pair.server.ack(packet, {"y": 2})
        await pair.server.ack(await pair.server.receive(), None)
        with pytest.raises(ValueError, match="the client's own"):
            await pair.client.request(Op.IDENTIFY, {"token": "x"})


async def test_a_refusal_is_raised_as_its_class(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(AlreadyInChannel):
                await pair.client.join("den")
            with pytest.raises(RateLimited) as raised:
                await pair.client.info("den")
            assert (raised.value.retryable, raised.value.retry_after_ms) == (True, 50)

        nursery.start_soon(ask)
        await pair.server.refuse(await pair.server.receive(), 2003)
        await pair.server.refuse(await pair.server.receive(), 1006, retryable=True, retry_after_ms=50)


async def test_no_answer_in_time_is_told(autojump_clock: MockClock) -> None:
    async with online(settings=ClientSettings(request_timeout_s=12.0)) as pair:
        with pytest.raises(trio.TooSlowError):
            await pair.client.info("den")
        assert trio.current_time() == pytest.approx(12.0)


async def test_of_a_join_that_was_under_way_when_the_connection_ended_nobody_knows(
    autojump_clock: MockClock,
) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await pair.client.join("den")

        nursery.start_soon(ask)
        await pair.server.expect(Op.CHANNEL_JOIN)
        await pair.server.drop()


async def test_typing_is_of_the_moment(autojump_clock: MockClock) -> None:
    async with online() as pair:
        await pair.server.drop()
        await pair.gateway.accept()
        await pair.client.typing("den")


# --- history ----------------------------------------------------------------------------------------------


async def serve_history(server: FakeConnection, last_seq: int, asked: list[dict[str, Any]]) -> None:
    """Answer HISTORY from a log of so many messages, for ever."""
    while True:
        packet = await server.expect(Op.HISTORY)
        d = packet["d"]
        asked.append(d)
        limit, after = d.get("limit", 20), d.get("after_seq")
        if after is not None:
            seqs = [*range(after + 1, min(after + limit, last_seq) + 1)]
        else:
            end = min(d.get("before_seq", last_seq + 1), last_seq + 1)
            seqs = [*range(max(1, end - limit), end)]
        page = {
            "messages": [message(seq) for seq in seqs],
            "has_before": bool(seqs) and seqs[0] > 1,
            "has_after": bool(seqs) and seqs[-1] < last_seq,
            "last_seq": last_seq,
        }
        await server.ack(packet, {"channel_id": "den", **page})


@pytest.mark.parametrize(
    ("arguments", "expected", "pages"),
    [
        ({}, [*range(250, 0, -1)], 3),
        ({"limit": 3}, [250, 249, 248], 1),
        ({"limit": 150}, [*range(250, 100, -1)], 2),
        ({"before": 4}, [3, 2, 1], 1),
        ({"before": 1}, [], 1),
        ({"after": 0}, [*range(1, 251)], 3),
        ({"after": 247}, [248, 249, 250], 1),
        ({"after": 100, "limit": 101}, [*range(101, 202)], 2),
        ({"after": 250}, [], 1),
        ({"limit": 0}, [], 0),
    ],
)
async def test_history_comes_page_by_page(
    autojump_clock: MockClock, arguments: dict[str, int], expected: list[int], pages: int
) -> None:
    async with online(channel("den", 250)) as pair, trio.open_nursery() as nursery:
        asked: list[dict[str, Any]] = []
        nursery.start_soon(serve_history, pair.server, 250, asked)
        assert [each.seq async for each in pair.client.history("den", **arguments)] == expected
        assert len(asked) == pages
        assert all(d["limit"] <= 100 for d in asked if "limit" in d)
        nursery.cancel_scope.cancel()


async def test_history_stops_when_nobody_wants_more(autojump_clock: MockClock) -> None:
    async with online(channel("den", 250)) as pair, trio.open_nursery() as nursery:
        asked: list[dict[str, Any]] = []
        nursery.start_soon(serve_history, pair.server, 250, asked)
        async for each in pair.client.history("den"):
            if each.seq == 200:
                break
        assert len(asked) == 1
        nursery.cancel_scope.cancel()


async def test_both_ends_of_history_at_once_are_refused(autojump_clock: MockClock) -> None:
    async with online() as pair:
        with pytest.raises(ValueError, match="got both"):
            pair.client.history("den", before=5, after=1)
