"""A client of the chat model: one session over several connections, which checks what it is told as it comes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import trio
from websockets.exceptions import ConnectionClosed

from tests.support.chat_channel import Entry, entry_of
from tests.support.chat_hearing import Hearing, Sync
from tests.support.chat_ledger import Ledger, Packet, Pending
from tests.support.chat_model import Who
from tests.support.chat_order import LOST, PENDING, SILENT, answer_of, pick, view_of
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    ERROR,
    FOCUS,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    IDENTIFY,
    JOIN,
    LEAVE,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    READ_EVENT,
    READY,
    RESUME,
    RESUMED,
    SUBSCRIBE,
    SYNC,
    TYPING_EVENT,
    UNREAD_EVENT,
    UNSUBSCRIBE,
    Client,
)
from tests.support.server import SECRET

WISHES = {JOIN: SUBSCRIBE, SUBSCRIBE: SUBSCRIBE, UNSUBSCRIBE: UNSUBSCRIBE}
"""What asks to hear a channel or not, and how to ask for it again."""


class Device:
    """A user's device. Raises `AssertionError` over whatever should not have come.

    Args:
        name: names it among all devices.
        binary: speaks msgpack rather than JSON.
    """

    def __init__(self, ledger: Ledger, user_id: str, name: str, *, binary: bool) -> None:
        self.ledger = ledger
        self.user_id = user_id
        self.name = name
        self.binary = binary
        self.client: Client | None = None
        self.cut: Callable[[], None] = lambda: None
        """Ends the connection's task."""
        self.session_id: str | None = None
        self.closed_with: int | None = None
        """The code with which the server closed the newest connection."""
        self.pending: dict[str | int, Pending] = {}
        self.is_steady = False
        """It has had this connection since everything was quiet last."""
        self.is_paused = False
        """It reads nothing at present."""
        self.told: list[tuple[int, Packet]] = []
        """Events without a seq, since everything was quiet last."""
        self.synced: list[Sync] = []
        """What was answered since everything was quiet last."""
        self._sessions = count(1)
        self._connection = 0
        self._requests = count(1)
        self._heartbeats = 0
        self._begin_session()

    def _begin_session(self) -> None:
        self.who = Who(self.user_id, f"{self.name}#{next(self._sessions)}")
        self.hearing = Hearing(self.user_id)
        self.focus: str | None = None
        self.focuses: set[str | None] = {None}
        """What the server may have taken for its focus since everything was quiet last."""
        self.wanted_focus: str | None = None
        self.is_focus_known = True
        self.notified: set[tuple[str, int]] = set()
        """Mentions that it was told of."""
        self.unread_told: dict[str, int] = {}
        """The last_seq of the newest UNREAD_EVENT of each channel."""
        self.active_members: dict[str, set[str]] = {}
        """As the newest RESUMED told."""

    # --- connections ------------------------------------------------------------------------------

    def connected(self, client: Client, cut: Callable[[], None]) -> None:
        """Use a new connection."""
        self.client, self.cut = client, cut
        self.closed_with = None
        self.is_steady = self.is_paused = False
        self._connection = self.ledger.next_connection()

    async def identify(self) -> None:
        """Begin a session; wait for READY."""
        await self.send(IDENTIFY, {"token": SECRET, "user_id": self.user_id}, self.ledger.channel_ids)
        await self.read_until(lambda: self.session_id is not None)

    async def resume(self, cursors: dict[str, int] | None, boasts: set[str]) -> None:
        """Send RESUME.

        Args:
            cursors: the positions to state.
            boasts: channels of which that is more than there is.
        """
        d: Packet = {"session_id": self.session_id, "token": SECRET}
        if cursors is not None:
            d["channels"] = cursors
        self.hearing.resuming(cursors, boasts)
        await self.send(RESUME, d, self.ledger.channel_ids)

    def lost(self, *, is_exact: bool = False) -> None:
        """Note that the connection is over.

        Args:
            is_exact: the client had read all that was sent.
        """
        self.ledger.note(f"{self.name}: lost")
        self.client = None
        self.cut()
        is_exact &= not self.pending
        wishes: dict[str, int] = {}
        for request in self.pending.values():
            for deed in request.deeds.values():
                deed.answer = LOST
            if request.op in WISHES:
                wishes[request.d["channel_id"]] = WISHES[request.op]
            elif request.op == FOCUS:
                self.is_focus_known = False
        self.pending.clear()
        self.hearing.lost(is_exact=is_exact, wishes=wishes)
        self.is_focus_known &= self.hearing.is_exact

    def forget_session(self) -> None:
        """Note that the session has ended."""
        self.session_id = None
        self._begin_session()

    async def repeat(self) -> None:
        """Ask again for what may have been lost with the connection, as a client would that wants to be sure."""
        if self.hearing.resumption is not None:
            return
        asked = {one.d.get("channel_id") for one in self.pending.values() if one.op in WISHES}
        for channel_id, op in list(self.hearing.unsure.items()):
            if channel_id not in asked:
                await self.send(op, {"channel_id": channel_id})
        if not self.is_focus_known and all(one.op != FOCUS for one in self.pending.values()):
            await self.send(FOCUS, {"channel_id": self.wanted_focus})

    # --- requests ---------------------------------------------------------------------------------

    async def send(
        self, op: int, d: Packet, channel_ids: tuple[str, ...] | None = None, *, is_silent: bool = False
    ) -> Pending:
        """Send a request.

        Args:
            channel_ids: what it concerns, if that is not the channel that it names.
            is_silent: without an id.
        """
        if self.client is None:  # the server has closed meanwhile
            return Pending(op, d, {})
        number = next(self._requests)
        request_id = number if number % 2 else f"r{number}"
        if channel_ids is None:
            channel_ids = (d["channel_id"],) if d.get("channel_id") is not None else ()
        deeds = self.ledger.asks(self.who, self._connection, op, d, channel_ids)
        request = self.pending[request_id] = Pending(op, d, deeds, is_silent=is_silent)
        if op == SYNC:
            request.syncs = [
                Sync(name, one["after"], one.get("before"), may_skip=self.ledger.was_deleted(name))
                for name, one in d["channels"].items()
            ]
            self.hearing.syncs += request.syncs
        elif op == FOCUS:
            self.wanted_focus = d["channel_id"]
            self.focuses.add(d["channel_id"])
        self.ledger.note(f"{self.name} > {op} {d} {'' if is_silent else request_id}")
        try:
            await self.client.send(op, d, **({} if is_silent else {"id": request_id}))
        except ConnectionClosed:
            await self.read_until(lambda: False)
        return request

    def settle_silent(self) -> None:
        """Note that what needs no answer was not refused."""
        for request in self.pending.values():
            assert request.is_silent, f"{self.name}: never answered: {request}"
            self._settle(request, dict.fromkeys(request.deeds, SILENT))
        self.pending.clear()

    def begin_epoch(self) -> None:
        """Note that everything is quiet."""
        self.is_steady = self.client is not None
        self.told.clear()
        self.synced.clear()
        self.focuses = {self.focus}

    # --- reading ----------------------------------------------------------------------------------

    async def read_until(self, condition: Callable[[], bool]) -> None:
        """Read until the condition holds, or the server has closed."""
        while self.client is not None and not condition():
            try:
                packet = await self.client.receive()
            except ConnectionClosed as exc:
                self.closed_with = exc.rcvd.code if exc.rcvd is not None else 1006
                # Before a close frame all comes that was sent.
                self.lost(is_exact=exc.rcvd is not None)
            except trio.TooSlowError:
                raise AssertionError(f"{self.name}: waits in vain, {self.pending}") from None
            else:
                self.take(packet)

    async def read_answers(self) -> None:
        """Read until every request that gets an answer has it."""
        await self.read_until(lambda: all(request.is_silent for request in self.pending.values()))

    async def catch_up(self) -> None:
        """Read all that was sent up to now."""
        if self.client is None:
            return
        wanted = self._heartbeats + 1
        try:
            await self.client.send(HEARTBEAT)
        except ConnectionClosed:
            await self.read_until(lambda: False)
        await self.read_until(lambda: self._heartbeats >= wanted)

    def take(self, packet: Packet) -> None:
        """Take the next packet."""
        op, d, request_id = packet["op"], packet["d"], packet.get("id")
        self.ledger.note(f"{self.name} < {op} {d} {'' if request_id is None else request_id}")
        if op in (ACK, ERROR, READY, RESUMED):
            self._take_answer(op, d, request_id)
        elif op in (CHANNEL_EVENT, MESSAGE_EVENT):
            self._take_room_event(d)
        elif op == HEARTBEAT_ACK:
            self._heartbeats += 1
        else:
            assert op in (READ_EVENT, TYPING_EVENT, UNREAD_EVENT, NOTIFICATION), packet
            self.told.append((op, d))
            if op == UNREAD_EVENT:
                self.unread_told[d["channel_id"]] = d["last_seq"]
            elif op == NOTIFICATION and d["kind"] == "mention":
                mention = (d["channel_id"], d["seq"])
                assert mention not in self.notified, f"{self.name}: told twice: {d}"
                self.notified.add(mention)

    # --- answers ----------------------------------------------------------------------------------

    def _take_answer(self, op: int, d: Packet, request_id: str | int | None) -> None:
        if request_id is None:
            assert op == ERROR, f"{self.name}: not asked for: {op} {d}"
            request_id = next(key for key, request in self.pending.items() if request.is_about(d))
        request = self.pending.pop(request_id)
        if op == ERROR:
            assert (d["op"], d.get("nonce")) == (request.op, request.d.get("nonce")), f"{request} got {d}"
            self._settle(request, dict.fromkeys(request.deeds, d["code"]))
            if request.op in WISHES and d["code"] != 2003:
                self.hearing.forget(request.d["channel_id"])
            elif request.op == FOCUS:
                self.wanted_focus = None
        elif op == READY:
            assert request.op == IDENTIFY, f"{request} got {d}"
            self._take_ready(request, d)
        elif op == RESUMED:
            assert request.op == RESUME, f"{request} got {d}"
            self._take_resumed(request, d)
        else:
            assert d["op"] == request.op, f"{request} got {d}"
            self._settle(request, {name: answer_of(request.op, d["data"]) for name in request.deeds})
            self._acknowledged(request, d["data"])

    def _settle(self, request: Pending, answers: dict[str, Any]) -> None:
        for channel_id, deed in request.deeds.items():
            deed.answer = answers[channel_id]
            if request.op != HISTORY:  # is read beside the order of changes, and may be ahead of their answers
                deed.answered_at = self.ledger.now()

    def _acknowledged(self, request: Pending, data: Packet) -> None:
        channel_id = request.d.get("channel_id", "")
        if request.op == MESSAGE:
            mentions = tuple(request.d.get("mentions", ()))
            entry = Entry("message", self.user_id, request.d["content"], mentions, request.d.get("nonce"))
            self.ledger.saw(channel_id, data["seq"], entry, data)
        elif request.op == HISTORY:
            for row in data["messages"]:
                self.ledger.saw(channel_id, row["seq"], entry_of(row), row)
        elif request.op in (JOIN, SUBSCRIBE):
            self.hearing.hears_from(channel_id, data["last_seq"])
        elif request.op == UNSUBSCRIBE:
            self.hearing.unsubscribed(channel_id)
            self._unfocus(channel_id)
        elif request.op == LEAVE:
            seq = self.hearing.left(channel_id)
            self._unfocus(channel_id)
            if seq is not None:
                self.ledger.saw(channel_id, seq, Entry("leave", self.user_id), {})
        elif request.op == FOCUS:
            self.focus, self.is_focus_known = request.d["channel_id"], True
        elif request.op == SYNC:
            for sync in request.syncs:
                sync.answer = data["channels"][sync.channel_id]
                self.hearing.syncs.remove(sync)
            self.synced += request.syncs

    def _unfocus(self, channel_id: str) -> None:
        if self.focus == channel_id:
            self.focus = None

    def _take_ready(self, request: Pending, ready: Packet) -> None:
        self.session_id = ready["session_id"]
        states = {state["channel_id"]: state for state in ready["channels"]}
        assert list(states) == sorted(states)
        views = {name: view_of(states[name]) if name in states else None for name in request.deeds}
        self._settle(request, views)
        self.hearing.ready({channel_id: state["last_seq"] for channel_id, state in states.items()})

    def _take_resumed(self, request: Pending, resumed: Packet) -> None:
        assert resumed["session_id"] == self.session_id
        channels = resumed["channels"]
        # Of a channel that the client names, and the session has no part in, there is an entry as well.
        own = {channel_id: told for channel_id, told in channels.items() if told["last_seq"] > 0}
        positions = {name: pick(told, "last_seq read_seq unread") for name, told in own.items()}
        self._settle(request, {name: positions.get(name) for name in request.deeds})
        self.hearing.resumed(channels)
        self.active_members = {
            name: {member["user_id"] for member in told["active_members"]} for name, told in own.items()
        }

    # --- events of a channel ----------------------------------------------------------------------

    def _take_room_event(self, event: Packet) -> None:
        channel_id = event["channel_id"]
        is_live = self.hearing.resumption is None
        if "seq" in event:
            entry = entry_of(event)
            self.ledger.saw(channel_id, event["seq"], entry, event)
            is_live &= self.hearing.sequenced(channel_id, event["seq"], entry)
            if entry.kind != "message" and entry.user_id == self.user_id:
                self._unfocus(channel_id)
        else:
            hears = channel_id in self.hearing.seqs or channel_id in self.hearing.unsure
            assert hears or not is_live, f"{self.name} hears no {channel_id}: {event}"
            self.told.append((CHANNEL_EVENT, event))
            if event["event"] == "delete":
                self.hearing.gone(channel_id, is_deleted=True)
                self._unfocus(channel_id)
        if is_live:
            self._check_answer_came_first(event)

    def _check_answer_came_first(self, event: Packet) -> None:
        """Fail if only this session can have caused the event, and has not got its answer."""
        causes = self.ledger.causes(event)
        asked = [deed for one in self.pending.values() if not one.is_silent for deed in one.deeds.values()]
        is_early = bool(causes) and all(deed in asked and deed.answer == PENDING for deed in causes)
        assert not is_early, f"{self.name}: before its answer: {event}"
