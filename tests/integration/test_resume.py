"""RESUME on a real server: what a session missed, in order, without doubles or holes; and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import livechat
from livechat.store.operations import ChangeSettings, JoinChannel, LeaveChannel
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IDENTIFY,
    INFO,
    INVALID_SESSION,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    READY,
    RESUME,
    RESUMED,
    SETTINGS_EVENT,
    SETTINGS_SET,
    connected,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.resume import drop, park, resumed, until_resumed
from tests.support.server import SECRET, counted, make_config, running_server, wait_until


async def test_what_was_missed_is_replayed_in_order_and_then_events_go_on(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby"})
            session_id = bob.ready["session_id"]
            await alice.say("lobby", "heard")
            assert (await bob.expect(MESSAGE_EVENT))["seq"] == 3
            await drop(bob)
        await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
        for number in range(300):
            await alice.say("lobby", str(number))
        async with identified(server, "carol") as carol:
            await carol.ack(JOIN, {"channel_id": "lobby"})
            await carol.ack(LEAVE, {"channel_id": "lobby"})
        async with connected(server) as bob:
            before, done = await resumed(bob, session_id)
            assert [packet["d"]["seq"] for packet in before] == list(range(4, 306))
            assert {packet["op"] for packet in before} == {MESSAGE_EVENT, CHANNEL_EVENT}
            lobby = done["channels"]["lobby"]
            assert lobby["replayed"] == 302
            assert lobby["last_seq"] == 305
            assert lobby["recovered"] is True
            assert lobby["unread"] == 301
            assert [member["user_id"] for member in lobby["active_members"]] == ["alice", "bob"]
            await alice.say("lobby", "live")
            assert (await bob.expect(MESSAGE_EVENT))["seq"] == 306
            await drop(bob)
        async with connected(server) as bob:
            before, done = await resumed(bob, session_id, channels={"lobby": 300})
            assert [packet["d"]["seq"] for packet in before] == list(range(301, 307))


async def test_a_session_resumed_twice_closes_the_older_connection(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with connected(server) as second:
            before, done = await resumed(second, alice.ready["session_id"])
            assert before == []
            assert done["channels"]["lobby"]["last_seq"] == 1
            assert await alice.closed() == 4505
            await second.say("lobby", "still here")
            assert (await second.expect(MESSAGE_EVENT))["seq"] == 2


async def test_live_events_during_a_long_replay_come_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby"})
            session_id = bob.ready["session_id"]
            await drop(bob)

        async def chatter(count: int) -> None:
            for number in range(count):
                await alice.send(MESSAGE, {"channel_id": "lobby", "content": f"{number}"})
                await alice.expect(MESSAGE_EVENT) if number else None

        await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
        await alice.expect(CHANNEL_EVENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chatter, 2000)
            async with connected(server) as bob:
                before, done = await resumed(bob, session_id, channels={"lobby": 0})
                seqs = [packet["d"]["seq"] for packet in before]
                while not seqs or seqs[-1] < 2002:
                    seqs.append((await bob.expect(MESSAGE_EVENT))["seq"])
                assert seqs == list(range(1, 2003))
                assert done["channels"]["lobby"]["replayed"] == len(before)


# --- what a RESUME takes -----------------------------------------------------------------------------------


class Letters:
    """Takes a token for the user's id, an expired one for nothing."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        if token == "wrong":
            raise livechat.InvalidToken("token: wrong")
        name = token.removeprefix("old-")
        return livechat.Identity(livechat.UserId(name), expires_at=1 if name != token else None)


@pytest.mark.parametrize("token", ["mallory", "wrong", "old-bob"])
async def test_a_token_that_does_not_speak_for_the_user_resumes_nothing(token: str, tmp_path: Path) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), authenticator=Letters()) as server,
        identified(server, "bob", token="bob") as bob,
        connected(server) as other,
    ):
        d = {"session_id": bob.ready["session_id"], "token": token}
        reply = await other.request(RESUME, d)
        assert reply["op"] == INVALID_SESSION
        assert "bob" not in reply["d"]["reason"]
        # It touched nothing, and what is said of a session that is not there is the same.
        await bob.ack(LIST)
        if token == "mallory":
            assert await other.request(RESUME, {**d, "session_id": "sess_none"}) == reply
        assert (await other.request(IDENTIFY, {"token": "mallory"}))["op"] == READY
        assert (await bob.request(HEARTBEAT))["op"] == HEARTBEAT_ACK


async def test_the_third_resume_with_a_bad_token_closes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server) as client:
        for _ in range(3):
            await client.send(RESUME, {"session_id": "sess_x", "token": "wrong"})
        assert await client.closed() == 4501


async def test_a_session_whose_window_is_over_is_invalid_and_identify_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path, gateway={"resume_window_ms": 30}) as server:
        async with identified(server, "alice") as alice:
            session_id = alice.ready["session_id"]
            await drop(alice)
        await wait_until(lambda: counted(server)["sessions"] == 0)
        async with connected(server) as alice:
            await alice.send(RESUME, {"session_id": session_id, "token": SECRET})
            await alice.send(IDENTIFY, {"token": SECRET, "user_id": "alice"})
            await alice.send(CREATE, {"channel_id": "x"}, id=1)
            assert [(await alice.receive())["op"] for _ in range(3)] == [INVALID_SESSION, READY, ACK]


async def test_without_a_resume_window_nothing_can_be_resumed_and_nobody_is_disturbed(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, gateway={"resume_window_ms": 0}) as server,
        identified(server, "alice") as alice,
        connected(server) as other,
    ):
        d = {"session_id": alice.ready["session_id"], "token": SECRET}
        assert (await other.request(RESUME, d))["op"] == INVALID_SESSION
        await alice.ack(LIST)
        await drop(alice)
        await wait_until(lambda: counted(server)["sessions"] == 0)


async def test_with_a_token_in_the_upgrade_resume_follows(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            session_id = await park(server, alice)
        query = f"?token={SECRET}&session_id={session_id}"
        async with connected(server, query=query) as alice:
            await alice.expect_silence()
            _, done = await resumed(alice, session_id)
            assert done["session_id"] == session_id


async def test_requests_behind_a_resume_are_answered_after_resumed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
            session_id = await park(server, alice)
        async with connected(server) as alice:
            await alice.send(RESUME, {"session_id": session_id, "token": SECRET})
            for number in range(600):
                await alice.send(
                    JOIN if number == 0 else LIST, {"channel_id": "x"} if number == 0 else None, id=number
                )
            assert await until_resumed(alice)
            assert [(await alice.receive())["id"] for _ in range(600)] == list(range(600))


class Gated:
    """Knows everybody, and takes until `gate` is set to say so."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        await self.gate.wait()
        return livechat.Identity(livechat.UserId("alice"))


async def test_a_second_resume_behind_one_that_failed_is_answered_before_what_follows_it(tmp_path: Path) -> None:
    authenticator = Gated()
    async with livechat.open_server(make_config(tmp_path), authenticator=authenticator) as server:
        async with identified(server, "alice") as alice:
            session_id = await park(server, alice)
        async with connected(server) as alice:
            authenticator.gate = trio.Event()
            await alice.send(RESUME, {"session_id": "sess_none", "token": ""})
            await alice.send(RESUME, {"session_id": session_id, "token": ""})
            await alice.send(LIST, None, id="list")
            await alice.send(RESUME, {"session_id": session_id, "token": ""}, id="again")
            await alice.send(LIST, None, id="list too")
            # A heartbeat is answered at once, so by then all of them have been read.
            assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
            authenticator.gate.set()
            replies = [await alice.receive() for _ in range(5)]
            assert [reply["op"] for reply in replies] == [INVALID_SESSION, RESUMED, ACK, ERROR, ACK]
            assert replies[3]["d"]["code"] == 1002


async def test_before_a_session_is_there_held_requests_are_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server) as client:
        await client.send(RESUME, {"session_id": "sess_none", "token": SECRET})
        await client.send(LIST, None, id=1)
        assert (await client.receive())["op"] == INVALID_SESSION
        assert (await client.expect(ERROR))["code"] == 1000


async def test_the_voice_of_a_parked_session_lives_on_and_is_the_resumed_ones(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            joined = await bob.ack(JOIN, {"channel_id": "lobby", "ssrc": 7})
            (voice,) = [each["ssrc"] for each in joined["active_members"] if each["user_id"] == "bob"]
            await alice.expect(CHANNEL_EVENT)
            session_id = await park(server, bob)
        assert counted(server)["peers"] == 1
        assert {"user_id": "bob", "ssrc": voice} in (await alice.ack(INFO, {"channel_id": "lobby"}))["peers"]
        async with connected(server) as bob:
            _, done = await resumed(bob, session_id)
            assert {"user_id": "bob", "ssrc": voice} in done["channels"]["lobby"]["active_members"]
            await alice.expect_silence()
            # Joined it still is: another JOIN without new voice is one too many.
            assert (await bob.refused(JOIN, {"channel_id": "lobby"}))["code"] == 2003
            await bob.ack(LEAVE, {"channel_id": "lobby"})
            left = await alice.expect(CHANNEL_EVENT)
            assert (left["event"], left["member"]) == ("leave", {"user_id": "bob", "ssrc": voice})
        assert counted(server)["peers"] == 0


async def test_a_voice_that_ended_while_its_session_was_parked_is_gone(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby", "ssrc": 7})
            session_id = await park(server, bob)
        await alice.ack(MEMBER_REMOVE, {"channel_id": "lobby", "user_id": "bob"})
        assert counted(server)["peers"] == 0
        async with connected(server) as bob:
            before, done = await resumed(bob, session_id)
            assert [packet["d"]["event"] for packet in before] == ["leave"]
            assert done["channels"] == {}


# --- what was asked on the lost connection -------------------------------------------------------------------


async def test_what_was_asked_before_and_done_after_the_session_went_over_is_told_as_an_event(
    tmp_path: Path,
) -> None:
    """The ACK has nobody to go to, so the session that asked hears what others hear."""
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        for channel_id in ("a", "b"):
            await alice.ack(CREATE, {"channel_id": channel_id})
        await alice.ack(JOIN, {"channel_id": "b"})
        door.close_for(JoinChannel, LeaveChannel, ChangeSettings)
        await alice.send(JOIN, {"channel_id": "a", "ssrc": 5}, id=1)
        await alice.send(LEAVE, {"channel_id": "b"}, id=2)
        await alice.send(SETTINGS_SET, {"settings": {"theme": "dark"}}, id=3)
        await wait_until(lambda: door.operations_waiting == 3)
        session_id = await park(server, alice)
        async with connected(server) as again:
            _, done = await resumed(again, session_id)
            assert set(done["channels"]) == {"b"}
            door.open()
            joined = await again.expect(CHANNEL_EVENT)
            assert (joined["event"], joined["channel_id"], joined["seq"]) == ("join", "a", 1)
            # No voice was begun whose keys nobody was told.
            assert joined["member"] == {"user_id": "alice", "ssrc": None}
            assert counted(server)["peers"] == 0
            left = await again.expect(CHANNEL_EVENT)
            assert (left["event"], left["channel_id"], left["seq"]) == ("leave", "b", 2)
            assert await again.expect(SETTINGS_EVENT) == {"settings": {"theme": "dark"}}
            # The repeated JOIN is fine: this session has not joined yet, as far as anybody was told.
            assert (await again.ack(JOIN, {"channel_id": "a", "ssrc": 5}))["media"]["ssrc"] == 5


async def test_what_was_asked_before_and_done_during_a_replay_is_told_after_it(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "a"})
        await alice.ack(CREATE, {"channel_id": "b"})
        await alice.ack(JOIN, {"channel_id": "b"})
        door.close_for(JoinChannel)
        await alice.send(JOIN, {"channel_id": "a"}, id=1)
        await wait_until(lambda: door.operations_waiting == 1)
        session_id = await park(server, alice)
        async with connected(server) as again:
            door.close_for_queries()
            await again.send(RESUME, {"session_id": session_id, "token": SECRET, "channels": {"b": 0}})
            await wait_until(lambda: door.fetches_waiting == 1)
            door.open_for_operations()
            await wait_until(lambda: server.statistics()["gateway"]["channels"] == 2)
            door.open()
            before, done = await until_resumed(again)
            assert [(packet["d"]["channel_id"], packet["d"]["event"]) for packet in before] == [
                ("b", "join"),
                ("a", "join"),
            ]
            assert done["channels"]["a"]["last_seq"] == 1
