"""What happens to a session's channels and its user while it is parked, as the RESUME after it tells."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

import livechat
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    FOCUS,
    JOIN,
    LEAVE,
    MEMBER_ADD,
    MEMBER_REMOVE,
    MESSAGE_EVENT,
    NOTIFICATION,
    READ,
    SETTINGS_EVENT,
    SETTINGS_SET,
    SUBSCRIBE,
    TYPING,
    TYPING_EVENT,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    Packet,
    connected,
    identified,
)
from tests.support.resume import park, resume_on, resumed, seqs
from tests.support.server import running_server


@attrs.define
class Stage:
    """Alice, who stays, and Bob, whose one session is parked; both are members of `lobby`, whose last seq is 2."""

    server: livechat.Server
    alice: Client
    session_id: str

    async def resume(self, **fields: Any) -> tuple[list[Packet], Packet]:
        return await resume_on(self.server, self.session_id, **fields)


@asynccontextmanager
async def bob_parked(data_dir: Path, **overrides: Any) -> AsyncGenerator[Stage]:
    async with running_server(data_dir, **overrides) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby"})
            await alice.expect(CHANNEL_EVENT)
            session_id = await park(server, bob)
        yield Stage(server, alice, session_id)


async def test_nothing_missed_means_nothing_replayed(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        given: list[dict[str, Any]] = [{}, {"channels": {}}, {"channels": {"lobby": 2}}]
        for fields in given:
            before, done = await stage.resume(**fields)
            assert before == []
            assert done["session_id"] == stage.session_id
            assert done["announcements"] == []
            assert done["presence"] == {"alice": "ONLINE"}
            (lobby,) = done["channels"].values()
            assert lobby == {
                "replayed": 0,
                "last_seq": 2,
                "read_seq": 2,
                "unread": 0,
                "recovered": True,
                "active_members": [{"user_id": name, "ssrc": None} for name in ("alice", "bob")],
            }


async def test_a_channel_joined_meanwhile_is_replayed_from_the_join_on(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.ack(CREATE, {"channel_id": "hall"})
        await stage.alice.ack(JOIN, {"channel_id": "hall"})
        await stage.alice.say("hall", "before")
        async with identified(stage.server, "bob") as other:
            await other.ack(JOIN, {"channel_id": "hall"})
        await stage.alice.say("hall", "after")
        before, done = await stage.resume()
        assert seqs(before, "hall") == [3, 4]
        assert before[0]["d"]["event"] == "join"
        assert before[1]["d"]["content"] == "after"
        assert done["channels"]["hall"]["recovered"] is True
        assert done["channels"]["hall"]["last_seq"] == 4


async def test_an_invitation_meanwhile_is_told_with_its_join(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.ack(CREATE, {"channel_id": "den", "private": True})
        await stage.alice.ack(MEMBER_ADD, {"channel_id": "den", "user_id": "bob"})
        before, done = await stage.resume()
        assert [packet["op"] for packet in before] == [CHANNEL_EVENT, NOTIFICATION]
        assert before[0]["d"]["actor_id"] == "alice"
        assert before[1]["d"] == {"kind": "invite", "channel_id": "den", "user_id": "alice"}
        assert set(done["channels"]) == {"den", "lobby"}


@pytest.mark.parametrize("fields", [{}, {"channels": {"lobby": 2}}], ids=["own cursors", "given cursors"])
async def test_who_was_removed_meanwhile_hears_up_to_the_own_leave_and_nothing_after_it(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.say("lobby", "three")
        await stage.alice.ack(MEMBER_REMOVE, {"channel_id": "lobby", "user_id": "bob"})
        await stage.alice.say("lobby", "five")
        before, done = await stage.resume(**fields)
        assert seqs(before, "lobby") == [3, 4]
        left = before[-1]["d"]
        assert (left["event"], left["member"]["user_id"], left["actor_id"]) == ("leave", "bob", "alice")
        assert done["channels"] == {}
        # Told once; a client that still asks for the channel learns that it has no part in it.
        before, done = await stage.resume(channels={"lobby": 4})
        assert before == []
        assert done["channels"]["lobby"].items() >= {"last_seq": 0, "recovered": False}.items()


async def test_who_left_and_joined_again_hears_nothing_from_between(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.say("lobby", "three")
        async with identified(stage.server, "bob") as other:
            await other.ack(LEAVE, {"channel_id": "lobby"})
            await stage.alice.say("lobby", "between")
            await stage.alice.say("lobby", "between")
            await other.ack(JOIN, {"channel_id": "lobby"})
        await stage.alice.say("lobby", "eight")
        before, done = await stage.resume()
        assert seqs(before, "lobby") == [3, 4, 7, 8]
        lobby = done["channels"]["lobby"]
        assert (lobby["replayed"], lobby["last_seq"], lobby["recovered"]) == (4, 8, True)


async def test_leaving_and_joining_many_times_is_told_in_order_without_doubles(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        expected: list[int] = []
        seq = 2
        async with identified(stage.server, "bob") as other:
            for _ in range(5):
                await other.ack(LEAVE, {"channel_id": "lobby"})
                await stage.alice.say("lobby", "between")
                await other.ack(JOIN, {"channel_id": "lobby"})
                await stage.alice.say("lobby", "heard")
                expected += [seq + 1, seq + 3, seq + 4]
                seq += 4
        before, done = await stage.resume(channels={"lobby": 2})
        assert seqs(before, "lobby") == expected
        lobby = done["channels"]["lobby"]
        assert (lobby["replayed"], lobby["last_seq"], lobby["recovered"]) == (15, seq, True)


async def test_a_client_that_has_seen_its_leave_is_told_from_the_join_on(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        async with identified(stage.server, "bob") as other:
            await other.ack(LEAVE, {"channel_id": "lobby"})
            await stage.alice.say("lobby", "between")
            await other.ack(JOIN, {"channel_id": "lobby"})
        before, done = await stage.resume(channels={"lobby": 3})
        assert seqs(before, "lobby") == [5]
        assert done["channels"]["lobby"]["recovered"] is True


async def test_a_channel_that_was_deleted_meanwhile_says_so(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.say("lobby", "lost with it")
        await stage.alice.ack(DELETE, {"channel_id": "lobby"})
        before, done = await stage.resume()
        assert [(packet["op"], packet["d"]["event"]) for packet in before] == [(CHANNEL_EVENT, "delete")]
        assert done["channels"] == {}


async def test_a_channel_that_was_left_and_then_deleted_says_so_as_well(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.ack(MEMBER_REMOVE, {"channel_id": "lobby", "user_id": "bob"})
        await stage.alice.ack(DELETE, {"channel_id": "lobby"})
        before, done = await stage.resume()
        assert [packet["d"]["event"] for packet in before] == ["delete"]
        assert done["channels"] == {}


async def test_a_channel_that_was_deleted_and_made_again_is_deleted_before_it_is_joined(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.say("lobby", "lost with it")
        await stage.alice.ack(DELETE, {"channel_id": "lobby"})
        await stage.alice.ack(CREATE, {"channel_id": "lobby"})
        await stage.alice.ack(JOIN, {"channel_id": "lobby"})
        await stage.alice.ack(MEMBER_ADD, {"channel_id": "lobby", "user_id": "bob"})
        await stage.alice.say("lobby", "new")
        before, done = await stage.resume()
        told = [packet["d"].get("event") for packet in before if packet["op"] != NOTIFICATION]
        assert told == ["delete", "join", None]
        assert seqs(before, "lobby") == [5, 6]
        lobby = done["channels"]["lobby"]
        assert (lobby["replayed"], lobby["last_seq"], lobby["recovered"]) == (2, 6, True)


async def test_a_client_is_told_that_what_a_deletion_took_cannot_be_replayed(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.say("lobby", "lost with it")
        await stage.alice.ack(DELETE, {"channel_id": "lobby"})
        await stage.alice.ack(CREATE, {"channel_id": "lobby"})
        await stage.alice.ack(MEMBER_ADD, {"channel_id": "lobby", "user_id": "bob"})
        before, done = await stage.resume(channels={"lobby": 2})
        assert seqs(before, "lobby") == [4]
        assert done["channels"]["lobby"]["recovered"] is False


async def test_of_a_channel_made_again_a_client_is_told_from_its_own_join_on_whatever_it_states(
    tmp_path: Path,
) -> None:
    async with bob_parked(tmp_path) as stage:
        await stage.alice.ack(DELETE, {"channel_id": "lobby"})
        await stage.alice.ack(CREATE, {"channel_id": "lobby"})
        await stage.alice.ack(JOIN, {"channel_id": "lobby"})
        await stage.alice.say("lobby", "not for Bob")
        await stage.alice.ack(MEMBER_ADD, {"channel_id": "lobby", "user_id": "bob"})
        before, _ = await stage.resume(channels={"lobby": 2})
        assert seqs(before, "lobby") == [5]


async def test_of_updates_the_newest_is_told_and_every_role_change(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        async with identified(stage.server, "carol") as carol:
            await carol.ack(JOIN, {"channel_id": "lobby"})
        for name in ("A", "B", "C"):
            await stage.alice.ack(UPDATE, {"channel_id": "lobby", "channel_name": name})
        for user_id in ("bob", "carol"):
            await stage.alice.ack(MEMBER_ADD, {"channel_id": "lobby", "user_id": user_id, "role": "moderator"})
        before, _ = await stage.resume()
        updates = [packet["d"] for packet in before if packet["d"].get("event") == "update"]
        assert [update.get("channel", {}).get("channel_name") for update in updates] == ["C", None, None]
        assert [(update["member"]["user_id"], update["role"]) for update in updates[1:]] == [
            ("bob", "moderator"),
            ("carol", "moderator"),
        ]


async def test_notifications_and_the_newest_settings_are_told_later(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        for number in range(3):
            await stage.alice.say("lobby", f"@bob {number}", mentions=["bob"])
        async with identified(stage.server, "bob") as other:
            await other.ack(SETTINGS_SET, {"settings": {"theme": "dark"}})
            await other.ack(SETTINGS_SET, {"settings": {"size": 3}})
            before, _ = await stage.resume()
            assert [packet["op"] for packet in before] == [
                *[MESSAGE_EVENT] * 3,
                *[NOTIFICATION] * 3,
                SETTINGS_EVENT,
            ]
            assert [packet["d"]["seq"] for packet in before[3:6]] == [3, 4, 5]
            assert before[6]["d"] == {"settings": {"theme": "dark", "size": 3}}
            # Told once.
            before, _ = await stage.resume()
            assert before == []


async def test_unread_counts_and_read_positions_are_those_of_now(tmp_path: Path) -> None:
    async with bob_parked(tmp_path) as stage:
        for _ in range(4):
            await stage.alice.say("lobby", "unread")
        async with identified(stage.server, "bob") as other:
            await other.ack(READ, {"channel_id": "lobby", "seq": 4})
        _, done = await stage.resume()
        assert (done["channels"]["lobby"]["read_seq"], done["channels"]["lobby"]["unread"]) == (4, 2)


async def test_unsubscribed_channels_stay_so_and_are_not_replayed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for channel_id in ("lobby", "hall"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id})
        async with identified(server, "bob") as bob:
            for channel_id in ("lobby", "hall"):
                await bob.ack(JOIN, {"channel_id": channel_id})
            await bob.ack(UNSUBSCRIBE, {"channel_id": "lobby"})
            session_id = await park(server, bob)
        for channel_id in ("lobby", "hall"):
            await alice.say(channel_id, "three")
        async with connected(server) as bob:
            before, done = await resumed(bob, session_id, channels={"lobby": 2, "hall": 2})
            assert seqs(before, "lobby") == []
            assert seqs(before, "hall") == [3]
            lobby = done["channels"]["lobby"]
            assert (lobby["replayed"], lobby["last_seq"], lobby["unread"]) == (0, 3, 1)
            await alice.say("hall", "four")
            assert (await bob.expect(MESSAGE_EVENT))["channel_id"] == "hall"
            assert (await bob.ack(SUBSCRIBE, {"channel_id": "lobby"}))["last_seq"] == 3
            await alice.say("lobby", "four")
            assert (await bob.expect(MESSAGE_EVENT))["seq"] == 4


async def test_focus_survives_and_ends_with_the_membership(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby"})
            await bob.ack(FOCUS, {"channel_id": "lobby"})
            session_id = await park(server, bob)
        async with connected(server) as bob:
            await resumed(bob, session_id)
            await alice.ack(TYPING, {"channel_id": "lobby", "typing": True}, id=1)
            assert (await bob.expect(TYPING_EVENT))["user_id"] == "alice"
            bob.ready = {"session_id": session_id}
            await park(server, bob)
        async with identified(server, "bob") as other:
            await other.ack(LEAVE, {"channel_id": "lobby"})
            await other.ack(JOIN, {"channel_id": "lobby"})
        async with connected(server) as bob:
            await resumed(bob, session_id)
            await alice.ack(TYPING, {"channel_id": "lobby", "typing": True}, id=2)
            await bob.expect_silence()
