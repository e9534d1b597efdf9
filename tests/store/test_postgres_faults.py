"""What the PostgreSQL store does when its server fails, is away or is slow: every case against a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from livechat.error import BackendUnavailable, LiveError
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import perform
from livechat.store.operations import ChangeSettings, GetChannel, LoadUser
from livechat.store.postgres import open_postgres_store
from livechat.store.queries import GetHistory
from livechat.store.rows import Stored
from tests.support.postgres import PostgresServer
from tests.support.postgres_faults import (
    OTHERS,
    WAITS_FOR_LOCK,
    actions,
    codes,
    stored_seqs,
    terminate,
    until_healed,
    wait_for_connection,
)
from tests.support.store import NOW_MS, Answers, create, in_one_go, join, last_seq, message, refusal

GET_LOBBY = GetChannel(ChannelId("lobby"), UserId("owner"))
HISTORY = GetHistory(ChannelId("lobby"), UserId("ann"))


# --- one operation that can't be done -------------------------------------------------------------


@pytest.mark.parametrize(
    "poison",
    [
        partial(message, "ann", "nul\0nul"),
        partial(message, "ann", nonce="nul\0"),
        partial(message, "\0"),
        partial(message, "ann", mentions=("\0",)),
        partial(message, "ann", channel_id="\0"),
        partial(message, "ann", "\ud800"),
        partial(message, "ann", nonce="\ud800"),
        partial(message, "ann", mentions=("\ud800",)),
        partial(message, "ann", attachment={"name": b"not JSON"}),
        partial(message, "ann", nonce="n1", now_ms=2**63),
        partial(join, "eve", now_ms=2**63),
        partial(create, "other", capacity=2**63),
        partial(create, "\0"),
        partial(ChangeSettings, UserId("\0"), {}),
    ],
)
async def test_what_the_database_cannot_hold_fails_alone(database_url: str, poison: Callable[[], Any]) -> None:
    async with open_postgres_store(database_url) as store:
        await in_one_go(store, [create(), join("ann")])
        before = [message("ann"), message("stranger"), message("ann", nonce="before")]
        # The first is committed while the others gather, so these share one batch.
        outcomes = await in_one_go(store, [message("ann"), *before, poison(), message("ann"), message("ann")])

        assert codes(outcomes) == [0, 0, 3002, 0, 3005, 0, 0]
        assert actions(outcomes)[4] == "ROLLBACK"
        assert [outcome.value.seq for outcome in outcomes if isinstance(outcome.value, Stored)] == [2, 3, 4, 5, 6]
        assert await last_seq(store) == 6
        assert store.statistics().failures == 1
        assert (await perform(store, message("ann", nonce="before"))).duplicate


async def test_text_that_cannot_be_stored_does_not_undo_its_batch(database_url: str) -> None:
    async with open_postgres_store(database_url) as store:
        await in_one_go(store, [create(), join("ann")])
        before = store.statistics().batches
        await in_one_go(store, [message("ann", "\0" if number == 5 else "fine") for number in range(10)])
        assert store.statistics().batches - before == 2


async def test_json_holds_what_text_cannot(database_url: str) -> None:
    odd = {"nul\0": "\0", "half": "\ud800"}
    async with open_postgres_store(database_url) as store:
        await in_one_go(store, [create(), join("ann")])
        await perform(store, message("ann", attachment=dict(odd)))
        await perform(store, ChangeSettings(UserId("ann"), {"nul": "\0"}))
        view = await perform(store, LoadUser(UserId("ann"), NOW_MS))
        assert view.user.settings == {"nul": "\0"}
        assert view.states[0].last_message is not None
        assert view.states[0].last_message.attachment == odd


async def test_a_read_that_cannot_be_done_says_so(database_url: str) -> None:
    async with open_postgres_store(database_url) as store:
        assert await refusal(store, LoadUser(UserId("\0"), NOW_MS)) == 9003
        await perform(store, create())
        with pytest.raises(LiveError) as caught:
            await store.fetch(GetHistory(ChannelId("\0"), UserId("ann")))
        assert caught.value.code == 9003
        await perform(store, join("ann"))
        assert (await store.fetch(HISTORY)).last_seq == 1


# --- connections and servers that end ---------------------------------------------------------------


async def test_connections_that_died_idle_are_replaced_unnoticed(victim: PostgresServer, database: str) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann"), message("ann")])
        await store.fetch(HISTORY)
        assert terminate(victim, database) == 2
        assert (await store.fetch(HISTORY)).last_seq == 2
        assert (await perform(store, message("ann", nonce="n1"))).seq == 3
        assert store.statistics().failures == 0


async def test_a_connection_that_dies_within_a_transaction_costs_nothing(
    victim: PostgresServer, database: str
) -> None:
    answers = Answers()
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        with victim.connect(database) as rival:
            rival.execute("BEGIN")
            rival.execute("SELECT * FROM channel FOR UPDATE")
            store.submit(message("ann", nonce="n1"), answers)
            await wait_for_connection(victim, database, WAITS_FOR_LOCK)
            assert terminate(victim, database, WAITS_FOR_LOCK) == 1
            rival.execute("ROLLBACK")
        (outcome,) = await answers.wait_count(1)
        assert isinstance(outcome.value, Stored)
        assert (outcome.value.seq, outcome.value.duplicate) == (2, False)
    assert stored_seqs(victim, database) == [1, 2]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["in order", "as in a crash"])
async def test_a_server_that_comes_back_is_used_again(
    victim: PostgresServer, database: str, how: signal.Signals
) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        stored = await perform(store, message("ann", nonce="n1"))
        await store.fetch(HISTORY)
        victim.stop(how)
        try:
            outcomes = await in_one_go(store, [message("ann"), GET_LOBBY, message("ann")])
            assert codes(outcomes) == [3005, 9003, 3005]
            assert actions(outcomes) == ["ROLLBACK", None, "ROLLBACK"]
            with pytest.raises(LiveError) as caught:
                await store.fetch(HISTORY)
            assert caught.value.code == 9003
        finally:
            victim.start()
        assert (await perform(store, message("ann", nonce="n2"))).seq == stored.seq + 1
        assert (await perform(store, message("ann", nonce="n1"))).duplicate
        assert (await store.fetch(HISTORY)).last_seq == stored.seq + 1
    assert stored_seqs(victim, database) == [1, 2, 3]


async def test_a_server_that_stands_still_holds_nobody_past_the_deadline(
    victim: PostgresServer, database: str
) -> None:
    async with open_postgres_store(victim.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), join("ann")])
        await store.fetch(HISTORY)
        victim.freeze()
        try:
            with trio.fail_after(30):
                for _ in range(3):
                    outcomes = await in_one_go(store, [message("ann"), message("ann"), GET_LOBBY])
                    assert codes(outcomes) == [3005, 3005, 9003]
                    assert actions(outcomes) == ["ROLLBACK", "ROLLBACK", None]
                    with pytest.raises(LiveError):
                        await store.fetch(HISTORY)
        finally:
            victim.thaw()
        stored = await until_healed(store)
    assert stored_seqs(victim, database) == list(range(1, stored.seq + 1)) == [1, 2]


async def test_a_connection_that_stands_still_is_given_up_at_the_deadline(
    victim: PostgresServer, database: str
) -> None:
    async with open_postgres_store(victim.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), join("ann")])
        await store.fetch(HISTORY)
        with victim.connect("postgres") as observer:
            pids = [pid for (pid,) in observer.execute(f"SELECT pid {OTHERS}", (database,)).fetchall()]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            assert actions(await in_one_go(store, [message("ann")])) == ["ROLLBACK"]
            # On new connections, while the old ones stand still.
            assert (await until_healed(store)).seq == 2
            with trio.fail_after(30):
                while True:
                    try:
                        assert (await store.fetch(HISTORY)).last_seq == 2
                        break
                    except BackendUnavailable:
                        pass
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


async def test_a_store_is_closed_in_time_though_its_server_stands_still(
    victim: PostgresServer, database: str
) -> None:
    answers = Answers()
    victim_was_frozen = False
    with trio.fail_after(30):
        try:
            async with open_postgres_store(victim.url(database), timeout_s=0.3) as store:
                await in_one_go(store, [create(), join("ann")])
                victim.freeze()
                victim_was_frozen = True
                store.submit(message("ann"), answers)
        finally:
            if victim_was_frozen:
                victim.thaw()
    assert codes(answers.outcomes) == [3005]


async def test_a_database_that_takes_no_connections_is_an_outage_that_passes(
    victim: PostgresServer, database: str
) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        with victim.connect("postgres") as operator:
            operator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
            terminate(victim, database)
            assert codes(await in_one_go(store, [message("ann"), message("ann")])) == [3005, 3005]
            operator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        assert (await perform(store, message("ann"))).seq == 2


async def test_a_table_that_is_missing_is_an_outage_that_passes(victim: PostgresServer, database: str) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        with victim.connect(database) as operator:
            operator.execute("ALTER TABLE message RENAME TO gone")
            assert codes(await in_one_go(store, [message("ann"), message("ann")])) == [3005, 3005]
            operator.execute("ALTER TABLE gone RENAME TO message")
        assert (await perform(store, message("ann"))).seq == 2


async def test_a_server_that_comes_back_as_a_standby_is_an_outage_until_it_is_promoted(
    victim: PostgresServer, database: str
) -> None:
    async with open_postgres_store(victim.url(database)) as store:
        await in_one_go(store, [create(), join("ann")])
        victim.stop()
        victim.become_standby()
        victim.start()
        outcomes = await in_one_go(store, [message("ann"), message("ann")])
        assert actions(outcomes) == ["ROLLBACK", "ROLLBACK"]
        with victim.connect("postgres") as operator:
            assert operator.execute("SELECT pg_promote()").fetchone() == (True,)
        assert (await until_healed(store)).seq == 2


# --- locks ------------------------------------------------------------------------------------------


async def test_a_lock_held_by_another_program_fails_writes_at_their_deadline(
    victim: PostgresServer, database: str
) -> None:
    async with open_postgres_store(victim.url(database), timeout_s=0.3) as store:
        await in_one_go(store, [create(), create("other"), join("ann"), join("ann", "other")])
        with victim.connect(database) as rival:
            rival.execute("BEGIN")
            rival.execute("SELECT * FROM channel WHERE channel_id = 'lobby' FOR UPDATE")
            outcomes = await in_one_go(store, [message("ann", nonce="n1"), message("ann")])
            assert codes(outcomes) == [3005, 3005]
            assert actions(outcomes) == ["ROLLBACK", "ROLLBACK"]
            rival.execute("ROLLBACK")
        stored = await perform(store, message("ann", nonce="n1"))
        assert (stored.seq, stored.duplicate) == (2, False)
        assert store.statistics().late == 0
    with victim.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM message").fetchone() == (3,)


async def test_what_only_reads_waits_for_no_lock(victim: PostgresServer, database: str) -> None:
    async with open_postgres_store(victim.url(database), timeout_s=30.0) as store:
        await in_one_go(store, [create(), join("ann"), message("ann")])
        with victim.connect(database) as rival:
            rival.execute("BEGIN")
            rival.execute("SELECT * FROM channel FOR UPDATE")
            rival.execute("UPDATE member SET read_seq = 0")
            with trio.fail_after(10):
                assert await last_seq(store) == 2
                assert (await store.fetch(HISTORY)).last_seq == 2
            rival.execute("ROLLBACK")


async def test_the_loser_of_a_deadlock_tries_again(victim: PostgresServer, database: str) -> None:
    answers = Answers()
    async with open_postgres_store(victim.url(database), timeout_s=30.0) as store:
        await in_one_go(store, [create(), create("other"), join("ann"), join("ann", "other")])
        with victim.connect(database) as rival:
            # In the order that the store never takes. So patient that it is the store who looks for deadlocks.
            rival.execute("SET deadlock_timeout = '1min'")
            rival.execute("BEGIN")
            rival.execute("SELECT * FROM channel WHERE channel_id = 'other' FOR UPDATE")
            for channel_id in ("lobby", "other"):
                store.submit(message("ann", channel_id=channel_id), answers)
            (first,) = await answers.wait_count(1)
            assert first.error is None
            store.submit(message("ann", channel_id="lobby"), answers)
            await wait_for_connection(victim, database, WAITS_FOR_LOCK)
            # The second batch holds `lobby` and waits for `other`; this waits for `lobby`.
            lock = partial(rival.execute, "SELECT * FROM channel WHERE channel_id = 'lobby' FOR UPDATE")
            await trio.to_thread.run_sync(lock)
            rival.execute("ROLLBACK")
        outcomes = await answers.wait_count(3)
        assert codes(outcomes) == [0, 0, 0]
        assert store.statistics().failures == 0
        assert await last_seq(store) == 3
