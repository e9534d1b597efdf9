"""Text with NUL, which SQLite holds though its JSON functions take it for the end: no request may carry it, yet
what is stored must be what was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from livechat.store.base import perform
from livechat.store.sqlite import open_sqlite_store
from tests.support.store import (
    add_member,
    announce,
    change_settings,
    create,
    history,
    in_one_go,
    join,
    leave,
    list_members,
    load,
    mark_read,
    message,
    ranges,
    read_states,
    remove_member,
    state_of,
)

NUL = "n\0l"


@pytest.mark.parametrize("copies", [1, 3])
async def test_a_message_comes_back_as_it_was_sent(tmp_path: Path, copies: int) -> None:
    operations = [
        message("ann", NUL, nonce=f"{NUL}{copy}", mentions=("bob", NUL), attachment={NUL: NUL})
        for copy in range(copies)
    ]
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), join(NUL)])
        stored = [outcome.unwrap() for outcome in await in_one_go(store, operations)]
    async with open_sqlite_store(tmp_path) as store:
        kept = (await state_of(store, "ann")).last_message
        page = await store.fetch(history(limit=copies))
        ranged = await store.fetch(ranges(("lobby", 3, 99)))
        repeated = [outcome.unwrap() for outcome in await in_one_go(store, operations)]
        assert (await state_of(store, NUL)).member.mention_count == copies

    assert page.messages == ranged == tuple(each.message for each in stored)
    assert kept == page.messages[-1]
    assert all(result.duplicate for result in repeated)
    assert [result.seq for result in repeated] == [result.seq for result in stored]


@pytest.mark.parametrize("apart", [False, True])
async def test_members_are_those_who_are(tmp_path: Path, apart: bool) -> None:
    """Whether each change has a batch of its own or all share one."""
    changes = [
        create(),
        join("n"),
        join(NUL),
        join("n\0"),
        leave("n\0"),
        message("n", mentions=(NUL, "n")),
        mark_read("n", 4),
        add_member(NUL, role="moderator"),
        join("gone"),
        leave("gone"),
        remove_member("n\0m", ban=True),
    ]
    async with open_sqlite_store(tmp_path) as store:
        for batch in [[change] for change in changes] if apart else [changes]:
            assert [outcome.error for outcome in await in_one_go(store, batch)] == [None] * len(batch)
    async with open_sqlite_store(tmp_path) as store:
        page = await perform(store, list_members("owner"))
        assert [
            (member.user_id, member.role, member.read_seq, member.mention_count) for member in page.members
        ] == [
            ("n", "member", 5, 0),
            (NUL, "moderator", 2, 1),
        ]
        assert (await perform(store, list_members("owner", after="n\0"))).members == page.members[1:]
        assert [state.unread for state in await perform(store, read_states(NUL, ["lobby"]))] == [1]
        assert (await perform(store, join("n\0"))).created


async def test_what_is_kept_of_a_user_and_announced_comes_back(tmp_path: Path) -> None:
    operation = announce(NUL, url=NUL)
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [change_settings(NUL, key=NUL), operation])
    async with open_sqlite_store(tmp_path) as store:
        view = await perform(store, load(NUL))
        assert view.user.settings == {"key": NUL}
        assert view.announcements == (operation.announcement,)
        assert (await perform(store, load("n"))).user.settings == {}
