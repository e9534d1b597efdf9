"""Who speaks, and `max_speakers`, with libsrtp peers that send real header extensions to a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import trio

import livechat
from livechat.srtp.profile import SrtpProfile
from tests.integration.test_voice import Phone, phone_of
from tests.support.api import calling
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    INFO,
    JOIN,
    LEAVE,
    SPEAKING,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    identified,
)
from tests.support.server import DEADLINE_S, SECRET, running_server, wait_until
from tests.support.voice import libsrtp_sender, master_of

LOUD = 0x80 | 20
QUICK = livechat.SpeakingSettings(event_interval_ms=1, challenge_ms=100)


@attrs.define
class Caller:
    """A client with a voice in `x`."""

    client: Client
    phone: Phone
    sequence: Any = attrs.field(factory=count)

    async def talk(self, level: int | None, payload: bytes = b"speech") -> None:
        """Send the next packet."""
        await self.phone.talk(next(self.sequence), payload, level=level)

    @asynccontextmanager
    async def talking(self, level: int | None, payload: bytes = b"speech") -> AsyncGenerator[None]:
        """Send packets while the block runs."""

        async def send() -> None:
            while True:
                await self.talk(level, payload)
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def callers_in(server: livechat.Server, *users: str, **channel: Any) -> AsyncGenerator[list[Caller]]:
    """Join with voice; all have heard of all before, and state their addresses."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(identified(server, user)) for user in users]
        await clients[0].ack(CREATE, {"channel_id": "x", **channel})
        callers = []
        for index, client in enumerate(clients):
            phone = await stack.enter_async_context(phone_of(client, "x", state_address=True))
            callers.append(Caller(client, phone))
            for earlier in clients[:index]:
                await earlier.expect(CHANNEL_EVENT)
        yield callers


async def active_speakers(client: Client) -> list[Any]:
    """Return what CHANNEL_INFO tells of who speaks."""
    info = await client.ack(INFO, {"channel_id": "x"})
    speakers: list[Any] = info["active_speakers"]
    return speakers


async def test_all_members_are_told_when_somebody_begins_and_ends_to_speak(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, speaking=QUICK) as server,
        callers_in(server, "alice", "bob", "carol") as (alice, bob, carol),
        calling(server, None) as operator,
    ):
        await carol.client.ack(UNSUBSCRIBE, {"channel_id": "x"})
        assert await active_speakers(bob.client) == []
        async with alice.talking(LOUD):
            for caller in (alice, bob):
                told = await caller.client.expect(SPEAKING)
                level_db = told.pop("level_db")
                assert told == {"channel_id": "x", "user_id": "alice", "ssrc": alice.phone.ssrc, "speaking": True}
                assert -40 < level_db <= -20
            speaker = {"user_id": "alice", "ssrc": alice.phone.ssrc, "level_db": level_db}
            assert await active_speakers(bob.client) == [speaker]
            shown = await operator.get("/admin/channels/x")
            assert shown.json()["active_speakers"] == [speaker]
            assert server.active_speakers("x") == [livechat.ActiveSpeaker(**speaker)]
        for caller in (alice, bob):
            told = await caller.client.expect(SPEAKING)
            assert (told["user_id"], told["speaking"]) == ("alice", False)
        assert await active_speakers(bob.client) == []
        await carol.client.expect_silence()


async def test_quiet_packets_and_such_without_levels_are_no_speech(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, speaking=QUICK) as server,
        callers_in(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):
        for _ in range(20):
            await alice.talk(80)
            await bob.talk(None)
        for _ in range(40):
            await carol.phone.hear()
        await carol.client.expect_silence()


async def test_levels_forged_without_the_key_change_nothing(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, speaking=QUICK) as server,
        callers_in(server, "alice", "bob") as (alice, bob),
    ):
        profile = SrtpProfile.AES_CM_128_HMAC_SHA1_80
        genuine = alice.phone.sender
        alice.phone.sender = libsrtp_sender(profile, master_of(profile, 99))
        for _ in range(20):
            await alice.talk(LOUD)
        await wait_until(lambda: server.statistics()["media"]["authentication"] == 20)
        assert await active_speakers(bob.client) == []
        await bob.client.expect_silence()
        alice.phone.sender = genuine
        await alice.talk(80, b"genuine")
        assert (await bob.phone.hear())[2] == b"genuine"
        assert server.statistics()["media"]["rtp_accepted"] == 1


async def test_who_leaves_in_the_middle_of_a_word_speaks_no_more(tmp_path: Path) -> None:
    settings = livechat.SpeakingSettings(event_interval_ms=1, hangover_ms=60_000)
    async with (
        running_server(tmp_path, speaking=settings) as server,
        callers_in(server, "alice", "bob") as (alice, bob),
    ):
        for _ in range(3):
            await alice.talk(LOUD)
        assert (await bob.client.expect(SPEAKING))["speaking"] is True
        await alice.client.expect(SPEAKING)
        await alice.client.ack(LEAVE, {"channel_id": "x"})
        assert (await bob.client.expect(CHANNEL_EVENT))["event"] == "leave"
        told = await bob.client.expect(SPEAKING)
        assert (told["user_id"], told["ssrc"], told["speaking"]) == ("alice", alice.phone.ssrc, False)
        assert await active_speakers(bob.client) == []
        # Who takes a voice over from another session begins anew; the ACK comes before what that causes.
        for _ in range(3):
            await bob.talk(LOUD)
        assert (await bob.client.expect(SPEAKING))["speaking"] is True
        await bob.client.ack(JOIN, {"channel_id": "x", "media": {}})
        told = await bob.client.expect(SPEAKING)
        assert (told["ssrc"], told["speaking"]) == (bob.phone.ssrc, False)


async def test_the_client_library_tells_who_speaks(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, speaking=QUICK) as server,
        callers_in(server, "alice") as (alice,),
        livechat.open_client(server.url, SECRET, user_id="bob") as bob,
    ):
        await bob.join("x")
        speaking = bob.speaking("x")
        with trio.fail_after(DEADLINE_S):
            async with alice.talking(LOUD):
                event = await anext(speaking)
                assert isinstance(event, livechat.SpeakingEvent)
                assert (event.user_id, event.ssrc, event.speaking) == ("alice", alice.phone.ssrc, True)
                assert [each.user_id for each in (await bob.info("x")).active_speakers] == ["alice"]
            assert (await anext(speaking)).speaking is False


async def test_only_the_loudest_are_forwarded_and_a_louder_one_takes_over(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, speaking=QUICK) as server,
        callers_in(server, "alice", "bob", "carol", max_speakers=1) as (alice, bob, carol),
        alice.talking(0x80 | 35, b"alice"),
    ):
        assert (await carol.phone.hear())[2] == b"alice"
        async with bob.talking(0x80 | 15, b"bob"):
            while (await carol.phone.hear())[2] == b"alice":
                pass
            heard = {(await carol.phone.hear())[2] for _ in range(20)}
        assert heard == {b"bob"}
        await wait_until(lambda: server.statistics()["media"]["not_forwarded"] > 0)


async def test_the_limit_changes_on_the_fly(tmp_path: Path) -> None:
    settings = livechat.SpeakingSettings(hangover_ms=60_000, challenge_ms=60_000)
    async with (
        running_server(tmp_path, speaking=settings) as server,
        callers_in(server, "alice", "bob", "carol") as (alice, bob, carol),
    ):

        async def hear() -> set[bytes]:
            """Have alice and bob say something; return which of it carol hears."""
            accepted, forwarded = (
                server.statistics()["media"]["rtp_accepted"],
                server.statistics()["media"]["rtp_forwarded"],
            )
            await alice.talk(0x80 | 35, b"alice")
            await bob.talk(0x80 | 20, b"bob")
            await wait_until(lambda: server.statistics()["media"]["rtp_accepted"] == accepted + 2)
            copies = server.statistics()["media"]["rtp_forwarded"] - forwarded
            return {(await carol.phone.hear())[2] for _ in range(int(copies) // 2)}

        for _ in range(4):
            assert await hear() == {b"alice", b"bob"}
        await alice.client.ack(UPDATE, {"channel_id": "x", "max_speakers": 1})
        for _ in range(3):
            assert await hear() == {b"bob"}
        await alice.client.ack(UPDATE, {"channel_id": "x", "max_speakers": 2})
        assert await hear() == {b"alice", b"bob"}
