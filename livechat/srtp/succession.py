"""Owns opening what one ssrc sends while its keys change: an older and a newer receiver, one line of indexes.

It must not know why keys change, nor when the older ones end; its owner does.

Source: RFC 3711 sections 3.3.1, 8.1 and 9.2.

Some senders begin again at rollover count 0 under new keys (a new libsrtp session does), others keep theirs. So
an index under the newer keys means nothing beside one under the older; whoever comes after wants one line that
only goes up, with each index once:

    older keys     65 633   65 634            65 636                   index on the line: as it is
    newer keys                       99  100            101  102       index on the line: own index + shift
    line           65 633   65 634  65 635  65 637 ...

The first packet under the newer keys decides the shift: the sequence numbers go on, so its place is the nearest
one to the highest so far (RFC 3711's estimate), and above it. A sender whose number lies not above the highest
has begun anew with its sequence numbers as well: its place is a whole cycle further up, out of anybody's reach, so
that those who go by the line see a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from livechat.srtp.context import OpenedRtcp, OpenedRtp, SrtpReceiver
from livechat.srtp.error import AuthenticationError, MalformedPacket, ReplayError, SrtpError
from livechat.srtp.window import WINDOW_PACKETS, ReplayWindow

CYCLE_PACKETS = 1 << 16

Opened = TypeVar("Opened")


class Receiver(Protocol):
    """What opens packets: an `SrtpReceiver` or a `KeySuccession`; see the former for the methods."""

    def open(self, packet: bytes) -> OpenedRtp: ...

    def open_rtcp(self, packet: bytes) -> OpenedRtcp: ...

    def window(self, ssrc: int) -> ReplayWindow: ...

    def highest(self, ssrc: int) -> tuple[int, int]: ...

    def sent_up_to(self, ssrc: int) -> int: ...


class KeySuccession:
    """Opens what one ssrc sends, under the keys that it had or those that it has been given.

    Until a packet under the newer keys was seen, the older are tried first, and from then on the newer: so almost
    every packet takes one attempt. A packet that neither opens is refused once, by the more telling error.

    From then on also, nothing under the older keys is the newest: somebody may have got hold of them, which may be
    why they are replaced. What would be newer than all under the newer keys is refused: no honest sender would.

    Args:
        older: opens what is under the keys so far.
        newer: opens what is under the new ones; it has opened nothing yet.
        ssrc: whose packets these are; its owner gives it no others.
        on_taken: called with the first authentic packet under the newer keys, SRTP or SRTCP: the sender has them.
    """

    __slots__ = ("_is_taken", "_kept", "_last_older", "_line", "_newer", "_older", "_on_taken", "_shift", "_ssrc")

    def __init__(
        self, older: Receiver, newer: SrtpReceiver, ssrc: int, on_taken: Callable[[], None] = lambda: None
    ) -> None:
        self._older: Receiver | None = older
        self._newer = newer
        self._ssrc = ssrc
        self._on_taken = on_taken
        self._is_taken = False
        self._shift: int | None = None
        """None until the first SRTP packet under the newer keys."""
        self._line: ReplayWindow | None = None
        """From then on, or from the end of the older keys; None again once nothing older can be mistaken."""
        self._last_older = -1
        """The highest index of the line under the older keys."""
        self._kept = -1
        """What the sender had counted up to when the older keys ended."""

    @classmethod
    def after_loss(cls, newer: SrtpReceiver, ssrc: int, sent_up_to: int) -> KeySuccession:
        """Return what opens under newer keys where the older receiver is gone, and all it knew but one number.

        Args:
            sent_up_to: the highest SRTP index that the sender is known to have counted up to under the older keys.
        """
        succession = cls(newer, newer, ssrc)
        succession._older, succession._line, succession._kept = None, ReplayWindow(), sent_up_to
        return succession

    @property
    def is_taken(self) -> bool:
        """Whether the other side was seen to have the newer keys."""
        return self._is_taken

    def end_older(self) -> None:
        """Forget the older keys: nothing under them is opened any more."""
        if self._older is None:
            return
        if self._line is None:
            self._line = self._older.window(self._ssrc)
            self._last_older = self._line.highest
        self._kept = self._older.sent_up_to(self._ssrc)
        self._older = None

    def settled(self) -> Receiver:
        """Return what opens the same from now on: the newer receiver itself where nothing is left to be done."""
        is_plain = self._older is None and self._line is None and self._shift == 0
        return self._newer if is_plain else self

    def window(self, ssrc: int) -> ReplayWindow:
        """Return a copy of the line's window; see `SrtpReceiver.window`."""
        if self._line is not None:
            return self._line.copy()
        if self._older is not None:
            return self._older.window(ssrc)
        assert self._shift is not None
        return self._newer.window(ssrc).copy(self._shift)

    def highest(self, ssrc: int) -> tuple[int, int]:
        """Return the highest indexes under the newer keys, as their sender counts; see `SrtpReceiver.highest`."""
        return self._newer.highest(ssrc)

    def sent_up_to(self, ssrc: int) -> int:
        """Return the highest SRTP index as the sender counts, under the keys of its last packet; -1: none came."""
        if self._shift is not None:
            return self._newer.sent_up_to(ssrc)
        return self._kept if self._older is None else self._older.sent_up_to(ssrc)

    # --- SRTP -------------------------------------------------------------------------------------

    def open(self, packet: bytes) -> OpenedRtp:
        """Open an SRTP packet; its index is that on the line. See `SrtpReceiver.open`."""
        if self._older is None:
            return self._open_newer(packet)
        if self._is_taken:
            return _one_of(self._open_newer, self._open_older, packet)
        return _one_of(self._open_older, self._open_newer, packet)

    def _open_older(self, packet: bytes) -> OpenedRtp:
        assert self._older is not None
        ssrc, index, header_bytes, payload, is_newest = self._older.open(packet)
        line = self._line
        if line is not None:
            if index > line.highest or line.is_replay(index):
                raise ReplayError(f"SRTP index {index} under keys that were replaced: highest is {line.highest}")
            line.commit(index)
        return ssrc, index, header_bytes, payload, is_newest and not self._is_taken

    def _open_newer(self, packet: bytes) -> OpenedRtp:
        ssrc, index, header_bytes, payload, is_newest = self._open_by_newer(packet)
        self._take()
        if self._shift is None:
            self._begin(index)
        assert self._shift is not None
        index += self._shift
        line = self._line
        if line is not None:
            # A sender that uses a sequence number under both keys has it relayed once: on the line it is one.
            if line.is_replay(index):
                raise ReplayError(f"SRTP index {index}: it came under the keys before")
            is_newest = line.commit(index)
            if self._older is None and index - self._last_older >= 2 * WINDOW_PACKETS:
                # What the newer receiver's own window still admits lies above all older indexes.
                self._line = None
        return ssrc, index, header_bytes, payload, is_newest

    def _open_by_newer(self, packet: bytes) -> OpenedRtp:
        try:
            return self._newer.open(packet)
        except AuthenticationError:
            # Of a first packet this was the rollover count 0; the sender may have kept its own.
            kept = self.sent_up_to(self._ssrc)
            if self._shift is not None or kept < CYCLE_PACKETS // 2:
                raise
        last = ReplayWindow()
        last.commit(kept)
        rollover = last.estimate(int.from_bytes(packet[2:4], "big")) >> 16
        return self._newer.open_first(packet, rollover)

    def _begin(self, index: int) -> None:
        """Find the place on the line of the first packet under the newer keys."""
        if self._line is None:
            assert self._older is not None
            self._line = self._older.window(self._ssrc)
            self._last_older = self._line.highest
        place = index if self._last_older < 0 else self._line.estimate(index & 0xFFFF)
        if place <= self._last_older:
            place += CYCLE_PACKETS
        self._shift = place - index

    # --- SRTCP ------------------------------------------------------------------------------------

    def open_rtcp(self, packet: bytes) -> OpenedRtcp:
        """Open an SRTCP packet; its index is the one it has under its own keys. See `SrtpReceiver.open_rtcp`."""
        if self._older is None:
            return self._open_rtcp_newer(packet)
        if self._is_taken:
            return _one_of(self._open_rtcp_newer, self._open_rtcp_older, packet)
        return _one_of(self._open_rtcp_older, self._open_rtcp_newer, packet)

    def _open_rtcp_older(self, packet: bytes) -> OpenedRtcp:
        assert self._older is not None
        ssrc, index, plain, is_newest = self._older.open_rtcp(packet)
        return ssrc, index, plain, is_newest and not self._is_taken

    def _open_rtcp_newer(self, packet: bytes) -> OpenedRtcp:
        opened = self._newer.open_rtcp(packet)
        self._take()
        return opened

    def _take(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            self._on_taken()


def _one_of(first: Callable[[bytes], Opened], second: Callable[[bytes], Opened], packet: bytes) -> Opened:
    """Open a packet by the first or else by the second.

    Raises:
        SrtpError: of the two that failed, the one that does not just say that the tag is another's.
    """
    try:
        return first(packet)
    except MalformedPacket:
        raise  # it would be to the second as well
    except SrtpError as refusal:
        try:
            return second(packet)
        except AuthenticationError:
            raise refusal from None
