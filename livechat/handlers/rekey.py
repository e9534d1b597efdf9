"""Owns when the keys of voices change, and telling their clients by MEDIA_UPDATE.

It must not draw keys or touch packets: the hub and the media plane do.

    cause      keys change
    demand     an operator or the embedding program wants it
    age        they are as old as `media.rekey_after_ms` says
    worn       they come near the end of their lifetime (RFC 3711 section 9.2)
    resumed    the client may not have learned of the last change: its connection was lost
    moved      who relayed for the voice is gone, and its new one knows no key

The voice of a client that does not learn of a change falls silent once the older keys end. So a parked session's
keys stay as they are until it is resumed, and so do those of a session whose connection is not fit to carry keys.
One change follows another only once the older keys of that one have ended. `moved` alone can't be put off.
"""

from __future__ import annotations

import base64
from functools import partial
from math import inf
from typing import Final

from livechat.handlers.node import Node
from livechat.hub.peer import MediaPeer
from livechat.hub.users import Outlet, Session
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import Address, ChannelId, RekeyCause, UserId
from livechat.protocol.voice_events import MediaGrant, MediaUpdate

SPREAD: Final = 0.25
"""Keys change by age up to so much earlier than the setting says, so that not all of one hour change at once."""
AT_ONCE: Final = 4
PAUSE_S: Final = 0.01
"""A change takes some 0.3 ms, so those of a large channel are made a few at a time, and others get their turn."""
_GOLDEN: Final = 0.6180339887498949
"""Its multiples, less their whole parts, lie as far apart as can be, however many there are."""


class KeyControls:
    """What a running server does with the keys of voices, for the program around it."""

    _node: Node

    def rekey(self, channel_id: str, user_id: str | None = None) -> int:
        """Give the voices of a channel new keys, or one user's there; the clients are told by MEDIA_UPDATE.

        The older keys are good for 10 s more, so that nothing is lost. A voice whose client cannot be told now
        gets its new keys as soon as that can be.

        Returns:
            How many voices that are.
        """
        wanted = None if user_id is None else UserId(user_id)
        return rekey(self._node, ChannelId(channel_id), wanted, "demand")


def rekey(node: Node, channel_id: ChannelId, user_id: UserId | None, cause: RekeyCause) -> int:
    """Change the keys of a channel's voices, or of one user's there, as soon as can be; return how many."""
    peers = [peer for peer in node.media.hub.peers_of(channel_id) if user_id in (None, peer.user_id)]
    for number, peer in enumerate(peers):
        if number < AT_ONCE:
            change(node, peer, cause)
        else:
            later_s = number // AT_ONCE * PAUSE_S
            node.deadlines.schedule(node.now() + later_s, partial(_change_later, node, peer, cause))
    return len(peers)


def _change_later(node: Node, peer: MediaPeer, cause: RekeyCause, _now: float) -> None:
    change(node, peer, cause)


def change(node: Node, peer: MediaPeer, cause: RekeyCause) -> None:
    """Change a voice's keys at once or, see the module, as soon as can be."""
    if peer.is_ended:
        return
    if peer.older_keys_until > node.now():
        if peer.rekey_cause is None:
            node.deadlines.schedule(peer.older_keys_until, lambda _now: _catch_up(node, peer))
        peer.rekey_cause = cause
        return
    outlet = outlet_of(node, peer)
    if outlet is None:
        peer.rekey_cause = cause
        return
    renew(node, peer, cause)
    peer.older_keys_until = node.now() + node.media_overlap_s
    tell(node, peer, cause, outlet)


def renew(node: Node, peer: MediaPeer, cause: RekeyCause) -> None:
    """Give a voice new keys; its client does not know of them yet."""
    node.media.hub.renew_keys(peer, node.now())
    node.media.rekey(peer)
    node.instruments.counters.rekeys[cause] += 1


def tell(node: Node, peer: MediaPeer, cause: RekeyCause, outlet: Outlet) -> None:
    """Send MEDIA_UPDATE with a voice's keys.

    It is not kept for a session that is parked before it is sent: keys told twice might be used twice, from the
    first index on. See `resumed`.
    """
    endpoint = node.media.endpoint(peer.channel_id, outlet.local_host)
    outlet.send(Outgoing(Op.MEDIA_UPDATE, MediaUpdate(peer.channel_id, cause, grant(peer, endpoint))))


def tell_over(outlet: Outlet, peer: MediaPeer, cause: RekeyCause) -> None:
    """Send MEDIA_UPDATE without keys: the voice is over, the client has to join again."""
    outlet.send(Outgoing(Op.MEDIA_UPDATE, MediaUpdate(peer.channel_id, cause)))


def resumed(node: Node, session: Session) -> None:
    """After a RESUMED: make up for changes that waited for it, and for those that the client may have missed."""
    for peer in node.media.hub.of_session(session.session_id):
        if peer.rekey_cause is not None or not peer.keys_taken:
            change(node, peer, peer.rekey_cause or "resumed")


def old_at(node: Node, peer: MediaPeer) -> float:
    """Return when a voice's keys are too old, in monotonic seconds; never, while they are to change anyway."""
    if node.rekey_after_s <= 0 or peer.rekey_cause is not None:
        return inf
    early = SPREAD * (peer.peer_id * _GOLDEN % 1)
    return peer.keys_since + node.rekey_after_s * (1 - early)


def outlet_of(node: Node, peer: MediaPeer) -> Outlet | None:
    """Return the connection by which a voice's client may be told keys; None: there is none now."""
    session = node.users.get(peer.session_id)
    outlet = None if session is None else session.outlet
    if outlet is None or not (outlet.is_confidential or node.media_keys_in_clear):
        return None
    return outlet


def grant(peer: MediaPeer, endpoint: Address) -> MediaGrant:
    """Describe to a client where and under which keys to send and receive."""
    host, port = endpoint
    return MediaGrant(
        host=host,
        port=port,
        ssrc=peer.ssrc,
        profile=peer.profile.name,
        client_key=base64.b64encode(peer.client_key).decode(),
        server_key=base64.b64encode(peer.server_key).decode(),
        rtcp_mux=True,
    )


def _catch_up(node: Node, peer: MediaPeer) -> None:
    """Do what waited for the end of the change before; it may have to wait for a connection now."""
    if peer.rekey_cause == "resumed" and peer.keys_taken:
        peer.rekey_cause = None  # it had them after all
    elif peer.rekey_cause is not None:
        change(node, peer, peer.rekey_cause)
