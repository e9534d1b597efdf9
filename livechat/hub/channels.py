"""Owns which of this node's users are members of which channels, and which sessions hear them.

It must not send or wait, and it is no truth: the store is. It mirrors only channels that somebody
here is a member of, and is told of each change in the order in which the store committed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol, TypeVar

import attrs

from livechat.hub.users import Session
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, ChannelMode, UserId

Key = TypeVar("Key")


@attrs.frozen
class ChannelFacts:
    """What a channel is, apart from who is in it."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int
    private: bool
    owner_id: UserId
    created_at: int
    """Milliseconds since 1970."""
    max_speakers: int | None = None
    """Whose voices are forwarded at a time, at most; None: all."""


@attrs.define(slots=True, eq=False)
class Channel:
    """A channel that somebody on this node is a member of."""

    facts: ChannelFacts
    last_seq: int
    """Of the newest sequenced event that was handed out here."""
    members: set[UserId] = attrs.field(factory=set)
    """Members who have a session on this node, parked ones included."""
    subscribers: dict[Session, None] = attrs.field(factory=dict)
    """Sessions with a connection that hear this channel, in order of arrival."""
    unsubscribed: dict[Session, None] = attrs.field(factory=dict)
    """Sessions with a connection whose user is a member, and that hear only unread counts."""
    focused: dict[Session, None] = attrs.field(factory=dict)
    """Sessions with a connection that have this channel on their screen."""


class Backlog(Protocol):
    """What was sent to channels and is yet to be handed to the subscribers' outlets.

    Whoever changes what a session hears, or what it hears through, or sends it something else, lets it catch up
    first: so nobody can tell that an event was not handed out at once.
    """

    @property
    def is_behind(self) -> bool:
        """Whether anybody is yet to be handed anything; else nobody need catch up."""
        ...

    def follow(self, session: Session, packet: Outgoing) -> bool:
        """Hand a session a packet of another kind right after all that; False if it need not wait for anything."""
        ...

    def catch_up(self, session: Session) -> None:
        """Hand a session all that was sent to the channels that it hears, and what follows that."""
        ...

    def entered(self, session: Session, channel: Channel) -> None:
        """Note that a session hears a channel from now on, or by another outlet: all before it is not for that."""
        ...

    def left(self, session: Session, channel: Channel) -> None:
        """Note that a session, which has caught up, hears a channel no more."""
        ...

    def ending(self, channel: Channel) -> None:
        """Hand out all that was sent to a channel: it will be gone, or its last subscriber has left."""
        ...


class NoBacklog:
    """That of a hub whose events are always handed out at once."""

    is_behind = False

    def follow(self, session: Session, packet: Outgoing) -> bool:
        """See `Backlog`."""
        return False

    def catch_up(self, session: Session) -> None:
        """See `Backlog`."""

    def entered(self, session: Session, channel: Channel) -> None:
        """See `Backlog`."""

    def left(self, session: Session, channel: Channel) -> None:
        """See `Backlog`."""

    def ending(self, channel: Channel) -> None:
        """See `Backlog`."""


class ChannelHub:
    """Members and subscribers by channel, and channels by user and by session."""

    __slots__ = ("_by_session", "_by_user", "_channels", "_gone", "backlog")

    def __init__(self) -> None:
        self.backlog: Backlog = NoBacklog()
        self._channels: dict[ChannelId, Channel] = {}
        self._by_user: dict[UserId, set[ChannelId]] = {}
        self._by_session: dict[Session, set[ChannelId]] = {}
        self._gone: dict[UserId, set[ChannelId]] = {}
        """What users without a session here were members of, until others have been told that they are gone."""

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels.values())

    def get(self, channel_id: ChannelId) -> Channel | None:
        """Return the channel if anybody here is a member of it."""
        return self._channels.get(channel_id)

    def channels_of(self, session: Session) -> Collection[ChannelId]:
        """Return the channels a session is subscribed to."""
        return self._by_session.get(session, frozenset())

    def is_member(self, channel_id: ChannelId, user_id: UserId) -> bool:
        """Tell whether a user with a session here is a member."""
        channel = self._channels.get(channel_id)
        return channel is not None and user_id in channel.members

    def memberships(self, user_id: UserId) -> Collection[ChannelId]:
        """Return the channels that a user with a session here is a member of."""
        return self._by_user.get(user_id, frozenset())

    def admit(self, user_id: UserId, facts: ChannelFacts, last_seq: int) -> Channel:
        """Note that a user with a session here is a member; return the channel.

        Args:
            last_seq: the channel's newest seq as the store knows it at this point of the commit order.
        """
        channel = self._channels.get(facts.channel_id)
        if channel is None:
            channel = self._channels[facts.channel_id] = Channel(facts, last_seq)
        channel.members.add(user_id)
        self._by_user.setdefault(user_id, set()).add(facts.channel_id)
        self._gone.pop(user_id, None)
        return channel

    def subscribe(self, session: Session, channel_id: ChannelId) -> None:
        """Let a connected session hear a channel its user is a member of, if its token is good for that."""
        channel = self._channels[channel_id]
        assert session.user_id in channel.members
        assert session.outlet is not None
        if not session.may_hear(channel_id):
            return
        if session not in channel.subscribers:
            channel.subscribers[session] = None
            self.backlog.entered(session, channel)
        channel.unsubscribed.pop(session, None)
        session.unsubscribed -= {channel_id}
        self._by_session.setdefault(session, set()).add(channel_id)

    def unsubscribe(self, session: Session, channel_id: ChannelId) -> None:
        """Let a connected session hear only unread counts of a channel its user is a member of.

        Nor those, if its token is not good for the channel.
        """
        channel = self._channels[channel_id]
        assert session.user_id in channel.members
        assert session.outlet is not None
        if not session.may_hear(channel_id):
            return
        self.backlog.catch_up(session)
        if session in channel.subscribers:
            self._drop_subscriber(channel, session)
        channel.unsubscribed[session] = None
        session.unsubscribed |= {channel_id}
        _unlink(self._by_session, session, channel_id)

    def attach(self, session: Session) -> None:
        """Let a connected session hear its user's channels again, but for those it does not want to hear."""
        for channel_id in self._by_user.get(session.user_id, ()):
            if channel_id in session.unsubscribed:
                self.unsubscribe(session, channel_id)
            else:
                self.subscribe(session, channel_id)
        if session.focus is not None:
            self.focus(session, session.focus)

    def has_moved(self, session: Session) -> None:
        """Note that a session, which has caught up, hears its channels by another outlet."""
        for channel_id in self.channels_of(session):
            self.backlog.entered(session, self._channels[channel_id])

    def _drop_subscriber(self, channel: Channel, session: Session) -> None:
        del channel.subscribers[session]
        self.backlog.left(session, channel)

    def follow_token(self, session: Session) -> None:
        """Let a session hear those of its user's channels that its new token is good for, and no others."""
        self.backlog.catch_up(session)
        for channel_id in [c for c in self.channels_of(session) if not session.may_hear(c)]:
            self._drop_subscriber(self._channels[channel_id], session)
            _unlink(self._by_session, session, channel_id)
        for channel_id in [c for c in session.unsubscribed if not session.may_hear(c)]:
            channel = self._channels.get(channel_id)
            if channel is not None:
                channel.unsubscribed.pop(session, None)
            session.unsubscribed -= {channel_id}
        if session.focus is not None and not session.may_hear(session.focus):
            self.focus(session, None)
        if session.outlet is not None:
            self.attach(session)

    def focus(self, session: Session, channel_id: ChannelId | None) -> None:
        """Note which channel a connected session has on its screen.

        Args:
            channel_id: None, or one that its token is not good for: no one.
        """
        before = self._channels.get(session.focus) if session.focus is not None else None
        if before is not None:
            before.focused.pop(session, None)
        if channel_id is not None and not session.may_hear(channel_id):
            channel_id = None
        session.focus = channel_id
        if channel_id is not None:
            self._channels[channel_id].focused[session] = None

    def recipients(self, channel_id: ChannelId, origin: Session | None = None) -> list[Session]:
        """List who hears an event of the channel: all subscribers but `origin`, who got its ACK."""
        channel = self._channels.get(channel_id)
        if channel is None:
            return []
        if origin is None:
            return list(channel.subscribers)
        return [session for session in channel.subscribers if session is not origin]

    def focused(self, channel_id: ChannelId, origin: Session | None = None) -> list[Session]:
        """List who has the channel on the screen: all such sessions but `origin`."""
        channel = self._channels.get(channel_id)
        return [] if channel is None else [session for session in channel.focused if session is not origin]

    def acquaintances(self, user_id: UserId) -> set[UserId]:
        """Return the users with a session here who share a channel with the user, who is not among them.

        Of a user who has gone these are the ones of the channels that it was in then, until `settle`.
        """
        found: set[UserId] = set()
        channel_ids = self._by_user.get(user_id) or self._gone.get(user_id) or ()
        for channel_id in channel_ids:
            channel = self._channels.get(channel_id)
            if channel is not None:
                found |= channel.members
        found.discard(user_id)
        return found

    def is_acquainted(self, session: Session, user_id: UserId) -> bool:
        """Tell whether a session knows one of its user's acquaintances by a channel that its token is good for."""
        if session.channels is None:
            return True
        theirs = self._by_user.get(user_id) or self._gone.get(user_id) or set()
        shared = theirs & self._by_user.get(session.user_id, set())
        return any(session.may_hear(channel_id) for channel_id in shared)

    def detach(self, session: Session) -> dict[ChannelId, int]:
        """Take a session that lost its connection out of every channel; memberships stay.

        Returns:
            The channels it heard, each with the last seq that it was handed.
        """
        heard: dict[ChannelId, int] = {}
        if session.outlet is None:
            return heard
        self.backlog.catch_up(session)
        for channel_id in self._by_session.pop(session, ()):
            channel = self._channels[channel_id]
            self._drop_subscriber(channel, session)
            heard[channel_id] = channel.last_seq
        for channel_id in session.unsubscribed:
            del self._channels[channel_id].unsubscribed[session]
        if session.focus is not None:
            del self._channels[session.focus].focused[session]
        return heard

    def forget_user(self, user_id: UserId) -> None:
        """Drop the mirror of a user who has no session here any more; memberships stay in the store."""
        channel_ids = self._by_user.pop(user_id, None)
        if channel_ids is None:
            return
        self._gone[user_id] = channel_ids
        for channel_id in channel_ids:
            channel = self._channels[channel_id]
            channel.members.discard(user_id)
            self._discard_if_unused(channel)

    def settle(self, user_id: UserId) -> None:
        """Note that everybody was told that a user has gone; nothing happens if the user is back."""
        self._gone.pop(user_id, None)

    def remove_member(self, channel_id: ChannelId, user_id: UserId) -> None:
        """Note that a user is no member any more: none of the user's sessions hears the channel."""
        channel = self._channels.get(channel_id)
        if channel is None or user_id not in channel.members:
            return
        for session in [s for s in channel.subscribers if s.user_id == user_id]:
            self.backlog.catch_up(session)
            self._drop_subscriber(channel, session)
            _unlink(self._by_session, session, channel_id)
        for hearers in (channel.unsubscribed, channel.focused):
            for session in [s for s in hearers if s.user_id == user_id]:
                del hearers[session]
        channel.members.discard(user_id)
        _unlink(self._by_user, user_id, channel_id)
        self._discard_if_unused(channel)

    def remove_channel(self, channel_id: ChannelId) -> None:
        """Note that a channel was deleted."""
        channel = self._channels.get(channel_id)
        if channel is None:
            return
        self.backlog.ending(channel)
        del self._channels[channel_id]
        for session in channel.subscribers:
            _unlink(self._by_session, session, channel_id)
        for user_id in channel.members:
            _unlink(self._by_user, user_id, channel_id)

    def _discard_if_unused(self, channel: Channel) -> None:
        if not channel.members:
            assert not channel.subscribers
            assert not channel.unsubscribed
            assert not channel.focused
            self.backlog.ending(channel)
            del self._channels[channel.facts.channel_id]


def _unlink(index: dict[Key, set[ChannelId]], key: Key, channel_id: ChannelId) -> None:
    """Take a channel out of one entry of an index, and the entry when nothing is left in it."""
    entry = index.get(key)
    if entry is None:
        return
    entry.discard(channel_id)
    if not entry:
        del index[key]
