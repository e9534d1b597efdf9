"""Plays a script on a real server, and compares all that the clients see with the model of the channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import Any

import trio
from trio.testing import MockClock

import livechat
from livechat.handlers.unread import UNREAD_INTERVAL_S
from livechat.protocol.opcodes import CloseCode
from tests.support import chat_checks
from tests.support.chat_channel import Channel
from tests.support.chat_device import Device
from tests.support.chat_ledger import Ledger, Packet
from tests.support.chat_model import VANISH
from tests.support.chat_order import SILENT, Deed, explain
from tests.support.chat_script import (
    CHANNELS,
    DEVICES,
    USERS,
    Ask,
    Come,
    Expire,
    Flood,
    Go,
    Pause,
    Quiet,
    Say,
    Script,
    Step,
    cursors_of,
    request_of,
)
from tests.support.client import (
    CREATE,
    HISTORY,
    INFO,
    JOIN,
    MEMBER_ADD,
    MEMBER_LIST,
    MESSAGE,
    READ,
    Client,
    connected,
    identified,
)
from tests.support.server import DEADLINE_S, counted, wait_until

DEEDS_MAX = 10
"""So many at most may be in doubt at a time, or finding their order takes too long."""
REFUSALS_MAX = 8
"""Requests that do not validate, of each connection: a few more would close it."""
FRAMES_AHEAD = 4
RECEIVE_BUFFER = 4096


class Stage:
    """A server, all devices, and what is known of the channels."""

    def __init__(self, server: livechat.Server, nursery: trio.Nursery, clock: MockClock, warden: Client) -> None:
        self.server = server
        self.ledger = Ledger(tuple(CHANNELS))
        self.channels: dict[str, set[Channel]] = {name: {Channel(name)} for name in CHANNELS}
        """Every state in which a channel may be."""
        self.devices: dict[str, Device] = {}
        for number in range(DEVICES):
            for user_id in USERS:
                name = f"{user_id}/{number}"
                self.devices[name] = Device(self.ledger, user_id, name, binary=number % 2 == 1)
        self._nursery = nursery
        self._clock = clock
        self._warden = warden
        """Is in no channel, and is answered when all that was asked before has been done."""
        self._numbers = count(1)
        self._is_quiet = True
        self._is_heavy = False
        """So much was sent that a client which does not read may be closed."""
        self._invalid: Counter[str] = Counter()

    @property
    def online(self) -> list[Device]:
        """The devices that have a connection."""
        return [device for device in self.devices.values() if device.client is not None]

    async def begin(self, cast: list[str]) -> None:
        """Connect all; one creates the channels, the others become members."""
        owner, *others = cast
        for name in cast:
            await self._come(Come(name))
        for channel, fields in CHANNELS.items():
            await self._ask(Ask(owner, channel, CREATE))
            await self._ask(Ask(owner, channel, JOIN))
            for name in others:
                if fields["private"]:
                    await self._ask(Ask(owner, channel, MEMBER_ADD, user=self.devices[name].user_id))
                else:
                    await self._ask(Ask(name, channel, JOIN))
        await self.quiet()

    async def do(self, step: Step) -> None:
        """Do one step; what can't be done at present is left out."""
        self.ledger.note(f"--- {step}")
        if len(self.ledger.deeds) > DEEDS_MAX:
            await self.quiet()
        play: dict[type, Callable[[Any], Awaitable[None]]] = {
            Say: self._say,
            Ask: self._ask,
            Come: self._come,
            Go: self._go,
            Pause: self._pause,
            Flood: self._flood,
            Quiet: lambda _step: self.quiet(),
            Expire: lambda _step: self._expire(),
        }
        await play[type(step)](step)

    # --- requests ---------------------------------------------------------------------------------

    async def _send(self, device: Device, op: int, d: Packet, *, wait: bool, is_silent: bool = False) -> None:
        self._is_quiet = False
        request = await device.send(op, d, is_silent=is_silent)
        if wait and not is_silent:
            await device.read_until(lambda: request not in device.pending.values())

    def _ready(self, name: str) -> Device | None:
        """Return the device if it can ask anything at present."""
        device = self.devices[name]
        return None if device.client is None or device.is_paused else device

    async def _say(self, step: Say) -> None:
        device = self._ready(step.device)
        if device is None:
            return
        number = next(self._numbers)
        d: Packet = {"channel_id": step.channel, "content": f"m{number}" if step.text == "fresh" else step.text}
        nonce = "fresh" if step.is_silent else step.nonce
        if nonce is not None:
            d["nonce"] = f"f{number}" if nonce == "fresh" else nonce
        if step.mention is not None:
            d["mentions"] = [step.mention]
        await self._send(device, MESSAGE, d, wait=step.wait, is_silent=step.is_silent)

    async def _ask(self, step: Ask) -> None:
        device = self._ready(step.device)
        if device is None:
            return
        if step.op == READ and step.back < 0:
            self._invalid[device.name] += 1
            if self._invalid[device.name] > REFUSALS_MAX:
                return
        last_seq = max(self.ledger.entries[step.channel], default=0)
        await self._send(device, step.op, request_of(step, last_seq, next(self._numbers)), wait=step.wait)

    async def _flood(self, step: Flood) -> None:
        device = self._ready(step.device)
        if device is None:
            return
        self._is_heavy = True
        for index in range(step.count):
            d = {"channel_id": step.channel, "content": f"m{next(self._numbers)}".ljust(step.chars, ".")}
            await self._send(device, MESSAGE, d, wait=False)
            if index % (4 if step.chars > 1000 else 32) == 3:
                for other in self.online:
                    if not other.is_paused:
                        await other.catch_up()

    # --- connections ------------------------------------------------------------------------------

    async def _open(self, device: Device) -> None:
        """Give the device a new connection, in a task of its own."""
        is_first = device.name.endswith("/0")

        async def hold(task_status: trio.TaskStatus[tuple[Client, Callable[[], None]]]) -> None:
            with trio.CancelScope() as scope:
                async with connected(
                    self.server,
                    binary=device.binary,
                    frames_ahead=FRAMES_AHEAD,
                    receive_buffer=None if is_first else RECEIVE_BUFFER,
                ) as client:
                    task_status.started((client, scope.cancel))
                    await trio.sleep_forever()

        device.connected(*await self._nursery.start(hold))
        self._invalid[device.name] = 0

    async def _come(self, step: Come) -> None:
        device = self.devices[step.device]
        old = device.client
        if old is not None and device.session_id is not None:
            if device.is_paused:
                return
            cut, device.cut = device.cut, lambda: None
            device.lost()
        self._is_quiet = False
        await self._open(device)
        if device.session_id is None:
            await device.identify()
            return
        await device.resume(*cursors_of(step.cursors, device.hearing.seqs, device.hearing.since))
        if old is not None:
            code = await old.closed()
            assert code in self._closes(CloseCode.TAKEN_OVER), f"{device.name}: closed with {code}"
            cut()
        if step.leaves_at_once:
            await self._go(Go(step.device, is_noticed=False))
        elif step.wait:
            await device.read_answers()
            await device.repeat()

    async def _go(self, step: Go) -> None:
        device = self.devices[step.device]
        client = device.client
        if client is None:
            return
        is_exact = self._is_quiet and device.is_steady
        if step.how in ("1000", "3000"):
            await self._close(device, client, int(step.how), is_exact=is_exact)
        else:
            if step.how == "fin":
                assert isinstance(client.ws.stream, trio.SocketStream)
                await client.ws.stream.send_eof()
            await client.ws.stream.aclose()
            device.lost(is_exact=is_exact)
        if step.is_noticed:
            await self._wait_noticed()

    async def _close(self, device: Device, client: Client, code: int, *, is_exact: bool) -> None:
        if device.is_paused:
            await device.catch_up()
        await client.ws.aclose(code)
        if device.client is None or client.ws.protocol.close_rcvd_then_sent:
            await device.read_until(lambda: False)  # the server was faster
            return
        device.lost(is_exact=is_exact)
        if code == CloseCode.NORMAL:
            self._end_session(device)

    def _end_session(self, device: Device) -> None:
        """Note that a session has ended, and with the last one of a user some memberships."""
        who = device.who
        device.forget_session()
        self._is_quiet = False
        if any(one.session_id is not None for one in self.devices.values() if one.user_id == who.user_id):
            return
        deeds = self.ledger.asks(who, self.ledger.next_connection(), VANISH, {}, CHANNELS)
        for deed in deeds.values():
            deed.answer = SILENT

    async def _pause(self, step: Pause) -> None:
        device = self.devices[step.device]
        if device.client is not None:
            await device.read_answers()
            device.is_paused = device.client is not None

    async def _expire(self) -> None:
        await self.quiet()
        self._clock.jump(self.server.config.gateway.resume_window_ms / 1000 + 1)
        await wait_until(lambda: counted(self.server)["sessions"] == len(self.online) + 1)
        for device in self.devices.values():
            if device.client is None and device.session_id is not None:
                self._end_session(device)
        await self.quiet()

    async def _wait_noticed(self) -> None:
        """Wait until the server knows of every connection that has ended."""
        await wait_until(lambda: counted(self.server)["connections"] <= len(self.online) + 1)

    # --- looking at it all ------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Wait until all is done and told; then nothing may be missing."""
        for device in self.online:
            device.is_paused = False
            for channel in {one.d["channel_id"]: None for one in device.pending.values() if one.is_silent}:
                await device.send(INFO, {"channel_id": channel})  # is answered after the silent ones
            await device.read_answers()
            await device.repeat()
            await device.read_answers()
        await self._wait_noticed()
        await self._flush()
        for device in self.devices.values():
            assert device.closed_with in self._closes(None), f"{device.name}: closed with {device.closed_with}"
            device.closed_with = None
            device.settle_silent()
        before = self.channels
        self.channels = {channel: self._explained(channel) for channel in CHANNELS}
        await self._hear_of_unread(before)
        for device in self.online:
            chat_checks.check(device, before, self.channels)
        for device in self.devices.values():
            device.begin_epoch()
        self.ledger.deeds.clear()
        self._is_quiet = True

    def _closes(self, code: int | None) -> tuple[int | None, ...]:
        """Return with what the server may close a connection, if it does it with this code for a reason.

        Where not all that it has begun to send can be sent, it sends no close frame after that.
        """
        return (code, CloseCode.SLOW_CONSUMER, CloseCode.ABNORMAL) if self._is_heavy else (code,)

    async def _flush(self) -> None:
        """Wait until the store has done all that was asked, also by the answers to what was asked."""
        for _ in range(2):
            await self._warden.request(INFO, {"channel_id": "lobby"})
        for device in self.online:
            await device.catch_up()

    def _explained(self, channel: str) -> set[Channel]:
        lanes: dict[str, list[Deed]] = {}
        for deed in self.ledger.deeds:
            if deed.d["channel_id"] == channel:
                lanes.setdefault(deed.who.session, []).append(deed)
        found = explain(self.channels[channel], list(lanes.values()), self.ledger.entries[channel])
        if not found:
            deeds = "\n".join(str(deed) for lane in lanes.values() for deed in lane)
            before = "\n".join(str(one) for one in self.channels[channel])
            raise AssertionError(f"{channel}: no order explains\n{deeds}\nfrom\n{before}")
        return found

    async def _hear_of_unread(self, before: dict[str, set[Channel]]) -> None:
        """Let the time pass after which sessions are told of channels that they do not hear."""
        due = [
            (device, channel, seq)
            for device in self.online
            for channel, seq in chat_checks.unread_due(device, before, self.channels)
        ]
        if due:
            self._clock.jump(UNREAD_INTERVAL_S)
        with trio.fail_after(DEADLINE_S):
            while any(device.unread_told.get(channel, 0) < seq for device, channel, seq in due):
                await self._flush()

    async def end(self) -> None:
        """Look at everything once more; then everybody goes, and nothing may be left."""
        await self.quiet()
        for device in {one.user_id: one for one in self.online}.values():
            await self._come(Come(device.name))
            connected = {one.user_id for one in self.online}
            chat_checks.check_active_members(device, connected, self.channels)
        for user_id in USERS:
            name = f"{user_id}/auditor"
            self.devices[name] = Device(self.ledger, user_id, name, binary=False)
            await self._come(Come(name))
            for channel in CHANNELS:
                for op in (INFO, MEMBER_LIST, HISTORY):
                    await self._ask(Ask(name, channel, op, wait=False, size=100))
            await self.quiet()
        for name in [device.name for device in self.online]:
            await self._go(Go(name, "1000"))
        await self._expire()
        left = counted(self.server)
        assert left == dict.fromkeys(left, 0) | {"connections": 1, "sessions": 1}, left


OpenServer = Callable[[], AbstractAsyncContextManager[livechat.Server]]


async def play(open_server: OpenServer, clock: MockClock, script: Script) -> None:
    """Play a script on a server of its own.

    Raises:
        AssertionError: something was not as the model says; its notes hold the last that was sent and received.
    """
    async with open_server() as server, identified(server, "warden") as warden, trio.open_nursery() as nursery:
        stage = Stage(server, nursery, clock, warden)
        try:
            await stage.begin(script.cast)
            for step in script.steps:
                await stage.do(step)
            await stage.end()
        except Exception as exc:
            exc.add_note("\n".join(stage.ledger.trace))
            raise
        nursery.cancel_scope.cancel()
