"""One session through all that can happen to it, in random order: it never hears a hole, a double or a stray.

A second session of the same user, and another user, change memberships and channels; the session under test loses
its connection at any time and is resumed with its own cursors or the server's.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import livechat
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    JOIN,
    LEAVE,
    MEMBER_ADD,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    RESUME,
    RESUMED,
    SUBSCRIBE,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    Packet,
    connected,
    identified,
)
from tests.support.resume import drop
from tests.support.server import SECRET, counted, running_server, wait_until

NAMES = ("a", "b", "c")
MUTED = -1


class Listener:
    """What a session knows of its channels: the last seq of each that it hears, `MUTED` if it does not want to."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.last: dict[str, int] = {}
        self.heard = 0

    def hear(self, packet: Packet) -> None:
        """Take an event; it must fit to all that was heard before."""
        d = packet["d"]
        if packet["op"] not in (CHANNEL_EVENT, MESSAGE_EVENT):
            return
        channel_id, event = d["channel_id"], d.get("event", "message")
        is_mine = event in ("join", "leave") and d["member"]["user_id"] == self.user_id
        if event == "delete":
            # One that was joined and deleted while the session was parked it has not heard of.
            self.last.pop(channel_id, None)
        elif event == "update":
            assert self.last[channel_id] != MUTED
        elif is_mine and event == "join":
            assert self.last.get(channel_id, MUTED) == MUTED, "a join of who is in already"
            self.last[channel_id] = d["seq"]
        elif is_mine and self.last[channel_id] == MUTED:
            del self.last[channel_id]
        else:
            self.heard += 1
            assert d["seq"] == self.last[channel_id] + 1, (packet, self.last)
            self.last[channel_id] = d["seq"]
            if is_mine:
                del self.last[channel_id]

    def resume(self, done: Packet, deleted: set[str]) -> None:
        """Compare with what RESUMED says."""
        for channel_id in NAMES:
            state, last = done["channels"].get(channel_id), self.last.get(channel_id)
            if last == MUTED:
                # Of what a session does not listen to no leave is kept for it.
                if state is None:
                    del self.last[channel_id]
            elif last is None:
                # Of a channel that was deleted and that the client still named.
                assert state is None or state.items() >= {"last_seq": 0, "recovered": False}.items()
            elif state is None:
                raise AssertionError(f"nothing told that {channel_id} was left at {last}")
            else:
                assert state["last_seq"] == last
                assert state["recovered"] or channel_id in deleted


class Play:
    """The driver: what happens next is drawn, and every step is answered before the next one begins."""

    def __init__(self, rng: random.Random, server: livechat.Server, stack: AsyncExitStack) -> None:
        self.rng = rng
        self.server = server
        self.stack = stack
        self.listener = Listener("bob")
        self.deleted: set[str] = set()
        """Channels that were deleted while the session was parked."""
        self.session_id = ""
        self.alice: Client
        self.other: Client
        """Bob's other session."""
        self.bob: Client | None = None
        """The connection of the session under test; None while it is parked."""
        self.is_settled = True
        """No membership has changed since the connection under test was read to its end."""
        self.has_lost = False
        """What was sent to the connection that was lost may not have been read."""
        self.exists: set[str] = set()
        self.is_member: set[str] = set()

    async def begin(self) -> None:
        self.alice = await self.stack.enter_async_context(identified(self.server, "alice"))
        self.other = await self.stack.enter_async_context(identified(self.server, "bob"))
        self.bob = await self.stack.enter_async_context(identified(self.server, "bob"))
        self.session_id = self.bob.ready["session_id"]

    async def step(self) -> None:
        steps: list[Callable[[str], Awaitable[None]]] = [
            self.talk,
            self.talk,
            self.talk,
            self.make_or_delete,
            self.join_or_leave,
            self.join_or_leave,
            self.add_or_remove,
            self.update,
        ]
        steps += [self.resume] * 3 if self.bob is None else [self.lose, self.mute, self.listen, self.catch_up]
        step = self.rng.choice(steps)
        if step in (self.make_or_delete, self.join_or_leave, self.add_or_remove):
            self.is_settled = False
        await step(self.rng.choice(NAMES))
        for client in (self.alice, self.other):
            client._events.clear()

    async def talk(self, name: str) -> None:
        if name in self.exists:
            for _ in range(self.rng.choice((1, 1, 2, 2, 3, 300))):
                await self.alice.send(MESSAGE, {"channel_id": name, "content": "x"})
            await self.alice.say(name, "last")

    async def make_or_delete(self, name: str) -> None:
        if name not in self.exists:
            await self.alice.ack(CREATE, {"channel_id": name})
            await self.alice.ack(JOIN, {"channel_id": name})
            self.exists.add(name)
        elif self.rng.random() < 0.3:
            await self.alice.ack(DELETE, {"channel_id": name})
            self.exists.discard(name)
            self.is_member.discard(name)
            if self.bob is None:
                self.deleted.add(name)

    async def join_or_leave(self, name: str) -> None:
        if name not in self.exists:
            return
        await self.other.ack(LEAVE if name in self.is_member else JOIN, {"channel_id": name})
        self.is_member ^= {name}

    async def add_or_remove(self, name: str) -> None:
        if name not in self.exists:
            return
        op = MEMBER_REMOVE if name in self.is_member else MEMBER_ADD
        await self.alice.ack(op, {"channel_id": name, "user_id": "bob"})
        self.is_member ^= {name}

    async def update(self, name: str) -> None:
        if name in self.exists:
            await self.alice.ack(UPDATE, {"channel_id": name, "capacity": self.rng.randint(5, 50)})

    # --- the session under test -----------------------------------------------------------------------

    async def catch_up(self, _name: str) -> None:
        """Read all that was sent up to now."""
        assert self.bob is not None
        await self.bob.send(HEARTBEAT)
        while (packet := await self.bob.receive())["op"] != HEARTBEAT_ACK:
            self.listener.hear(packet)
        self.is_settled = True

    async def ask(self, op: int, name: str) -> Packet:
        """Ask, and hear all that comes before the reply."""
        assert self.bob is not None
        await self.bob.send(op, {"channel_id": name}, id="asked")
        while (packet := await self.bob.receive()).get("id") != "asked":
            self.listener.hear(packet)
        return packet

    async def mute(self, name: str) -> None:
        reply = await self.ask(UNSUBSCRIBE, name)
        if name in self.is_member:
            assert "data" in reply["d"], reply
            self.listener.last[name] = MUTED
        else:
            assert reply["d"]["code"] in (2000, 2004)
            assert self.listener.last.pop(name, MUTED) == MUTED

    async def listen(self, name: str) -> None:
        reply = await self.ask(SUBSCRIBE, name)
        if name in self.is_member:
            last_seq = reply["d"]["data"]["last_seq"]
            assert self.listener.last[name] in (MUTED, last_seq)
            self.listener.last[name] = last_seq
        else:
            assert reply["d"]["code"] in (2000, 2004)
            assert self.listener.last.pop(name, MUTED) == MUTED

    async def lose(self, name: str) -> None:
        """Lose the connection, and with it what was sent and has not been read, of which only own cursors tell.

        Of memberships they do not tell, so where those have changed what was sent is read before.
        """
        assert self.bob is not None
        self.has_lost = self.is_settled and self.rng.random() < 0.5
        if not self.has_lost:
            await self.catch_up(name)
        await drop(self.bob)
        await wait_until(lambda: counted(self.server)["sessions_parked"] == 1)
        self.bob = None
        self.deleted.clear()

    async def resume(self, _name: str) -> None:
        bob = self.bob = await self.stack.enter_async_context(connected(self.server))
        request: Packet = {"session_id": self.session_id, "token": SECRET}
        if self.has_lost or self.rng.random() < 0.5:
            request["channels"] = {name: last for name, last in self.listener.last.items() if last != MUTED}
        await bob.send(RESUME, request)
        while (packet := await bob.receive())["op"] != RESUMED:
            self.listener.hear(packet)
        self.listener.resume(packet["d"], self.deleted)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_a_session_hears_its_channels_without_a_seam(seed: int, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, AsyncExitStack() as stack:
        play = Play(random.Random(seed), server, stack)
        await play.begin()
        for _ in range(100):
            await play.step()
        if play.bob is None:
            await play.resume("")
        await play.catch_up("")
        assert set(play.listener.last) >= play.is_member
        assert play.listener.heard > 0
