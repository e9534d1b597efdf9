"""Owns which of a worker's peers it relays for, and which keys it has seen. Pure.

It must not draw keys. A relay that begins anew under a living key counts its indexes from the start, which is the
two-time pad (RFC 3711 section 9.1). So keys that were told to a worker are spent once it has ended:

    waiting   keys that no worker has seen      -- told -->    open
    open      the living worker has them        -- lost -->    spent
    spent     a worker that ended had them      -- renewed --> waiting
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from livechat.hub.peer import MediaPeer

_Keys = tuple[bytes, bytes]


class Roster:
    """The peers of one worker, whether it lives or not."""

    def __init__(self) -> None:
        self._waiting: dict[int, MediaPeer] = {}
        self._open: dict[int, MediaPeer] = {}
        self._spent: dict[int, tuple[MediaPeer, _Keys]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._open) + len(self._spent)

    def __iter__(self) -> Iterator[MediaPeer]:
        yield from self._open.values()
        yield from self._waiting.values()
        yield from (peer for peer, _ in self._spent.values())

    def get_open(self, peer_id: int) -> MediaPeer | None:
        """Return a peer that the living worker relays for."""
        return self._open.get(peer_id)

    def wait(self, peer: MediaPeer) -> None:
        """Take in a peer with keys that no worker has seen."""
        self._waiting[peer.peer_id] = peer

    def told(self, peer: MediaPeer) -> None:
        """Note that the living worker was told of a peer that waits."""
        self._open[peer.peer_id] = self._waiting.pop(peer.peer_id)

    def remove(self, peer: MediaPeer) -> bool:
        """Forget a peer; return whether the living worker relays for it."""
        self._waiting.pop(peer.peer_id, None)
        self._spent.pop(peer.peer_id, None)
        return self._open.pop(peer.peer_id, None) is not None

    def lost(self) -> int:
        """Note that the worker ended; return for how many it relayed."""
        for peer in self._open.values():
            self._spent[peer.peer_id] = (peer, (peer.client_key, peer.server_key))
        count = len(self._open)
        self._open.clear()
        return count

    def spent(self, most: int) -> list[MediaPeer]:
        """Return some of those that need new keys."""
        return [peer for peer, _ in islice(self._spent.values(), most)]

    def renewed(self, peer: MediaPeer) -> bool:
        """Note that a peer was to get new keys.

        Returns:
            Whether it can be opened. If it is gone, or has a key of before yet, it is forgotten: no worker must be
            told of it.
        """
        entry = self._spent.pop(peer.peer_id, None)
        if entry is None:
            return False
        client_key, server_key = entry[1]
        if peer.is_ended or peer.client_key == client_key or peer.server_key == server_key:
            return False
        self._waiting[peer.peer_id] = peer
        return True

    def waiting(self, most: int) -> list[MediaPeer]:
        """Return some of those that can be opened."""
        return list(islice(self._waiting.values(), most))
