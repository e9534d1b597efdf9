from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from livechat.gateway import flusher as module
from livechat.gateway import hearers
from livechat.gateway.flusher import Flusher
from livechat.hub.channels import Backlog, ChannelHub
from livechat.hub.users import Session
from livechat.protocol.codec import JSON, MSGPACK, Codec
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.telemetry.counters import Counters
from livechat.telemetry.packets import PacketFilter, PacketTrace
from tests.support.channels import make_facts
from tests.support.tape import QueueTape, Tape

LOBBY, HALL, CELLAR = (ChannelId(name) for name in ("lobby", "hall", "cellar"))
CHANNELS = (LOBBY, HALL, CELLAR)
OTHER = None
"""In place of a channel: what belongs to none."""
SESSIONS = 5
CODECS = {0: JSON, 1: JSON, 2: MSGPACK}


class World:
    """A hub and sessions of a user each, some of which hear some channels.

    Args:
        codecs: of sessions that have egress queues of their own, by number.
        sessions: how many there are.
    """

    def __init__(
        self,
        backlog: Callable[[ChannelHub], Backlog] | None,
        codecs: Mapping[int, Codec] = MappingProxyType({}),
        sessions: int = SESSIONS,
    ) -> None:
        self._codecs = codecs
        self.hub = ChannelHub()
        if backlog is not None:
            self.hub.backlog = backlog(self.hub)
        self.sessions = [Session(SessionId(f"sess_{n}"), UserId(f"user{n}"), 0.0) for n in range(sessions)]
        self.tapes: list[list[Tape]] = [[] for _ in self.sessions]
        self.heard: list[Any] = []
        """What the hub said of sessions that were detached."""
        for n in range(sessions):
            self.attach(n)

    def attach(self, n: int) -> None:
        session = self.sessions[n]
        if session.outlet is None:
            self._give_outlet(n)
            self.hub.attach(session)

    def _give_outlet(self, n: int) -> None:
        session, codec, backlog = self.sessions[n], self._codecs.get(n), self.hub.backlog
        tape = Tape(backlog, session) if codec is None else QueueTape(backlog, session, codec)
        self.tapes[n].append(tape)
        session.outlet = tape

    def move(self, n: int) -> None:
        """Give a session another outlet, as at the end of its replay."""
        session = self.sessions[n]
        if session.outlet is not None:
            self.hub.backlog.catch_up(session)
            self._give_outlet(n)
            self.hub.has_moved(session)

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
        patch.setattr(hearers, "AT_ONCE_MAX", 2)
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
    st.tuples(st.sampled_from(["attach", "detach", "move"]), WHO),
    st.tuples(st.just("step"), st.integers(1, 6)),
)
MANY = 8
MANY_CODECS = {0: JSON, 1: JSON, 2: JSON, 3: JSON, 4: MSGPACK, 5: MSGPACK, 6: MSGPACK}
IN_THE_MIDDLE = st.one_of(
    st.tuples(st.just("reply"), st.integers(0, MANY - 1)),
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "leave", "join"]), st.integers(0, MANY - 1), st.just(LOBBY)
    ),
    st.tuples(st.sampled_from(["attach", "detach", "move"]), st.integers(0, MANY - 1)),
    st.tuples(st.just("send"), st.just(LOBBY), st.none() | st.integers(0, MANY - 1), st.sampled_from([0, 0, 300])),
    st.tuples(st.just("step"), st.just(1)),
)
"""What may happen between two pieces of those who are handed packets."""


def told(tape: Tape, channel_id: ChannelId) -> list[Any]:
    """List what came of one channel and of none: only these must be in order among each other."""
    return [payload for payload in tape.payloads() if payload[0] in (channel_id, OTHER)]


@given(st.lists(DEEDS, max_size=60))
def test_to_each_connection_all_looks_as_if_it_had_been_handed_at_once(deeds: list[tuple[Any, ...]]) -> None:
    real, model = World(Flusher, CODECS), World(None)
    for n in range(SESSIONS):
        for channel_id in CHANNELS[: 1 + n % 3]:
            real.join(n, channel_id)
            model.join(n, channel_id)
    trio.run(compare, real, model, deeds)


@given(st.lists(IN_THE_MIDDLE, min_size=1, max_size=25))
def test_what_happens_while_packets_are_handed_out_changes_nothing_for_the_others(
    deeds: list[tuple[Any, ...]],
) -> None:
    real, model = World(Flusher, MANY_CODECS, MANY), World(None, sessions=MANY)
    for n in range(MANY):
        real.join(n, LOBBY)
        model.join(n, LOBBY)
    said = [("send", LOBBY, None, 0)] * 3
    trio.run(compare, real, model, [*said, ("until_some_have_it",), *deeds])


async def compare(real: World, model: World, deeds: Sequence[tuple[Any, ...]]) -> None:
    """Do the same in both worlds, and see that each outlet of one was told what that of the other was."""
    flusher = real.hub.backlog
    assert isinstance(flusher, Flusher)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        await trio.testing.wait_all_tasks_blocked()
        for number, (deed, *details) in enumerate(deeds):
            if deed == "until_some_have_it":
                while not any(tapes[0].payloads() for tapes in real.tapes):
                    await trio.lowlevel.checkpoint()
                assert not all(tapes[0].payloads() for tapes in real.tapes)
                continue
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
            assert len(tape.payloads()) == len(plain.payloads())
            for channel_id in CHANNELS:
                assert told(tape, channel_id) == told(plain, channel_id)


async def test_who_has_another_outlet_is_sent_to_with_all_others_again(world: World) -> None:
    world.join(0, LOBBY)
    say(world, 1)
    session = world.sessions[0]
    world.hub.backlog.catch_up(session)
    session.outlet = tape = QueueTape(world.hub.backlog, session, JSON)
    world.hub.has_moved(session)
    await trio.testing.wait_all_tasks_blocked()
    say(world, 2)
    assert (tape.payloads(), tape.pieces) == ([(LOBBY, 2)], []), "not by its own hand"


async def test_nothing_of_who_has_left_is_kept_until_the_next_packet() -> None:
    world = World(Flusher)
    for n in (0, 1):
        world.join(n, LOBBY)
    say(world, 1)
    left = weakref.ref(world.tapes[0][0])
    world.detach(0)
    world.tapes[0].clear()
    assert left() is None
    await trio.lowlevel.checkpoint()


def test_it_works_where_asserts_are_switched_off() -> None:
    script = (
        "import sys, pytest, tests.gateway.test_flusher as t, livechat.gateway.flusher as f\n"
        "import livechat.gateway.hearers as h\n"
        "f.AT_ONCE_MAX = h.AT_ONCE_MAX = 1\n"
        "import trio\n"
        "async def main():\n"
        "    world = t.World(f.Flusher)\n"
        "    for n in (0, 1): world.join(n, t.LOBBY)\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(world.hub.backlog.run)\n"
        "        await trio.testing.wait_all_tasks_blocked()\n"
        "        t.say(world, 1)\n"
        "        await trio.testing.wait_all_tasks_blocked()\n"
        "        world.unsubscribe(0, t.LOBBY); world.join(2, t.LOBBY)\n"
        "        t.say(world, 2)\n"
        "        await trio.testing.wait_all_tasks_blocked()\n"
        "        nursery.cancel_scope.cancel()\n"
        "    print([t.numbers(world.tapes[n][0]) for n in (0, 1, 2)])\n"
        "trio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-O", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[[1], [1, 2], [2]]", done.stderr


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    """Everybody hears the lobby, and the flusher runs."""
    return await running(nursery)


async def running(nursery: trio.Nursery, codecs: Mapping[int, Codec] = MappingProxyType({})) -> World:
    world = World(Flusher, codecs)
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


async def test_who_can_not_be_handed_anything_does_not_stop_the_others(world: World) -> None:
    for n in (0, 1):
        world.join(n, LOBBY)
    world.join(2, HALL)

    def fail(_: object) -> None:
        raise ValueError("not to be written")

    say(world, 1, 2)
    world.tapes[0][0].send_batch = fail  # type: ignore[method-assign, assignment]
    say(world, 1, 2, channel_id=HALL)
    await trio.testing.wait_all_tasks_blocked()
    assert [numbers(world.tapes[n][0]) for n in (1, 2)] == [[1, 2], [1, 2]]
    assert not world.hub.backlog.is_behind


@pytest.mark.parametrize("codecs", [{}, {0: JSON}, {0: MSGPACK}])
async def test_a_packet_that_can_not_be_written_does_not_cost_those_that_gathered_with_it(
    nursery: trio.Nursery, codecs: dict[int, Codec]
) -> None:
    world = await running(nursery, codecs)
    world.join(0, LOBBY)
    world.join(1, LOBBY)
    say(world, 1, 2)
    world.send(LOBBY, Outgoing(Op.MESSAGE_EVENT, (LOBBY, object())), None, 0)
    say(world, 4)
    await trio.testing.wait_all_tasks_blocked()
    said = [payload for payload in world.tapes[0][0].payloads() if isinstance(payload[1], int)]
    assert said == [(LOBBY, 1), (LOBBY, 2), (LOBBY, 4)]


async def test_packets_that_somebody_watches_leave_by_each_connections_own_hand(nursery: trio.Nursery) -> None:
    packets, counters = PacketTrace(), Counters()
    world = World(lambda hub: Flusher(hub, packets, counters), CODECS)
    assert isinstance(world.hub.backlog, Flusher)
    nursery.start_soon(world.hub.backlog.run)
    await trio.testing.wait_all_tasks_blocked()
    world.join(0, LOBBY)
    world.join(1, LOBBY)
    say(world, 1)
    assert counters.packets_out == 2
    with packets.watch(PacketFilter()):
        await trio.testing.wait_all_tasks_blocked()
        say(world, 2)
    await trio.testing.wait_all_tasks_blocked()
    tapes = [world.tapes[n][0] for n in (0, 1)]
    assert [tape.pieces for tape in tapes] == [[1], [1]]
    assert [tape.payloads() for tape in tapes] == [[(LOBBY, 1), (LOBBY, 2)]] * 2
    assert counters.packets_out == 2, "each connection counts its own then"
