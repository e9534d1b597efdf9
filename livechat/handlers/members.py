"""Handles ops 33-35: MEMBER_ADD, MEMBER_REMOVE, MEMBER_LIST.

It must not decide who may: the store does, in the transaction that changes something.
"""

from __future__ import annotations

from livechat.cluster.backplane import ChannelNotice, UserNotice
from livechat.handlers import lifecycle, views
from livechat.handlers.ask import Asked
from livechat.protocol import events
from livechat.protocol.requests import MemberAdd, MemberList, MemberRemove
from livechat.store import operations, rows


def add(call: Asked, request: MemberAdd) -> None:
    """Op 33 → ACK MemberAdded: make somebody a member, or give a member another role.

    All members hear a `join` or, of another role, an `update`, the one that asked after its ACK; the new one gets
    a NOTIFICATION `invite` beside it.
    """

    def committed(added: rows.Added) -> None:
        channel_id, member = added.channel.channel_id, added.member
        call.ack(events.MemberAdded(channel_id, member.user_id, member.role))
        event = events.ChannelEvent(
            event="update" if added.message is None else "join",
            channel_id=channel_id,
            member=events.Member(member.user_id, None),
            seq=None if added.message is None else added.message.seq,
            actor_id=call.user_id,
            role=member.role if added.message is None or member.role != "member" else None,
        )
        call.node.backplane.publish(ChannelNotice(event, facts=views.facts(added.channel)))
        if added.message is not None:
            invite = events.Notification("invite", channel_id, user_id=call.user_id)
            call.node.backplane.publish(UserNotice(member.user_id, invite))

    call.submit(
        operations.AddMember(
            request.channel_id,
            call.user_id,
            admin=call.is_admin,
            user_id=request.user_id,
            role=request.role,
            now_ms=call.node.now_ms(),
        ),
        committed,
    )


def remove(call: Asked, request: MemberRemove) -> None:
    """Op 34 → ACK MemberRemoved: end somebody's membership, with its voice; with `ban` for good.

    All members hear the `leave`, the one that asked after its ACK, the removed one as the last of the channel.
    """

    def committed(removed: rows.Removed) -> None:
        call.ack(events.MemberRemoved(request.channel_id, request.user_id))
        if removed.message is not None:
            lifecycle.publish_leave(call.node, removed.channel.channel_id, removed.message)

    call.submit(
        operations.RemoveMember(
            request.channel_id,
            call.user_id,
            admin=call.is_admin,
            user_id=request.user_id,
            ban=request.ban,
            now_ms=call.node.now_ms(),
        ),
        committed,
    )


def list_members(call: Asked, request: MemberList) -> None:
    """Op 35 → ACK MemberPage, by user id."""

    def loaded(page: rows.MemberPage) -> None:
        members = [events.MemberEntry(row.user_id, row.role, row.joined_at) for row in page.members]
        call.ack(events.MemberPage(request.channel_id, members, page.next))

    call.submit(
        operations.ListMembers(
            request.channel_id, call.user_id, call.is_admin, after=request.after, limit=request.limit
        ),
        loaded,
    )
