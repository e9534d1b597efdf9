"""Random histories for the stores and their model: batches of operations, and queries."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from livechat.error import EmptyMessage
from livechat.store.operations import ChangeSettings, Operation, TransientMembers
from livechat.store.queries import Query
from tests.support.store import (
    DAY_MS,
    NOW_MS,
    add_member,
    announce,
    announcements,
    create,
    delete,
    get,
    history,
    join,
    leave,
    list_channels,
    list_members,
    load,
    mark_read,
    message,
    note_logout,
    note_seen,
    ranges,
    read_states,
    remove_member,
    update,
)

# Few names, so that operations meet; of several scripts and cases, so that their order matters.
channel_ids = st.sampled_from(["a", "a", "B"])
user_ids = st.sampled_from(["ann", "Bob", "é"])
times = st.sampled_from([NOW_MS, NOW_MS + DAY_MS - 1, NOW_MS + DAY_MS])
seqs = st.integers(0, 12) | st.integers(3, 6)
limits = st.integers(1, 3)
admins = st.sampled_from([False, False, False, True])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
"""What every store holds."""

queries: st.SearchStrategy[Query[Any]] = st.one_of(
    st.builds(history, user_ids, channel_ids, limit=limits, admin=admins),
    st.builds(history, user_ids, channel_ids, before=seqs, limit=limits, admin=admins),
    st.builds(history, user_ids, channel_ids, after=seqs, limit=limits, admin=admins),
    st.lists(st.tuples(st.sampled_from("aBc"), seqs, seqs), unique_by=lambda wanted: wanted[0]).flatmap(
        lambda wanted: st.builds(ranges, *map(st.just, wanted), limit=st.integers(1, 9))
    ),
    st.builds(announcements, times, now_ms=times, limit=limits),
)
# Without it most of what follows would find no channel, or nobody in it.
OPENING: list[Operation[Any]] = [
    create("a", "ann"),
    create("B", "Bob", private=True, durable=False),
    *(join(user_id, "a") for user_id in ("ann", "Bob", "é")),
    join("Bob", "B"),
    add_member("é", "B", "Bob", role="moderator"),
]


def batches(texts: st.SearchStrategy[str] = texts) -> st.SearchStrategy[list[Operation[Any]]]:
    """Return operations to be submitted at once."""
    # Where there are changes, talk is only a small part, and there is less and less left to talk in.
    return st.lists(talk(texts), min_size=6, max_size=25) | st.lists(talk(texts) | changes(texts), max_size=12)


def talk(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Operation[Any]]:
    """Return what is done most, and writes and reads messages."""
    return st.one_of(
        st.builds(message, user_ids, texts, channel_ids, mentions=st.lists(user_ids, max_size=3).map(tuple)),
        st.builds(mark_read, user_ids, seqs, channel_ids),
        st.builds(load, user_ids, now_ms=times),
        st.builds(read_states, user_ids, st.none() | st.lists(st.sampled_from("aBc"), max_size=3)),
        st.builds(join, user_ids, channel_ids, admin=admins, now_ms=times),
        st.builds(leave, user_ids, channel_ids, cause=st.none() | texts),
    )


def changes(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Operation[Any]]:
    """Return all other operations."""
    # Two of the long ones together are too much.
    values = st.none() | st.integers() | texts | st.just("é" * 5000) | st.lists(texts, max_size=2)
    return st.one_of(
        st.builds(
            create,
            channel_ids,
            user_ids,
            durable=st.booleans(),
            capacity=st.integers(1, 3),
            private=st.booleans(),
            max_speakers=st.none() | st.integers(1, 9),
            freq=st.none() | texts,
        ),
        st.builds(
            update,
            channel_ids,
            user_ids,
            admin=admins,
            capacity=st.none() | st.integers(1, 3),
            private=st.none() | st.booleans(),
        ),
        st.builds(delete, channel_ids, user_ids, admin=admins),
        st.builds(
            add_member,
            user_ids,
            channel_ids,
            user_ids,
            role=st.sampled_from([None, "member", "moderator"]),
            admin=admins,
            now_ms=times,
        ),
        st.builds(remove_member, user_ids, channel_ids, user_ids, ban=st.booleans(), admin=admins),
        st.builds(
            message,
            user_ids,
            texts,
            channel_ids,
            attachment=st.none() | st.dictionaries(texts, st.integers() | texts, max_size=2),
            mentions=st.lists(user_ids, max_size=3).map(tuple),
            nonce=st.none() | st.sampled_from(["n1", "n2"]),
            now_ms=times,
            problem=st.sampled_from([None, None, None, EmptyMessage("empty")]),
            admin=admins,
        ),
        st.builds(ChangeSettings, user_ids, st.dictionaries(st.sampled_from("kl"), values)),
        st.builds(note_seen, user_ids, times, logout=st.booleans()),
        st.builds(note_logout, user_ids, times),
        st.builds(announce, texts, created_at=times, expires_at=st.none() | times),
        st.builds(get, user_ids, channel_ids, admin=admins),
        st.builds(list_channels, user_ids, st.none() | channel_ids, limits, admin=admins),
        st.builds(list_members, user_ids, channel_ids, st.none() | user_ids, limits, admin=admins),
        st.builds(TransientMembers),
    )
