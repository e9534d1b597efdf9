"""A gateway in memory whose every packet a test writes itself, for clients that dial it.

No socket is used, so with `autojump_clock` nothing of it takes time.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import trio
from trio.testing import memory_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from livechat.client.link import Target
from livechat.protocol.opcodes import Op

Packet = dict[str, Any]
USER = "ann"
DEADLINE_S = 10_000.0
"""Virtual seconds; it is only reached when something is broken."""


def ready(*channels: Packet, session: str = "sess_1", **fields: Any) -> Packet:
    """READY of `USER`."""
    return {
        "session_id": session,
        "user_id": USER,
        "node_id": "node_1",
        "channels": list(channels),
        "announcements": [],
        "presence": {},
        "settings": {},
        **fields,
    }


def channel(channel_id: str, last_seq: int = 0, **fields: Any) -> Packet:
    """A ChannelState in which everything is read."""
    return {
        "channel_id": channel_id,
        "channel_name": channel_id.title(),
        "mode": "conference",
        "durable": True,
        "role": "member",
        "last_seq": last_seq,
        "read_seq": last_seq,
        "unread": 0,
        "mention_count": 0,
        "member_count": 2,
        **fields,
    }


def message(seq: int, channel_id: str = "den", **fields: Any) -> Packet:
    """A message by somebody else."""
    return {
        "message_id": f"msg_{channel_id}_{seq}",
        "channel_id": channel_id,
        "seq": seq,
        "author_id": "bob",
        "message_type": "TEXT",
        "content": f"{channel_id} {seq}",
        "timestamp": 1_795_000_000_000 + seq,
        **fields,
    }


def resumed_channel(last_seq: int, **fields: Any) -> Packet:
    """What RESUMED says of a channel in which everything is read."""
    done = {"replayed": 0, "last_seq": last_seq, "read_seq": last_seq, "unread": 0, "recovered": True}
    return {**done, "active_members": [], **fields}


def resumed(session: str = "sess_1", **channels: Packet) -> Packet:
    """RESUMED."""
    return {"session_id": session, "channels": channels, "presence": {}, "announcements": []}


class FakeConnection:
    """The server's end of one connection."""

    def __init__(self, ws: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._ws = ws
        self._stream = stream

    async def send(self, op: int, d: Any = None, **envelope: Any) -> None:
        """Send one packet."""
        await self.send_raw({"op": op, "d": d, **envelope})

    async def send_raw(self, packet: Any) -> None:
        """Send anything, in the codec that was agreed upon."""
        binary = self._ws.subprotocol == "livechat.v1.msgpack"
        await self._ws.send_message(msgpack.packb(packet) if binary else json.dumps(packet))

    async def send_bytes(self, op: int, d: Any) -> None:
        """Send one packet that carries bytes: msgpack, whatever was agreed upon."""
        await self._ws.send_message(msgpack.packb({"op": op, "d": d}))

    async def receive(self) -> Packet:
        """Return the next packet from the client; heartbeats are answered here."""
        while True:
            packet = await self.receive_any()
            if packet["op"] != Op.HEARTBEAT:
                return packet
            await self.send(Op.HEARTBEAT_ACK)

    async def receive_any(self) -> Packet:
        """Return the next packet from the client, whatever it is."""
        return self.parse(await self.receive_frame())

    async def receive_frame(self) -> str | bytes:
        """Return the next packet from the client as it came."""
        with trio.fail_after(DEADLINE_S):
            return await self._ws.get_message()

    @staticmethod
    def parse(frame: str | bytes) -> Packet:
        """Return the packet in a frame."""
        packet: Packet = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
        return packet

    async def expect(self, op: int) -> Packet:
        """Return the next packet, which must have this op."""
        packet = await self.receive()
        assert packet["op"] == op, packet
        return packet

    async def ack(self, packet: Packet, data: Any) -> None:
        """Answer a request."""
        await self.send(Op.ACK, {"op": packet["op"], "data": data}, id=packet["id"])

    async def refuse(self, packet: Packet, code: int, *, retryable: bool = False, **fields: Any) -> None:
        """Answer a request by ERROR."""
        error = {"code": code, "reason": f"refused with {code}", "retryable": retryable, "op": packet["op"]}
        await self.send(Op.ERROR, error | fields, id=packet["id"])

    async def hello(self, heartbeat_interval: int = 30_000, **fields: Any) -> None:
        """Send HELLO."""
        hello = {
            "heartbeat_interval": heartbeat_interval,
            "node_id": "node_1",
            "server": "fake",
            "resume_window_ms": 120_000,
            "reconnect_window_ms": 10_000,
            "limits": {"message_bytes": 65_536, "frame_bytes": 1_048_576, "chunk_bytes": 262_144},
        }
        await self.send(Op.HELLO, hello | fields)

    async def identify(self, answer: Packet, **hello: Any) -> Packet:
        """Take a client in: HELLO, its IDENTIFY, READY. Return what it said."""
        await self.hello(**hello)
        packet = await self.expect(Op.IDENTIFY)
        await self.send(Op.READY, answer)
        said: Packet = packet["d"]
        return said

    async def resume(self) -> Packet:
        """HELLO, and the RESUME that follows; return what it said."""
        await self.hello()
        said: Packet = (await self.expect(Op.RESUME))["d"]
        return said

    async def say(self, *seqs: int, **fields: Any) -> None:
        """Send messages of a channel."""
        for seq in seqs:
            await self.send(Op.MESSAGE_EVENT, message(seq, **fields))

    async def take_message(self, seq: int) -> Packet:
        """Take a MESSAGE_CREATE in: its ACK, then its event. Return what it said."""
        packet = await self.expect(Op.MESSAGE_CREATE)
        said: Packet = packet["d"]
        await self.ack(packet, created(said, seq))
        await self.send(Op.MESSAGE_EVENT, own(said, seq))
        return said

    async def close(self, code: int, reason: str = "") -> None:
        """Close with a close frame."""
        await self._ws.aclose(code, reason)

    async def drop(self) -> None:
        """Cut the connection."""
        await trio.aclose_forcefully(self._stream)

    async def closed(self) -> int:
        """Wait for the client to close; return its code. What came before is dropped."""
        with trio.fail_after(DEADLINE_S):
            try:
                while True:
                    await self._ws.get_message()
            except ConnectionClosed as exc:
                return 1006 if exc.reason is None else exc.reason.code


def created(said: Packet, seq: int, *, duplicate: bool = False) -> Packet:
    """ACK data of a MESSAGE_CREATE."""
    return {
        "message_id": f"msg_{said['channel_id']}_{seq}",
        "channel_id": said["channel_id"],
        "seq": seq,
        "timestamp": 1_795_000_000_000 + seq,
        "duplicate": duplicate,
        "nonce": said["nonce"],
    }


def own(said: Packet, seq: int) -> Packet:
    """The MESSAGE_EVENT of a MESSAGE_CREATE by `USER`."""
    return message(seq, said["channel_id"], author_id=USER, content=said["content"], nonce=said["nonce"])


class ObservedStream(trio.abc.Stream):
    """The client's end of a connection; it counts writes, and can be stuck."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.writes = 0
        self.is_stuck = False
        """Whether the next write waits for ever, as it does when the peer does not read."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        if self.is_stuck:
            await trio.sleep_forever()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class FakeGateway:
    """What `dial` of a client leads to; `accept` gives the test the other end."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)
        self.refusals = 0
        """So many more tries to connect fail."""
        self.hangs = False
        """Whether dialling takes for ever."""
        self.dialled_at: list[float] = []
        """When it was tried."""
        self.streams: list[ObservedStream] = []
        """The client's ends of its connections."""

    async def dial(self, _target: Target, _tls: ssl.SSLContext | None) -> trio.abc.Stream:
        """Connect; this is what `open_client` gets."""
        self.dialled_at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.refusals:
            self.refusals -= 1
            raise ConnectionRefusedError("connection refused")
        client_end, server_end = memory_stream_pair()
        await self._send.send(server_end)
        self.streams.append(ObservedStream(client_end))
        return self.streams[-1]

    async def accept(self) -> FakeConnection:
        """Wait for a client and shake hands."""
        with trio.fail_after(DEADLINE_S):
            stream = await self._receive.receive()
            request = await wrap_server_stream(self._nursery, stream, message_queue_size=1000)
            subprotocol = request.proposed_subprotocols[0]
            return FakeConnection(await request.accept(subprotocol=subprotocol), stream)

    async def accept_stream(self) -> trio.abc.Stream:
        """Wait for a client, and leave the handshake to the test."""
        with trio.fail_after(DEADLINE_S):
            return await self._receive.receive()


@asynccontextmanager
async def fake_gateway() -> AsyncGenerator[FakeGateway]:
    """Run a gateway while the block runs."""
    async with trio.open_nursery() as nursery:
        yield FakeGateway(nursery)
        nursery.cancel_scope.cancel()
