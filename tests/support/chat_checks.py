"""What a device must have been told by the time everything is quiet, and what it must not have been told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

import attrs

from tests.support.chat_channel import Channel, Entry
from tests.support.chat_device import Device
from tests.support.chat_hearing import Sync
from tests.support.chat_ledger import Packet
from tests.support.chat_order import LOST, Deed
from tests.support.client import (
    DELETE,
    FOCUS,
    MEMBER_ADD,
    MESSAGE,
    NOTIFICATION,
    READ,
    READ_EVENT,
    SUBSCRIBE,
    TYPING,
    TYPING_EVENT,
    UNREAD_EVENT,
    UNSUBSCRIBE,
    UPDATE,
)

Channels = Mapping[str, set[Channel]]
"""The states in which each channel may be."""


def check(device: Device, before: Channels, after: Channels) -> None:
    """Compare what a device was told with the model.

    Args:
        before: when everything was quiet last.
        after: now that it is quiet again.
    """
    for channel_id, channels in after.items():
        _check_hearing(device, channel_id, channels)
    for watch in _watches(device, before, after):
        for sync in device.synced:
            if sync.channel_id == watch.channel_id:
                _check_sync(watch, sync)
        if device.is_steady:
            _check_nothing_is_missing(watch)
    for op, d in device.told:
        if op != NOTIFICATION:
            assert _may_be_told(device, op, d, after), f"{device.name}: {d}"
        else:
            entries = [channel.entries for channel in after[d["channel_id"]]]
            assert any(_may_be_notified(device, d, one) for one in entries), f"{device.name}: {d}"


def check_active_members(device: Device, connected: set[str], channels: Channels) -> None:
    """Compare the lists of RESUMED with the users who are connected."""
    for channel_id, told in device.active_members.items():
        lists = [{member.user_id for member in channel.members} & connected for channel in channels[channel_id]]
        assert told in lists, f"{device.name}: {channel_id}: {told} active, not {lists}"


def unread_due(device: Device, before: Channels, after: Channels) -> Iterator[tuple[str, int]]:
    """Name the channels that a device does not hear, each with the last message that it has to be told of."""
    for watch in _watches(device, before, after):
        is_deaf = watch.channel_id in device.hearing.muted and watch.channel_id not in device.hearing.unsure
        if is_deaf and device.is_steady and watch.stays(device.user_id) and not watch.own(SUBSCRIBE, UNSUBSCRIBE):
            messages = [seq for seq, entry in watch.new if entry.kind == "message"]
            if messages:
                yield watch.channel_id, messages[-1]


def _check_hearing(device: Device, channel_id: str, channels: set[Channel]) -> None:
    """A device hears exactly the channels of its user, up to their ends."""
    hearing = device.hearing
    is_member = {channel.member(device.user_id) is not None for channel in channels}
    if is_member == {False}:
        hearing.muted.discard(channel_id)
    if len(is_member) == 1:
        expected = is_member == {True} and channel_id not in hearing.muted
        assert (channel_id in hearing.seqs) == expected, f"{device.name}: {channel_id}? hears {hearing.seqs}"
    last_seqs = {channel.last_seq for channel in channels}
    if channel_id in hearing.seqs and len(last_seqs) == 1:
        assert {hearing.seqs[channel_id]} == last_seqs, f"{device.name}: hears {hearing.seqs}, not {last_seqs}"


@attrs.frozen
class _Watch:
    """A device and a channel, from one moment at which everything was quiet to the next."""

    device: Device
    start: Channel
    end: Channel

    @property
    def channel_id(self) -> str:
        return self.end.channel_id

    @property
    def new(self) -> list[tuple[int, Entry]]:
        """What was added to the sequence."""
        return list(enumerate(self.end.entries[self.start.last_seq :], self.start.last_seq + 1))

    def asked(self, *ops: int) -> list[Deed]:
        """What anybody asked."""
        return self.device.ledger.of(self.channel_id, *ops)

    def own(self, *ops: int) -> list[Deed]:
        """What the device asked."""
        return [deed for deed in self.asked(*ops) if deed.who == self.device.who]

    def _moves(self, user_id: str) -> bool:
        return any(entry.kind != "message" and entry.user_id == user_id for _, entry in self.new)

    def stays(self, user_id: str) -> bool:
        """Tell whether a user was a member all the time."""
        is_member = None not in (self.start.member(user_id), self.end.member(user_id))
        return is_member and self.start.base == self.end.base and not self._moves(user_id)

    def is_away(self, user_id: str) -> bool:
        """Tell whether a user was no member at any time."""
        return self.start.member(user_id) is None and not self._moves(user_id)

    @property
    def hears(self) -> bool:
        """Whether the device heard the channel all the time."""
        hearing = self.device.hearing
        is_sure = self.channel_id in hearing.seqs and self.channel_id not in hearing.unsure
        return is_sure and not self.own(SUBSCRIBE, UNSUBSCRIBE) and self.stays(self.device.user_id)

    @property
    def looks(self) -> bool:
        """Whether the channel was on its screen all the time."""
        is_focused = self.device.focus == self.channel_id and self.device.focuses == {self.channel_id}
        return is_focused and self.hears and not self.own(FOCUS)


def _watches(device: Device, before: Channels, after: Channels) -> Iterator[_Watch]:
    """Return those of the channels of which it is known what happened."""
    for channel_id, channels in after.items():
        if len(before[channel_id]) == len(channels) == 1:
            yield _Watch(device, *before[channel_id], *channels)


def _check_sync(watch: _Watch, sync: Sync) -> None:
    answer, start, end = sync.answer, watch.start, watch.end
    assert answer is not None
    assert answer["replayed"] == len(sync.seqs), f"{sync}"
    if watch.is_away(watch.device.user_id):
        assert answer == {"replayed": 0, "last_seq": 0, "recovered": False}, f"{sync}"
    if not watch.stays(watch.device.user_id):
        return
    first, before = max(sync.after, start.base) + 1, inf if sync.before is None else sync.before
    assert sync.seqs == list(range(first, first + len(sync.seqs))), f"{sync}"
    fewest, most = (max(0, min(before - 1, last_seq) - first + 1) for last_seq in (start.last_seq, end.last_seq))
    assert fewest <= len(sync.seqs) <= most, f"{sync}, {start.last_seq} to {end.last_seq}"
    assert start.last_seq <= answer["last_seq"] <= end.last_seq, f"{sync}"
    if sync.after <= start.last_seq:
        is_whole = sync.after >= start.base or before <= sync.after + 1
        assert answer["recovered"] == is_whole, f"{sync}"
    elif sync.after > end.last_seq:
        assert not answer["recovered"], f"{sync}"


# --- what must be told -----------------------------------------------------------------------------


def _check_nothing_is_missing(watch: _Watch) -> None:
    device = watch.device
    if watch.stays(device.user_id):
        for seq, entry in watch.new:
            if device.user_id in entry.mentions and entry.user_id != device.user_id:
                assert (watch.channel_id, seq) in device.notified, f"{device.name}: not told of mention {seq}"
    if watch.hears:
        names = [d["channel"]["channel_name"] for _, d in device.told if "channel" in d]
        for deed in watch.asked(UPDATE):
            if isinstance(deed.answer, dict):
                assert names.count(deed.d["channel_name"]) == 1, f"{device.name}: {names}, {deed}"
    if watch.looks:
        _check_typing(watch)
    _check_read(watch)


def _check_typing(watch: _Watch) -> None:
    """Where somebody types once, all who look must hear of it."""
    device, typed = watch.device, watch.asked(TYPING)
    if len(typed) != 1 or typed[0].who == device.who or typed[0].answer == LOST:
        return
    told = [(d["user_id"], d["typing"]) for op, d in device.told if op == TYPING_EVENT]
    is_refused = isinstance(typed[0].answer, int) and typed[0].answer > 0
    expected = [] if is_refused else [(typed[0].who.user_id, typed[0].d["typing"])]
    assert told == expected, f"{device.name}: {told}, {typed[0]}"


def _check_read(watch: _Watch) -> None:
    """Where a user reads once and does nothing else, those concerned must hear of it."""
    device, reads = watch.device, watch.asked(READ)
    if len(reads) != 1 or reads[0].who == device.who or not isinstance(reads[0].answer, dict):
        return
    reader, read_seq = reads[0].who.user_id, reads[0].answer["read_seq"]
    member = watch.start.member(reader)
    speaks = any(deed.who.user_id == reader for deed in watch.asked(MESSAGE))
    if member is None or speaks or not watch.stays(reader):
        return
    moves = read_seq > member.read_seq
    if reader == device.user_id:
        told = [
            d["read_seq"] for op, d in device.told if (op, d["channel_id"]) == (UNREAD_EVENT, watch.channel_id)
        ]
        assert not moves or read_seq in told, f"{device.name}: {told}, {reads[0]}"
    if watch.looks:
        told = [d["seq"] for op, d in device.told if op == READ_EVENT and d["user_id"] == reader]
        assert told == ([read_seq] if moves else []), f"{device.name}: {told}, {reads[0]}"


# --- what may be told ------------------------------------------------------------------------------


def _may_be_told(device: Device, op: int, d: Packet, after: Channels) -> bool:
    channel_id = d["channel_id"]
    if op == UNREAD_EVENT:
        counts = [channel.unread(device.user_id, d["read_seq"], d["last_seq"]) for channel in after[channel_id]]
        return d["unread"] in counts
    if op in (TYPING_EVENT, READ_EVENT):
        cause, field = (TYPING, "typing") if op == TYPING_EVENT else (READ, "seq")
        wanted = (d["user_id"], d[field])
        causes = [one for one in device.ledger.of(channel_id, cause) if one.who != device.who]
        return channel_id in device.focuses and any((one.who.user_id, one.d[field]) == wanted for one in causes)
    changes: list[tuple[Any, ...]] = [(DELETE,)]
    if "role" in d:
        # The owner has a role as well, which does not show.
        roles = ("member", "moderator") if d["role"] == "owner" else (d["role"],)
        changes = [(MEMBER_ADD, d["member"]["user_id"], role) for role in roles]
    elif d["event"] == "update":
        changes = [(UPDATE, d["channel"]["channel_name"], d["channel"]["private"])]
    return any((channel_id, d["actor_id"], *change) in device.ledger.changes for change in changes)


def _may_be_notified(device: Device, d: Packet, entries: tuple[Entry, ...]) -> bool:
    if d["kind"] == "invite":
        return Entry("join", device.user_id, actor_id=d["user_id"]) in entries
    entry = entries[d["seq"] - 1]
    is_told = (entry.user_id, entry.content[:100]) == (d["user_id"], d["preview"])
    return is_told and device.user_id in entry.mentions and device.user_id != entry.user_id
