"""Settings, last seen and last logout, and what a login is told, on every store."""

from __future__ import annotations

import json

import pytest

from livechat.store.base import perform
from livechat.store.rows import UserRow, UserView
from tests.support.store import (
    NOW_MS,
    OpenStore,
    announce,
    announcements,
    change_settings,
    create,
    in_one_go,
    join,
    load,
    message,
    note_logout,
    note_seen,
    refusal,
    remove_member,
)

SETTINGS_BYTES_MAX = 16 * 1024


async def kept_user(open_store: OpenStore, user_id: str = "ann") -> UserRow:
    """Return a user as a store opened anew knows it."""
    async with open_store() as store:
        return (await perform(store, load(user_id))).user


async def test_of_a_stranger_nothing_is_known(open_store: OpenStore) -> None:
    async with open_store() as store:
        view = await perform(store, load("stranger"))
    assert view.user == UserRow({}, None, None)
    assert (view.states, view.announcements) == ((), ())


# --- settings -------------------------------------------------------------------------------------


async def test_settings_that_are_given_change_and_the_others_stay(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await perform(store, change_settings(theme="dark", volume=7, order=["b", "a"]))
        assert first.settings == {"theme": "dark", "volume": 7, "order": ["b", "a"]}
        second = await perform(store, change_settings(volume=0.5, order=[], muted=False))
        assert second.settings == {"theme": "dark", "volume": 0.5, "order": [], "muted": False}
    assert (await kept_user(open_store)).settings == second.settings
    assert (await kept_user(open_store, "bob")).settings == {}


async def test_a_value_of_none_takes_its_key_away(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, change_settings(theme="dark", volume=7))
        changed = await perform(store, change_settings(theme=None, never_there=None))
        assert changed.settings == {"volume": 7}
        # Below the top a null is a value like any other, and an object is replaced, not merged.
        nested = await perform(store, change_settings(panes={"left": None, "right": 1}))
        assert nested.settings == {"volume": 7, "panes": {"left": None, "right": 1}}
        replaced = await perform(store, change_settings(panes={"left": 2}))
        assert replaced.settings == {"volume": 7, "panes": {"left": 2}}
    assert (await kept_user(open_store)).settings == replaced.settings


async def test_settings_changed_in_one_batch_add_up(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(
            store,
            [
                change_settings(a=1),
                change_settings(b=2),
                note_seen(seen_ms=NOW_MS),
                change_settings(a=None, c=3),
                change_settings("bob", d=4),
            ],
        )
    user = await kept_user(open_store)
    assert (user.settings, user.last_seen) == ({"b": 2, "c": 3}, NOW_MS)
    assert (await kept_user(open_store, "bob")).settings == {"d": 4}


@pytest.mark.parametrize("character", ["x", "é", "🎉"])
async def test_all_settings_together_are_bounded_in_bytes(open_store: OpenStore, character: str) -> None:
    room = SETTINGS_BYTES_MAX - len(json.dumps({"key": "", "other": 1}, separators=(",", ":")))
    count, padding = divmod(room, len(character.encode()))
    fitting = character * count + "x" * padding
    async with open_store() as store:
        await perform(store, change_settings(other=1))
        kept = await perform(store, change_settings(key=fitting))
        assert kept.settings == {"other": 1, "key": fitting}

        assert await refusal(store, change_settings(key=fitting + "x")) == 1005
        assert await refusal(store, change_settings(more=1)) == 1005
        # What makes room comes with what needs it.
        swapped = await perform(store, change_settings(key=None, another=fitting[:-4]))
        assert swapped.settings == {"other": 1, "another": fitting[:-4]}
    assert (await kept_user(open_store)).settings == swapped.settings


async def test_refused_settings_change_nothing(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, change_settings(a=1))
        assert await refusal(store, change_settings(a=2, b="x" * SETTINGS_BYTES_MAX)) == 1005
        assert await refusal(store, change_settings(a=None, b="x" * SETTINGS_BYTES_MAX)) == 1005
    assert (await kept_user(open_store)).settings == {"a": 1}


async def test_a_logout_does_not_tell_when_the_user_was_last_seen(open_store: OpenStore) -> None:
    async with open_store() as store:
        noted = await perform(store, note_logout(logout_ms=NOW_MS))
        assert (noted.last_seen, noted.last_logout) == (None, NOW_MS)


# --- last seen ------------------------------------------------------------------------------------


async def test_last_seen_only_moves_forward(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, change_settings(a=1))
        for seen_ms, last_seen in ((10, 10), (30, 30), (20, 30)):
            noted = await perform(store, note_seen(seen_ms=NOW_MS + seen_ms))
            assert noted == UserRow({"a": 1}, NOW_MS + last_seen, None)
    assert await kept_user(open_store) == UserRow({"a": 1}, NOW_MS + 30, None)


async def test_a_logout_is_kept_apart_and_only_moves_forward(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, note_seen(seen_ms=NOW_MS + 20, logout=True))
        await perform(store, note_seen(seen_ms=NOW_MS + 30))
        noted = await perform(store, note_seen(seen_ms=NOW_MS + 10, logout=True))
        assert (noted.last_seen, noted.last_logout) == (NOW_MS + 30, NOW_MS + 20)
    assert await kept_user(open_store) == noted


# --- announcements --------------------------------------------------------------------------------


async def test_a_login_is_told_what_was_announced_since_the_last_logout(open_store: OpenStore) -> None:
    async with open_store() as store:
        early, at_logout, late = [
            await perform(store, announce(str(time), created_at=NOW_MS + time)) for time in (10, 20, 30)
        ]
        assert (await perform(store, load())).announcements == (early, at_logout, late)
        # Being seen is no logout: other devices may be there still.
        await perform(store, note_seen(seen_ms=NOW_MS + 30))
        assert (await perform(store, load())).announcements == (early, at_logout, late)
        await perform(store, note_seen(seen_ms=NOW_MS + 20, logout=True))
    async with open_store() as store:
        assert (await perform(store, load())).announcements == (at_logout, late)
        assert (await perform(store, load("bob"))).announcements == (early, at_logout, late)


async def test_a_login_is_not_told_what_has_expired(open_store: OpenStore) -> None:
    async with open_store() as store:
        lasting = await perform(store, announce("lasting"))
        passing = await perform(store, announce("passing", created_at=NOW_MS + 1, expires_at=NOW_MS + 60))
        for now_ms, told in ((NOW_MS + 59, (lasting, passing)), (NOW_MS + 60, (lasting,))):
            assert (await perform(store, load(now_ms=now_ms))).announcements == told


async def test_an_announcement_comes_back_as_it_was_made(open_store: OpenStore) -> None:
    operation = announce("Ünïcode 🎉", url="https://example.org/?a=b", expires_at=NOW_MS + 1)
    async with open_store() as store:
        assert await perform(store, operation) == operation.announcement
    async with open_store() as store:
        assert (await perform(store, load())).announcements == (operation.announcement,)
        assert await store.fetch(announcements()) == (operation.announcement,)


async def test_a_login_is_told_the_newest_hundred_announcements(open_store: OpenStore) -> None:
    operations = [announce(str(number), created_at=NOW_MS + number) for number in range(103)]
    async with open_store() as store:
        await in_one_go(store, operations)
        told = (await perform(store, load())).announcements
    assert told == tuple(operation.announcement for operation in operations[3:])


async def test_announcements_of_the_same_moment_keep_one_order(open_store: OpenStore) -> None:
    operations = [announce(str(number)) for number in range(20)]
    made = sorted((operation.announcement for operation in operations), key=lambda each: each.announcement_id)
    async with open_store() as store:
        await in_one_go(store, operations)
        assert (await perform(store, load())).announcements == tuple(made)
        assert await store.fetch(announcements(limit=7)) == tuple(made[-7:])


# --- all of a login -------------------------------------------------------------------------------


async def test_a_login_shows_user_channels_and_announcements_as_one_state(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create("b"), create("a"), join("ann", "b"), join("ann", "a"), join("bob", "a")])
        outcomes = await in_one_go(
            store,
            [
                note_seen(logout=True),
                change_settings(theme="dark"),
                message("bob", "hi", "a", mentions=("ann",)),
                load(),
                message("bob", "ho", "a"),
                remove_member("ann", "b"),
            ],
        )
        (view,) = [outcome.value for outcome in outcomes if isinstance(outcome.value, UserView)]
        assert view.user == UserRow({"theme": "dark"}, NOW_MS, NOW_MS)
        assert [state.channel.channel_id for state in view.states] == ["a", "b"]
        assert [(state.unread, state.member.mention_count) for state in view.states] == [(1, 1), (0, 0)]
        assert view.states[0].last_message is not None
        assert view.states[0].last_message.content == "hi"
        after = await perform(store, load())
        assert [(state.channel.channel_id, state.unread) for state in after.states] == [("a", 2)]
