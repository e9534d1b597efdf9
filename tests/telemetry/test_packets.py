from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from livechat.error import NotInChannel, Overloaded
from livechat.protocol.codec import JSON, MSGPACK, Packet
from livechat.protocol.events import Message
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing, ack, error
from livechat.protocol.types import ChannelId, MessageId, UserId
from livechat.telemetry.packets import PacketFilter, PacketLine, PacketTrace, Watcher

ALICE = SimpleNamespace(session_id="sess_0123456789abcdef", user_id="alice")
PEER = "192.0.2.1"
SECRET = "what alice said"


def show_one_of_each(trace: PacketTrace) -> None:
    """A request with what may not be shown, its ERROR, an event, and the end."""
    d = {"channel_id": "lobby", "content": SECRET}
    trace.came(Packet(Op.MESSAGE_CREATE, d, "1"), '{"안"}', PEER, ALICE)
    refused = error(NotInChannel(SECRET), Op.MESSAGE_CREATE, "1")
    trace.went(refused, refused.frame(JSON), PEER, ALICE)
    event = Message(MessageId("m"), ChannelId("lobby"), 7, UserId("bob"), "TEXT", SECRET, 1)
    packet = Outgoing(Op.MESSAGE_EVENT, event)
    trace.went(packet, packet.frame(MSGPACK), PEER, ALICE)
    trace.closed(4001, PEER, ALICE, by_peer=False)


async def lines_of(watcher: Watcher) -> list[PacketLine]:
    with trio.fail_after(5):
        lines, dropped = await watcher.take()
    assert dropped == 0
    return lines


async def test_a_line_has_names_and_numbers_and_nothing_that_was_said() -> None:
    trace = PacketTrace()
    with trace.watch(PacketFilter()) as watcher:
        show_one_of_each(trace)
        request, refused, event, closed = await lines_of(watcher)
    assert (request.direction, request.name, request.op, request.channel_id) == (
        "in",
        "MESSAGE_CREATE",
        20,
        "lobby",
    )
    assert request.size == len('{"안"}'.encode())
    assert (request.user_id, request.session, request.peer) == ("alice", "sess_01234567", PEER)
    assert (refused.direction, refused.name, refused.code) == ("out", "ERROR", 2004)
    assert refused.answers == "MESSAGE_CREATE"
    assert (event.name, event.channel_id, event.seq) == ("MESSAGE_EVENT", "lobby", 7)
    assert (closed.direction, closed.name, closed.code, closed.size) == ("out", "CLOSE", 4001, 0)
    assert SECRET not in repr((request, refused, event, closed))
    assert ALICE.session_id not in repr((request, refused, event, closed))


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (PacketFilter(channel_id="lobby"), ["MESSAGE_CREATE", "MESSAGE_EVENT"]),
        (PacketFilter(channel_id="other"), []),
        (PacketFilter(user_id="alice", direction="in"), ["MESSAGE_CREATE"]),
        (PacketFilter(user_id="bob"), []),
        (PacketFilter(session="sess_01"), ["MESSAGE_CREATE", "ERROR", "MESSAGE_EVENT", "CLOSE"]),
        (PacketFilter(session=ALICE.session_id), ["MESSAGE_CREATE", "ERROR", "MESSAGE_EVENT", "CLOSE"]),
        (PacketFilter(session="sess_02"), []),
        (PacketFilter(names=frozenset({"MESSAGE_CREATE"})), ["MESSAGE_CREATE", "ERROR"]),
        (PacketFilter(names=frozenset({"CLOSE", "ACK"})), ["CLOSE"]),
        (PacketFilter(direction="out"), ["ERROR", "MESSAGE_EVENT", "CLOSE"]),
        (PacketFilter(errors_only=True), ["ERROR", "CLOSE"]),
    ],
)
async def test_a_watcher_gets_what_it_wants(wanted: PacketFilter, names: list[str]) -> None:
    trace = PacketTrace()
    with trace.watch(wanted) as watcher:
        show_one_of_each(trace)
        if names:
            assert [line.name for line in await lines_of(watcher)] == names
        else:
            with pytest.raises(trio.TooSlowError), trio.fail_after(0):
                await watcher.take()


@pytest.mark.parametrize(
    "d",
    [None, {}, {"channel_id": 5}, {"channel_id": "what I say"}, {"channel_id": "x" * 65}, {"channel_id": ["x"]}],
)
async def test_what_is_no_channel_id_is_not_shown(d: dict[str, Any] | None) -> None:
    trace = PacketTrace()
    with trace.watch(PacketFilter()) as watcher:
        trace.came(Packet(Op.FOCUS, d), b"xy", PEER, None)
        (line,) = await lines_of(watcher)
    assert (line.channel_id, line.user_id, line.session, line.size) == (None, None, None, 2)


@pytest.mark.parametrize(("op", "shown"), [(99, 99), (2**31, None), (-(2**40), None)])
async def test_what_is_no_op_is_shown_as_unknown(op: int, shown: int | None) -> None:
    trace = PacketTrace()
    with trace.watch(PacketFilter()) as watcher:
        trace.came(Packet(op, None), b"", PEER, None)
        trace.came(None, b"garbage", PEER, None)
        refused = error(NotInChannel(""), op, None)
        trace.went(refused, refused.frame(JSON), PEER, None)
        unknown, unreadable, refusal = await lines_of(watcher)
    assert (unknown.name, unknown.op) == ("UNKNOWN", shown)
    assert (unreadable.name, unreadable.op, unreadable.size) == ("UNREADABLE", None, 7)
    assert refusal.answers == "UNKNOWN"


@pytest.mark.parametrize("content", ["", "x" * 200, "x" * 70_000])
async def test_the_size_of_a_packet_is_that_of_the_message_in_its_frame(content: str) -> None:
    trace = PacketTrace()
    packet = ack(Op.SETTINGS_SET, {"x": content}, None)
    with trace.watch(PacketFilter()) as watcher:
        trace.went(packet, packet.frame(JSON), PEER, None)
        (line,) = await lines_of(watcher)
    assert line.size == len(JSON.encode({"op": 200, "d": {"op": 36, "data": {"x": content}}}))


async def test_what_a_slow_watcher_misses_is_counted() -> None:
    trace = PacketTrace(lines_max=3)
    with trace.watch(PacketFilter()) as watcher:
        for code in range(4000, 4010):
            trace.closed(code, PEER, None, by_peer=True)
        lines, dropped = await watcher.take()
        assert ([line.code for line in lines], dropped) == ([4000, 4001, 4002], 7)
        trace.closed(4010, PEER, None, by_peer=True)
        lines, dropped = await watcher.take()
        assert ([line.code for line in lines], dropped) == ([4010], 0)


def test_it_is_watched_only_while_somebody_watches_and_only_so_many_may() -> None:
    trace = PacketTrace(watchers_max=2)
    seen = [trace.is_watched]
    with trace.watch(PacketFilter()):
        with trace.watch(PacketFilter()):
            seen.append(trace.is_watched)
            with pytest.raises(Overloaded, match="2 are watching"), trace.watch(PacketFilter()):
                pass
            assert len(trace) == 2
        seen.append(trace.is_watched)
    assert [*seen, trace.is_watched] == [False, True, True, False]
