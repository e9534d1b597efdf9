"""Handles op 29, MEDIA_CHUNK, and what else concerns live streams: who begins to hear one, and when it is over.

It must not wait, ask the store about a member, or deliver. What a stream is, `livechat.hub.streams` says.
"""

from __future__ import annotations

from collections.abc import Iterable

from livechat.cluster.backplane import ChunkNotice
from livechat.handlers.call import Call
from livechat.handlers.membership import own_channel
from livechat.handlers.node import Node
from livechat.hub.streams import Stream, key_of
from livechat.hub.users import Session
from livechat.protocol.chunks import ChunkEvent, ChunkTaken
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import ChunkMark, Outgoing
from livechat.protocol.requests import MediaChunk
from livechat.protocol.types import ChannelId
from livechat.store.permissions import Deed


def publish(call: Call, request: MediaChunk) -> None:
    """Op 29 → ACK ChunkTaken if the request carried an id; MEDIA_CHUNK to all others that hear the channel.

    Raises:
        PayloadTooLarge, ProtocolError, Forbidden, Overloaded: see `livechat.hub.streams.StreamHub.check`.
    """
    if own_channel(call, Deed.CHUNK, request.channel_id, lambda: publish(call, request)) is None:
        return
    node, session = call.node, call.session
    event = ChunkEvent(
        channel_id=request.channel_id,
        user_id=session.user_id,
        stream_id=request.stream_id,
        chunk_seq=request.chunk_seq,
        mime=request.mime,
        data=request.data,
        keyframe=request.keyframe,
        init=request.init,
    )
    node.streams.check(event, session.session_id)
    counters = node.instruments.counters
    counters.chunks += 1
    counters.chunk_bytes += len(event.data)
    if call.wants_ack:
        call.ack(ChunkTaken(event.channel_id, event.stream_id, event.chunk_seq))
    else:
        call.succeed_silently()
    if session.outlet is not None:  # else the ACK has ended the connection, and what it publishes
        node.backplane.publish(ChunkNotice(event, session.session_id))


def relay(node: Node, notice: ChunkNotice) -> tuple[list[Session], Outgoing]:
    """Note a chunk that has come; return who is to be sent it, and as what."""
    event = notice.event
    stream = node.streams.follow(event, notice.origin, node.now())
    forget_ended(node)
    _watch(node)
    recipients = node.channels.recipients(event.channel_id, node.users.get(notice.origin))
    if stream is not None and stream.waiting and not event.init:
        recipients = [session for session in recipients if session not in stream.waiting]
    return recipients, _packet(event, stream, notice.trace)


def _packet(event: ChunkEvent, stream: Stream | None, trace: str | None = None) -> Outgoing:
    stands_alone = stream is None or not stream.marks_keyframes
    mark = ChunkMark(key_of(event), event.keyframe or stands_alone, event.init)
    return Outgoing(Op.MEDIA_CHUNK_EVENT, event, has_bytes=True, chunk=mark, trace=trace)


def _watch(node: Node) -> None:
    """Have silent streams ended: by one entry among the deadlines, as long as there are any streams."""
    streams = node.streams
    if streams.is_watched or not len(streams):
        return

    def due(now: float) -> float | None:
        streams.expire(now)
        forget_ended(node)
        streams.is_watched = len(streams) > 0
        return streams.next_due

    streams.is_watched = True
    node.deadlines.schedule(node.now() + streams.silence_s, due)


def show(node: Node, session: Session, channel_ids: Iterable[ChannelId]) -> None:
    """Send a session that has begun to hear channels what it needs of their live streams."""
    if not len(node.streams):
        return
    for channel_id in channel_ids:
        channel = node.channels.get(channel_id)
        if channel is None or session not in channel.subscribers:
            continue
        for stream in node.streams.listen(session, channel_id):
            assert stream.init is not None
            stream.told = stream.told or _packet(stream.init, stream)
            # The one before may have ended its connection.
            if session.outlet is not None:
                session.outlet.send(stream.told)


def ignore(node: Node, session: Session, channel_ids: Iterable[ChannelId]) -> None:
    """Note that a session hears some channels no more: not even what waits to be sent to it."""
    node.streams.ignore(session, channel_ids)
    for channel_id in channel_ids:
        if session.outlet is not None:
            session.outlet.drop_chunks(channel_id)


def forget_ended(node: Node) -> None:
    """Let nobody who hears a channel go on waiting for a keyframe of a stream that is over."""
    for stream in node.streams.take_ended():
        for session in node.channels.recipients(stream[0], None):
            if session.outlet is not None:
                session.outlet.forget_stream(stream)


def lost(node: Node, session: Session) -> None:
    """Note that a session has lost its connection: it hears nothing any more."""
    if len(node.streams):
        node.streams.lost(session.session_id)
        node.streams.ignore(session, node.channels.memberships(session.user_id))


def ended(node: Node, session: Session) -> None:
    """End the streams of a session that is over."""
    lost(node, session)
    node.streams.end_session(session.session_id)
    forget_ended(node)


def forbidden(node: Node, session: Session) -> None:
    """End what a session has to do with streams of the channels that its token is not good for any more."""
    memberships = node.channels.memberships(session.user_id)
    channel_ids = [channel_id for channel_id in memberships if not session.may_hear(channel_id)]
    ignore(node, session, channel_ids)
    node.streams.end_session(session.session_id, channel_ids)
    forget_ended(node)
