"""The client against real servers, over real and over bad connections."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import livechat
from livechat.client.settings import CodecName
from livechat.client.subscribers import Subscription
from livechat.error import ChannelExists, JoinBeforeMessaging, NotInChannel
from livechat.gateway.settings import GatewaySettings
from livechat.protocol.events import ChannelEvent
from livechat.protocol.requests import MediaOffer
from tests.support.client import JOIN, MESSAGE_EVENT, identified
from tests.support.lossy import lossy_relay
from tests.support.server import DEADLINE_S, SECRET, counted, running_server, wait_until

PROMPT = livechat.ClientSettings(backoff=livechat.Backoff(base_s=0.01, cap_s=0.1, tries_max=None))
"""Comes back at once: the tests wait for nothing else."""


async def next_of(events: AsyncIterator[Any], kind: type[Any] | tuple[type[Any], ...], **facts: Any) -> Any:
    """Return the next event of a kind."""
    with trio.fail_after(DEADLINE_S):
        async for event in events:
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in facts.items()):
                return event
    raise AssertionError("the events have ended")


async def next_message(messages: Subscription[livechat.Message]) -> livechat.Message:
    with trio.fail_after(DEADLINE_S):
        return await anext(messages)


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_two_users_talk(codec: CodecName, tmp_path: Path) -> None:
    settings = livechat.ClientSettings(codec=codec)
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann", settings=settings) as ann,
        livechat.open_client(server.url, SECRET, user_id="bob", settings=settings) as bob,
    ):
        await ann.create_channel("den", channel_name="The Den")
        with pytest.raises(ChannelExists):
            await bob.create_channel("den")
        with pytest.raises((JoinBeforeMessaging, NotInChannel)):
            await bob.send_message("den", "too early")
        await ann.join("den")
        events = ann.events()
        await bob.join("den")
        joined = await next_of(events, ChannelEvent)
        assert (joined.event, joined.member.user_id, joined.seq) == ("join", "bob", 2)
        heard = bob.messages("den")
        stored = await ann.send_message("den", "hello", mentions=["bob"])
        message = await next_message(heard)
        assert (message.seq, message.content, message.author_id) == (stored.seq, "hello", "ann")
        den = bob.channels[message.channel_id]
        assert (den.channel_name, den.unread, den.mention_count, den.last_seq) == ("The Den", 1, 1, 3)
        assert (await bob.send_message("den", "hi")).seq == 4
        assert (await next_message(heard)).author_id == "bob"
        assert den.unread == 0, "whoever writes has read"
        assert [channel.channel_id for channel in (await ann.list_channels()).channels] == ["den"]
        assert (await ann.info("den")).role == "owner"
        await bob.leave("den")
        assert (await next_of(events, ChannelEvent, event="leave")).member.user_id == "bob"
        assert bob.channels == {}


async def test_leaving_the_block_ends_the_session(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with livechat.open_client(server.url, SECRET, user_id="ann"):
            assert counted(server)["sessions"] == 1
        await wait_until(lambda: counted(server)["sessions"] == counted(server)["sessions_parked"] == 0)


async def test_a_wrong_token_and_a_missing_server_are_told_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        with pytest.raises(livechat.InvalidToken):
            async with livechat.open_client(server.url, "not the secret", user_id="ann"):
                raise AssertionError("it is not let in")
        with pytest.raises(livechat.ClientError, match="HTTP 404"):
            async with livechat.open_client(server.url.replace("/ws", "/nowhere"), SECRET, user_id="ann"):
                raise AssertionError("there is no gateway")
    with pytest.raises(livechat.ClientError, match="cannot connect"):
        async with livechat.open_client(server.url, SECRET, user_id="ann"):
            raise AssertionError("there is no server")


async def test_heartbeats_keep_a_quiet_connection(tmp_path: Path) -> None:
    beats = trio.Event()
    seen: list[int] = []

    def on_packet(direction: str, packet: dict[str, Any]) -> None:
        if (direction, packet["op"]) == ("in", 2):
            seen.append(2)
            if len(seen) == 10:
                beats.set()

    async with (
        running_server(tmp_path, gateway={"heartbeat_interval_ms": 40}) as server,
        livechat.open_client(server.url, SECRET, user_id="ann", on_packet=on_packet) as ann,
    ):
        session_id = ann.session_id
        with trio.fail_after(DEADLINE_S):
            await beats.wait()
        assert ann.session_id == session_id


async def test_a_join_with_voice_grants_address_and_keys(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann") as ann,
    ):
        await ann.create_channel("den")
        joined = await ann.join("den", ssrc=77, media=MediaOffer(("AEAD_AES_128_GCM",)))
        assert joined.media is not None
        assert (joined.media.profile, joined.media.host) == ("AEAD_AES_128_GCM", ann.local_host)


async def test_over_a_connection_that_is_cut_again_and_again_every_message_is_stored_once_in_order(
    tmp_path: Path,
) -> None:
    contents = [f"message {number}" for number in range(60)]
    async with (
        running_server(tmp_path) as server,
        identified(server, "watcher") as watcher,
        lossy_relay(server.url) as relay,
        livechat.open_client(relay.url, SECRET, user_id="ann", settings=PROMPT) as ann,
    ):
        await ann.create_channel("den")
        await ann.join("den")
        await watcher.ack(JOIN, {"channel_id": "den"})
        sent = [ann.post("den", content) for content in contents]
        for number, each in enumerate(sent):
            if number % 10 == 5:
                await relay.cut()
            with trio.fail_after(DEADLINE_S):
                await each.wait()
        seqs = [each.seq for each in sent]
        assert seqs == [*range(3, 63)]
        assert relay.connected >= 7
        heard = [await watcher.expect(MESSAGE_EVENT) for _ in contents]
        assert [message["content"] for message in heard] == contents


async def test_over_a_connection_that_is_cut_again_and_again_every_event_comes_once_or_a_gap_says_so(
    tmp_path: Path,
) -> None:
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="bob") as bob,
        lossy_relay(server.url) as relay,
        livechat.open_client(relay.url, SECRET, user_id="ann", settings=PROMPT) as ann,
    ):
        await bob.create_channel("den")
        await bob.join("den")
        await ann.join("den")
        events = ann.events()
        for number in range(60):
            if number % 10 == 5:
                await relay.cut()
            await bob.send_message("den", f"message {number}")
        position = 2
        with trio.fail_after(DEADLINE_S):
            while position < 62:
                event = await next_of(events, (livechat.Message, livechat.Gap))
                if isinstance(event, livechat.Gap):
                    assert event.after == position
                    position = event.before - 1
                else:
                    assert (event.seq, event.content) == (position + 1, f"message {event.seq - 3}")
                    position = event.seq
        assert relay.connected >= 2
        await wait_until(lambda: ann.state == "online")


async def test_a_server_that_restarts_is_followed(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"ws://127.0.0.1:{port}/ws"
    data_dir = tmp_path / "data"
    async with trio.open_nursery() as servers:
        first = await servers.start(serve, data_dir, port)
        async with livechat.open_client(url, SECRET, user_id="ann", settings=PROMPT) as ann:
            await ann.create_channel("den")
            await ann.join("den")
            assert (await ann.send_message("den", "before")).seq == 2
            events = ann.events()
            first.stop.set()
            await next_of(events, livechat.StateChanged, state="resuming")
            sent = ann.post("den", "between")
            with trio.fail_after(DEADLINE_S):
                await first.stopped.wait()
                second = await servers.start(serve, data_dir, port)
                assert (await sent.wait()).seq == 3
            assert (await next_of(events, livechat.Message)).content == "between"
            assert ann.state == "online"
        second.stop.set()


@attrs.frozen
class Running:
    """A server that can be stopped."""

    stop: trio.Event = attrs.field(factory=trio.Event)
    stopped: trio.Event = attrs.field(factory=trio.Event)


async def serve(
    data_dir: Path, port: int, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a server on a port of our choice until it is stopped."""
    gateway = GatewaySettings(drain_ms=100)
    config = livechat.Config(port=port, udp_port=0, data_dir=data_dir, secret=SECRET, gateway=gateway)
    running = Running()
    async with livechat.open_server(config):
        task_status.started(running)
        await running.stop.wait()
    running.stopped.set()
