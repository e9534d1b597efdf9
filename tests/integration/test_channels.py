"""Channels and chat over real connections: who may, who is told, one sequence without a seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    ERROR,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MESSAGE,
    MESSAGE_EVENT,
    UPDATE,
    identified,
)
from tests.support.server import counted, running_server, wait_until


async def test_create_answers_what_was_made(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        assert await alice.ack(CREATE, {"channel_id": "lobby"}) == {
            "channel_id": "lobby",
            "channel_name": "lobby",
            "mode": "conference",
            "durable": True,
            "capacity": 100,
        }
        given = {"channel_id": "b", "channel_name": "B", "mode": "ptt", "capacity": 3, "durable": False}
        assert await alice.ack(CREATE, given) == given
        assert (await alice.refused(CREATE, {"channel_id": "lobby"}))["code"] == 2005


@pytest.mark.parametrize(
    ("fields", "mode", "durable"),
    [
        ({"freq": 101.5}, "ptt", False),
        ({"freq": "146.520"}, "ptt", False),
        ({"freq": 7, "mode": "conference"}, "conference", True),
        ({"freq": 7, "durable": True}, "ptt", True),
        ({"mode": "ptt"}, "ptt", True),
    ],
)
async def test_a_bare_freq_makes_mini_livechats_channel(
    fields: dict[str, Any], mode: str, durable: bool, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        created = await alice.ack(CREATE, {"channel_id": "x", **fields})
        assert (created["mode"], created["durable"]) == (mode, durable)


async def test_joins_are_told_once_to_all_others_and_to_ones_other_sessions(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
        identified(server, "bob") as bob_too,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        joined = await alice.ack(JOIN, {"channel_id": "x"})
        assert joined == {
            "channel_id": "x",
            "mode": "conference",
            "active_members": [{"user_id": "alice", "ssrc": None}],
            "last_seq": 1,
        }
        joined = await bob.ack(JOIN, {"channel_id": "x"})
        assert joined["last_seq"] == 2
        event = {
            "event": "join",
            "channel_id": "x",
            "member": {"user_id": "bob", "ssrc": None},
            "seq": 2,
        }
        assert await alice.expect(CHANNEL_EVENT) == event
        assert await bob_too.expect(CHANNEL_EVENT) == event
        await bob.expect_silence()
        # The second session is subscribed, but has not joined: its own JOIN is fine, and tells nobody.
        assert (await bob_too.ack(JOIN, {"channel_id": "x"}))["last_seq"] == 2
        assert (await bob_too.refused(JOIN, {"channel_id": "x"}))["code"] == 2003
        await alice.expect_silence()


async def test_no_seam_between_a_join_and_what_follows(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        for index in range(100):
            await alice.send(MESSAGE, {"channel_id": "x", "content": f"{index}"})
            if index == 50:
                await bob.send(JOIN, {"channel_id": "x"})
        joined = await bob.receive()
        last = joined["d"]["data"]["last_seq"]
        while last < 102:
            packet = await bob.receive()
            assert packet["d"]["seq"] == last + 1
            last += 1


async def test_messages_reach_all_subscribers_the_author_after_its_ack(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob", binary=True) as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        attachment = {"url": "/files/1", "name": "a.png", "bytes": 3, "mime": "image/png"}
        fields = {"message_type": "IMAGE", "attachment": attachment, "mentions": ["bob"], "nonce": "n"}
        stored = await alice.say("x", "안녕 🙂", **fields)
        assert (stored["seq"], stored["duplicate"], stored["nonce"]) == (3, False, "n")
        message = {
            "message_id": stored["message_id"],
            "channel_id": "x",
            "seq": 3,
            "author_id": "alice",
            "content": "안녕 🙂",
            "timestamp": stored["timestamp"],
            **fields,
        }
        assert await alice.expect(MESSAGE_EVENT) == message
        assert await bob.expect(MESSAGE_EVENT) == message
        # Without an id there is no ACK, only the event.
        await alice.send(MESSAGE, {"channel_id": "x", "content": "quiet"})
        assert (await alice.expect(MESSAGE_EVENT))["content"] == "quiet"
        await alice.expect_silence()


async def test_a_nonce_is_answered_by_its_first_result(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        first = await alice.say("x", "once", nonce="n")
        await alice.expect(MESSAGE_EVENT)
        again = await alice.say("x", "once", nonce="n")
        assert again == {**first, "duplicate": True}
        await alice.expect_silence()
        refused = await alice.refused(MESSAGE, {"channel_id": "x", "content": "other", "nonce": "n"})
        assert (refused["code"], refused["nonce"]) == (3003, "n")
        # The lookup comes before all other checks: after leaving the first result is still given.
        await alice.ack(LEAVE, {"channel_id": "x"})
        assert (await alice.say("x", "once", nonce="n"))["duplicate"] is True
        assert (await alice.refused(MESSAGE, {"channel_id": "x", "content": "", "nonce": "m"}))["code"] == 3000


async def test_what_a_message_must_be(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        for content, code in (("", 3000), (" \n\t", 3000), ("x" * 2001, 3001)):
            for extra in ({}, {"nonce": f"n{code}{len(content)}"}):
                d = {"channel_id": "x", "content": content, **extra}
                assert (await alice.refused(MESSAGE, d))["code"] == code
        # Lengths are in code points, whatever they take in bytes.
        await alice.say("x", "🙂" * 2000)
        d = {"channel_id": "x", "content": "hi"}
        assert (await bob.refused(MESSAGE, d))["code"] == 3002
        assert (await bob.refused(MESSAGE, {**d, "channel_id": "none"}))["code"] == 2000
        assert (await alice.ack(INFO, {"channel_id": "x"}))["last_seq"] == 2


async def test_leaving_is_told_and_stops_everything(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
        identified(server, "bob") as bob_too,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x", "ssrc": 9})
        await alice.expect(CHANNEL_EVENT)
        await bob_too.expect(CHANNEL_EVENT)
        assert await bob.ack(LEAVE, {"channel_id": "x"}) == {"channel_id": "x"}
        left = {"event": "leave", "channel_id": "x", "member": {"user_id": "bob", "ssrc": 9}, "seq": 3}
        assert await alice.expect(CHANNEL_EVENT) == left
        assert await bob_too.expect(CHANNEL_EVENT) == left
        assert counted(server)["peers"] == 0
        await alice.say("x", "nobody hears")
        await bob.expect_silence()
        await bob_too.expect_silence()
        assert (await bob.refused(LEAVE, {"channel_id": "x"}))["code"] == 2004
        assert (await bob.refused(LEAVE, {"channel_id": "none"}))["code"] == 2000
        assert (await bob.ack(JOIN, {"channel_id": "x"}))["last_seq"] == 5


async def test_capacity_counts_members(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x", "capacity": 1})
        await alice.ack(JOIN, {"channel_id": "x"})
        refused = await bob.refused(JOIN, {"channel_id": "x", "ssrc": 4})
        assert (refused["code"], refused["retryable"]) == (2001, True)
        assert counted(server)["peers"] == 0
        await alice.ack(UPDATE, {"channel_id": "x", "capacity": 2})
        await bob.ack(JOIN, {"channel_id": "x"})


async def test_private_channels_are_there_for_their_own_only(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x", "private": True})
        await alice.ack(JOIN, {"channel_id": "x"})
        for op in (JOIN, LEAVE, INFO, UPDATE, DELETE):
            assert (await bob.refused(op, {"channel_id": "x"}))["code"] == 2002
        assert (await bob.refused(MESSAGE, {"channel_id": "x", "content": "hi"}))["code"] == 2002
        assert (await bob.ack(LIST))["channels"] == []
        assert [row["channel_id"] for row in (await alice.ack(LIST))["channels"]] == ["x"]


async def test_updates_and_deletion_are_the_owners(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x", "ssrc": 3})
        for op in (UPDATE, DELETE):
            assert (await bob.refused(op, {"channel_id": "x"}))["code"] == 1007
            assert (await bob.refused(op, {"channel_id": "none"}))["code"] == 2000
        changes = {"channel_id": "x", "channel_name": "Renamed", "capacity": 7}
        assert await alice.ack(UPDATE, changes) == {"channel_id": "x"}
        event = await bob.expect(CHANNEL_EVENT)
        assert (event["event"], event["actor_id"]) == ("update", "alice")
        assert "seq" not in event
        assert event["channel"] == {"channel_name": "Renamed", "capacity": 7, "private": False}
        assert (await bob.ack(INFO, {"channel_id": "x"}))["channel_name"] == "Renamed"
        assert await alice.ack(DELETE, {"channel_id": "x"}) == {"channel_id": "x"}
        event = await bob.expect(CHANNEL_EVENT)
        assert (event["event"], event["actor_id"]) == ("delete", "alice")
        assert (await bob.refused(INFO, {"channel_id": "x"}))["code"] == 2000
        assert counted(server)["channels"] == counted(server)["subscriptions"] == counted(server)["peers"] == 0
        # Created again, it goes on after its last seq; nothing of the old one is left in it.
        await alice.ack(CREATE, {"channel_id": "x"})
        assert (await bob.ack(JOIN, {"channel_id": "x"}))["last_seq"] == 2
        assert (await bob.ack(INFO, {"channel_id": "x"}))["member_count"] == 1


async def test_info_describes_a_channel_to_members_and_others(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x", "capacity": 5})
        await alice.ack(JOIN, {"channel_id": "x", "ssrc": 11})
        stored = await alice.say("x", "hello")
        # What is said in it is for its members.
        last_message = (await alice.ack(INFO, {"channel_id": "x"}))["last_message"]
        assert (last_message["content"], last_message["seq"]) == ("hello", 2)
        info = await bob.ack(INFO, {"channel_id": "x"})
        created_at = info.pop("created_at")
        assert abs(created_at - stored["timestamp"]) < 60_000
        assert info == {
            "channel_id": "x",
            "channel_name": "x",
            "mode": "conference",
            "durable": True,
            "role": None,
            "last_seq": 2,
            "read_seq": 0,
            "unread": 0,
            "mention_count": 0,
            "member_count": 1,
            "capacity": 5,
            "peers": [{"user_id": "alice", "ssrc": 11}],
            "active_speakers": [],
        }
        assert (await alice.ack(INFO, {"channel_id": "x"}))["role"] == "owner"
        assert (await bob.refused(INFO, {"channel_id": "none"}))["code"] == 2000


async def test_the_list_has_pages(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for index in range(5):
            await alice.ack(CREATE, {"channel_id": f"c{index}"})
        seen = []
        after: dict[str, Any] = {}
        while True:
            page = await alice.ack(LIST, {"limit": 2, **after})
            seen += [row["channel_id"] for row in page["channels"]]
            if "next" not in page:
                break
            after = {"after": page["next"]}
        assert seen == [f"c{index}" for index in range(5)]
        assert len((await alice.ack(LIST))["channels"]) == 5


async def test_ready_shows_memberships_with_unread_and_subscribes_to_them(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        async with identified(server, "bob") as bob:
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x"})
            await bob.ack(JOIN, {"channel_id": "x"})
        await wait_until(lambda: counted(server)["sessions"] == 1)
        await alice.say("x", "one")
        await alice.say("x", "two", mentions=["bob"])
        async with identified(server, "bob") as bob:
            (state,) = bob.ready["channels"]
            assert state.pop("last_message")["content"] == "two"
            assert state == {
                "channel_id": "x",
                "channel_name": "x",
                "mode": "conference",
                "durable": True,
                "role": "member",
                "last_seq": 4,
                "read_seq": 2,
                "unread": 2,
                "mention_count": 1,
                "member_count": 2,
            }
            await alice.say("x", "three")
            assert (await bob.expect(MESSAGE_EVENT))["seq"] == 5


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x", "channel_name": "Lasting", "capacity": 9})
        await alice.ack(JOIN, {"channel_id": "x"})
        first = await alice.say("x", "still here?", nonce="n")
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        (state,) = alice.ready["channels"]
        assert (state["channel_name"], state["last_seq"], state["role"]) == ("Lasting", 2, "owner")
        assert state["last_message"]["message_id"] == first["message_id"]
        assert (await alice.say("x", "still here?", nonce="n"))["duplicate"] is True
        assert (await alice.say("x", "yes"))["seq"] == 3


async def test_leaving_and_joining_at_once_ends_in_the_channel(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        # Pipelined: the second one is read before the first one is committed.
        await alice.send(LEAVE, {"channel_id": "x"}, id=1)
        await alice.send(JOIN, {"channel_id": "x"}, id=2)
        assert (await alice.expect(ACK))["op"] == LEAVE
        assert (await alice.expect(ACK))["data"]["last_seq"] == 3
        assert (await alice.say("x", "still here"))["seq"] == 4


async def test_who_updates_or_deletes_hears_of_it_too_after_the_ack(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        for op, kind in ((UPDATE, "update"), (DELETE, "delete")):
            await alice.send(op, {"channel_id": "x"}, id=kind)
            assert (await alice.expect(ACK))["op"] == op
            assert (await alice.expect(CHANNEL_EVENT))["event"] == kind


async def test_in_a_durable_channel_a_disconnect_ends_only_the_voice(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "x", "ssrc": 9})
            await alice.expect(CHANNEL_EVENT)
        ended = await alice.expect(CHANNEL_EVENT)
        assert (ended["event"], ended["cause"]) == ("voice_leave", "disconnect")
        assert ended["member"] == {"user_id": "bob", "ssrc": 9}
        assert (await alice.ack(INFO, {"channel_id": "x"}))["member_count"] == 2


async def test_an_ssrc_that_is_insisted_on_is_given_once_also_to_those_who_ask_at_once(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        join = {"channel_id": "x", "tracks": [{"kind": "audio", "ssrc": 7}]}
        # Both are read before either is committed; who is refused is not in the channel.
        await alice.send(JOIN, join, id=1)
        await bob.send(JOIN, join, id=1)
        replies = [await alice.receive(), await bob.receive()]
        codes = sorted(reply["d"].get("code", 0) for reply in replies)
        assert codes == [0, 2006]
        assert (await alice.ack(INFO, {"channel_id": "x"}))["member_count"] == 1
        loser = bob if replies[1]["op"] == ERROR else alice
        await loser.ack(JOIN, {"channel_id": "x", "tracks": [{"kind": "audio", "ssrc": 8}]})
