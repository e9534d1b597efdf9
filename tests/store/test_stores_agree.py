"""Random histories of all operations and queries: all stores answer the same."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livechat.error import LiveError
from livechat.store.base import Outcome, Store
from livechat.store.memory import open_memory_store
from livechat.store.memory_records import MemoryRecords
from livechat.store.operations import Operation
from livechat.store.postgres import open_postgres_store
from livechat.store.queries import Query
from livechat.store.sqlite import open_sqlite_store
from tests.support.postgres import PostgresServer
from tests.support.store import in_one_go
from tests.support.store_histories import OPENING, batches, queries

Step = tuple[list[Operation[Any]], list[Query[Any]]]
"""Operations submitted at once, and queries asked when all are answered."""

steps = st.tuples(batches(), st.lists(queries, max_size=3))


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return postgres.create_database()


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(lives=st.lists(st.lists(steps, max_size=4), min_size=1, max_size=3))
def test_all_stores_answer_the_same(postgres: PostgresServer, database: str, lives: list[list[Step]]) -> None:
    """Each life is opened on what the one before stored."""
    postgres.empty_database(database)
    records = MemoryRecords()

    async def live(data_dir: str, life: list[Step]) -> None:
        async with AsyncExitStack() as stack:
            stores = [
                await stack.enter_async_context(open_memory_store(records=records)),
                await stack.enter_async_context(open_sqlite_store(Path(data_dir))),
                await stack.enter_async_context(open_postgres_store(postgres.url(database))),
            ]
            for batch, asked in life:
                answers = [[result_of(outcome) for outcome in await in_one_go(store, batch)] for store in stores]
                for operation, *results in zip(batch, *answers, strict=True):
                    assert results[1:] == results[:-1], operation
                for query in asked:
                    results = [await answer_of(store, query) for store in stores]
                    assert results[1:] == results[:-1], query

    with tempfile.TemporaryDirectory() as data_dir:
        for life in ([(OPENING, []), *lives[0]], *lives[1:]):
            trio.run(live, data_dir, life)


def result_of(outcome: Outcome[Any]) -> object:
    return outcome.value if outcome.error is None else type(outcome.error)


async def answer_of(store: Store, query: Query[Any]) -> object:
    try:
        return await store.fetch(query)
    except LiveError as error:
        return type(error)
