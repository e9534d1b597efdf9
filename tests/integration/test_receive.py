"""What comes in one piece, and by both ways to the conversation: whole frames, fragments, large ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

import livechat
from livechat.gateway.conversation import HEARTBEATS
from tests.support.client import (
    ACK,
    CREATE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    identified,
)
from tests.support.raw import CLOSE, RawClient, close_payload, masked, raw_connected
from tests.support.server import SECRET, running_server


def packet(op: int, d: Any, **envelope: Any) -> bytes:
    return json.dumps({"op": op, "d": d, **envelope}).encode()


def whole(data: bytes) -> bytes:
    return masked(0x81, data)


def in_three(data: bytes) -> bytes:
    return masked(0x01, data[:9]) + masked(0x00, data[9:20]) + masked(0x89, b"ping") + masked(0x80, data[20:])


def large(data: bytes) -> bytes:
    """White space makes it longer than what is unmasked at once, and than a packet may be."""
    return whole(data + b" " * 65_536)


async def answers(client: RawClient, count: int, *ops: int) -> list[dict[str, Any]]:
    """Return the next packets with one of some ops."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        frame = await client.frame()
        assert frame is not None
        if frame[0] == 0x81 and (answer := json.loads(frame[1]))["op"] in ops:
            found.append(answer)
    return found


async def test_requests_in_one_piece_are_answered_in_order_whichever_way_they_go(tmp_path: Path) -> None:
    query = f"?token={SECRET}&user_id=ann"
    forms = [whole, in_three, whole, whole, in_three, in_three, whole]
    async with running_server(tmp_path) as server, raw_connected(server, query) as client:
        burst = whole(packet(CREATE, {"channel_id": "c"}, id=0)) + in_three(
            packet(JOIN, {"channel_id": "c"}, id=1)
        )
        for number in range(2, 100):
            message = packet(MESSAGE, {"channel_id": "c", "content": str(number)}, id=number)
            burst += forms[number % len(forms)](message)
        await client.send(burst)
        assert [answer["id"] for answer in await answers(client, 100, ACK)] == list(range(100))


async def test_a_packet_that_is_too_large_keeps_its_place(tmp_path: Path) -> None:
    query = f"?token={SECRET}&user_id=ann"
    async with running_server(tmp_path) as server, raw_connected(server, query) as client:
        refused = packet(HISTORY, {"channel_id": "c"})
        bad = [whole(b"no json"), large(refused), whole(b"[]"), in_three(packet(4711, {"too": "many fields"}))]
        await client.send(b"".join(bad))
        assert [answer["d"]["code"] for answer in await answers(client, 4, 201)] == [1004, 1005, 1004, 1003]


async def test_messages_right_before_a_close_are_kept(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "bob") as bob:
        await bob.ack(CREATE, {"channel_id": "c"})
        await bob.ack(JOIN, {"channel_id": "c"})
        async with raw_connected(server, f"?token={SECRET}&user_id=ann") as ann:
            await ann.send(whole(packet(JOIN, {"channel_id": "c"}, id=1)))
            await answers(ann, 1, ACK)
            messages = [packet(MESSAGE, {"channel_id": "c", "content": str(number)}) for number in range(70)]
            await ann.send(b"".join(map(whole, messages)) + masked(CLOSE, close_payload(1000)))
            assert await ann.closed() == 1000
        # They are committed in their own time: bob hears each when it is.
        heard: list[str] = []
        while len(heard) < len(messages):
            event = await bob.receive()
            if event["op"] == MESSAGE_EVENT:
                heard.append(event["d"]["content"])
        assert heard == list(map(str, range(70)))


def beats(server: livechat.Server) -> int:
    return server._node.instruments.counters.commands[HEARTBEAT].count


@pytest.mark.parametrize("message", sorted(HEARTBEATS, key=repr), ids=repr)
async def test_heartbeats_are_answered_and_counted_however_they_are_written(
    tmp_path: Path, message: str | bytes
) -> None:
    read = json.loads(message) if isinstance(message, str) else msgpack.unpackb(message)
    assert read in ({"op": HEARTBEAT}, {"op": HEARTBEAT, "d": None})
    frame = whole(message.encode()) if isinstance(message, str) else masked(0x82, message)
    async with running_server(tmp_path) as server, raw_connected(server) as client:
        await client.send(frame * 3 + whole(packet(HEARTBEAT, None, id="x")))
        plain = {"op": HEARTBEAT_ACK, "d": None}
        assert await answers(client, 4, HEARTBEAT_ACK) == [plain, plain, plain, plain | {"id": "x"}]
        assert beats(server) == 4
