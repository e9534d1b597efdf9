"""A node without sockets, tasks or a clock, and clients that make of the floor's events what they can.

Requests go to the real handlers and hubs, on a store in memory; what a client is sent it hears at once.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs
import trio

from livechat.cluster.backplane import MemoryBackplane
from livechat.cluster.keeper import SessionKeeper
from livechat.cluster.sessions import MemorySessionStorage
from livechat.error import LiveError
from livechat.gateway.fanout import FanOut
from livechat.handlers import lifecycle, resume, revoke
from livechat.handlers import session as session_handlers
from livechat.handlers.auth import Identity
from livechat.handlers.call import Call
from livechat.handlers.limits import ChatLimits
from livechat.handlers.node import Node
from livechat.handlers.table import HANDLERS
from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ChannelRules, MediaPeer
from livechat.hub.presence import PresenceHub
from livechat.hub.users import Mark, Outlet, Queued, Session, UserHub, mark_of
from livechat.protocol import events, requests, voice_events
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.protocol.types import Address, ChannelId, StreamKey, UserId
from livechat.store.memory import MemoryStore
from livechat.store.memory_records import MemoryRecords

OPS = ChannelId("ops")


class Plane:
    """A media plane that relays nothing, and keeps the rules that it was told."""

    def __init__(self) -> None:
        self.hub = MediaPeerHub(random.Random(1).randbytes)
        self.rules: dict[ChannelId, ChannelRules] = {}

    def check_available(self, channel_id: ChannelId) -> None:
        pass

    def endpoint(self, channel_id: ChannelId, local_host: str) -> Address:
        return local_host, 10_000

    def reachable(self, address: Address) -> Address | None:
        return address

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        if self.hub.peers_of(channel_id):
            self.rules[channel_id] = rules

    def open(self, peer: MediaPeer, rules: ChannelRules) -> None:
        self.rules[peer.channel_id] = rules

    def close(self, peer: MediaPeer) -> None:
        self.hub.remove(peer)

    def close_channel(self, channel_id: ChannelId) -> None:
        for peer in list(self.hub.peers_of(channel_id)):
            self.hub.remove(peer)


@attrs.define
class View:
    """What a client believes of the floor of `OPS`."""

    is_member: bool = False
    is_subscribed: bool = True
    has_floor: bool = False
    place: int | None = None
    talker: UserId | None = None
    """Who talks, if somebody else does."""


class AnsweredCall(Call):
    """A request whose answers go to a function."""

    def __init__(self, device: Device, op: Op, answer: Callable[[Outgoing | None], None]) -> None:
        super().__init__(device.node, device, device.session, int(op), 1)
        self._answer = answer

    def answer(self, reply: Outgoing | None) -> None:
        self._answer(reply)

    def pause(self) -> None:
        pass

    def go_on(self) -> None:
        pass


@attrs.define(eq=False)
class Device:
    """A connection, and the client at its end, which outlives it."""

    node: Node
    user_id: UserId
    view: View = attrs.field(factory=View)
    session: Session | None = None
    """As long as the client thinks that it may have one."""
    is_connected: bool = False
    is_resuming: bool = False
    is_stuck: bool = False
    """It reads nothing: the next packet ends the connection."""
    replies: list[Outgoing] = attrs.field(factory=list)
    local_host: str = "127.0.0.1"
    peer_host: str = "127.0.0.1"
    is_confidential: bool = True
    queued: Queued = Queued()
    is_crowded: bool = False
    problems: list[object] = attrs.field(factory=list)
    """What went wrong where an exception is only logged."""
    _unsent: list[Mark] = attrs.field(factory=list)

    # --- what its user does -----------------------------------------------------------------------------

    def identify(self, priority: int) -> None:
        """Open a session on a new connection."""
        self.is_connected, self.is_resuming, self.view = True, False, View()
        call = self._call(Op.IDENTIFY)
        session_handlers.begin(call, Identity(self.user_id), requests.Identify("", priority=priority))

    def resume(self) -> None:
        """Go on with the session on a new connection; without success there is none any more."""
        assert self.session is not None
        self.is_connected = self.is_resuming = True
        wanted = requests.Resume(self.session.session_id, "")
        trio.run(resume.resume, self._call(Op.RESUME), wanted, Identity(self.user_id))
        if self.replies[-1].op == Op.INVALID_SESSION:
            self.session, self.is_connected = None, False

    def ask(self, op: Op, **fields: Any) -> LiveError | None:
        """Make a request about `OPS`; return how it was refused."""
        refused: list[LiveError] = []
        call = self._call(op, refused.append)
        try:
            HANDLERS[op](call, requests.REQUESTS[op](**{"channel_id": OPS, **fields}))
        except LiveError as refusal:
            refused.append(refusal)
        return refused[0] if refused else None

    def lose(self) -> None:
        """Lose the connection."""
        self._end(resumable=True)

    def close(self) -> None:
        """Close it for good."""
        self._end(resumable=False)
        self.session = None

    def _end(self, *, resumable: bool) -> None:
        if not self.is_connected:
            return
        self.is_connected, self.is_stuck = False, False
        self.view.place = None
        if self.session is not None:
            lifecycle.connection_lost(self.node, self.session, resumable=resumable)

    def _call(self, op: Op, refused: Callable[[LiveError], object] = lambda _refusal: None) -> Call:
        def answer(packet: Outgoing | None) -> None:
            if packet is not None and packet.op == Op.ERROR:
                if packet.payload.code >= 9000:
                    self.problems.append(packet.payload)
                refused(_as_error(packet.payload))
            elif packet is not None:
                self.send(packet)

        return AnsweredCall(self, op, answer)

    # --- what handlers see of it ------------------------------------------------------------------------

    def activate(self, session: Session) -> bool:
        session.outlet = self
        self.session = session
        return self.is_connected

    def claim(self, session: Session) -> bool:
        return self.is_connected

    def unclaim(self) -> None:
        pass

    def renewed(self, expires_at: int | None) -> None:
        pass

    @property
    def sink(self) -> None:
        return None

    def send_batch(self, batch: Batch) -> None:
        for packet in batch.packets:
            self.send(packet)

    def displace(self) -> None:
        self._end(resumable=True)

    def drop_chunks(self, channel_id: ChannelId) -> None:
        """Do nothing: nobody sends any."""

    def forget_stream(self, stream: StreamKey) -> None:
        """Do nothing."""

    def expel(self, code: int, reason: str) -> None:
        self._end(resumable=False)
        self.session = None

    def overflow(self) -> None:
        self._end(resumable=True)

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        raise AssertionError("nothing here takes a task")

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()

    def send_later(self, packet: Outgoing) -> None:
        self.send(packet)

    def send(self, packet: Outgoing) -> None:
        """Hear a packet, or lose the connection by it."""
        if self.is_stuck or not self.is_connected:
            mark = mark_of(packet)
            if mark is not None:
                self._unsent.append(mark)
            self._end(resumable=True)
            return
        try:
            self.hear(packet)
        except AssertionError as problem:
            self.problems.append(problem)
            raise

    # --- what its client makes of it --------------------------------------------------------------------

    def hear(self, packet: Outgoing) -> None:
        """Believe what was said; assert that it may be said."""
        view, event = self.view, packet.payload
        match event:
            case voice_events.FloorGranted():
                view.has_floor, view.place, view.talker = True, None, None
            case voice_events.FloorRevoke():
                # On RESUME it may come after the leave, or the end of the channel, that it came before.
                assert view.has_floor or self.is_resuming, "revoked from who did not have it"
                view.has_floor = False
            case voice_events.FloorDeny():
                view.place = None
            case voice_events.FloorTaken() | voice_events.FloorIdle() if not view.is_member:
                # Another device has joined; this one is about to hear of that, and then who talks.
                pass
            case voice_events.FloorTaken(user_id=user_id):
                assert (view.is_member, view.is_subscribed, view.has_floor) == (True, True, False)
                view.talker = user_id
            case voice_events.FloorIdle():
                assert (view.is_member, view.is_subscribed, view.has_floor) == (True, True, False)
                assert view.place is None, "idle while somebody waits"
                view.talker = None
            case voice_events.FloorQueuePosInfo(queue_position=place):
                assert (view.is_member, view.has_floor) == (True, False)
                view.place = place
            case events.Resumed():
                assert not view.has_floor, "it has not learnt that it was lost"
                self.is_resuming = False
                self._enter(OPS in event.channels)
                self.replies.append(packet)
            case events.Ready():
                self._enter(any(state.channel_id == OPS for state in event.channels))
            case events.InvalidSession():
                self.replies.append(packet)
            case events.Ack(op=Op.CHANNEL_JOIN):
                self._enter(True)
                self.view.is_subscribed = True
            case events.Ack(op=Op.CHANNEL_LEAVE):
                self._enter(False)
            case events.Ack(op=Op.FLOOR_RELEASE):
                view.has_floor, view.place = False, None
            case events.Ack(op=Op.SUBSCRIBE):
                view.is_subscribed = True
            case events.Ack(op=Op.UNSUBSCRIBE):
                view.is_subscribed, view.talker = False, None
            case events.ChannelEvent(event="delete"):
                self._enter(False)
            case events.ChannelEvent(event="join" | "leave" as what, member=events.Member(user_id=self.user_id)):
                self._enter(what == "join")

    def _enter(self, is_member: bool) -> None:
        """Be a member from now on, or not; who was one already stays as it was."""
        if not is_member:
            self.view = View()
        elif not self.view.is_member:
            self.view = View(is_member=True)


def _as_error(payload: events.Error) -> LiveError:
    class Refused(LiveError):
        code = payload.code

    return Refused(payload.reason)


class Stage:
    """The node, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.plane = Plane()
        users = UserHub()
        backplane = MemoryBackplane()
        storage = MemorySessionStorage(1000.0)
        self.node = Node(
            node_id="n1",
            store=MemoryStore(MemoryRecords(), nonce_ttl_ms=1000),
            backplane=backplane,
            sessions=storage,
            keeper=SessionKeeper(storage, users, "n1", touch_interval_s=1000.0),
            users=users,
            presence=PresenceHub(5.0),
            media=cast(Any, self.plane),
            jobs=cast(Any, None),
            authenticator=cast(Any, None),
            limits=ChatLimits(),
            files=cast(Any, None),
            resume_window_s=120.0,
            now=lambda: self.now,
            now_ms=lambda: int(self.now * 1000),
        )
        backplane.subscribe(FanOut(self.node).deliver)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.now += seconds
        self.node.deadlines.run_due(self.now)

    def kick(self, user_id: UserId) -> None:
        """Put a user out."""
        revoke.kick(self.node, user_id, "kicked")
