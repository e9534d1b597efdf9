"""A voice of the command line through what may become of it, at a real server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

import livechat
from livechat.cli.voice import Voice
from livechat.error import ChannelNotFound, ConfigError
from livechat.protocol.voice_events import MediaGrant
from tests.support.client import CREATE, DELETE, INFO, JOIN, MEMBER_REMOVE, identified
from tests.support.ffmpeg import HOST, free_port
from tests.support.server import DEADLINE_S, SECRET, counted, running_server, wait_until

PROFILE = "AES_CM_128_HMAC_SHA1_80"


@attrs.define
class Kept:
    """A voice, and what it told."""

    client: livechat.Client
    voice: Voice
    grant: MediaGrant
    again: list[tuple[MediaGrant, str]]
    said: list[str]

    async def ends(self) -> str:
        """Wait for its end; return what it says of it."""
        with trio.fail_after(DEADLINE_S), pytest.raises(ConfigError) as ended:
            await self.voice.keep()
        return str(ended.value)


@asynccontextmanager
async def kept(server: livechat.Server, *, address: bool = True, create: bool = False) -> AsyncGenerator[Kept]:
    """Be in `lobby` as bob; leaving the block leaves the channel."""
    again: list[tuple[MediaGrant, str]] = []
    said: list[str] = []

    async def granted(grant: MediaGrant, why: str) -> None:
        await trio.lowlevel.checkpoint()
        again.append((grant, why))

    async with livechat.open_client(server.url, SECRET, user_id="bob") as client:
        stated = (HOST, free_port()) if address else None
        voice = Voice(client, "lobby", PROFILE, stated, granted, said.append)
        try:
            yield Kept(client, voice, await voice.join(create=create), again, said)
        finally:
            await voice.leave()


async def test_it_creates_the_channel_only_if_it_is_told_to_and_leaves_it_at_the_end(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        with pytest.raises(ChannelNotFound):
            async with kept(server):
                pass
        async with kept(server, create=True) as bob:
            assert bob.grant.profile == PROFILE
            assert (await alice.ack(INFO, {"channel_id": "lobby"}))["member_count"] == 1
        assert (await alice.ack(INFO, {"channel_id": "lobby"}))["member_count"] == 0
        async with kept(server, create=True):
            pass


async def test_who_was_a_member_before_stays_one(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as device,
    ):
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await device.ack(JOIN, {"channel_id": "lobby"})
        async with kept(server):
            assert counted(server)["peers"] == 1
        await wait_until(lambda: counted(server)["peers"] == 0)
        assert (await alice.ack(INFO, {"channel_id": "lobby"}))["member_count"] == 1


async def test_a_voice_that_has_ended_is_taken_up_again(tmp_path: Path) -> None:
    media = livechat.MediaSettings(peer_timeout_ms=200)
    async with running_server(tmp_path, media=media) as server, kept(server, address=False, create=True) as bob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.voice.keep)
            await wait_until(lambda: len(bob.again) >= 2)
            nursery.cancel_scope.cancel()
        assert bob.again[0][1] == "the voice had ended: timeout"
        keys = {bob.grant.client_key, *(grant.client_key for grant, _ in bob.again)}
        assert len(keys) == 1 + len(bob.again)


async def test_another_session_that_takes_the_voice_over_keeps_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "bob") as other:
        async with kept(server, create=True) as bob:
            await other.ack(JOIN, {"channel_id": "lobby", "ssrc": 1})
            assert await bob.ends() == "lobby: another session of bob took the voice over"
            assert bob.again == []
        # Who gave way does not leave for both.
        (state,) = (await other.ack(INFO, {"channel_id": "lobby"}))["peers"]
        assert state["user_id"] == "bob"


async def test_a_channel_that_is_deleted_and_a_member_that_is_removed_are_the_end(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        async with kept(server) as bob:
            await alice.ack(MEMBER_REMOVE, {"channel_id": "lobby", "user_id": "bob"})
            assert await bob.ends() == "lobby: the membership was ended"
        async with kept(server) as bob:
            await alice.ack(DELETE, {"channel_id": "lobby"})
            assert await bob.ends() == "lobby: the channel was deleted"


async def test_new_keys_are_told_and_the_voice_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, kept(server, create=True) as bob:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.voice.keep)
            server.rekey("lobby")
            await wait_until(lambda: bob.again)
            nursery.cancel_scope.cancel()
        ((grant, why),) = bob.again
        assert why == "the keys were changed (demand)"
        assert (grant.ssrc, grant.port) == (bob.grant.ssrc, bob.grant.port)
        assert {grant.client_key, grant.server_key}.isdisjoint({bob.grant.client_key, bob.grant.server_key})
