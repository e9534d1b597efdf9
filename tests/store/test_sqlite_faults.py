"""What the SQLite store does when its database fails or is slow: every case against a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from livechat.error import Overloaded
from livechat.protocol.types import ChannelId, UserId
from livechat.store import writer
from livechat.store.base import Outcome, perform
from livechat.store.operations import CreateMessage, GetChannel
from livechat.store.rows import Stored
from livechat.store.sqlite import open_sqlite_store
from tests.support.store import (
    NOW_MS,
    Answers,
    announce,
    change_settings,
    create,
    delete,
    in_one_go,
    join,
    last_seq,
    leave,
    load,
    mark_read,
    message,
    refusal,
    remove_member,
    state_of,
    update,
)
from tests.support.store_sqlite import Disk, Gate, Rival, SlowExecution

GET_LOBBY = GetChannel(ChannelId("lobby"), UserId("owner"))
GET_KEPT = GetChannel(ChannelId("kept"), UserId("ann"))
COUNTED = ("message", "mention", "nonce", "member", "ban", "announcement")


def codes(outcomes: list[Outcome[Any]]) -> list[int]:
    return [outcome.error.code if outcome.error else 0 for outcome in outcomes]


# --- one operation that can't be done -------------------------------------------------------------


@pytest.mark.parametrize(
    "poison",
    [
        partial(message, "ann", "\ud800"),
        partial(message, "ann", nonce="\ud800"),
        partial(message, "\ud800"),
        partial(message, "ann", mentions=("\ud800",)),
        partial(message, "ann", channel_id="\ud800"),
        partial(message, "ann", attachment={"name": "\ud800"}),
        partial(message, "ann", attachment={"name": b"not JSON"}),
        partial(message, "ann", nonce="n1", now_ms=2**63),
        partial(join, "eve", now_ms=2**63),
        partial(create, "other", capacity=2**63),
        partial(create, "\ud800"),
    ],
)
async def test_what_the_database_cannot_hold_fails_alone(tmp_path: Path, poison: Callable[[], Any]) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann")])
        before = [message("ann"), message("stranger"), message("ann", nonce="before")]
        # The first is committed while the others gather, so these share one batch.
        outcomes = await in_one_go(store, [message("ann"), *before, poison(), message("ann"), message("ann")])

        assert codes(outcomes) == [0, 0, 3002, 0, 3005, 0, 0]
        assert outcomes[4].error is not None
        assert outcomes[4].error.action == "ROLLBACK"
        assert [outcome.value.seq for outcome in outcomes if isinstance(outcome.value, Stored)] == [2, 3, 4, 5, 6]
        assert await last_seq(store) == 6
        assert store.statistics().failures == 1
        assert (await perform(store, message("ann", nonce="before"))).duplicate
    async with open_sqlite_store(tmp_path) as store:
        assert await last_seq(store) == 6


@pytest.mark.parametrize(
    "poison",
    [
        partial(message, "bob", "\ud800"),  # noticed when all is written
        partial(message, "bob", now_ms=2**63),  # noticed before anything is
    ],
)
async def test_what_shared_a_batch_with_a_failure_is_done_once(tmp_path: Path, poison: Callable[[], Any]) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        outcomes = await in_one_go(
            store,
            [
                message("bob"),
                message("bob", mentions=("ann",), nonce="n1"),
                leave("bob"),
                join("bob"),
                change_settings(a=1),
                announce(),
                remove_member("cat", ban=True),
                message("bob", mentions=("ann",)),
                mark_read("ann", 4),
                message("bob", mentions=("ann",)),
                poison(),
            ],
        )
        assert codes(outcomes) == [0] * 10 + [3005]
        state = await state_of(store, "ann")
        assert (state.unread, state.member.mention_count, state.channel.last_seq) == (2, 2, 8)
        rival = Rival(tmp_path)
        counts = {table: rival.query(f"SELECT count(*) FROM {table}")[0][0] for table in COUNTED}
        assert counts == {"message": 8, "mention": 2, "nonce": 1, "member": 2, "ban": 1, "announcement": 1}
        rival.close()


async def test_a_read_that_cannot_be_done_says_so(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        assert await refusal(store, load("\ud800")) == 9003
        await perform(store, create())


# --- a database that can't work -------------------------------------------------------------------


async def test_a_full_disk_fails_the_writes_and_heals_with_room(tmp_path: Path) -> None:
    disk = Disk()
    async with open_sqlite_store(tmp_path, connection_factory=disk.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        disk.fill()
        large = "x" * 100_000
        outcomes = await in_one_go(store, [message("ann", large), message("ann", large), GET_LOBBY])
        assert codes(outcomes) == [3005, 3005, 9003]
        assert [outcome.error and outcome.error.action for outcome in outcomes] == ["ROLLBACK", "ROLLBACK", None]
        assert await last_seq(store) == 1
        assert (await state_of(store, "ann")).member.read_seq == 1
        disk.make_room()
        stored = await perform(store, message("ann", large))
        assert stored.seq == 2
        assert (await state_of(store, "ann")).last_message == stored.message


async def test_a_lock_held_by_another_program_fails_writes_at_their_deadline(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path, timeout_s=0.2) as store:
        await in_one_go(store, [create(), join("ann")])
        rival = Rival(tmp_path)
        rival.lock()
        outcomes = await in_one_go(store, [message("ann", nonce="n1"), message("ann"), GET_LOBBY])
        assert codes(outcomes) == [3005, 3005, 9003]
        assert outcomes[0].error is not None
        assert outcomes[0].error.action == "ROLLBACK"
        # What only reads needs no lock.
        assert await last_seq(store) == 1

        rival.unlock()
        stored = await perform(store, message("ann", nonce="n1"))
        assert (stored.seq, stored.duplicate) == (2, False)
        rival.close()


async def test_a_lock_given_back_in_time_costs_nothing(tmp_path: Path) -> None:
    answers = Answers()
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann")])
        rival = Rival(tmp_path)
        rival.lock()
        store.submit(message("ann"), answers)
        await trio.sleep(0.05)  # for the writer to meet the lock; passes just as well if it does not
        rival.unlock()
        rival.close()
        (outcome,) = await answers.wait_count(1)
        assert outcome.error is None


async def test_what_another_program_writes_is_seen(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann"), message("ann")])
        rival = Rival(tmp_path)
        rival.query("UPDATE member SET role = 'moderator'")
        rival.query("UPDATE channel SET owner_id = 'heir'")
        rival.close()
        state = await state_of(store, "ann")
        assert (state.member.role, state.channel.owner_id) == ("moderator", "heir")
        assert (await perform(store, join("ann"))).member.role == "moderator"
        assert (await perform(store, update(actor_id="ann", capacity=9))).capacity == 9
        assert await refusal(store, delete(actor_id="ann")) == 1007
        assert await refusal(store, delete(actor_id="owner")) == 1007


async def test_a_lost_connection_is_made_anew(tmp_path: Path) -> None:
    broken: list[sqlite3.Connection] = []

    class Connection(sqlite3.Connection):
        def rollback(self) -> None:
            if not broken:
                broken.append(self)
                self.close()
            super().rollback()

    async with open_sqlite_store(tmp_path, connection_factory=Connection) as store:
        await in_one_go(store, [create(), join("ann")])
        assert await refusal(store, message("ann", "\ud800")) == 3005
        assert broken
        assert (await perform(store, message("ann"))).seq == 2


# --- deadlines ------------------------------------------------------------------------------------


async def test_a_commit_that_ends_after_its_deadline_is_told_twice(tmp_path: Path) -> None:
    gate = Gate()
    answers = Answers()
    async with open_sqlite_store(tmp_path, timeout_s=0.2, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        gate.arm()
        store.submit(message("ann", "first"), answers)
        store.submit(message("ann", "second"), answers)
        await gate.wait_reached()
        (first, second) = await answers.wait_count(2)
        assert (first.error and first.error.action, first.late) == ("RETRY", False)
        # The second was still gathering: it is surely not stored.
        assert (second.error and second.error.action) == "ROLLBACK"

        gate.release()
        late = (await answers.wait_count(3))[2]
        assert late.late
        assert isinstance(late.value, Stored)
        assert late.value.seq == 2
        assert (await state_of(store, "ann")).last_message == late.value.message
        assert store.statistics().late == 1


async def test_refusals_and_reads_in_a_doubtful_commit_come_once(tmp_path: Path) -> None:
    gate = Gate()
    holder, refused, read, written = Answers(), Answers(), Answers(), Answers()
    async with open_sqlite_store(tmp_path, timeout_s=0.3, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        gate.arm()
        store.submit(message("ann"), holder)
        await gate.wait_reached()
        store.submit(message("stranger"), refused)
        store.submit(GET_LOBBY, read)
        store.submit(message("ann"), written)
        gate.release()
        gate.arm()
        await gate.wait_reached()
        assert codes(await refused.wait_count(1)) == [3005]
        assert codes(await read.wait_count(1)) == [9003]
        assert codes(await written.wait_count(1)) == [3005]
        gate.release()
        assert (await written.wait_count(2))[1].late
        assert (len(refused.outcomes), len(read.outcomes)) == (1, 1)


async def test_what_was_answered_one_by_one_is_not_answered_again_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To write out the bad one's exception with all its values may take longer than the others have.
    monkeypatch.setattr(writer, "_log", structlog.testing.CapturingLogger())
    gate = Gate()
    holder, good, bad, stuck = Answers(), Answers(), Answers(), Answers()
    async with open_sqlite_store(tmp_path, timeout_s=0.3, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        gate.arm()
        store.submit(message("ann"), holder)
        await gate.wait_reached()
        store.submit(message("ann"), good)
        store.submit(message("ann", "\ud800"), bad)
        store.submit(message("ann"), stuck)
        gate.release()
        gate.arm(skip=1)  # past the commit of the good one
        await gate.wait_reached()
        assert codes(await stuck.wait_count(1)) == [3005]
        gate.release()
        assert (await stuck.wait_count(2))[1].late
        assert codes(good.outcomes + bad.outcomes) == [0, 3005]


async def test_who_gives_way_waits_for_the_transaction_under_way_and_no_longer_than_it_may(tmp_path: Path) -> None:
    gate = Gate()
    answers = Answers()
    async with open_sqlite_store(tmp_path, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        with trio.fail_after(30):
            await store.give_way(1e6)  # nothing is under way
            gate.arm()
            store.submit(message("ann"), answers)
            await gate.wait_reached()
            await store.give_way(0.001)
            assert answers.outcomes == []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.give_way, 1e6)
                await trio.testing.wait_all_tasks_blocked()
                gate.release()
            assert codes(await answers.wait_count(1)) == [0]


async def test_a_deadline_before_commit_rolls_back(tmp_path: Path) -> None:
    slow = SlowExecution()
    answers = Answers()
    async with open_sqlite_store(tmp_path, timeout_s=0.2, connection_factory=slow.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        slow.arm()
        store.submit(message("ann", nonce="n1"), answers)
        await slow.wait_reached()
        (outcome,) = await answers.wait_count(1)
        assert (outcome.error and outcome.error.action) == "ROLLBACK"
        slow.release()
        assert await last_seq(store) == 1
        stored = await perform(store, message("ann", nonce="n1"))
        assert (stored.seq, stored.duplicate) == (2, False)
        assert len(answers.outcomes) == 1
        assert store.statistics().late == 0


async def test_leaving_the_store_waits_no_longer_than_its_timeout(tmp_path: Path) -> None:
    gate = Gate()
    stuck, waiting = Answers(), Answers()
    async with open_sqlite_store(tmp_path, timeout_s=0.2, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        gate.arm()
        store.submit(message("ann"), stuck)
        store.submit(message("ann"), waiting)
        await gate.wait_reached()
    assert [outcome.error and outcome.error.action for outcome in stuck.outcomes] == ["RETRY"]
    assert [outcome.error and outcome.error.action for outcome in waiting.outcomes] == ["ROLLBACK"]
    gate.release()


async def test_too_many_waiting_operations_are_refused(tmp_path: Path) -> None:
    gate = Gate()
    answers = Answers()
    async with open_sqlite_store(tmp_path, queue_max=3, connection_factory=gate.connection_factory) as store:
        await in_one_go(store, [create(), join("ann")])
        gate.arm()
        store.submit(message("ann"), answers)
        await gate.wait_reached()
        for _ in range(3):
            store.submit(message("ann"), answers)
        assert store.statistics().queue_depth == 3
        with pytest.raises(Overloaded):
            store.submit(message("ann"), answers)
        gate.release()
        assert codes(await answers.wait_count(4)) == [0, 0, 0, 0]


# --- upkeep ---------------------------------------------------------------------------------------


async def test_the_messages_of_a_deleted_channel_are_removed_in_chunks(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), create("kept"), join("ann"), join("ann", "kept")])
        await in_one_go(store, [message("ann") for _ in range(2500)])
        await perform(store, message("ann", channel_id="kept"))
        rival = Rival(tmp_path)
        batches = store.statistics().batches
        await perform(store, delete())
        while rival.query("SELECT 1 FROM prunable"):
            await perform(store, GET_KEPT)
        assert rival.query("SELECT count(*) FROM message") == [(2,)]
        assert store.statistics().batches - batches >= 4
        rival.close()


async def test_of_members_who_are_gone_no_mention_is_left(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        rival = Rival(tmp_path)
        await in_one_go(store, [create(), join("ann"), join("bob"), join("eve"), remove_member("cat", ban=True)])
        await in_one_go(store, [message("bob", mentions=("ann", "eve")), message("bob", mentions=("ann", "eve"))])
        assert rival.query("SELECT user_id, count(*) FROM mention GROUP BY user_id") == [("ann", 2), ("eve", 2)]
        await in_one_go(store, [message("bob", mentions=("ann",)), leave("ann")])
        assert rival.query("SELECT DISTINCT user_id FROM mention") == [("eve",)]
        await perform(store, delete())
        for table in ("mention", "member", "ban"):
            assert rival.query(f"SELECT * FROM {table}") == []
        rival.close()


async def test_removal_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), create("kept"), join("ann")])
        await in_one_go(store, [message("ann") for _ in range(3000)])
        await perform(store, delete())
    rival = Rival(tmp_path)
    assert rival.query("SELECT 1 FROM prunable") == [(1,)]
    async with open_sqlite_store(tmp_path) as store:
        while rival.query("SELECT 1 FROM prunable"):
            await perform(store, GET_KEPT)
        assert rival.query("SELECT count(*) FROM message") == [(0,)]
    rival.close()


async def test_expired_nonces_are_removed_now_and_then(tmp_path: Path) -> None:
    def numbered(number: int) -> CreateMessage:
        return message("ann", nonce=f"n{number}", now_ms=NOW_MS + number)

    async with open_sqlite_store(tmp_path, nonce_ttl_ms=5000) as store:
        await in_one_go(store, [create(), join("ann")])
        await in_one_go(store, [numbered(number) for number in range(10_000)])
        rival = Rival(tmp_path)
        oldest = NOW_MS
        while oldest <= NOW_MS + 4000:
            await perform(store, GET_LOBBY)
            ((oldest,),) = rival.query("SELECT min(timestamp) FROM nonce")
        rival.close()
        assert (await perform(store, numbered(9999))).duplicate
