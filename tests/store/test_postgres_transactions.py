"""Random transactions on the PostgreSQL backend, committed, rolled back or lost, against the records in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from livechat.error import LiveError
from livechat.protocol.types import ChannelId, UserId
from livechat.store.executor import Executor
from livechat.store.memory_records import MemoryRecords
from livechat.store.operations import ListChannels, LoadUser, Operation
from livechat.store.postgres import PostgresBackend
from livechat.store.postgres_connection import Address
from tests.support.postgres import PostgresServer
from tests.support.store import DAY_MS, NOW_MS
from tests.support.store_histories import OPENING, batches


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create_database()
    yield name
    postgres.drop_database(name)


class PostgresTransactions(RuleBasedStateMachine):
    """Transactions leave what the same operations leave in memory."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        super().__init__()
        server.empty_database(database)
        self.url = server.url(database)
        self.records = MemoryRecords()
        self.committed = MemoryRecords()
        self.begun = False
        self.open()
        self.execute(OPENING, prepared=True)
        self.commit()

    def open(self) -> None:
        self.backend = PostgresBackend(Address(self.url, 5.0), timeout_s=5.0, nonce_ttl_ms=DAY_MS)
        self.backend.open()

    @precondition(lambda self: not self.begun)
    @rule(batch=batches(), prepared=st.booleans())
    def execute(self, batch: list[Operation[Any]], prepared: bool) -> None:
        assert self.backend.begin(write=True, wait_s=5.0)
        self.begun = True
        if prepared:
            self.backend.prepare(batch)
        self.go_on(batch)

    @precondition(lambda self: self.begun)
    @rule(batch=batches())
    def go_on(self, batch: list[Operation[Any]]) -> None:
        expected = Executor(self.records, nonce_ttl_ms=DAY_MS)
        for operation in batch:
            assert answer(self.backend, operation) == answer(expected, operation), operation

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
        self.committed = copy.deepcopy(self.records)

    @precondition(lambda self: self.begun)
    @rule()
    def roll_back(self) -> None:
        self.backend.rollback()
        self.begun = False
        self.records = copy.deepcopy(self.committed)

    @rule()
    def restart(self) -> None:
        self.backend.close()
        self.begun = False
        self.records = copy.deepcopy(self.committed)
        self.open()

    @precondition(lambda self: not self.begun)
    @invariant()
    def everybody_sees_the_same(self) -> None:
        expected = Executor(self.records, nonce_ttl_ms=DAY_MS)
        assert self.backend.begin(write=False, wait_s=5.0)
        for operation in (
            *[LoadUser(UserId(user_id), NOW_MS) for user_id in ("ann", "Bob", "é")],
            ListChannels(UserId("é"), None, 1),
            ListChannels(UserId("é"), ChannelId("Z")),
        ):
            assert answer(self.backend, operation) == answer(expected, operation)
        self.backend.rollback()

    def teardown(self) -> None:
        self.backend.close()


def answer(executor: PostgresBackend | Executor, operation: Operation[Any]) -> object:
    try:
        return executor.execute(operation)
    except LiveError as error:
        return type(error)


def test_transactions_leave_what_they_leave_in_memory(postgres: PostgresServer, database: str) -> None:
    class Transactions(PostgresTransactions):
        def __init__(self) -> None:
            super().__init__(postgres, database)

    few = settings(deadline=None, max_examples=30, stateful_step_count=25)
    run_state_machine_as_test(Transactions, settings=few)
