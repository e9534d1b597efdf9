"""Random histories: every store, and the SQLite backend with its rollbacks, against the model."""

from __future__ import annotations

import copy
import shutil
import sqlite3
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.error import EmptyMessage, LiveError
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import (
    GetChannel,
    ListChannels,
    LoadUser,
    Operation,
    Store,
    TransientMembers,
)
from livechat.store.sqlite import SqliteBackend, open_sqlite_store
from tests.support.store import DAY_MS, NOW_MS, create, delete, in_one_go, join, leave, message, update
from tests.support.store_model import Refused, StoreModel

# Few names, so that operations meet.
channel_ids = st.sampled_from(["a", "b"])
user_ids = st.sampled_from(["ann", "bob", "eve"])
times = st.sampled_from([NOW_MS, NOW_MS + DAY_MS - 1, NOW_MS + DAY_MS])
texts = st.text(max_size=4)

operations: st.SearchStrategy[Operation[Any]] = st.one_of(
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
        admin=st.booleans(),
        capacity=st.none() | st.integers(1, 3),
        private=st.none() | st.booleans(),
    ),
    st.builds(delete, channel_ids, user_ids, admin=st.booleans()),
    st.builds(join, user_ids, channel_ids, now_ms=times),
    st.builds(leave, user_ids, channel_ids, cause=st.none() | texts),
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
    ),
    st.builds(LoadUser, user_ids.map(UserId)),
    st.builds(GetChannel, channel_ids.map(ChannelId), user_ids.map(UserId)),
    st.builds(ListChannels, user_ids.map(UserId), st.none() | channel_ids.map(ChannelId), st.integers(1, 2)),
    st.builds(TransientMembers),
)


def expected(model: StoreModel, operation: Operation[Any]) -> object:
    try:
        return model.execute(operation)
    except Refused as refused:
        return refused.args[0]


# --- every store ----------------------------------------------------------------------------------


def open_in(store: str, data_dir: str) -> AbstractAsyncContextManager[Store]:
    assert store == "sqlite"
    return open_sqlite_store(Path(data_dir))


@pytest.mark.parametrize("store_kind", ["sqlite"])
@settings(deadline=None, max_examples=60)
@given(lives=st.lists(st.lists(st.lists(operations, max_size=12), max_size=4), min_size=1, max_size=3))
def test_a_store_does_what_the_model_does(store_kind: str, lives: list[list[list[Operation[Any]]]]) -> None:
    """Each life is opened on what the one before stored; each of its lists is submitted at once."""
    model = StoreModel()

    async def live(data_dir: str, batches: list[list[Operation[Any]]]) -> None:
        async with open_in(store_kind, data_dir) as store:
            for batch in batches:
                outcomes = await in_one_go(store, batch)
                for operation, outcome in zip(batch, outcomes, strict=True):
                    result = outcome.error.code if outcome.error else outcome.value
                    assert result == expected(model, operation)

    with tempfile.TemporaryDirectory() as data_dir:
        for batches in lives:
            trio.run(live, data_dir, batches)


# --- the SQLite backend ---------------------------------------------------------------------------


class SqliteTransactions(RuleBasedStateMachine):
    """Transactions that are committed, rolled back or lost with the process leave what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.data_dir = Path(tempfile.mkdtemp())
        self.model = StoreModel()
        self.committed = StoreModel()
        self.begun = False
        self.open()

    def open(self) -> None:
        self.backend = SqliteBackend(self.data_dir, connection_factory=sqlite3.Connection, nonce_ttl_ms=DAY_MS)
        self.backend.open()

    @rule(batch=st.lists(operations, min_size=1, max_size=8), prepared=st.booleans())
    def execute(self, batch: list[Operation[Any]], prepared: bool) -> None:
        if not self.begun:
            assert self.backend.begin(write=True, wait_s=0.0)
            self.begun = True
        if prepared:
            self.backend.prepare(batch)
        for operation in batch:
            try:
                result = self.backend.execute(operation)
            except LiveError as error:
                result = error.code
            assert result == expected(self.model, operation)

    @precondition(lambda self: self.begun)
    @rule()
    def flush(self) -> None:
        self.backend.flush()

    @precondition(lambda self: self.begun)
    @rule()
    def commit(self) -> None:
        self.backend.flush()
        self.backend.commit()
        self.begun = False
        self.committed = copy.deepcopy(self.model)

    @precondition(lambda self: self.begun)
    @rule()
    def roll_back(self) -> None:
        self.backend.rollback()
        self.begun = False
        self.model = copy.deepcopy(self.committed)

    @rule()
    def restart(self) -> None:
        self.backend.close()
        self.begun = False
        self.model = copy.deepcopy(self.committed)
        self.open()

    @precondition(lambda self: not self.begun)
    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        assert self.backend.begin(write=False, wait_s=0.0)
        for operation in (LoadUser(UserId("ann")), LoadUser(UserId("bob")), ListChannels(UserId("eve"))):
            assert self.backend.execute(operation) == expected(self.model, operation)
        self.backend.rollback()

    def teardown(self) -> None:
        self.backend.close()
        shutil.rmtree(self.data_dir)


TestSqliteTransactions = SqliteTransactions.TestCase
TestSqliteTransactions.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
