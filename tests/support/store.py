"""Short ways to say what a test of the store submits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import pytest
import trio

from livechat.error import LiveError
from livechat.protocol.types import ChannelId, ChannelMode, MessageId, UserId
from livechat.store.base import (
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    LoadUser,
    MemberState,
    Operation,
    Outcome,
    Store,
    UpdateChannel,
    new_message_id,
    perform,
)

T = TypeVar("T")

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]
"""Opens the store of a test; a second time after the first was closed, it finds what was stored."""

DAY_MS = 24 * 60 * 60 * 1000
NOW_MS = 1_700_000_000_000


def create(
    channel_id: str = "lobby",
    owner_id: str = "owner",
    *,
    mode: ChannelMode = "conference",
    durable: bool = True,
    capacity: int = 100,
    private: bool = False,
    max_speakers: int | None = None,
    freq: str | None = None,
    now_ms: int = NOW_MS,
) -> CreateChannel:
    return CreateChannel(
        channel_id=ChannelId(channel_id),
        channel_name=f"The {channel_id}",
        mode=mode,
        durable=durable,
        capacity=capacity,
        private=private,
        max_speakers=max_speakers,
        freq=freq,
        owner_id=UserId(owner_id),
        now_ms=now_ms,
    )


def update(
    channel_id: str = "lobby",
    actor_id: str = "owner",
    *,
    admin: bool = False,
    channel_name: str | None = None,
    capacity: int | None = None,
    private: bool | None = None,
    max_speakers: int | None = None,
) -> UpdateChannel:
    return UpdateChannel(
        ChannelId(channel_id), UserId(actor_id), admin, channel_name, capacity, private, max_speakers
    )


def delete(channel_id: str = "lobby", actor_id: str = "owner", *, admin: bool = False) -> DeleteChannel:
    return DeleteChannel(ChannelId(channel_id), UserId(actor_id), admin, NOW_MS)


def join(user_id: str = "ann", channel_id: str = "lobby", *, now_ms: int = NOW_MS) -> JoinChannel:
    return JoinChannel(ChannelId(channel_id), UserId(user_id), now_ms)


def leave(user_id: str = "ann", channel_id: str = "lobby", *, cause: str | None = None) -> LeaveChannel:
    return LeaveChannel(ChannelId(channel_id), UserId(user_id), NOW_MS, cause)


def message(
    author_id: str = "ann",
    content: str = "hello",
    channel_id: str = "lobby",
    *,
    attachment: dict[str, object] | None = None,
    mentions: tuple[str, ...] = (),
    nonce: str | None = None,
    message_id: MessageId | None = None,
    now_ms: int = NOW_MS,
    problem: LiveError | None = None,
) -> CreateMessage:
    return CreateMessage(
        channel_id=ChannelId(channel_id),
        author_id=UserId(author_id),
        content=content,
        message_type="TEXT",
        attachment=attachment,
        mentions=tuple(UserId(user_id) for user_id in mentions),
        nonce=nonce,
        body_digest=content.encode("utf-8", "surrogatepass"),
        message_id=message_id or new_message_id(),
        now_ms=now_ms,
        problem=problem,
    )


async def in_one_go(store: Store, operations: Sequence[Operation[T]]) -> list[Outcome[T]]:
    """Submit all operations at once and return their outcomes in the order they came."""
    outcomes: list[Outcome[T]] = []
    answered = trio.Event()

    def done(outcome: Outcome[T]) -> None:
        outcomes.append(outcome)
        if len(outcomes) == len(operations):
            answered.set()

    for operation in operations:
        store.submit(operation, done)
    if operations:
        await answered.wait()
    return outcomes


async def refusal(store: Store, operation: Operation[T]) -> int:
    """Return the code with which the store refuses an operation."""
    with pytest.raises(LiveError) as caught:
        await perform(store, operation)
    return caught.value.code


async def state_of(store: Store, user_id: str, channel_id: str = "lobby") -> MemberState:
    """Return how a member sees a channel."""
    states = await perform(store, LoadUser(UserId(user_id)))
    return next(state for state in states if state.channel.channel_id == channel_id)


async def last_seq(store: Store, channel_id: str = "lobby") -> int:
    view = await perform(store, GetChannel(ChannelId(channel_id), UserId("owner")))
    return view.channel.last_seq


class Answers:
    """Collects the outcomes of one operation after another, the late ones too."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome[object]] = []
        self._changed = trio.Event()

    def __call__(self, outcome: Outcome[object]) -> None:
        self.outcomes.append(outcome)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_count(self, count: int) -> list[Outcome[object]]:
        """Return the outcomes once there are `count`."""
        with trio.fail_after(30):
            while len(self.outcomes) < count:
                await self._changed.wait()
        return self.outcomes
