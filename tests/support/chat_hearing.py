"""What one session must hear next of each channel: every seq once and in order, across connections too."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

from tests.support.chat_channel import Entry
from tests.support.client import UNSUBSCRIBE

NO_PART = {"replayed": 0, "last_seq": 0, "read_seq": 0, "unread": 0, "recovered": False, "active_members": []}
"""What RESUMED says of a channel that the client names and that the session has no part in."""


@attrs.define(eq=False)
class Sync:
    """What one SYNC asks of one channel, and what it brought."""

    channel_id: str
    after: int
    before: int | None
    may_skip: bool
    """The channel was deleted: what it held before is gone."""
    seqs: list[int] = attrs.field(factory=list)
    answer: dict[str, Any] | None = None

    def takes(self, seq: int) -> bool:
        """Tell whether this may be the next that it brings."""
        if self.answer is not None or (self.before is not None and seq >= self.before):
            return False
        after = self.seqs[-1] if self.seqs else self.after
        return seq == after + 1 or (self.may_skip and not self.seqs and seq > after)


@attrs.define(eq=False)
class Resumption:
    """A RESUME that is being answered."""

    cursors: dict[str, int] | None
    """What it states; None: nothing."""
    is_exact: bool
    """The client had read all that was sent to it when its connection broke."""
    boasts: set[str] = attrs.field(factory=set)
    """Channels of which it states more than there is."""
    replayed: Counter[str] = attrs.field(factory=Counter)
    gone: set[str] = attrs.field(factory=set)
    """Channels that it was told to have left or lost; only with the own join they may begin again."""
    deleted: set[str] = attrs.field(factory=set)
    """Those of which it states a position, and that were deleted."""


class Hearing:
    """The channels that a session hears, and how far."""

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self.seqs: dict[str, int] = {}
        """The newest seq of each channel that it hears."""
        self.since: dict[str, int] = {}
        """From which seq on it hears it."""
        self.muted: set[str] = set()
        """Channels that it is unsubscribed from, as far as it knows."""
        self.unsure: dict[str, int] = {}
        """What it is to ask again of channels of which it does not know whether it hears them."""
        self.is_exact = True
        self.resumption: Resumption | None = None
        self.syncs: list[Sync] = []

    # --- events -----------------------------------------------------------------------------------

    def sequenced(self, channel_id: str, seq: int, entry: Entry) -> bool:
        """Take a sequenced event; return whether it is news, rather than what a SYNC brings."""
        at = self.seqs.get(channel_id)
        is_own = entry.user_id == self._user_id and entry.kind != "message"
        begins = at is None and is_own and entry.kind == "join"
        if at is None or seq != at + 1:
            sync = next((one for one in self.syncs if one.channel_id == channel_id and one.takes(seq)), None)
            # To who is no member, nothing is brought.
            is_deaf = channel_id in self.muted or channel_id in self.unsure
            if sync is not None and (is_deaf if at is None else seq <= at):
                sync.seqs.append(seq)
                return False
            assert begins or self._may_skip(channel_id, seq), f"{channel_id}: heard {seq} after {at}"
        if self.resumption is not None:
            self.resumption.replayed[channel_id] += 1
        if is_own and entry.kind == "leave":
            self.gone(channel_id)
        else:
            self._hear(channel_id, seq)
        return True

    def _may_skip(self, channel_id: str, seq: int) -> bool:
        """Tell whether the client can't know from where on it hears."""
        at = self.seqs.get(channel_id)
        if at is not None and seq <= at:
            return False
        resumption = self.resumption
        return channel_id in self.unsure or (resumption is not None and self._is_loose(resumption, channel_id))

    def _is_loose(self, resumption: Resumption, channel_id: str) -> bool:
        """Tell whether the server goes on from what it sent, which the client did not read."""
        if channel_id in resumption.gone:
            return False
        if channel_id in resumption.boasts:
            return True
        is_stated = resumption.cursors is not None and channel_id in resumption.cursors
        return not resumption.is_exact and not (is_stated and channel_id in self.seqs)

    def _hear(self, channel_id: str, seq: int) -> None:
        self.since.setdefault(channel_id, seq)
        self.seqs[channel_id] = seq
        if channel_id not in self.unsure:
            self.muted.discard(channel_id)

    def gone(self, channel_id: str, *, is_deleted: bool = False) -> None:
        """The session was told that the user is no member any more."""
        self.forget(channel_id)
        resumption = self.resumption
        if resumption is not None:
            resumption.gone.add(channel_id)
            if is_deleted and resumption.cursors is not None and channel_id in resumption.cursors:
                resumption.deleted.add(channel_id)

    def forget(self, channel_id: str) -> None:
        """The user is no member any more."""
        self.seqs.pop(channel_id, None)
        self.since.pop(channel_id, None)
        self.muted.discard(channel_id)
        self.unsure.pop(channel_id, None)

    # --- answers ----------------------------------------------------------------------------------

    def hears_from(self, channel_id: str, last_seq: int) -> None:
        """JOIN or SUBSCRIBE was answered."""
        at = self.seqs.get(channel_id)
        if at is not None:
            assert last_seq == at or (channel_id in self.unsure and last_seq >= at), f"at {at}, told {last_seq}"
        self.unsure.pop(channel_id, None)
        self.muted.discard(channel_id)
        self._hear(channel_id, last_seq)

    def unsubscribed(self, channel_id: str) -> None:
        """UNSUBSCRIBE was answered."""
        self.forget(channel_id)
        self.muted.add(channel_id)

    def left(self, channel_id: str) -> int | None:
        """LEAVE was answered; return the seq that the leave must have."""
        at = None if channel_id in self.unsure else self.seqs.get(channel_id)
        self.forget(channel_id)
        return None if at is None else at + 1

    # --- connections ------------------------------------------------------------------------------

    def ready(self, last_seqs: dict[str, int]) -> None:
        """READY came."""
        for channel_id, seq in last_seqs.items():
            self._hear(channel_id, seq)

    def lost(self, *, is_exact: bool, wishes: dict[str, int]) -> None:
        """The connection ended.

        Args:
            wishes: what it asked last of channels where that was not answered, SUBSCRIBE or UNSUBSCRIBE.
        """
        self.is_exact = is_exact and self.resumption is None and not wishes
        self.resumption = None
        self.syncs.clear()
        if not self.is_exact:
            self.unsure.update(wishes)
            for channel_id in self.muted:
                self.unsure.setdefault(channel_id, UNSUBSCRIBE)

    def resuming(self, cursors: dict[str, int] | None, boasts: set[str]) -> None:
        """RESUME was sent; where it states less than was heard, that comes again."""
        self.resumption = Resumption(cursors, self.is_exact, boasts)
        for channel_id, seq in (cursors or {}).items():
            if channel_id not in boasts:
                self.seqs[channel_id] = seq

    def resumed(self, channels: dict[str, Any]) -> None:
        """RESUMED came: what was missed must have been told, and nothing else."""
        resumption, self.resumption = self.resumption, None
        assert resumption is not None
        for channel_id, told in channels.items():
            if told["last_seq"] == 0:
                assert told == NO_PART, told
                assert channel_id in (resumption.cursors or ()), channel_id
                self.forget(channel_id)
                continue
            replayed = resumption.replayed[channel_id]
            assert told["replayed"] == replayed, f"{channel_id}: {replayed} heard, told {told}"
            is_lossy = channel_id in resumption.boasts or channel_id in resumption.deleted
            assert told["recovered"] != is_lossy or channel_id in self.unsure, f"{channel_id}: {told}"
            self._resumed(resumption, channel_id, told["last_seq"])
        for channel_id in [*self.seqs, *self.muted]:
            if channel_id not in channels:
                may_be = channel_id in self.muted or channel_id in resumption.boasts or not resumption.is_exact
                assert may_be, f"{channel_id}: not in RESUMED"
                self.forget(channel_id)

    def _resumed(self, resumption: Resumption, channel_id: str, last_seq: int) -> None:
        at = self.seqs.get(channel_id, 0)
        where = f"{channel_id}: at {at}, told {last_seq}"
        replayed = resumption.replayed[channel_id]
        if channel_id in self.muted:
            assert not replayed or channel_id in self.unsure, f"{where}, replayed though unsubscribed"
        elif channel_id not in self.unsure:
            is_loose = self._is_loose(resumption, channel_id) and not replayed
            assert at <= last_seq if is_loose else at == last_seq, where
        if channel_id not in self.unsure and channel_id not in self.muted:
            self._hear(channel_id, last_seq)
