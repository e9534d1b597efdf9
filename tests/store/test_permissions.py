"""Who may do what: the table against the protocol's words, and every store against both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from livechat.error import LiveError
from livechat.store.base import Store, perform
from livechat.store.operations import Operation
from livechat.store.permissions import REFUSALS, Deed, Standing, check, standing
from livechat.store.queries import Query
from tests.support.store import (
    OpenStore,
    add_member,
    create,
    delete,
    get,
    history,
    in_one_go,
    join,
    leave,
    list_channels,
    list_members,
    mark_read,
    message,
    query_refusal,
    refusal,
    remove_member,
    state_of,
    update,
)

# --- the table ------------------------------------------------------------------------------------

MEMBERS = {Standing.OWNER, Standing.MODERATOR, Standing.MEMBER}
OWNERS = {Standing.OWNER, Standing.ABSENT_OWNER, Standing.HIDDEN_OWNER}
PRIVATE = {Standing.HIDDEN_OWNER, Standing.EXCLUDED}

# In the order of the protocol's "Who may". What only a member has or hears, an admin who is none has not.
OF_MEMBERS = {
    Deed.READ,
    Deed.TYPING,
    Deed.FOCUS,
    Deed.SUBSCRIBE,
    Deed.UNSUBSCRIBE,
    Deed.LEAVE,
    Deed.FLOOR,
    Deed.CHUNK,
}
OF_MODERATORS = {Deed.UPDATE, Deed.MEMBER_ADD, Deed.MEMBER_REMOVE, Deed.FLOOR_REVOKE}
OF_OWNERS = {Deed.DELETE, Deed.ROLE_CHANGE, Deed.MODERATOR_REMOVE}


def protocol_says(deed: Deed, who: Standing) -> int:
    """Return the code that refuses it, or 0."""
    if who is Standing.EXCLUDED:
        return 2002  # "a private channel 2002 throughout"
    if deed is Deed.INFO:
        return 0
    if deed is Deed.JOIN:
        return 1007 if who is Standing.BANNED else 0
    if deed in OF_OWNERS:
        return 0 if who in OWNERS | {Standing.ADMIN} else 1007
    if deed in OF_MODERATORS:
        return 0 if who in OWNERS | {Standing.ADMIN, Standing.MODERATOR} else 1007
    if deed is Deed.MEMBER_LIST:
        return 0 if who in MEMBERS | OWNERS | {Standing.ADMIN} else 2004
    admitted = MEMBERS if deed in OF_MEMBERS else MEMBERS | {Standing.ADMIN}
    if who in admitted:
        return 0
    if who in PRIVATE:
        return 2002
    return 3002 if deed is Deed.MESSAGE else 2004


@pytest.mark.parametrize("who", Standing)
@pytest.mark.parametrize("deed", Deed)
def test_the_table_says_what_the_protocol_says(deed: Deed, who: Standing) -> None:
    refused = REFUSALS[deed][who]
    assert (refused.code if refused is not None else 0) == protocol_says(deed, who)


def test_the_table_has_every_deed_of_every_standing() -> None:
    assert set(REFUSALS) == set(Deed)
    assert all(set(row) == set(Standing) for row in REFUSALS.values())


@pytest.mark.parametrize(
    ("traits", "who"),
    [
        ("member", Standing.MEMBER),
        ("member private", Standing.MEMBER),
        ("member moderator", Standing.MODERATOR),
        ("member moderator private", Standing.MODERATOR),
        ("member owner", Standing.OWNER),
        ("member owner moderator", Standing.OWNER),
        ("member admin", Standing.OWNER),
        ("member moderator admin private", Standing.OWNER),
        ("", Standing.OUTSIDER),
        ("banned", Standing.BANNED),
        ("private", Standing.EXCLUDED),
        ("private banned", Standing.EXCLUDED),
        ("owner", Standing.ABSENT_OWNER),
        ("owner private", Standing.HIDDEN_OWNER),
        ("admin", Standing.ADMIN),
        ("admin private", Standing.ADMIN),
        ("admin banned", Standing.ADMIN),
        ("admin owner private", Standing.ADMIN),
    ],
)
def test_a_standing_follows_from_what_somebody_is(traits: str, who: Standing) -> None:
    given = set(traits.split())
    assert who is standing(
        is_member="member" in given,
        is_moderator="moderator" in given,
        is_owner="owner" in given,
        is_private="private" in given,
        is_banned="banned" in given,
        is_admin="admin" in given,
    )


@pytest.mark.parametrize(
    ("deed", "who", "reason"),
    [
        (Deed.JOIN, Standing.BANNED, "banned from channel 'lobby'"),
        (Deed.JOIN, Standing.EXCLUDED, "channel 'lobby' is private"),
        (Deed.UPDATE, Standing.MEMBER, "UPDATE in channel 'lobby' takes the owner or a moderator"),
        (Deed.DELETE, Standing.MODERATOR, "only the owner may delete channel 'lobby'"),
        (Deed.DELETE, Standing.EXCLUDED, "channel 'lobby' is private"),
        (Deed.HISTORY, Standing.OUTSIDER, "not a member of channel 'lobby'"),
        (Deed.MESSAGE, Standing.OUTSIDER, "join channel 'lobby' first"),
    ],
)
def test_a_refusal_says_what_is_missing(deed: Deed, who: Standing, reason: str) -> None:
    with pytest.raises(LiveError) as caught:
        check(deed, who, "lobby")
    assert caught.value.reason == reason


# --- every store ----------------------------------------------------------------------------------

# Who the actor is to a channel that "boss" owns, unless it is the actor's own; "mod" moderates it, "plain" is
# a member and "stranger" is not.
ROLES: dict[str, list[Operation[Any]]] = {
    "owner": [join("actor")],
    "absent owner": [],
    "moderator": [add_member("actor", actor_id="boss", role="moderator")],
    "member": [join("actor")],
    "outsider": [],
    "banned": [remove_member("actor", actor_id="boss", ban=True)],
    "private owner": [join("actor"), update(actor_id="actor", private=True)],
    "private absent owner": [update(actor_id="actor", private=True)],
    "private moderator": [
        add_member("actor", actor_id="boss", role="moderator"),
        update(actor_id="boss", private=True),
    ],
    "private member": [join("actor"), update(actor_id="boss", private=True)],
    "private outsider": [update(actor_id="boss", private=True)],
    "private banned": [
        remove_member("actor", actor_id="boss", ban=True),
        update(actor_id="boss", private=True),
    ],
    "admin": [],
    "private admin": [update(actor_id="boss", private=True)],
    "banned admin": [remove_member("actor", actor_id="boss", ban=True)],
}

Attempt = Callable[[bool], "Operation[Any] | Query[Any]"]
"""Makes what the actor tries; the argument tells whether with the `admin` scope."""

ATTEMPTS: dict[str, Attempt] = {
    "get": lambda admin: get("actor", admin=admin),
    "join": lambda admin: join("actor", admin=admin),
    "leave": lambda _: leave("actor"),
    "read": lambda _: mark_read("actor", 1),
    "send": lambda admin: message("actor", admin=admin),
    "history": lambda admin: history("actor", admin=admin),
    "list members": lambda admin: list_members("actor", admin=admin),
    "update": lambda admin: update(actor_id="actor", capacity=50, admin=admin),
    "delete": lambda admin: delete(actor_id="actor", admin=admin),
    "add": lambda admin: add_member("stranger", actor_id="actor", admin=admin),
    "add moderator": lambda admin: add_member("stranger", actor_id="actor", role="moderator", admin=admin),
    "add again": lambda admin: add_member("plain", actor_id="actor", admin=admin),
    "promote": lambda admin: add_member("plain", actor_id="actor", role="moderator", admin=admin),
    "demote": lambda admin: add_member("mod", actor_id="actor", role="member", admin=admin),
    "remove": lambda admin: remove_member("plain", actor_id="actor", admin=admin),
    "ban": lambda admin: remove_member("plain", actor_id="actor", ban=True, admin=admin),
    "remove stranger": lambda admin: remove_member("stranger", actor_id="actor", admin=admin),
    "ban stranger": lambda admin: remove_member("stranger", actor_id="actor", ban=True, admin=admin),
    "remove moderator": lambda admin: remove_member("mod", actor_id="actor", admin=admin),
    "ban moderator": lambda admin: remove_member("mod", actor_id="actor", ban=True, admin=admin),
}

# One column for each of the roles, in their order; 0 is success.
_MEMBERSHIP = "  0    2004 0    0    2004 2004  0    2002 0    0    2002 2002  2004 2002 2004"
_MODERATION = "  0    0    0    1007 1007 1007  0    0    0    1007 2002 2002  0    0    0"
_OWNERSHIP = "   0    0    1007 1007 1007 1007  0    0    1007 1007 2002 2002  0    0    0"
CODES = {
    #                    owner abs. mod. memb outs bann  owner abs. mod. memb outs bann  admin, private, banned
    "get": "             0    0    0    0    0    0     0    0    0    0    2002 2002  0    0    0",
    "join": "            0    0    0    0    0    1007  0    0    0    0    2002 2002  0    0    0",
    "send": "            0    3002 0    0    3002 3002  0    2002 0    0    2002 2002  0    0    0",
    "history": "         0    2004 0    0    2004 2004  0    2002 0    0    2002 2002  0    0    0",
    "list members": "    0    0    0    0    2004 2004  0    0    0    0    2002 2002  0    0    0",
    "leave": _MEMBERSHIP,
    "read": _MEMBERSHIP,
    "update": _MODERATION,
    "add": _MODERATION,
    "add again": "       2003 2003 2003 1007 1007 1007  2003 2003 2003 1007 2002 2002  2003 2003 2003",
    "remove": _MODERATION,
    "ban": _MODERATION,
    "remove stranger": " 2004 2004 2004 1007 1007 1007  2004 2004 2004 1007 2002 2002  2004 2004 2004",
    "ban stranger": _MODERATION,
    "delete": _OWNERSHIP,
    "add moderator": _OWNERSHIP,
    "promote": _OWNERSHIP,
    "demote": _OWNERSHIP,
    "remove moderator": _OWNERSHIP,
    "ban moderator": _OWNERSHIP,
}


async def code_of(store: Store, wanted: Operation[Any] | Query[Any]) -> int:
    """Return the code with which the store refuses, or 0."""
    try:
        await (store.fetch(wanted) if isinstance(wanted, Query) else perform(store, wanted))
    except LiveError as error:
        return error.code
    return 0


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_a_store_lets_everybody_do_what_they_may(open_store: OpenStore, attempt: str) -> None:
    answers: dict[str, int] = {}
    async with open_store() as store:
        for role, setting in ROLES.items():
            owner_id = "actor" if role.endswith("owner") else "boss"
            await in_one_go(store, [create(owner_id=owner_id), join("plain")])
            await perform(store, add_member("mod", actor_id=owner_id, role="moderator"))
            for outcome in await in_one_go(store, setting):
                outcome.unwrap()
            before = await perform(store, get("root", admin=True))
            answers[role] = await code_of(store, ATTEMPTS[attempt](role.endswith("admin")))
            if answers[role]:
                # What is refused has changed nothing.
                assert await perform(store, get("root", admin=True)) == before
            if not (attempt == "delete" and answers[role] == 0):
                await perform(store, delete(actor_id=owner_id))
    assert answers == dict(zip(ROLES, map(int, CODES[attempt].split()), strict=True))


@pytest.mark.parametrize("role", ROLES)
async def test_the_list_hides_private_channels_from_who_is_outside(open_store: OpenStore, role: str) -> None:
    owner_id = "actor" if role.endswith("owner") else "boss"
    async with open_store() as store:
        await in_one_go(store, [create(owner_id=owner_id), *ROLES[role]])
        page = await perform(store, list_channels("actor", admin=role.endswith("admin")))
    assert len(page.channels) == (0 if role in ("private outsider", "private banned") else 1)


async def test_nobody_removes_the_owner_and_outsiders_are_not_told_who_it_is(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(private=True), add_member("mod", role="moderator"), add_member("ann")])
        for _ in ("absent", "present"):
            for actor_id, code in (("owner", 1007), ("mod", 1007), ("ann", 1007), ("eve", 2002)):
                assert await refusal(store, remove_member("owner", actor_id=actor_id)) == code
            await perform(store, join("owner"))


async def test_an_admin_who_is_a_member_may_do_all_and_reads_as_a_member(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("root"), join("ann"), add_member("mod", role="moderator")])
        assert await refusal(store, update(actor_id="root", capacity=9)) == 1007
        assert (await perform(store, update(actor_id="root", capacity=9, admin=True))).capacity == 9
        await perform(store, remove_member("mod", actor_id="root", admin=True))
        sent = await perform(store, message("root", admin=True))
        assert (await state_of(store, "root")).member.read_seq == sent.seq
        assert (await state_of(store, "root")).unread == 0


async def test_the_scope_is_asked_for_anew_each_time(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(private=True), join("owner")])
        assert (await perform(store, get("root", admin=True))).member is None
        assert await refusal(store, get("root")) == 2002
        assert await query_refusal(store, history("root")) == 2002
