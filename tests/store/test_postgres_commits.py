"""What the PostgreSQL store makes of a COMMIT whose answer never came: every case against a real server."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from livechat.protocol.types import UserId
from livechat.store.base import perform
from livechat.store.operations import ChangeSettings
from livechat.store.postgres import open_postgres_store
from livechat.store.rows import Stored
from tests.support.postgres import PostgresServer
from tests.support.postgres_faults import (
    WAITS_FOR_LOCK,
    actions,
    codes,
    stored_seqs,
    terminate,
    until_healed,
    wait_for_connection,
)
from tests.support.postgres_proxy import Proxy
from tests.support.server import wait_until
from tests.support.store import Answers, create, delete, in_one_go, join, message


async def test_a_commit_that_was_done_but_not_confirmed_counts_as_done(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    async with open_postgres_store(proxy.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("unanswered")
        stored = await perform(store, message("ann", nonce="n1"))
        assert (stored.seq, stored.duplicate) == (2, False)
        assert (await perform(store, message("ann", nonce="n1"))).duplicate
        assert store.statistics().failures == 0
    assert stored_seqs(victim, database) == [1, 2]


async def test_a_commit_that_never_arrived_is_rolled_back_for_sure(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    async with open_postgres_store(proxy.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("lost")
        outcomes = await in_one_go(store, [message("ann", nonce="n1")])
        assert actions(outcomes) == ["ROLLBACK"]
        stored = await perform(store, message("ann", nonce="n1"))
        assert (stored.seq, stored.duplicate) == (2, False)
    assert stored_seqs(victim, database) == [1, 2]


@pytest.mark.parametrize("operation", [ChangeSettings(UserId("ann"), {"k": 1}), delete(), create("other")])
async def test_any_change_proves_its_commit(
    victim: PostgresServer, proxy: Proxy, database: str, operation: Any
) -> None:
    async with open_postgres_store(proxy.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("lost")
        assert actions(await in_one_go(store, [operation])) == ["ROLLBACK"]
        proxy.arm("unanswered")
        assert codes(await in_one_go(store, [operation])) == [0]


async def test_a_commit_of_nothing_needs_no_proof(victim: PostgresServer, proxy: Proxy, database: str) -> None:
    async with open_postgres_store(proxy.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        await perform(store, message("ann", nonce="n1"))
        proxy.arm("lost")
        outcomes = await in_one_go(store, [message("ann", nonce="n1"), message("stranger")])
        assert codes(outcomes) == [0, 3002]


async def test_a_commit_that_arrives_late_is_waited_for(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    answers = Answers()
    async with open_postgres_store(proxy.url(database), timeout_s=30.0) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("late")
        store.submit(message("ann", nonce="n1"), answers)
        await proxy.wait_reached()
        # On a new connection already, the store waits for the old one to end its transaction.
        await wait_for_connection(victim, database, WAITS_FOR_LOCK)
        assert answers.outcomes == []
        proxy.release()
        (outcome,) = await answers.wait_count(1)
        assert isinstance(outcome.value, Stored)
        assert outcome.value.seq == 2
        assert (await perform(store, message("ann"))).seq == 3
    assert stored_seqs(victim, database) == [1, 2, 3]


async def test_a_commit_in_doubt_past_its_deadline_is_told_twice(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    answers, behind = Answers(), Answers()
    async with open_postgres_store(proxy.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("unanswered", then_refuse=True)
        store.submit(message("ann", nonce="n1"), answers)
        store.submit(message("ann"), behind)
        assert actions(await answers.wait_count(1)) == ["RETRY"]
        # What waits behind it was never begun.
        assert actions(await behind.wait_count(1)) == ["ROLLBACK"]
        proxy.admit()
        late = (await answers.wait_count(2))[1]
        assert late.late
        assert isinstance(late.value, Stored)
        assert late.value.seq == 2
        assert (await perform(store, message("ann", nonce="n1"))).duplicate
        assert store.statistics().late == 1


async def test_a_commit_in_doubt_that_proves_undone_is_told_once(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    answers = Answers()
    async with open_postgres_store(proxy.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), join("ann")])
        proxy.arm("lost", then_refuse=True)
        store.submit(message("ann", nonce="n1"), answers)
        assert actions(await answers.wait_count(1)) == ["RETRY"]
        proxy.admit()
        stored = await until_healed(store)
        assert stored.seq == 2
        assert not (await perform(store, message("ann", nonce="n1"))).duplicate
        assert len(answers.outcomes) == 1


async def test_a_store_is_closed_in_time_though_a_commit_is_in_doubt(
    victim: PostgresServer, proxy: Proxy, database: str
) -> None:
    answers = Answers()
    with trio.fail_after(30):
        async with open_postgres_store(proxy.url(database), timeout_s=0.3) as store:
            await in_one_go(store, [create(), join("ann")])
            proxy.arm("unanswered", then_refuse=True)
            store.submit(message("ann"), answers)
            await proxy.wait_reached()
    assert actions(answers.outcomes) == ["RETRY"]
    # Nobody looks for its outcome any more.
    await wait_until(lambda: "livechat-store" not in [thread.name for thread in threading.enumerate()])


async def test_a_commit_that_waits_for_its_standby_is_not_called_done(
    victim: PostgresServer, database: str
) -> None:
    answers = Answers()
    async with open_postgres_store(victim.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), join("ann")])
        with victim.connect("postgres") as operator:
            operator.execute(f"ALTER DATABASE {database} SET synchronous_commit = on")
            terminate(victim, database)
            store.submit(message("ann", nonce="n1"), answers)
            # It waits for a standby that never comes, longer than any timeout.
            assert actions(await answers.wait_count(1)) == ["RETRY"]
            waits = "wait_event = 'SyncRep'"
            await wait_for_connection(victim, database, f"{waits} AND now() - query_start > interval '1s'")
            assert len(answers.outcomes) == 1
            operator.execute(f"ALTER DATABASE {database} RESET synchronous_commit")
            # Whoever ends it finds it committed here after all.
            assert terminate(victim, database, waits) == 1
        late = (await answers.wait_count(2))[1]
        assert late.late
        terminate(victim, database)  # those that still want a standby
        assert (await until_healed(store)).seq == 3
    assert stored_seqs(victim, database) == [1, 2, 3]


async def test_a_writer_whose_row_was_removed_puts_it_back(victim: PostgresServer, database: str) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        with victim.connect(database) as operator:
            operator.execute("DELETE FROM writer")
            assert (await perform(store, message("ann"))).seq == 2
            assert operator.execute("SELECT count(*) FROM writer").fetchone() == (1,)
        assert store.statistics().failures == 0
