"""Serves channels and their members: what ops 10, 13-16 and 35 do for who has no session.

It must not do any of it: the handlers of those ops do.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from livechat.error import ChannelExists
from livechat.handlers import channels, members
from livechat.http.api.asking import ask_as_user
from livechat.http.endpoint import API, OF_A_CHANNEL, OF_MEMBERS, READING, WRITING, Answer, Call, Endpoint
from livechat.protocol.events import (
    ChannelCreated,
    ChannelDetails,
    ChannelPage,
    MemberPage,
)
from livechat.protocol.requests import (
    ChannelCreate,
    ChannelDelete,
    ChannelInfo,
    ChannelList,
    ChannelUpdate,
    MemberList,
)
from livechat.protocol.types import ChannelId

PATH: Final = f"{API}/channels"
ONE: Final = PATH + "/{channel_id}"


async def list_channels(call: Call) -> Answer:
    """Op 15."""
    return Answer(await ask_as_user(call, channels.list_channels, call.query))


async def create(call: Call) -> Answer:
    """Op 10."""
    created: ChannelCreated = await ask_as_user(call, channels.create, call.body)
    return Answer(created, 201, {"location": f"{PATH}/{quote(created.channel_id, safe='')}"})


async def info(call: Call) -> Answer:
    """Op 16."""
    return Answer(await ask_as_user(call, channels.info, _named(call)))


async def update(call: Call) -> Answer:
    """Op 13, and op 16 to say what the channel is like now."""
    await ask_as_user(call, channels.update, call.body)
    return Answer(await ask_as_user(call, channels.info, _named(call)))


async def delete(call: Call) -> Answer:
    """Op 14."""
    await ask_as_user(call, channels.delete, ChannelDelete(ChannelId(call.path["channel_id"])))
    return Answer(status=204)


async def list_members(call: Call) -> Answer:
    """Op 35."""
    return Answer(await ask_as_user(call, members.list_members, call.query))


def _named(call: Call) -> ChannelInfo:
    return ChannelInfo(ChannelId(call.path["channel_id"]))


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        PATH,
        list_channels,
        "channels",
        "List channels",
        "user",
        query=ChannelList,
        answers={200: ChannelPage},
        errors=READING,
        description="Public channels, and the private ones that you are in or own, by id. `next` is the `after` "
        "of the next page; it is left out of the last one.",
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        "channels",
        "Create a channel",
        "user",
        body=ChannelCreate,
        answers={201: ChannelCreated},
        errors=(ChannelExists, *WRITING),
        description="You own it, and are not yet a member: CHANNEL_JOIN makes you one.",
        answer_headers={"Location": "The channel."},
    ),
    Endpoint(
        "GET",
        ONE,
        info,
        "channels",
        "Describe a channel",
        "user",
        answers={200: ChannelDetails},
        errors=(*OF_A_CHANNEL, *READING),
        description="As you see it: your role, what you have not read. A private one is shown to its own only.",
        etag=True,
    ),
    Endpoint(
        "PATCH",
        ONE,
        update,
        "channels",
        "Change a channel",
        "user",
        body=ChannelUpdate,
        answers={200: ChannelDetails},
        errors=(*OF_A_CHANNEL, *READING, *WRITING),
        description="Fields left out stay as they are. For its owner and moderators; all members hear of it.",
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        "channels",
        "Delete a channel",
        "user",
        answers={204: None},
        errors=(*OF_A_CHANNEL, *WRITING),
        description="With its memberships and messages. For its owner; all members hear of it.",
    ),
    Endpoint(
        "GET",
        ONE + "/members",
        list_members,
        "channels",
        "List the members of a channel",
        "user",
        query=MemberList,
        answers={200: MemberPage},
        errors=(*OF_MEMBERS, *READING),
        description="By user id, for members. `next` is the `after` of the next page; it is left out of the last "
        "one.",
    ),
)
