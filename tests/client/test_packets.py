"""What passes between a client, its application and its connection."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from livechat.client.error import SubscriberTooSlow
from livechat.client.settings import ClientSettings
from livechat.protocol.opcodes import Op
from tests.support.client_pair import online
from tests.support.fake_gateway import (
    channel,
)


async def test_who_does_not_read_events_is_ended_and_the_connection_goes_on(autojump_clock: MockClock) -> None:
    async with online(settings=ClientSettings(events_buffered_max=3)) as pair:
        idle = pair.client.events()
        messages = pair.client.messages("den")
        for seq in range(6, 20):
            await pair.server.say(seq)
            assert (await anext(messages)).seq == seq
        assert [(await anext(idle)).seq for _ in range(3)] == [6, 7, 8]  # type: ignore[union-attr]
        with pytest.raises(SubscriberTooSlow):
            await anext(idle)
        assert pair.client.state == "online"


async def test_messages_are_those_of_one_channel(autojump_clock: MockClock) -> None:
    async with online(channel("den", 5), channel("hall", 0)) as pair:
        messages = pair.client.messages("hall")
        await pair.server.say(6)
        await pair.server.say(1, channel_id="hall")
        await pair.server.say(7)
        await pair.server.say(2, channel_id="hall")
        assert [(await anext(messages)).content for _ in range(2)] == ["hall 1", "hall 2"]
        assert [each.seq for each in pair.client.channels["den"].messages] == [6, 7]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_both_codecs_are_spoken(autojump_clock: MockClock, codec: Any) -> None:
    seen: list[tuple[str, Any]] = []

    def on_packet(direction: str, packet: dict[str, Any]) -> None:
        seen.append((direction, packet["op"]))
        assert (packet["d"] or {}).get("token") in (None, "***")

    async with online(settings=ClientSettings(codec=codec), on_packet=on_packet) as pair:
        messages = pair.client.messages("den")
        await pair.server.say(6)
        assert (await anext(messages)).content == "den 6"
    assert seen == [("in", Op.HELLO), ("out", Op.IDENTIFY), ("in", Op.READY), ("in", Op.MESSAGE_EVENT)]


async def test_what_the_hook_raises_ends_the_client(autojump_clock: MockClock) -> None:
    def on_packet(_direction: str, packet: dict[str, Any]) -> None:
        if packet["op"] == Op.MESSAGE_EVENT:
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with online(on_packet=on_packet) as pair:
            await pair.server.say(6)
            await trio.sleep_forever()


async def test_packets_that_are_not_understood_are_ignored(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with online() as pair:
        messages = pair.client.messages("den")
        with caplog.at_level(logging.WARNING):
            packets: list[Any] = [[], {"op": "x"}, {"op": 150, "d": {"a": 1}}, {"op": 101, "d": {"seq": "6"}}]
            for packet in packets:
                await pair.server.send_raw(packet)
            await pair.server.say(6)
            assert (await anext(messages)).seq == 6
    assert len([record for record in caplog.records if "packet ignored" in record.message]) == 3


async def test_packets_that_were_asked_for_together_are_written_together(autojump_clock: MockClock) -> None:
    async with online(*(channel(f"c{number}") for number in range(120))) as pair:
        stream = pair.gateway.streams[0]
        before = stream.writes
        sent = [pair.client.post(f"c{number}", "hello") for number in range(120)]
        for _ in range(120):
            await pair.server.take_message(1)
        for each in sent:
            assert (await each.wait()).seq == 1
        assert stream.writes - before == 3, "50, 50 and 20"
