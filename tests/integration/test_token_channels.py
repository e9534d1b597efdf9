"""Tokens that are good for some channels only: what is refused, what is not shown, what is not heard."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

import livechat
from livechat.protocol.requests import REQUESTS
from livechat.store.operations import GetChannel, JoinChannel
from tests.support.api import calling
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    FOCUS,
    HISTORY,
    IDENTIFY,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_ADD,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    PRESENCE_EVENT,
    READ,
    RESUME,
    RESUMED,
    SYNC,
    TYPING,
    UNSUBSCRIBE,
    Client,
    connected,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.jobs import in_order, job_events, post, speak
from tests.support.resume import park, resumed
from tests.support.server import counted, running_server, wait_until
from tests.support.token_client import auth, sessions_of

OPEN, SHUT = "team-a", "den"
TEAM = ("team-*",)
FIELDS: dict[str, Any] = {
    "stream_id": "cam",
    "chunk_seq": 1,
    "mime": "video/mp4",
    "data": b"\0",
    "content": "x",
    "user_id": "bob",
    "seq": 1,
    "typing": True,
    "channels": {OPEN: {"after": 0}, SHUT: {"after": 0}},
}
"""Values for required fields of requests that name a channel."""
NAMING = [
    op
    for op, cls in REQUESTS.items()
    if op != RESUME and {"channel_id", "channels"} & {field.name for field in attrs.fields(cls)}
]


@asynccontextmanager
async def in_both_channels(data_dir: Path, *users: str) -> AsyncGenerator[tuple[livechat.Server, Client]]:
    """A server, and bob, who is in both channels with the users."""
    async with running_server(data_dir, auth=auth("both")) as server, identified(server, "bob") as bob:
        for channel_id in (OPEN, SHUT):
            await bob.ack(CREATE, {"channel_id": channel_id})
            await bob.ack(JOIN, {"channel_id": channel_id})
            for user_id in users:
                await bob.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": user_id})
            await bob.say(channel_id, "before")
        yield server, bob


def minted(server: livechat.Server, channels: tuple[str, ...] | None = TEAM, scope: str = "chat") -> str:
    return server.mint_token("alice", (scope,), channels=channels).token


async def silent_about_both(bob: Client) -> None:
    """Drop what bob has heard of his own doing."""
    await bob.ack(LIST)
    bob._events.clear()


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["chat", "admin"])
async def test_whatever_names_another_channel_is_refused(scope: str, tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, _),
        identified(server, "alice", token=minted(server, scope=scope), binary=True) as alice,
    ):
        assert len(NAMING) >= 16
        for op in NAMING:
            names = {field.name for field in attrs.fields(REQUESTS[op])}
            d = {name: value for name, value in FIELDS.items() if name in names} | {"channel_id": SHUT}
            refusal = await alice.refused(op, d, id=op)
            assert refusal["code"] == 1007, (op, refusal)
            assert refusal["reason"] == f"channel_id: the token is not good for {SHUT}"
        # And whether there is such a channel at all is not told.
        assert (await alice.refused(INFO, {"channel_id": "none"}))["code"] == 1007
        assert await alice.ack(INFO, {"channel_id": OPEN})


async def test_the_refusal_of_a_message_repeats_its_nonce(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, _),
        identified(server, "alice", token=minted(server)) as alice,
    ):
        d = {"channel_id": SHUT, "content": "x", "nonce": "n1"}
        assert (await alice.refused(MESSAGE, d))["nonce"] == "n1"


# --- what is not shown -------------------------------------------------------------------------------------


async def test_ready_and_lists_leave_other_channels_out(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, _),
        identified(server, "alice", token=minted(server)) as alice,
    ):
        assert [state["channel_id"] for state in alice.ready["channels"]] == [OPEN]
        assert [row["channel_id"] for row in (await alice.ack(LIST))["channels"]] == [OPEN]
        page = await alice.ack(LIST, {"limit": 1})
        assert (page["channels"], page["next"]) == ([], SHUT), "the page holds what is not shown"
        page = await alice.ack(LIST, {"limit": 1, "after": SHUT})
        assert [row["channel_id"] for row in page["channels"]] == [OPEN]


async def test_with_no_channels_at_all_there_is_a_session_yet(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, bob),
        identified(server, "alice", token=minted(server, ())) as alice,
    ):
        assert (alice.ready["channels"], alice.ready["presence"]) == ([], {})
        await bob.say(OPEN, "hello")
        await alice.expect_silence()


async def test_presence_is_told_by_shared_channels_that_the_token_is_good_for(tmp_path: Path) -> None:
    chat = livechat.ChatLimits(presence_grace_ms=1, presence_interval_ms=1)
    async with running_server(tmp_path, auth=auth("both"), chat=chat) as server, identified(server, "bob") as bob:
        for channel_id, user_id in ((OPEN, "cyd"), (SHUT, "dan")):
            await bob.ack(CREATE, {"channel_id": channel_id})
            for each in ("alice", user_id):
                await bob.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": each})
        async with identified(server, "cyd"), identified(server, "dan"):
            async with identified(server, "alice", token=minted(server)) as alice:
                assert alice.ready["presence"] == {"cyd": "ONLINE"}
            async with identified(server, "alice") as alice:
                assert alice.ready["presence"] == {"cyd": "ONLINE", "dan": "ONLINE"}
        async with identified(server, "alice", token=minted(server)) as alice:
            alice.hears_presence = True
            async with identified(server, "dan"), identified(server, "cyd"):
                told = await alice.expect(PRESENCE_EVENT)
                assert (told["user_id"], told["status"]) == ("cyd", "ONLINE")


# --- what is not heard -------------------------------------------------------------------------------------


async def test_nothing_is_heard_of_other_channels(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, bob),
        identified(server, "alice", token=minted(server)) as alice,
    ):
        await bob.ack(FOCUS, {"channel_id": SHUT})
        await bob.say(SHUT, "hi @alice", mentions=["alice"])
        await bob.ack(TYPING, {"channel_id": SHUT, "typing": True}, id=1)
        await bob.ack(READ, {"channel_id": SHUT, "seq": 1})
        await bob.ack(13, {"channel_id": SHUT, "channel_name": "The den"})
        await alice.expect_silence()
        await bob.say(OPEN, "hi @alice", mentions=["alice"])
        assert (await alice.expect(MESSAGE_EVENT))["channel_id"] == OPEN
        assert (await alice.expect(NOTIFICATION))["channel_id"] == OPEN


async def test_a_channel_that_another_device_joins_is_not_heard_either(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path) as (server, bob),
        identified(server, "alice", token=minted(server)) as alice,
        identified(server, "alice") as phone,
    ):
        await phone.ack(JOIN, {"channel_id": SHUT})
        await bob.say(SHUT, "hello")
        await phone.ack(READ, {"channel_id": SHUT, "seq": 1})
        await bob.ack(MEMBER_ADD, {"channel_id": OPEN, "user_id": "alice"})
        assert (await alice.expect(CHANNEL_EVENT))["channel_id"] == OPEN
        assert (await alice.expect(NOTIFICATION))["kind"] == "invite"
        await alice.expect_silence()
        await phone.ack(LEAVE, {"channel_id": SHUT})
        await alice.expect_silence()


# --- another token -----------------------------------------------------------------------------------------


async def test_what_a_new_token_lacks_is_lost_at_once(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, bob),
        identified(server, "alice", token=minted(server, None)) as alice,
    ):
        await alice.ack(JOIN, {"channel_id": SHUT, "ssrc": 7})
        await alice.ack(FOCUS, {"channel_id": SHUT})
        assert counted(server)["peers"] == 1
        await silent_about_both(bob)
        await alice.ack(IDENTIFY, {"token": minted(server)})
        left = await bob.expect(CHANNEL_EVENT)
        assert (left["event"], left["channel_id"], left["cause"]) == ("voice_leave", SHUT, "forbidden")
        assert counted(server)["peers"] == 0
        await bob.ack(TYPING, {"channel_id": SHUT, "typing": True}, id=1)
        await bob.say(SHUT, "alone")
        await alice.expect_silence()
        assert (await alice.refused(HISTORY, {"channel_id": SHUT}))["code"] == 1007
        # The membership stands, and a token that is good for it has all of it again.
        await alice.ack(IDENTIFY, {"token": minted(server, None)})
        await bob.say(SHUT, "together")
        assert (await alice.expect(MESSAGE_EVENT))["content"] == "together"
        page = await alice.ack(HISTORY, {"channel_id": SHUT})
        assert [message["content"] for message in page["messages"]][-2:] == ["alone", "together"]


async def test_an_unsubscribed_channel_is_lost_as_well(tmp_path: Path) -> None:
    async with (
        in_both_channels(tmp_path, "alice") as (server, bob),
        identified(server, "alice", token=minted(server, None)) as alice,
    ):
        await alice.ack(UNSUBSCRIBE, {"channel_id": SHUT})
        await alice.ack(IDENTIFY, {"token": minted(server)})
        await bob.say(SHUT, "alone")
        await alice.expect_silence()
        await alice.ack(IDENTIFY, {"token": minted(server, None)})
        await bob.say(SHUT, "together")
        assert (await alice.expect(MESSAGE_EVENT))["content"] == "together"


async def test_a_resumed_session_is_told_only_what_the_new_token_is_good_for(tmp_path: Path) -> None:
    async with in_both_channels(tmp_path, "alice") as (server, bob):
        async with identified(server, "alice", token=minted(server, None)) as alice:
            session_id = await park(server, alice)
        for channel_id in (OPEN, SHUT):
            await bob.say(channel_id, "hi @alice", mentions=["alice"])
            await bob.ack(13, {"channel_id": channel_id, "channel_name": "New"})
        async with connected(server) as alice:
            before, done = await resumed(alice, session_id, token=minted(server), channels={OPEN: 1, SHUT: 1})
            assert {packet["d"]["channel_id"] for packet in before} == {OPEN}
            assert {packet["op"] for packet in before} == {MESSAGE_EVENT, CHANNEL_EVENT, NOTIFICATION}
            assert done["channels"][OPEN]["recovered"]
            # As of any channel that the client names and has no part in.
            assert done["channels"][SHUT] == {
                "replayed": 0, "last_seq": 0, "read_seq": 0, "unread": 0, "recovered": False, "active_members": []
            }  # fmt: skip
            assert list(done["presence"]) == ["bob"]
            await bob.say(SHUT, "alone")
            await alice.expect_silence()


async def test_a_channel_that_the_new_token_adds_is_said_to_have_a_hole(tmp_path: Path) -> None:
    async with in_both_channels(tmp_path, "alice") as (server, bob):
        async with identified(server, "alice", token=minted(server)) as alice:
            session_id = await park(server, alice)
        await bob.say(SHUT, "missed")
        async with connected(server) as alice:
            before, done = await resumed(alice, session_id, token=minted(server, None))
            assert before == []
            assert (done["channels"][OPEN]["recovered"], done["channels"][SHUT]["recovered"]) == (True, False)
            await bob.say(SHUT, "together")
            event = await alice.expect(MESSAGE_EVENT)
            assert event["seq"] == done["channels"][SHUT]["last_seq"] + 1
            page = await alice.ack(HISTORY, {"channel_id": SHUT})
            assert [message["content"] for message in page["messages"]][-2:] == ["missed", "together"]


# --- a new token in the middle of something ----------------------------------------------------------------


async def test_a_join_that_a_new_token_overtakes_begins_no_voice(tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path, auth=auth("both")) as (server, door),
        identified(server, "alice", token=minted(server, None)) as alice,
    ):
        await alice.ack(CREATE, {"channel_id": SHUT})
        door.close_for(JoinChannel)
        await alice.send(JOIN, {"channel_id": SHUT, "ssrc": 7})
        await wait_until(lambda: door.operations_waiting)
        await alice.ack(IDENTIFY, {"token": minted(server)})
        door.open()
        refusal = await alice.expect(ERROR)
        assert (refusal["op"], refusal["code"]) == (JOIN, 1007)
        assert counted(server)["peers"] == 0
        await alice.expect_silence()


async def test_a_sync_that_a_new_token_overtakes_replays_nothing_more(tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path, auth=auth("both")) as (server, door),
        identified(server, "alice", token=minted(server, None)) as alice,
    ):
        await alice.ack(CREATE, {"channel_id": SHUT})
        await alice.ack(JOIN, {"channel_id": SHUT})
        await alice.say(SHUT, "hello")
        assert (await alice.expect(MESSAGE_EVENT))["seq"] == 2
        door.close_for_queries()
        await alice.send(SYNC, {"channels": {SHUT: {"after": 0}}})
        await wait_until(lambda: door.fetches_waiting)
        await alice.ack(IDENTIFY, {"token": minted(server)})
        door.open()
        synced = (await alice.expect(ACK))["data"]["channels"][SHUT]
        assert synced == {"replayed": 0, "last_seq": 0, "recovered": False}


@pytest.mark.parametrize("op", [FOCUS, UNSUBSCRIBE])
async def test_a_wish_that_a_new_token_overtakes_means_nothing(op: int, tmp_path: Path) -> None:
    """The membership that it waits for comes after the token that is not good for the channel."""
    async with (
        server_with_door(tmp_path, auth=auth("both")) as (server, door),
        identified(server, "alice", token=minted(server, None)) as alice,
        identified(server, "bob") as bob,
    ):
        await bob.ack(CREATE, {"channel_id": SHUT})
        await bob.ack(JOIN, {"channel_id": SHUT})
        door.close_for(GetChannel)
        await alice.send(op, {"channel_id": SHUT})
        await wait_until(lambda: door.operations_waiting)
        await alice.ack(IDENTIFY, {"token": minted(server)})
        await bob.ack(MEMBER_ADD, {"channel_id": SHUT, "user_id": "alice"})
        door.open()
        await alice.expect(ACK)
        await bob.ack(TYPING, {"channel_id": SHUT, "typing": True}, id=1)
        await bob.say(SHUT, "alone")
        await alice.expect_silence()


# --- jobs ----------------------------------------------------------------------------------------------


async def test_a_job_about_another_channel_is_not_heard_of_nor_replayed(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        server.add_job_handler("speak", speak)
        full, narrow = (server.mint_token("alice", channels=patterns).token for patterns in (None, ("team-*",)))
        async with (
            sessions_of(server, full, narrow) as (all_of_it, part),
            calling(server, None, token=full) as http,
        ):
            den = await post(http, input={"channel_id": "den"})
            assert in_order(await job_events(all_of_it, den))
            team = await post(http, input={"channel_id": "team-a"})
            assert in_order(await job_events(part, team))
            session_id = await park(server, part)
            async with connected(server) as client:
                d = {"session_id": session_id, "token": narrow, "jobs": {den: 0, team: 4}}
                await client.send(RESUME, d)
                assert in_order(await job_events(client, team), first=5)
                jobs = (await client.expect(RESUMED))["jobs"]
            assert jobs == {
                den: {"replayed": 0, "event_seq": 0, "recovered": False},
                team: {"replayed": 1, "event_seq": 5, "recovered": True},
            }
