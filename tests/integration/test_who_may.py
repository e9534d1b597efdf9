"""Who may do what in a channel, op by op and standing by standing, as the protocol says (section 3, "Who may")."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livechat
from tests.support.client import (
    ACK,
    CREATE,
    DELETE,
    FLOOR_REQUEST,
    FOCUS,
    HISTORY,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_ADD,
    MEMBER_LIST,
    MEMBER_REMOVE,
    MESSAGE,
    READ,
    SUBSCRIBE,
    SYNC,
    TYPING,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    identified,
)
from tests.support.server import make_config

STANDINGS = (
    "admin",
    "admin of a private one",
    "owner",
    "absent owner",
    "hidden owner",
    "moderator",
    "member",
    "private member",
    "outsider",
    "banned",
    "excluded",
)
PRIVATE = ("admin of a private one", "hidden owner", "private member", "excluded")
NOT_MEMBERS = ("admin", "absent owner", "outsider", "banned")
"""Of public channels."""


def codes(**named: int) -> dict[str, int]:
    """Return the code by standing, with 0 for those that are not named; `_` stands for a blank."""
    refused = {name.replace("_", " "): code for name, code in named.items()}
    assert refused.keys() <= set(STANDINGS)
    return dict.fromkeys(STANDINGS, 0) | refused


# Owners of private channels who are no members may manage them, and take part in nothing.
MEMBERS_ONLY = {
    **codes(excluded=2002, hidden_owner=2002, admin_of_a_private_one=2004),
    **dict.fromkeys(NOT_MEMBERS, 2004),
}
MODERATION = codes(member=1007, private_member=1007, outsider=1007, banned=1007, excluded=2002)
OWNERSHIP = MODERATION | {"moderator": 1007}
TABLE: list[tuple[str, int, dict[str, Any], dict[str, int]]] = [
    ("info", INFO, {}, codes(excluded=2002)),
    ("join", JOIN, {}, codes(excluded=2002, banned=1007)),
    ("join with voice", JOIN, {"ssrc": 5}, codes(excluded=2002, banned=1007)),
    ("leave", LEAVE, {}, MEMBERS_ONLY),
    ("update", UPDATE, {"channel_name": "y"}, MODERATION),
    ("delete", DELETE, {}, OWNERSHIP),
    (
        "message",
        MESSAGE,
        {"content": "x"},
        codes(absent_owner=3002, outsider=3002, banned=3002, hidden_owner=2002, excluded=2002),
    ),
    (
        "history",
        HISTORY,
        {},
        codes(absent_owner=2004, outsider=2004, banned=2004, hidden_owner=2002, excluded=2002),
    ),
    ("read", READ, {"seq": 0}, MEMBERS_ONLY),
    ("typing", TYPING, {"typing": True}, MEMBERS_ONLY),
    ("focus", FOCUS, {}, MEMBERS_ONLY),
    ("subscribe", SUBSCRIBE, {}, MEMBERS_ONLY),
    ("unsubscribe", UNSUBSCRIBE, {}, MEMBERS_ONLY),
    ("ask for the floor", FLOOR_REQUEST, {}, {who: code or 4000 for who, code in MEMBERS_ONLY.items()}),
    ("add", MEMBER_ADD, {"user_id": "new"}, MODERATION),
    ("add a moderator", MEMBER_ADD, {"user_id": "new", "role": "moderator"}, OWNERSHIP),
    ("give a role", MEMBER_ADD, {"user_id": "plain", "role": "moderator"}, OWNERSHIP),
    ("take a role", MEMBER_ADD, {"user_id": "elder", "role": "member"}, OWNERSHIP),
    ("remove", MEMBER_REMOVE, {"user_id": "plain"}, MODERATION),
    ("ban", MEMBER_REMOVE, {"user_id": "new", "ban": True}, MODERATION),
    ("remove a moderator", MEMBER_REMOVE, {"user_id": "elder"}, OWNERSHIP),
    ("members", MEMBER_LIST, {}, codes(outsider=2004, banned=2004, excluded=2002)),
]


class Letters:
    """Takes a token for the user's id; the one of `admin` has the scope of that name."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        scopes = frozenset({"chat", "admin"} if token == "admin" else {"chat"})
        return livechat.Identity(livechat.UserId(token), scopes=scopes)


@asynccontextmanager
async def server_and_founder(data_dir: Path) -> AsyncGenerator[tuple[livechat.Server, Client]]:
    """A server, and who makes the channels."""
    async with (
        livechat.open_server(make_config(data_dir), authenticator=Letters()) as server,
        identified(server, "founder", token="founder") as founder,
    ):
        yield server, founder


async def found(founder: Client, channel_id: str, standing: str, user_id: str) -> None:
    """Make a channel in which the user has a standing; `plain` is a member and `elder` a moderator."""
    await founder.ack(CREATE, {"channel_id": channel_id, "private": standing in PRIVATE})
    await founder.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": "plain"})
    await founder.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": "elder", "role": "moderator"})
    if standing == "owner":
        await founder.ack(JOIN, {"channel_id": channel_id})
    elif standing == "banned":
        await founder.ack(MEMBER_REMOVE, {"channel_id": channel_id, "user_id": user_id, "ban": True})
    elif "member" in standing:
        await founder.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": user_id})
    elif standing == "moderator":
        await founder.ack(MEMBER_ADD, {"channel_id": channel_id, "user_id": user_id, "role": "moderator"})


def user_of(standing: str) -> str:
    if "owner" in standing:
        return "founder"
    return "admin" if "admin" in standing else "somebody"


@pytest.mark.parametrize(("op", "fields", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
async def test_an_op_is_refused_by_standing(
    op: int, fields: dict[str, Any], expected: dict[str, int], tmp_path: Path
) -> None:
    async with server_and_founder(tmp_path) as (server, founder):
        answered = {}
        for number, standing in enumerate(STANDINGS):
            channel_id, user_id = f"c{number}", user_of(standing)
            await found(founder, channel_id, standing, user_id)
            async with identified(server, user_id, token=user_id) as client:
                reply = await client.request(op, {"channel_id": channel_id, **fields}, id=1)
                answered[standing] = 0 if reply["op"] == ACK else reply["d"]["code"]
        assert answered == expected


@pytest.mark.parametrize(
    "op", [row[1] for row in TABLE if row[0] in ("info", "read", "typing", "focus", "history")]
)
async def test_in_a_channel_that_is_not_there_nobody_may_anything(op: int, tmp_path: Path) -> None:
    async with server_and_founder(tmp_path) as (server, _):
        for user_id in ("admin", "somebody"):
            async with identified(server, user_id, token=user_id) as client:
                d = {"channel_id": "none", "seq": 0, "typing": False}
                assert (await client.refused(op, d))["code"] == 2000


async def test_who_syncs_a_channel_of_others_learns_nothing(tmp_path: Path) -> None:
    async with server_and_founder(tmp_path) as (server, founder):
        for standing in ("outsider", "banned", "excluded", "hidden owner"):
            user_id = user_of(standing)
            await found(founder, f"of {standing}".replace(" ", "-"), standing, user_id)
            async with identified(server, user_id, token=user_id) as client:
                wanted = {f"of-{standing}".replace(" ", "-"): {"after": 0}, "none": {"after": 0}}
                synced = (await client.ack(SYNC, {"channels": wanted}))["channels"]
                assert list(synced.values()) == [{"replayed": 0, "last_seq": 0, "recovered": False}] * 2


async def test_private_channels_are_listed_to_their_own_only(tmp_path: Path) -> None:
    async with server_and_founder(tmp_path) as (server, founder):
        for number, standing in enumerate(STANDINGS):
            await found(founder, f"c{number:02}", standing, user_of(standing))
        public = {f"c{number:02}" for number, standing in enumerate(STANDINGS) if standing not in PRIVATE}
        member = f"c{STANDINGS.index('private member'):02}"
        for user_id, more in (("somebody", {member}), ("stranger", set()), ("admin", None), ("founder", None)):
            async with identified(server, user_id, token=user_id) as client:
                listed = {row["channel_id"] for row in (await client.ack(LIST))["channels"]}
                everything = {f"c{number:02}" for number in range(len(STANDINGS))}
                assert listed == (everything if more is None else public | more)


async def test_an_admin_may_take_part_without_being_a_member_and_is_no_member_by_it(tmp_path: Path) -> None:
    async with server_and_founder(tmp_path) as (server, founder):
        await found(founder, "den", "excluded", "somebody")
        async with identified(server, "admin", token="admin") as admin:
            assert (await admin.say("den", "from above"))["seq"] == 3
            page = await admin.ack(HISTORY, {"channel_id": "den"})
            assert [message["seq"] for message in page["messages"]] == [1, 2, 3]
            assert (await admin.ack(INFO, {"channel_id": "den"}))["member_count"] == 2
            # An admin is let in everywhere, bans included.
            await founder.ack(MEMBER_REMOVE, {"channel_id": "den", "user_id": "admin", "ban": True})
            assert (await admin.ack(JOIN, {"channel_id": "den"}))["last_seq"] == 4
