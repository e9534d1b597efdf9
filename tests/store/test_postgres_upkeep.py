"""What the PostgreSQL store removes by itself: messages of deleted channels, and expired nonces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import perform
from livechat.store.executor import PRUNE_ROWS_MAX, Prune
from livechat.store.group_commit import PRUNE_EVERY_MESSAGES
from livechat.store.operations import CreateMessage, GetChannel, Operation
from livechat.store.postgres import PostgresBackend, open_postgres_store
from livechat.store.postgres_connection import Address
from tests.support.store import NOW_MS, create, delete, in_one_go, join, message

GET_KEPT = GetChannel(ChannelId("kept"), UserId("ann"))


@pytest.fixture
def observer(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def numbered(number: int, now_ms: int) -> CreateMessage:
    return message("ann", nonce=f"n{number}", now_ms=now_ms)


async def test_the_messages_of_a_deleted_channel_are_removed_in_chunks(
    database_url: str, observer: psycopg.Connection[Any]
) -> None:
    async with open_postgres_store(database_url) as store:
        await in_one_go(store, [create(), create("kept"), join("ann"), join("ann", "kept")])
        await in_one_go(store, [message("ann") for _ in range(2500)])
        await perform(store, message("ann", channel_id="kept"))
        batches = store.statistics().batches
        await perform(store, delete())
        while observer.execute("SELECT 1 FROM prunable").fetchall():
            await perform(store, GET_KEPT)
        assert observer.execute("SELECT count(*) FROM message").fetchall() == [(2,)]
        assert store.statistics().batches - batches >= 4


async def test_removal_goes_on_after_a_restart(database_url: str, observer: psycopg.Connection[Any]) -> None:
    async with open_postgres_store(database_url) as store:
        await in_one_go(store, [create(), create("kept"), join("ann")])
        await in_one_go(store, [message("ann") for _ in range(3000)])
        await perform(store, delete())
    assert observer.execute("SELECT 1 FROM prunable").fetchall() == [(1,)]
    async with open_postgres_store(database_url) as store:
        while observer.execute("SELECT 1 FROM prunable").fetchall():
            await perform(store, GET_KEPT)
    assert observer.execute("SELECT count(*) FROM message").fetchall() == [(0,)]


async def test_expired_nonces_are_removed_now_and_then(
    database_url: str, observer: psycopg.Connection[Any]
) -> None:
    async with open_postgres_store(database_url, nonce_ttl_ms=5000) as store:
        await in_one_go(store, [create(), create("kept"), join("ann")])
        await in_one_go(store, [numbered(number, NOW_MS + number) for number in range(PRUNE_EVERY_MESSAGES)])
        oldest = NOW_MS
        while oldest <= NOW_MS + PRUNE_EVERY_MESSAGES - 6000:
            await perform(store, GET_KEPT)
            ((oldest,),) = observer.execute("SELECT min(timestamp) FROM nonce").fetchall()
        last = PRUNE_EVERY_MESSAGES - 1
        assert (await perform(store, numbered(last, NOW_MS + last))).duplicate


async def test_nonces_that_were_used_anew_do_not_hide_expired_ones(
    database_url: str, observer: psycopg.Connection[Any]
) -> None:
    backend = PostgresBackend(Address(database_url, 5.0), timeout_s=5.0, nonce_ttl_ms=1000)
    backend.open()

    def transact(operations: list[Operation[Any]]) -> list[object]:
        assert backend.begin(write=True, wait_s=5.0)
        backend.prepare(operations)
        results = [backend.execute(operation) for operation in operations]
        backend.flush()
        backend.commit()
        return results

    transact([create(), join("ann")])
    transact([numbered(number, NOW_MS) for number in range(PRUNE_ROWS_MAX)])
    transact([numbered(PRUNE_ROWS_MAX, NOW_MS)])
    transact([numbered(number, NOW_MS + 1000) for number in range(PRUNE_ROWS_MAX)])
    assert observer.execute("SELECT count(*) FROM nonce").fetchall() == [(PRUNE_ROWS_MAX + 1,)]
    assert transact([Prune()]) == [False]
    assert observer.execute("SELECT count(*), min(timestamp) FROM nonce").fetchall() == [
        (PRUNE_ROWS_MAX, NOW_MS + 1000)
    ]
    backend.close()
