"""Owns having the floor of a push-to-talk channel while a block runs: asking, waiting, pinging, giving back.

It must not decide who has the floor; the server does. A floor ends with its connection, so a block that waits asks
anew once there is another one, and a block that has it ends.

    FLOOR_REQUEST ──► FLOOR_QUEUE_POS_INFO … ──► FLOOR_GRANTED ──► FLOOR_PING every 2 s ──► the end of the block
                 └──► FLOOR_DENY: FloorDenied                 └──► FLOOR_REVOKE: FloorLost
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio

from livechat.client.api import Requests
from livechat.client.error import ClientError, FloorDenied, FloorLost
from livechat.client.events import StateChanged
from livechat.client.lone import raise_lone
from livechat.client.subscribers import Subscription
from livechat.error import LiveError
from livechat.protocol.requests import FloorRequest
from livechat.protocol.types import ChannelId
from livechat.protocol.voice_events import (
    FloorDeny,
    FloorEvent,
    FloorGranted,
    FloorRevoke,
)

PING_S: Final = 2.0
"""Between signs of life: a third of what a server waits for one, unless it is configured otherwise."""
GIVE_BACK_S: Final = 2.0
"""How long the end of a block waits for the server to take the floor back."""

Heard = FloorEvent | StateChanged


@attrs.frozen
class HeldFloor:
    """The floor of a channel, as its holder has it."""

    channel_id: ChannelId
    until: float
    """When it is over at the latest, by `trio.current_time`."""


@asynccontextmanager
async def hold(requests: Requests, heard: Subscription[Heard], wanted: FloorRequest) -> AsyncGenerator[HeldFloor]:
    """Have the floor while the block runs; see `Client.floor`.

    Args:
        requests: how to ask.
        heard: what is said of the channel's floor and of the connection, from now on; it is closed here.
        wanted: what to ask for.
    """
    holding = _Holding(requests, heard, wanted)
    try:
        held = await holding.take()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(holding.ping)
                nursery.start_soon(holding.watch)
                with holding.block:
                    yield held
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_lone(group)
    finally:
        heard.close()
        await holding.give_back()
    if holding.block.cancelled_caught:
        raise FloorLost(wanted.channel_id, holding.cause)


class _Holding:
    """One floor, from the request to its end."""

    def __init__(self, requests: Requests, heard: Subscription[Heard], wanted: FloorRequest) -> None:
        self.block = trio.CancelScope()
        """The caller's."""
        self.cause = ""
        """Why it was lost."""
        self._requests = requests
        self._heard = heard
        self._wanted = wanted
        self._is_owed = False
        """There may be something to give back: the floor, or a place among those who wait."""

    async def take(self) -> HeldFloor:
        """Ask, and wait until it is granted."""
        channel_id = self._wanted.channel_id
        await self._ask()
        async for event in self._heard:
            match event:
                case FloorGranted():
                    return HeldFloor(channel_id, trio.current_time() + event.duration / 1000)
                case FloorDeny():
                    self._is_owed = False
                    raise FloorDenied(channel_id, event.reason)
                case StateChanged(state="online"):
                    await self._ask()  # the place was lost with the connection
        raise FloorLost(channel_id, "the client has ended")

    async def _ask(self) -> None:
        self._is_owed = True
        wanted = self._wanted
        await self._requests.request_floor(wanted.channel_id, priority=wanted.priority, indicator=wanted.indicator)

    async def ping(self) -> None:
        """Say again and again that we are there. What goes wrong with that, the server says."""
        while True:
            await trio.sleep(PING_S)
            with suppress(LiveError, ClientError, trio.TooSlowError):
                await self._requests.ping_floor(self._wanted.channel_id)

    async def watch(self) -> None:
        """End the block once the floor is lost."""
        async for event in self._heard:
            match event:
                case FloorRevoke():
                    self._lose(event.cause)
                case StateChanged(state="resuming" | "offline"):
                    self._lose("disconnect")

    def _lose(self, cause: str) -> None:
        if self._is_owed:
            self._is_owed, self.cause = False, cause
            self.block.cancel()

    async def give_back(self) -> None:
        """Release the floor, or the place among those who wait; whatever goes wrong, the server ends it soon."""
        if not self._is_owed or not self._requests.is_online:
            return
        with trio.move_on_after(GIVE_BACK_S, shield=True), suppress(LiveError, ClientError, trio.TooSlowError):
            await self._requests.release_floor(self._wanted.channel_id)
