"""Random histories: every store against the model."""

from __future__ import annotations

import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.error import LiveError
from livechat.store.base import Store
from livechat.store.operations import Operation
from livechat.store.queries import Query
from livechat.store.sqlite import open_sqlite_store
from tests.support.store import in_one_go
from tests.support.store_histories import OPENING, batches, queries
from tests.support.store_model import StoreModel, expected


def open_in(store: str, data_dir: str) -> AbstractAsyncContextManager[Store]:
    assert store == "sqlite"
    return open_sqlite_store(Path(data_dir))


Step = tuple[list[Operation[Any]], list[Query[Any]]]
"""Operations submitted at once, and queries asked when all are answered."""

steps = st.tuples(batches(), st.lists(queries, max_size=3))


@pytest.mark.parametrize("store_kind", ["sqlite"])
@settings(deadline=None, max_examples=80)
@given(lives=st.lists(st.lists(steps, max_size=4), min_size=1, max_size=3))
def test_a_store_does_what_the_model_does(store_kind: str, lives: list[list[Step]]) -> None:
    """Each life is opened on what the one before stored."""
    model = StoreModel()

    async def live(data_dir: str, life: list[Step]) -> None:
        async with open_in(store_kind, data_dir) as store:
            for batch, asked in life:
                outcomes = await in_one_go(store, batch)
                for operation, outcome in zip(batch, outcomes, strict=True):
                    result = outcome.error.code if outcome.error else outcome.value
                    assert result == expected(model, operation)
                for query in asked:
                    assert await answer(store, query) == expected(model, query)

    with tempfile.TemporaryDirectory() as data_dir:
        for life in ([(OPENING, []), *lives[0]], *lives[1:]):
            trio.run(live, data_dir, life)


async def answer(store: Store, query: Query[Any]) -> object:
    """Return what the store answers, or the code with which it refuses."""
    try:
        return await store.fetch(query)
    except LiveError as error:
        return error.code
