"""One channel of the chat model, as it stands at one moment.

Everything is immutable, so that a test can follow several ways in which things may have gone. A channel's sequence
is all that counts are made from.
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(cache_hash=True)
class Entry:
    """One place in a channel's sequence."""

    kind: str
    """`message`, `join` or `leave`."""
    user_id: str
    """The author, or who joined or left."""
    content: str = ""
    mentions: tuple[str, ...] = ()
    nonce: str | None = None
    actor_id: str | None = None
    cause: str | None = None


def entry_of(packet: dict[str, Any]) -> Entry:
    """Return the entry that a Message or a CHANNEL_EVENT with a seq shows."""
    system = packet.get("system")
    if system is not None:
        return Entry(
            system["event"], system["user_id"], actor_id=system.get("actor_id"), cause=system.get("cause")
        )
    if "event" in packet:
        user_id = packet["member"]["user_id"]
        return Entry(packet["event"], user_id, actor_id=packet.get("actor_id"), cause=packet.get("cause"))
    mentions = tuple(packet.get("mentions", ()))
    return Entry("message", packet["author_id"], packet["content"], mentions, packet.get("nonce"))


@attrs.frozen(cache_hash=True)
class Member:
    """Somebody in a channel."""

    user_id: str
    role: str
    """As given; the owner has one too, which does not show."""
    read_seq: int


@attrs.frozen(cache_hash=True)
class Channel:
    """Everything there is to know of a channel."""

    channel_id: str
    is_durable: bool = True
    is_there: bool = False
    is_private: bool = False
    name: str = ""
    owner_id: str = ""
    base: int = 0
    """The last seq of the lives before this one; of those, only nonces are left."""
    entries: tuple[Entry, ...] = ()
    """From seq 1 on, those of earlier lives included."""
    members: tuple[Member, ...] = ()
    """By user id."""
    banned: frozenset[str] = frozenset()
    joined: frozenset[tuple[str, str]] = frozenset()
    """(user, session) of the sessions whose own CHANNEL_JOIN succeeded."""

    @property
    def last_seq(self) -> int:
        """The newest seq."""
        return len(self.entries)

    def member(self, user_id: str) -> Member | None:
        """Return a membership."""
        return next((member for member in self.members if member.user_id == user_id), None)

    def role(self, user_id: str) -> str | None:
        """Return the role that shows."""
        if user_id == self.owner_id:
            return "owner"
        member = self.member(user_id)
        return None if member is None else member.role

    def unread(self, user_id: str, after: int, until: int | None = None) -> int:
        """Count the messages of others in a part of the sequence."""
        part = self.entries[after : self.last_seq if until is None else until]
        return sum(entry.kind == "message" and entry.user_id != user_id for entry in part)

    def mentions(self, member: Member) -> int:
        """Count the unread messages that mention a member."""
        part = self.entries[member.read_seq :]
        return sum(member.user_id in entry.mentions and entry.user_id != member.user_id for entry in part)

    def part(self, after: int, before: int) -> list[tuple[int, Entry]]:
        """Return what lies strictly between, as far as it is still there."""
        first = max(after, self.base)
        return [(seq, self.entries[seq - 1]) for seq in range(first + 1, min(before, self.last_seq + 1))]

    def with_member(self, member: Member) -> Channel:
        """Put a member in, in place of an older state of it."""
        others = [other for other in self.members if other.user_id != member.user_id]
        members = tuple(sorted([*others, member], key=lambda one: one.user_id))
        return attrs.evolve(self, members=members)

    def with_entry(self, entry: Entry) -> Channel:
        """Append to the sequence."""
        return attrs.evolve(self, entries=(*self.entries, entry))

    def without(self, user_id: str, *, actor_id: str | None = None, cause: str | None = None) -> Channel:
        """End a membership."""
        left = attrs.evolve(
            self,
            members=tuple(member for member in self.members if member.user_id != user_id),
            joined=frozenset(pair for pair in self.joined if pair[0] != user_id),
        )
        return left.with_entry(Entry("leave", user_id, actor_id=actor_id, cause=cause))
