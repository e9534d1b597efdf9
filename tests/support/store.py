"""Short ways to say what a test of the store submits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeVar

import pytest
import trio

from livechat.error import LiveError
from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, ChannelMode, MessageId, UserId
from livechat.store.base import Outcome, Store, perform
from livechat.store.operations import (
    AddMember,
    ChangeSettings,
    CreateAnnouncement,
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    ListChannels,
    ListMembers,
    LoadUser,
    MarkRead,
    NoteSeen,
    Operation,
    ReadStates,
    RemoveMember,
    UpdateChannel,
)
from livechat.store.queries import GetAnnouncements, GetHistory, Query, Range, ReadRanges
from livechat.store.rows import MemberState, new_announcement_id, new_message_id

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


def get(user_id: str = "ann", channel_id: str = "lobby", *, admin: bool = False) -> GetChannel:
    return GetChannel(ChannelId(channel_id), UserId(user_id), admin)


def list_channels(
    user_id: str = "ann", after: str | None = None, limit: int = 100, *, admin: bool = False
) -> ListChannels:
    return ListChannels(UserId(user_id), ChannelId(after) if after is not None else None, limit, admin)


# --- members --------------------------------------------------------------------------------------


def join(
    user_id: str = "ann", channel_id: str = "lobby", *, admin: bool = False, now_ms: int = NOW_MS
) -> JoinChannel:
    return JoinChannel(ChannelId(channel_id), UserId(user_id), now_ms, admin=admin)


def leave(user_id: str = "ann", channel_id: str = "lobby", *, cause: str | None = None) -> LeaveChannel:
    return LeaveChannel(ChannelId(channel_id), UserId(user_id), NOW_MS, cause)


def add_member(
    user_id: str = "ann",
    channel_id: str = "lobby",
    actor_id: str = "owner",
    *,
    role: Literal["member", "moderator"] | None = None,
    admin: bool = False,
    now_ms: int = NOW_MS,
) -> AddMember:
    return AddMember(ChannelId(channel_id), UserId(actor_id), admin, UserId(user_id), role, now_ms)


def remove_member(
    user_id: str = "ann",
    channel_id: str = "lobby",
    actor_id: str = "owner",
    *,
    ban: bool = False,
    admin: bool = False,
) -> RemoveMember:
    return RemoveMember(ChannelId(channel_id), UserId(actor_id), admin, UserId(user_id), ban, NOW_MS)


def list_members(
    user_id: str = "ann",
    channel_id: str = "lobby",
    after: str | None = None,
    limit: int = 100,
    *,
    admin: bool = False,
) -> ListMembers:
    last_id = UserId(after) if after is not None else None
    return ListMembers(ChannelId(channel_id), UserId(user_id), admin, last_id, limit)


# --- messages -------------------------------------------------------------------------------------


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
    admin: bool = False,
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
        admin=admin,
    )


def mark_read(user_id: str = "ann", seq: int = 1, channel_id: str = "lobby") -> MarkRead:
    return MarkRead(ChannelId(channel_id), UserId(user_id), seq)


def history(
    user_id: str = "ann",
    channel_id: str = "lobby",
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 20,
    admin: bool = False,
) -> GetHistory:
    return GetHistory(ChannelId(channel_id), UserId(user_id), admin, before, after, limit)


def ranges(*wanted: tuple[str, int, int], limit: int = 500, bytes_max: int = 1 << 20) -> ReadRanges:
    """Each is (channel_id, after, before)."""
    return ReadRanges(tuple(Range(ChannelId(each[0]), *each[1:]) for each in wanted), limit, bytes_max)


# --- users ----------------------------------------------------------------------------------------


def load(user_id: str = "ann", *, now_ms: int = NOW_MS) -> LoadUser:
    return LoadUser(UserId(user_id), now_ms)


def read_states(user_id: str = "ann", channel_ids: Sequence[str] | None = None) -> ReadStates:
    named = tuple(map(ChannelId, channel_ids)) if channel_ids is not None else None
    return ReadStates(UserId(user_id), named)


def change_settings(user_id: str = "ann", **changes: object) -> ChangeSettings:
    return ChangeSettings(UserId(user_id), changes)


def note_seen(user_id: str = "ann", seen_ms: int = NOW_MS, *, logout: bool = False) -> NoteSeen:
    return NoteSeen(UserId(user_id), seen_ms, seen_ms if logout else None)


def note_logout(user_id: str = "ann", logout_ms: int = NOW_MS) -> NoteSeen:
    return NoteSeen(UserId(user_id), None, logout_ms)


def announce(
    title: str = "News", *, created_at: int = NOW_MS, expires_at: int | None = None, url: str | None = None
) -> CreateAnnouncement:
    return CreateAnnouncement(
        Announcement(
            announcement_id=new_announcement_id(),
            title=title,
            body=f"About {title}",
            severity="info",
            created_at=created_at,
            url=url,
            expires_at=expires_at,
        )
    )


def announcements(since_ms: int = 0, *, now_ms: int = NOW_MS, limit: int = 100) -> GetAnnouncements:
    return GetAnnouncements(since_ms, now_ms, limit)


# --- doing it -------------------------------------------------------------------------------------


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


async def query_refusal(store: Store, query: Query[T]) -> int:
    """Return the code with which the store refuses a query."""
    with pytest.raises(LiveError) as caught:
        await store.fetch(query)
    return caught.value.code


async def state_of(store: Store, user_id: str, channel_id: str = "lobby") -> MemberState:
    """Return how a member sees a channel."""
    view = await perform(store, load(user_id))
    return next(state for state in view.states if state.channel.channel_id == channel_id)


async def last_seq(store: Store, channel_id: str = "lobby") -> int:
    view = await perform(store, get("owner", channel_id))
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
