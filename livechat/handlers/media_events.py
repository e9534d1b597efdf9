"""Owns what becomes of what the relay tells: who speaks, whose keys are worn, who has to move.

It must not wait: it is called in the middle of the relay's turn.
"""

from __future__ import annotations

from collections.abc import Collection

from livechat.handlers import rekey, voice
from livechat.handlers import speaking as speakers
from livechat.handlers.node import Node
from livechat.hub.peer import MediaPeer


class NodeMediaEvents:
    """The `MediaEvents` of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.media.hub.on_removed = self._removed

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        """Tell the channel that a peer begins or ends to speak."""
        speakers.note(self._node, peer, speaking, level_db)

    def keys_worn(self, peer: MediaPeer) -> None:
        """Give a peer new keys."""
        rekey.change(self._node, peer, "worn")

    def moved(self, peers: Collection[MediaPeer]) -> None:
        """Give peers new keys and tell them where to send.

        A parked session's voice has them as well, told once it is resumed; one whose client can't be told ends.
        """
        for peer in [peer for peer in peers if not peer.is_ended]:
            session = self._node.users.get(peer.session_id)
            outlet = rekey.outlet_of(self._node, peer)
            if outlet is None and session is not None and session.outlet is not None:
                rekey.tell_over(session.outlet, peer, "moved")
                voice.end(self._node, peer, "forbidden")
                continue
            rekey.renew(self._node, peer, "moved")
            if outlet is not None:
                rekey.tell(self._node, peer, "moved", outlet)

    def _removed(self, peer: MediaPeer) -> None:
        speakers.ended(self._node, peer)
