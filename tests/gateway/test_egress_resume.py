"""What the clients of one channel get over several connections each, in every codec, deflated and by TLS.

The channel's messages go by the flusher and egress queues, over sockets that stall, take parts and break as they
like. A connection that is lost, closed or too slow is resumed on a new one, and its client does not say how far it
came. Whatever happens, each client gets every message once and in order; what has no seq comes in order, too.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.budget import EgressLimits, EgressPool
from livechat.gateway.egress import EgressQueue
from livechat.gateway.flusher import Flusher
from livechat.gateway.transport import Transport
from livechat.hub.channels import Channel, ChannelHub
from livechat.hub.users import Mark, Outlet, Session, SessionState
from livechat.protocol.codec import JSON, MSGPACK, Codec
from livechat.protocol.deflate import DEFLATED, WINDOW_BITS
from livechat.protocol.events import Message, TypingEvent
from livechat.protocol.frames import CLOSE_HEAD
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.outgoing import Batch, Outgoing, ack
from livechat.protocol.types import ChannelId, MessageId, SessionId, UserId
from livechat.telemetry.counters import Counters
from livechat.telemetry.packets import PacketTrace
from tests.support.channels import make_facts
from tests.support.memory_tls import Peer, tls_pair
from tests.support.outlet import NullOutlet
from tests.support.transport import UNLIMITED, ScriptedTransport

LOBBY = ChannelId("lobby")
ANN = UserId("ann")
CODECS: tuple[Codec, ...] = (JSON, MSGPACK, *DEFLATED.values())
CLIENTS = 3
HIDDEN = 0x40
"""RSV1: the frame is deflated (RFC 7692, section 7.2.3.1)."""

WHO = st.integers(0, CLIENTS - 1)
Step = tuple[str, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from([0, 50, 400, 20_000])),
        st.tuples(st.just("say"), st.sampled_from([0, 50, 400, 20_000])),
        st.tuples(st.just("type"), st.booleans()),
        st.tuples(st.just("reply"), WHO),
        st.tuples(st.just("room"), st.tuples(WHO, st.sampled_from([1, 30, 250, 17_000, 40_000]))),
        st.tuples(st.just("run"), st.none()),
        st.tuples(st.just("reset"), WHO),
        st.tuples(st.just("close"), st.tuples(WHO, st.booleans())),
        st.tuples(st.just("resume"), WHO),
    ),
    max_size=40,
)
KINDS = st.lists(st.tuples(st.sampled_from(CODECS), st.booleans()), min_size=CLIENTS, max_size=CLIENTS)


class Line(NullOutlet):
    """One connection of a client."""

    def __init__(self, stage: Stage, client: Client, transport: Transport, peer: Peer) -> None:
        self._stage = stage
        self._client = client
        self.peer = peer
        self.queue = EgressQueue(transport, stage.pool, self)
        self.queue.codec = client.codec
        self._is_open = True
        self._nursery: trio.Nursery

    @property
    def sink(self) -> EgressQueue:
        """See `Outlet`."""
        return self.queue

    def send(self, packet: Outgoing) -> None:
        """Send as `Connection.send` does."""
        if not self._stage.hub.backlog.follow(self._client.session, packet):
            self.queue.push(packet.frame(self.queue.codec), packet.tag)

    def send_batch(self, batch: Batch) -> None:
        """Send as `Connection.send_batch` does."""
        self.queue.push_all(*batch.joined(self.queue.codec), batch.tags)

    def cut(self, successor: Outlet | None) -> Any:
        """See `Outlet`."""
        marks: list[Mark] = list(self.queue.cut())
        return marks

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Send as a connection does, until it is closed or lost, and then what is left."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            self._nursery.start_soon(trio.sleep_forever)
        await self.queue.finish()
        self.queue.abort()
        if self._client.session.tail is self:
            self._client.session.note_unsent(None)

    def start_writer(self) -> None:
        """Run the writer."""
        if self._is_open:
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        await self.queue.write_loop()
        if self.queue.broken:
            self.lose()

    def overflow(self) -> None:
        """Close, soon."""
        if self._is_open:
            self._nursery.start_soon(self._close_slow)

    async def _close_slow(self) -> None:
        self.close(CloseCode.SLOW_CONSUMER, drop_queue=True)

    def close(self, code: int, *, drop_queue: bool) -> None:
        """Close as a connection does: out of the hub, then the close frame, then what is left."""
        if self.lose():
            self.queue.push_close(code, "", drop_queue=drop_queue)

    def lose(self) -> bool:
        """Park the session; False: that was done before."""
        was_open, self._is_open = self._is_open, False
        if was_open:
            self._client.park()
            self._nursery.cancel_scope.cancel()
        return was_open


class Client:
    """A client with one session, and all connections that it had."""

    def __init__(self, stage: Stage, number: int, codec: Codec, *, tls: bool) -> None:
        self._stage = stage
        self.codec = codec
        self._tls = tls
        self.session = Session(SessionId(f"sess_{number}"), UserId(f"user{number}"), 0.0)
        self.lines: list[Line] = []
        self.socket = ScriptedTransport()

    async def connect(self) -> None:
        """Begin, or be resumed: first comes what was missed, as far as the server knows."""
        self.socket = ScriptedTransport(0, most=self._stage.most)
        transport: Transport = self.socket
        peer = Peer(self.socket)
        if self._tls:
            transport, peer = await tls_pair(self.socket)
        line = Line(self._stage, self, transport, peer)
        self.lines.append(line)
        await self._stage.nursery.start(line.run)
        session = self.session
        session.note_unsent(None)
        for span in session.spans.pop(LOBBY, []):
            last = self._stage.channel.last_seq if span.last is None else span.last
            for seq in range(span.after + 1, last + 1):
                packet = self._stage.said[seq - 1]
                line.queue.push_later(packet.frame(self.codec), packet.tag)
        session.state, session.outlet = SessionState.LIVE, line
        self._stage.hub.attach(session)

    def park(self) -> None:
        """Note that the connection is lost."""
        session = self.session
        heard = self._stage.hub.detach(session)
        session.tail, session.outlet, session.state = session.outlet, None, SessionState.PARKED
        for channel_id, last_seq in heard.items():
            session.miss_from(channel_id, last_seq + 1)

    def check(self) -> None:
        """Compare what came over all connections with what was said."""
        packets = [list(decoded(line.peer.received(), self.codec)) for line in self.lines]
        seqs = [packet["d"]["seq"] for line in packets for packet in line if packet["op"] == Op.MESSAGE_EVENT]
        assert seqs == list(range(1, len(self._stage.said) + 1))
        for line in packets:
            numbers = [self._stage.number_of(packet) for packet in line]
            assert numbers == sorted(set(numbers))


class Stage:
    """A channel, its flusher and its clients."""

    def __init__(self, nursery: trio.Nursery, limits: EgressLimits, most: int) -> None:
        self.nursery = nursery
        self.most = most
        self.pool = EgressPool(limits)
        self.hub = ChannelHub()
        self._flusher = Flusher(self.hub, PacketTrace(), Counters())
        self.hub.backlog = self._flusher
        self.said: list[Outgoing] = []
        self.clients: list[Client] = []
        self._sent = 0
        """Packets, ever; each carries its number."""
        self._numbers: list[int] = []
        """Of each message."""
        nursery.start_soon(self._flusher.run)

    @property
    def channel(self) -> Channel:
        """The one."""
        channel = self.hub.get(LOBBY)
        assert channel is not None
        return channel

    async def enter(self, codec: Codec, *, tls: bool) -> None:
        """Let one more client in."""
        client = Client(self, len(self.clients), codec, tls=tls)
        self.clients.append(client)
        self.hub.admit(client.session.user_id, make_facts(LOBBY), 0)
        await client.connect()

    def number_of(self, packet: dict[str, Any]) -> int:
        """Return which packet it was of all."""
        if packet["op"] == Op.MESSAGE_EVENT:
            seq: int = packet["d"]["seq"]
            return self._numbers[seq - 1]
        return int(packet["id"] if packet["op"] == Op.ACK else packet["trace"])

    async def do(self, step: str, details: Any) -> None:
        """Do one step of a script."""
        self._sent += 1
        if step == "say":
            self._say("ab" * (details // 2))
        elif step == "type":
            event = TypingEvent(LOBBY, ANN, details)
            self._flusher.send(self.channel, Outgoing(Op.TYPING_EVENT, event, trace=str(self._sent)))
        elif step == "room":
            self.clients[details[0]].socket.open(details[1])
        elif step == "run":
            await wait_all_tasks_blocked()
        elif step == "close":
            outlet = self.clients[details[0]].session.outlet
            if isinstance(outlet, Line):
                outlet.close(CloseCode.DRAIN, drop_queue=details[1])
        else:
            await self._do_with(step, self.clients[details])

    async def _do_with(self, step: str, client: Client) -> None:
        outlet = client.session.outlet
        if step == "resume" and outlet is None:
            await client.connect()
        elif step == "reset":
            client.socket.fail()
        elif step == "reply" and outlet is not None:
            outlet.send(ack(Op.HISTORY, {}, self._sent))

    def _say(self, content: str) -> None:
        seq = self.channel.last_seq + 1
        event = Message(MessageId(f"m{seq}"), LOBBY, seq, ANN, "TEXT", content, 0)
        packet = Outgoing(Op.MESSAGE_EVENT, event, mark=(LOBBY, seq))
        self.said.append(packet)
        self._numbers.append(self._sent)
        self.channel.last_seq = seq
        self._flusher.send(self.channel, packet, size=len(content))


def decoded(stream: bytes, codec: Codec) -> Iterator[dict[str, Any]]:
    """Yield the packets that have come whole, up to a close frame."""
    while len(stream) >= 2:
        size, head = stream[1], 2
        if size >= 126:
            head += 2 if size == 126 else 8
            size = int.from_bytes(stream[2:head], "big")
        if len(stream) < head + size or stream[0] == CLOSE_HEAD:
            return
        body, first, stream = stream[head : head + size], stream[0], stream[head + size :]
        assert first & ~HIDDEN in (0x81, 0x82)
        if first & HIDDEN:
            body = zlib.decompressobj(-WINDOW_BITS).decompress(body + b"\x00\x00\xff\xff")
        yield msgpack.unpackb(body) if codec.binary else json.loads(body)


@settings(deadline=None, max_examples=60)
@given(
    steps=STEPS,
    kinds=KINDS,
    most=st.sampled_from([7, 1000, UNLIMITED]),
    limits=st.sampled_from([EgressLimits(UNLIMITED, UNLIMITED), EgressLimits(50_000, 8)]),
)
async def test_every_client_gets_all_in_order_and_once(
    steps: list[Step], kinds: list[tuple[Codec, bool]], most: int, limits: EgressLimits
) -> None:
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery, limits, most)
        for codec, tls in kinds:
            await stage.enter(codec, tls=tls)
        for step, details in steps:
            await stage.do(step, details)
        await wait_all_tasks_blocked()
        stage.pool.limits = EgressLimits(UNLIMITED, UNLIMITED)
        for client in stage.clients:
            # What is left of connections that are closing still comes, or is told again; not both.
            client.socket.most = UNLIMITED
            if client.session.outlet is None:
                await client.connect()
            client.socket.open()
        await wait_all_tasks_blocked()
        for client in stage.clients:
            if client.session.outlet is None:
                await client.connect()
                client.socket.open()
        await wait_all_tasks_blocked()
        for client in stage.clients:
            client.check()
        nursery.cancel_scope.cancel()
