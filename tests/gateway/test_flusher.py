from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from livechat.gateway import flusher as module
from livechat.gateway.flusher import Flusher
from livechat.hub.channels import Backlog, ChannelHub
from livechat.hub.users import Session
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, UserId
from tests.support.channels import make_facts
from tests.support.tape import Tape

LOBBY, HALL, CELLAR = (ChannelId(name) for name in ("lobby", "hall", "cellar"))
CHANNELS = (LOBBY, HALL, CELLAR)
OTHER = None
"""In place of a channel: what belongs to none."""
SESSIONS = 5


class World:
    """A hub and sessions of a user each, some of which hear some channels."""

    def __init__(self, backlog: Callable[[ChannelHub], Backlog] | None) -> None:
        self.hub = ChannelHub()
        if backlog is not None:
            self.hub.backlog = backlog(self.hub)
        self.sessions = [Session(SessionId(f"sess_{n}"), UserId(f"user{n}"), 0.0) for n in range(SESSIONS)]
        self.tapes: list[list[Tape]] = [[] for _ in self.sessions]
        self.heard: list[Any] = []
        """What the hub said of sessions that were detached."""
        for n in range(SESSIONS):
            self.attach(n)

    def attach(self, n: int) -> None:
        session = self.sessions[n]
        if session.outlet is None:
            tape = Tape(self.hub.backlog, session)
            self.tapes[n].append(tape)
            session.outlet = tape
            self.hub.attach(session)

    def detach(self, n: int) -> None:
        self.heard.append(self.hub.detach(self.sessions[n]))
        self.sessions[n].outlet = None

    def join(self, n: int, channel_id: ChannelId) -> None:
        session = self.sessions[n]
        self.hub.admit(session.user_id, make_facts(channel_id), 0)
        if session.outlet is not None:
            self.hub.subscribe(session, channel_id)

    def leave(self, n: int, channel_id: ChannelId) -> None:
        session = self.sessions[n]
        self.hub.remove_member(channel_id, session.user_id)
        session.unsubscribed -= {channel_id}

    def unsubscribe(self, n: int, channel_id: ChannelId) -> None:
        session = self.sessions[n]
        if session.outlet is not None and self.hub.is_member(channel_id, session.user_id):
            self.hub.unsubscribe(session, channel_id)

    def subscribe(self, n: int, channel_id: ChannelId) -> None:
        session = self.sessions[n]
        if session.outlet is not None and self.hub.is_member(channel_id, session.user_id):
            self.hub.subscribe(session, channel_id)

    def delete(self, _: int, channel_id: ChannelId) -> None:
        self.hub.remove_channel(channel_id)
        for session in self.sessions:
            session.unsubscribed -= {channel_id}

    def reply(self, n: int, packet: Outgoing) -> None:
        outlet = self.sessions[n].outlet
        if outlet is not None:
            outlet.send(packet)

    def send(self, channel_id: ChannelId, packet: Outgoing, but: int | None, size: int) -> None:
        channel = self.hub.get(channel_id)
        if channel is None:
            return
        channel.last_seq += 1
        origin = None if but is None else self.sessions[but]
        if isinstance(self.hub.backlog, Flusher):
            self.hub.backlog.send(channel, packet, but=origin, size=size)
            return
        for session in list(channel.subscribers):
            if session is not origin and session.outlet is not None:
                session.outlet.send(packet)


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Few sessions and packets reach every bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE_MAX", 2)
        patch.setattr(module, "BATCH_PACKETS_MAX", 3)
        patch.setattr(module, "BATCH_BYTES_MAX", 100)
        patch.setattr(module, "PENDING_PACKETS_MAX", 8)
        patch.setattr(module, "PENDING_BYTES_MAX", 400)
        yield


WHO = st.integers(0, SESSIONS - 1)
WHERE = st.sampled_from(CHANNELS)
DEEDS = st.one_of(
    st.tuples(st.just("send"), WHERE, st.none() | WHO, st.sampled_from([0, 0, 60, 300])),
    st.tuples(st.just("send"), st.just(LOBBY), st.none(), st.just(0)),
    st.tuples(st.just("send"), WHERE, st.none(), st.just(0)),
    st.tuples(st.just("reply"), WHO),
    st.tuples(st.sampled_from(["join", "join", "leave", "subscribe", "unsubscribe", "delete"]), WHO, WHERE),
    st.tuples(st.sampled_from(["attach", "detach"]), WHO),
    st.tuples(st.just("step"), st.integers(1, 6)),
)


def told(tape: Tape, channel_id: ChannelId) -> list[Any]:
    """List what came of one channel and of none: only these must be in order among each other."""
    return [packet.payload for packet in tape.packets if packet.payload[0] in (channel_id, OTHER)]


@given(st.lists(DEEDS, max_size=60))
def test_to_each_connection_all_looks_as_if_it_had_been_handed_at_once(deeds: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        real, model = World(Flusher), World(None)
        for n in range(SESSIONS):
            for channel_id in CHANNELS[: 1 + n % 3]:
                real.join(n, channel_id)
                model.join(n, channel_id)
        flusher = real.hub.backlog
        assert isinstance(flusher, Flusher)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flusher.run)
            await trio.lowlevel.checkpoint()
            for number, (deed, *details) in enumerate(deeds):
                if deed == "step":
                    for _ in range(details[0]):
                        await trio.lowlevel.checkpoint()
                    continue
                for world in (real, model):
                    if deed == "send":
                        packet = Outgoing(Op.MESSAGE_EVENT, (details[0], number), mark=(details[0], number))
                        world.send(details[0], packet, details[1], details[2])
                    elif deed == "reply":
                        world.reply(details[0], Outgoing(Op.ACK, (OTHER, number)))
                    else:
                        getattr(world, deed)(*details)
            nursery.cancel_scope.cancel()
        assert not flusher.is_behind
        assert real.heard == model.heard
        for mine, theirs in zip(real.tapes, model.tapes, strict=True):
            assert len(mine) == len(theirs)
            for tape, plain in zip(mine, theirs, strict=True):
                assert len(tape.packets) == len(plain.packets)
                for channel_id in CHANNELS:
                    assert told(tape, channel_id) == told(plain, channel_id)

    trio.run(main)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    """Everybody hears the lobby, and the flusher runs."""
    world = World(Flusher)
    assert isinstance(world.hub.backlog, Flusher)
    nursery.start_soon(world.hub.backlog.run)
    await trio.testing.wait_all_tasks_blocked()
    return world


def say(world: World, *numbers: int, channel_id: ChannelId = LOBBY) -> None:
    for number in numbers:
        packet = Outgoing(Op.MESSAGE_EVENT, (channel_id, number), mark=(channel_id, number))
        world.send(channel_id, packet, None, 0)


def numbers(tape: Tape) -> list[int]:
    return [packet.payload[1] for packet in tape.packets]


async def test_the_first_packet_of_an_idle_channel_leaves_at_once_and_those_that_follow_leave_together(
    world: World,
) -> None:
    world.join(0, LOBBY)
    world.join(1, LOBBY)
    tapes = [world.tapes[n][0] for n in (0, 1)]
    say(world, 1, 2, 3)
    assert [numbers(tape) for tape in tapes] == [[1], [1]]
    await trio.testing.wait_all_tasks_blocked()
    assert [tape.pieces for tape in tapes] == [[1, 2], [1, 2]]
    # It was busy: now the first one waits for others as well.
    say(world, 4, 5)
    assert [numbers(tape) for tape in tapes] == [[1, 2, 3]] * 2
    await trio.testing.wait_all_tasks_blocked()
    say(world, 6)
    await trio.testing.wait_all_tasks_blocked()
    assert [tape.pieces for tape in tapes] == [[1, 2, 2, 1]] * 2
    # It is not any more.
    say(world, 7)
    assert [numbers(tape) for tape in tapes] == [[1, 2, 3, 4, 5, 6, 7]] * 2


async def test_nothing_gathers_while_no_task_hands_it_out() -> None:
    world = World(Flusher)
    world.join(0, LOBBY)
    say(world, 1, 2, 3)
    assert numbers(world.tapes[0][0]) == [1, 2, 3]
    assert not world.hub.backlog.is_behind
    await trio.lowlevel.checkpoint()


async def test_many_members_get_it_in_turns_that_let_other_tasks_go_on(world: World) -> None:
    for n in range(SESSIONS):
        world.join(n, LOBBY)
    say(world, 1, 2)
    counts = set()
    while world.hub.backlog.is_behind:
        counts.add(sum(bool(tapes[0].packets) for tapes in world.tapes))
        await trio.lowlevel.checkpoint()
    assert counts & {2, 4}
    assert [numbers(tapes[0]) for tapes in world.tapes] == [[1, 2]] * SESSIONS
    assert [tapes[0].pieces for tapes in world.tapes] == [[2]] * SESSIONS


async def test_replies_to_a_busy_session_leave_in_one_piece_with_the_events(world: World) -> None:
    world.join(0, LOBBY)
    tape = world.tapes[0][0]
    say(world, 1, 2)
    world.reply(0, Outgoing(Op.ACK, (OTHER, 3)))
    say(world, 4)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(tape) == [1, 2, 3, 4]
    assert tape.pieces == [1, 3]


async def test_an_event_of_an_idle_channel_comes_after_the_reply_to_what_caused_it(world: World) -> None:
    world.join(0, LOBBY)
    world.join(0, HALL)
    say(world, 1, 2)
    world.reply(0, Outgoing(Op.ACK, (OTHER, 3)))
    say(world, 4, channel_id=HALL)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(world.tapes[0][0]) == [1, 2, 3, 4]


async def test_what_is_too_much_to_wait_is_handed_out_at_once_also_in_the_middle_of_a_turn(world: World) -> None:
    for n in range(SESSIONS):
        world.join(n, LOBBY)
    say(world, 1, 2)
    while not world.tapes[0][0].packets:
        await trio.lowlevel.checkpoint()
    say(world, *range(3, 12))
    assert all(len(tapes[0].packets) >= 8 for tapes in world.tapes)
    await trio.testing.wait_all_tasks_blocked()
    assert [numbers(tapes[0]) for tapes in world.tapes] == [list(range(1, 12))] * SESSIONS


async def test_who_is_full_in_the_middle_is_closed_once_all_have_been_sent_to_and_loses_nothing(
    world: World,
) -> None:
    for n in (0, 1):
        world.join(n, LOBBY)
    full = world.sessions[0]
    full.outlet = tape = Tape(world.hub.backlog, full, room=2)
    say(world, 1, 2, 3, 4)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(world.tapes[1][0]) == [1, 2, 3, 4]
    world.detach(0)
    assert (numbers(tape), tape.unsent) == ([1, 2], [(LOBBY, 3), (LOBBY, 4)])
    assert world.heard == [{LOBBY: 4}]
    say(world, 5)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(world.tapes[1][0]) == [1, 2, 3, 4, 5]


async def test_what_can_not_be_handed_out_does_not_stop_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.join(0, LOBBY)
    world.join(1, HALL)

    def fail(_: object) -> None:
        raise ValueError("not to be written")

    say(world, 1, 2)
    world.tapes[0][0].send_batch = fail  # type: ignore[method-assign, assignment]
    say(world, 1, 2, channel_id=HALL)
    await trio.testing.wait_all_tasks_blocked()
    assert numbers(world.tapes[1][0]) == [1, 2]
    assert not world.hub.backlog.is_behind
