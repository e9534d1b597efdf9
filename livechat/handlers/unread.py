"""Handles op 23, READ, and owns who is told of unread counts.

It must not count: the store does, by an ordinal beside each seq.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from livechat.cluster.backplane import FocusNotice, UserNotice
from livechat.error import LiveError
from livechat.handlers.call import Call
from livechat.handlers.node import Node
from livechat.hub.users import Session
from livechat.protocol.events import ReadDone, ReadEvent, UnreadEvent
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.requests import Read
from livechat.protocol.types import ChannelId
from livechat.store.base import Outcome
from livechat.store.operations import MarkRead, ReadStates
from livechat.store.rows import MemberState, ReadMark

UNREAD_INTERVAL_S: Final = 1.0
"""Between two UNREAD_EVENTs to one session that is unsubscribed from a channel."""


def read(call: Call, request: Read) -> None:
    """Op 23 → ACK ReadDone. The position only moves forward; where it did not, nobody hears of it.

    UNREAD_EVENT goes to the user's other sessions, READ_EVENT to all that look at the channel.
    """
    node, user_id = call.node, call.session.user_id

    def committed(mark: ReadMark) -> None:
        read_seq, unread = mark.member.read_seq, mark.unread
        call.ack(ReadDone(request.channel_id, read_seq, unread))
        if mark.moved:
            event = UnreadEvent(request.channel_id, unread, read_seq, mark.channel.last_seq)
            node.backplane.publish(UserNotice(user_id, event, call.origin))
            seen = ReadEvent(request.channel_id, user_id, read_seq, node.now_ms())
            node.backplane.publish(FocusNotice(seen, call.origin))

    call.submit(MarkRead(request.channel_id, user_id, request.seq, admin=call.session.is_admin), committed)


def touch(node: Node, session: Session, channel_id: ChannelId) -> None:
    """Have a session told of a channel it is unsubscribed from: now, or a while after the last time."""
    is_scheduled = bool(session.unread_due)
    session.unread_due |= {channel_id}
    if not is_scheduled:
        due = max(node.now(), session.unread_told_at + UNREAD_INTERVAL_S)
        node.deadlines.schedule(due, partial(_ask, node, session))


def _ask(node: Node, session: Session, now: float) -> float | None:
    """Ask the store how much is unread; return when to ask again if it takes no more at present."""
    if session.outlet is None:
        session.unread_due = frozenset()
        return None
    operation = ReadStates(session.user_id, tuple(session.unread_due))
    try:
        node.store.submit(operation, partial(_tell, session))
    except LiveError:
        return now + UNREAD_INTERVAL_S
    session.unread_due = frozenset()
    session.unread_told_at = now
    return None


def _tell(session: Session, outcome: Outcome[tuple[MemberState, ...]]) -> None:
    """Send the counts; if the store failed, the next message brings the next try."""
    for state in outcome.value or ():
        channel = state.channel
        if session.outlet is not None and channel.channel_id in session.unsubscribed:
            event = UnreadEvent(channel.channel_id, state.unread, state.member.read_seq, channel.last_seq)
            session.outlet.send(Outgoing(Op.UNREAD_EVENT, event))
