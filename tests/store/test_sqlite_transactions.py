"""Random histories: the SQLite backend, its rollbacks and its readers, against the model."""

from __future__ import annotations

import copy
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from livechat.error import LiveError
from livechat.store.operations import Operation
from livechat.store.queries import Query
from livechat.store.sqlite import DATABASE_NAME, SqliteBackend
from livechat.store.sqlite_reader import SqliteReader
from tests.support.store import DAY_MS, list_channels, load
from tests.support.store_histories import OPENING, batches, queries
from tests.support.store_model import StoreModel, expected

# With NUL, which SQLite holds though its JSON functions do not.
any_texts = st.text(max_size=4)


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
        self.reader = SqliteReader(self.data_dir / DATABASE_NAME)

    def close(self) -> None:
        self.reader.close()
        self.backend.close()

    @initialize()
    def execute_opening(self) -> None:
        self.execute_all(OPENING)
        self.commit()

    @rule(batch=batches(any_texts))
    def execute_all(self, batch: list[Operation[Any]]) -> None:
        if not self.begun:
            assert self.backend.begin(write=True, wait_s=0.0)
            self.begun = True
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
        self.close()
        self.begun = False
        self.model = copy.deepcopy(self.committed)
        self.open()

    @rule(query=queries)
    def ask(self, query: Query[Any]) -> None:
        """Ask for what is committed, whatever the transaction has done."""
        try:
            result = self.reader.read(query)
        except LiveError as error:
            result = error.code
        assert result == expected(self.committed, query)

    @precondition(lambda self: not self.begun)
    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        assert self.backend.begin(write=False, wait_s=0.0)
        for operation in (load("ann"), load("Bob"), list_channels("é")):
            assert self.backend.execute(operation) == expected(self.model, operation)
        self.backend.rollback()

    def teardown(self) -> None:
        self.close()
        shutil.rmtree(self.data_dir)


TestSqliteTransactions = SqliteTransactions.TestCase
TestSqliteTransactions.settings = settings(deadline=None, max_examples=40, stateful_step_count=25)
