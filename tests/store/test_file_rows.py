"""Rows of files, the same in every store: quotas, attaching within the message's transaction, what is swept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from livechat.error import (
    AccessDenied,
    ChannelNotFound,
    FileNotFound,
    Forbidden,
    JoinBeforeMessaging,
    LiveError,
    NotInChannel,
    Overloaded,
    PayloadTooLarge,
    ProtocolError,
)
from livechat.files.names import new_file_id
from livechat.protocol.types import ChannelId, FileId, UserId
from livechat.store import file_rows
from livechat.store.base import Store, perform
from livechat.store.file_rows import FileRow
from livechat.store.operations import CheckMember, CreateMessage, FileClaim
from livechat.store.rows import new_message_id
from livechat.store.side import Tables, Transact
from tests.support.files import LATER_MS, file_row
from tests.support.store import NOW_MS, OpenStore, create, delete, in_one_go, join, leave

PLENTY = 1_000_000


async def work(store: Store, function: Callable[[Tables], object]) -> object:
    return await perform(store, Transact(function))


async def add(store: Store, row: FileRow, *, user_bytes: int = PLENTY, total_bytes: int = PLENTY) -> FileRow:
    adding = partial(file_rows.add, row=row, user_bytes=user_bytes, total_bytes=total_bytes)
    assert await work(store, adding) == row
    return row


async def get(store: Store, file_id: FileId, now_ms: int = NOW_MS) -> FileRow:
    getting = partial(file_rows.get, file_id=file_id, now_ms=now_ms)
    return await perform(store, Transact(getting, writes=False))


async def is_there(store: Store, file_id: FileId, now_ms: int = NOW_MS) -> bool:
    try:
        await get(store, file_id, now_ms)
    except FileNotFound:
        return False
    return True


async def room(store: Store, user_id: str = "ann", *, user_bytes: int = PLENTY, total_bytes: int = PLENTY) -> int:
    checking = partial(
        file_rows.check_room, uploader_id=UserId(user_id), size=0, user_bytes=user_bytes, total_bytes=total_bytes
    )
    return await perform(store, Transact(checking, writes=False))


def key(user_id: str = "ann", channel_id: str = "lobby", *, admin: bool = False) -> CheckMember:
    return CheckMember(ChannelId(channel_id), UserId(user_id), admin)


async def lobby_of_ann(store: Store) -> int:
    """Make the channel, and Ann and Bob its members; return its key."""
    await in_one_go(store, [create(), join("ann"), join("bob")])
    return await perform(store, key())


def attaching(
    file_id: FileId,
    author_id: str = "ann",
    *,
    channel_id: str = "lobby",
    is_certain: bool = True,
    nonce: str | None = None,
    now_ms: int = NOW_MS,
    admin: bool = False,
) -> CreateMessage:
    return CreateMessage(
        channel_id=ChannelId(channel_id),
        author_id=UserId(author_id),
        content="",
        message_type="IMAGE",
        attachment={"url": "as submitted", "name": "n", "bytes": 1, "mime": "m"},
        mentions=(),
        nonce=nonce,
        body_digest=b"",
        message_id=new_message_id(),
        now_ms=now_ms,
        admin=admin,
        file=FileClaim(file_id, f"/api/v1/files/{file_id}", is_certain),
    )


async def refusal_of(store: Store, operation: CreateMessage) -> LiveError:
    (outcome,) = await in_one_go(store, [operation])
    assert outcome.error is not None
    return outcome.error


# --- who is a member ----------------------------------------------------------------------------------


async def test_a_member_and_who_may_do_all_get_the_key_of_the_channels_life(open_store: OpenStore) -> None:
    async with open_store() as store:
        first = await lobby_of_ann(store)
        assert await perform(store, key("admin", admin=True)) == first
        assert await perform(store, key("bob")) == first
        await in_one_go(store, [delete(), create(), join("ann")])
        assert await perform(store, key()) != first


async def test_nobody_else_does(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), create("hidden", private=True), join("ann"), leave("ann")])
        refusals: dict[CheckMember, type[LiveError]] = {
            key("owner"): NotInChannel,
            key("ann"): NotInChannel,
            key("stranger"): NotInChannel,
            key("owner", "hidden"): AccessDenied,
            key("stranger", "hidden"): AccessDenied,
            key("ann", "nowhere"): ChannelNotFound,
            key("ann", "nowhere", admin=True): ChannelNotFound,
        }
        for operation, refusal in refusals.items():
            with pytest.raises(refusal):
                await perform(store, operation)


# --- rows and room --------------------------------------------------------------------------------------


async def test_a_row_is_given_back_as_it_was_stored(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(1))
        assert await get(store, row.file_id) == row
        kept = await add(store, file_row(1, expires_at=None))
        assert await get(store, kept.file_id, LATER_MS * 2) == kept
    async with open_store() as store:
        assert await get(store, row.file_id) == row


async def test_a_file_is_gone_at_its_time(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(1))
        assert await is_there(store, row.file_id, LATER_MS - 1)
        assert not await is_there(store, row.file_id, LATER_MS)
        assert not await is_there(store, new_file_id())


async def test_a_user_has_so_much_room_and_all_have(open_store: OpenStore) -> None:
    async with open_store() as store:
        await add(store, file_row(1, size=40_000), user_bytes=50_000)
        assert await room(store, user_bytes=50_000) == 10_000
        with pytest.raises(PayloadTooLarge, match="50000 bytes, it would be 50001"):
            await add(store, file_row(1, size=10_001), user_bytes=50_000)
        assert await room(store) == PLENTY - 40_000, "what was refused counts for nobody"
        await add(store, file_row(1, "bob", size=10_001), user_bytes=50_000)
        with pytest.raises(Overloaded, match="no room"):
            await add(store, file_row(1, "cat", size=10_000), total_bytes=60_000)
        await add(store, file_row(1, size=9_999), user_bytes=50_000, total_bytes=60_000)
        assert await room(store, "cat", total_bytes=64_096) == 4096
        with pytest.raises(Overloaded):
            await room(store, "cat", total_bytes=64_095)


async def test_early_on_it_is_told_whether_there_is_room(open_store: OpenStore) -> None:
    def checking(size: int) -> Transact[int]:
        return Transact(
            partial(
                file_rows.check_room, uploader_id=UserId("ann"), size=size, user_bytes=9_000, total_bytes=9_500
            ),
            writes=False,
        )

    async with open_store() as store:
        assert await perform(store, checking(9_000)) == 9_000
        with pytest.raises(PayloadTooLarge):
            await perform(store, checking(9_001))
        await add(store, file_row(1, "bob", size=5_000))
        with pytest.raises(Overloaded):
            await perform(store, checking(4_501))


async def test_the_smallest_file_counts_a_block(open_store: OpenStore) -> None:
    async with open_store() as store:
        await add(store, file_row(1, size=0))
        assert await room(store) == PLENTY - 4096


# --- attaching --------------------------------------------------------------------------------------------


async def test_attaching_keeps_the_file_and_stores_what_is_true_of_it(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        stored = await perform(store, attaching(row.file_id))
        assert stored.message is not None
        assert stored.message.attachment == {
            "url": f"/api/v1/files/{row.file_id}",
            "name": "사진.png",
            "bytes": 10_000,
            "mime": "image/png",
        }
        assert (await get(store, row.file_id, LATER_MS)).expires_at is None


async def test_a_file_may_be_attached_again(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        await perform(store, attaching(row.file_id))
        again = await perform(store, attaching(row.file_id, now_ms=LATER_MS))
        assert again.message is not None
        assert again.message.attachment is not None
        assert again.message.attachment["name"] == "사진.png"


async def test_a_repeated_message_attaches_nothing(open_store: OpenStore) -> None:
    """The nonce is looked up before the file: by now it may be gone."""
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        await perform(store, attaching(row.file_id, nonce="n"))
        await work(store, partial(file_rows.condemn, file_id=row.file_id, even_attached=True))
        assert (await perform(store, attaching(row.file_id, nonce="n"))).duplicate


async def test_a_refused_message_attaches_nothing(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        await in_one_go(store, [leave("ann")])
        assert isinstance(await refusal_of(store, attaching(row.file_id)), JoinBeforeMessaging)
        assert (await get(store, row.file_id)).expires_at == LATER_MS


async def test_only_its_uploader_attaches_a_file_in_its_channel(open_store: OpenStore) -> None:
    async with open_store() as store:
        lobby = await lobby_of_ann(store)
        await in_one_go(store, [create("other"), join("ann", "other"), join("bob", "other")])
        row = await add(store, file_row(lobby))
        unknown = await refusal_of(store, attaching(new_file_id()))
        assert isinstance(unknown, ProtocolError)
        hidden = await refusal_of(store, attaching(row.file_id, "bob"))
        assert (type(hidden), hidden.reason) == (type(unknown), unknown.reason), (
            "Bob is not to know that it is there"
        )
        elsewhere = await refusal_of(store, attaching(row.file_id, channel_id="other"))
        assert isinstance(elsewhere, Forbidden)
        assert "another channel" in elsewhere.reason
        await perform(store, attaching(row.file_id))
        foreign = await refusal_of(store, attaching(row.file_id, "bob"))
        assert isinstance(foreign, Forbidden)
        assert "only its uploader" in foreign.reason
        still_hidden = await refusal_of(store, attaching(row.file_id, "bob", channel_id="other"))
        assert still_hidden.reason == unknown.reason
        assert all("attachment" in each.reason for each in (unknown, elsewhere, foreign))


@pytest.mark.parametrize("how", ["expired", "condemned", "channel born again"])
async def test_a_file_that_is_gone_is_not_attached(open_store: OpenStore, how: str) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        if how == "condemned":
            assert await work(store, partial(file_rows.condemn, file_id=row.file_id, even_attached=False))
        elif how == "channel born again":
            await in_one_go(store, [delete(), create(), join("ann")])
        refusal = await refusal_of(store, attaching(row.file_id, now_ms=LATER_MS if how == "expired" else NOW_MS))
        assert isinstance(refusal, Forbidden if how == "channel born again" else ProtocolError)


async def test_what_may_be_elsewhere_is_left_as_it_was_submitted(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        stored = await perform(store, attaching(new_file_id(), is_certain=False))
        assert stored.message is not None
        assert stored.message.attachment == {"url": "as submitted", "name": "n", "bytes": 1, "mime": "m"}
        mine = await perform(store, attaching(row.file_id, is_certain=False))
        assert mine.message is not None
        assert mine.message.attachment is not None
        assert mine.message.attachment["url"] == f"/api/v1/files/{row.file_id}"


# --- removing ---------------------------------------------------------------------------------------------


async def removed(store: Store, now_ms: int, limit: int = 100) -> list[FileId]:
    expired = await perform(store, Transact(partial(file_rows.take_expired, now_ms=now_ms, limit=limit)))
    count = await perform(store, Transact(partial(file_rows.remove, file_ids=expired)))
    assert count == len(expired)
    return expired


async def test_what_has_expired_is_taken_and_its_room_is_free_again(open_store: OpenStore) -> None:
    async with open_store() as store:
        rows = [await add(store, file_row(1, user)) for user in ("ann", "ann", "bob")]
        kept = await add(store, file_row(1, expires_at=None))
        assert await removed(store, LATER_MS - 1) == []
        assert sorted(await removed(store, LATER_MS)) == sorted(row.file_id for row in rows)
        assert await removed(store, LATER_MS) == []
        assert await is_there(store, kept.file_id)
        assert [await room(store, user) for user in ("ann", "bob", "cat")] == [PLENTY - 10_000] * 3


async def test_only_so_many_are_taken_at_a_time(open_store: OpenStore) -> None:
    async with open_store() as store:
        for _ in range(5):
            await add(store, file_row(1))
        assert [len(await removed(store, LATER_MS, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


async def test_what_is_taken_is_gone_at_once_but_its_row_stays_until_its_bytes_are_removed(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        row = await add(store, file_row(await lobby_of_ann(store)))
        taking = partial(file_rows.take_expired, now_ms=LATER_MS, limit=1)
        assert await work(store, taking) == [row.file_id]
        assert not await is_there(store, row.file_id)
        assert isinstance(await refusal_of(store, attaching(row.file_id)), ProtocolError)
        assert await work(store, taking) == [row.file_id], "who took it first may have died since"
        assert await room(store) == PLENTY - 10_000


async def test_a_file_that_is_there_is_not_removed(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(1))
        assert await work(store, partial(file_rows.remove, file_ids=[row.file_id, new_file_id()])) == 0
        assert await is_there(store, row.file_id)


async def test_an_attached_file_is_condemned_only_by_who_may(open_store: OpenStore) -> None:
    async with open_store() as store:
        row = await add(store, file_row(1, expires_at=None))
        assert not await work(store, partial(file_rows.condemn, file_id=row.file_id, even_attached=False))
        assert await is_there(store, row.file_id)
        assert await work(store, partial(file_rows.condemn, file_id=row.file_id, even_attached=True))
        assert not await is_there(store, row.file_id)


async def test_the_files_of_a_deleted_channel_go_some_at_a_time(open_store: OpenStore) -> None:
    async with open_store() as store:
        lobby = await lobby_of_ann(store)
        await in_one_go(store, [create("other"), join("ann", "other")])
        other = await perform(store, key(channel_id="other"))
        rows = [await add(store, file_row(lobby, expires_at=at)) for at in (None, None, LATER_MS, 0, None)]
        stays = await add(store, file_row(other, expires_at=None, channel_id="other"))
        condemning = partial(file_rows.condemn_some, limit=2)
        assert not await work(store, condemning), "no channel was deleted yet"
        await in_one_go(store, [delete()])
        assert [await work(store, condemning) for _ in range(4)] == [True, True, True, False]
        assert not any([await is_there(store, row.file_id) for row in rows])
        assert await is_there(store, stays.file_id)
        assert len(await removed(store, NOW_MS)) == 5


async def test_a_deleted_channel_without_files_is_not_remembered(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), delete()])
        assert not await work(store, partial(file_rows.condemn_some, limit=2))


async def test_those_with_a_row_are_known(open_store: OpenStore) -> None:
    async with open_store() as store:
        rows = [await add(store, file_row(1, expires_at=at)) for at in (None, LATER_MS, 0)]
        asked = [row.file_id for row in rows]
        assert await work(store, partial(file_rows.find_known, file_ids=[*asked, new_file_id()])) == set(asked)


async def test_messages_and_files_share_a_batch(open_store: OpenStore) -> None:
    async with open_store() as store:
        lobby = await lobby_of_ann(store)
        row = file_row(lobby)
        adding = Transact(partial(file_rows.add, row=row, user_bytes=PLENTY, total_bytes=PLENTY))
        outcomes = await in_one_go(store, [adding, attaching(row.file_id), attaching(new_file_id()), delete()])
        assert outcomes[1].error is None
        assert isinstance(outcomes[2].error, ProtocolError)
        assert outcomes[3].error is None
        assert await work(store, partial(file_rows.condemn_some, limit=100))
        assert not await is_there(store, row.file_id)
