"""Owns telling a channel who speaks in it.

It must not judge that (the relay does), nor send in the middle of the relay's turn: a channel may have thousands
of members. What there is to tell is told by the reaper, in a turn of its own.
"""

from __future__ import annotations

from functools import partial

from livechat.cluster.backplane import SpeakingNotice
from livechat.handlers.node import Node
from livechat.hub.peer import MediaPeer


def note(node: Node, peer: MediaPeer, speaking: bool, level_db: int) -> None:
    """Have the channel told that a peer begins or ends to speak."""
    _schedule(node, peer, node.speakers.note(peer, speaking, level_db, node.now()))


def ended(node: Node, peer: MediaPeer) -> None:
    """Have the channel told that a peer that is gone speaks no more, after it was told that it is gone."""
    _schedule(node, peer, node.speakers.end(peer, node.now()))


def _schedule(node: Node, peer: MediaPeer, due: float | None) -> None:
    if due is not None:
        node.deadlines.schedule(due, partial(_tell, node, peer))


def _tell(node: Node, peer: MediaPeer, now: float) -> None:
    event = node.speakers.take(peer, now)
    if event is not None:
        node.backplane.publish(SpeakingNotice(event))
