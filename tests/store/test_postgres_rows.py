"""Arrays: PostgreSQL reads from them what was put in."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.protocol.events import Announcement
from livechat.protocol.types import AnnouncementId
from livechat.store import postgres_rows as rows
from livechat.store.executor import Prune
from livechat.store.operations import CreateAnnouncement, TransientMembers
from tests.support.postgres import PostgresServer
from tests.support.store import create, message

storable = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(
    ["", "NULL", "null", '"', "\\", "{}", "{a,b}", "'", ",", " ", "\n", "\x01"]
)
integers = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def connection(postgres: PostgresServer) -> Any:
    with postgres.connect("postgres") as connection:
        yield connection


def read(connection: psycopg.Connection[Any], array: str, kind: str) -> list[Any]:
    """Return the elements in the order in which `unnest` makes rows of them."""
    query = f"SELECT * FROM unnest(%s::{kind}[])"
    return [value for (value,) in connection.execute(query, (array,)).fetchall()]


@given(values=st.lists(storable))
def test_texts_come_back(connection: psycopg.Connection[Any], values: list[str]) -> None:
    assert read(connection, rows.texts(values), "text") == values


@given(values=st.lists(integers))
def test_numbers_come_back(connection: psycopg.Connection[Any], values: list[int]) -> None:
    assert read(connection, rows.numbers(values), "bigint") == values


@given(values=st.lists(st.none() | storable))
def test_missing_texts_come_back_as_missing(connection: psycopg.Connection[Any], values: list[str | None]) -> None:
    assert read(connection, rows.nullable(values), "text") == values


@given(values=st.lists(st.none() | st.booleans()))
def test_truth_values_come_back(connection: psycopg.Connection[Any], values: list[bool | None]) -> None:
    assert read(connection, rows.nullable(values), "boolean") == values


@pytest.mark.parametrize("values", [["a\0b"], ["a", "\0"], ["\0"]])
def test_a_text_with_nul_is_never_taken_for_two(values: list[str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        rows.texts(values)


def test_columns_are_the_rows_turned_over() -> None:
    assert rows.columns([(1, "a", None), (2, 'b"', True)]) == ["{1,2}", '{"a","b\\""}', "{NULL,True}"]


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "é\udfff"])
def test_every_text_of_an_operation_is_looked_at(text: str) -> None:
    news = Announcement(AnnouncementId("ann_1"), "title", text, "info", 0)
    for operation in (
        message(text),
        message("ann", text),
        message("ann", channel_id=text),
        message("ann", nonce=text),
        message("ann", mentions=("bob", text)),
        create(text),
        create("a", text),
        create("a", freq=text),
        CreateAnnouncement(news),
    ):
        assert not rows.is_storable(operation)


@pytest.mark.parametrize(
    "text", ["", "é🎉\x01￿", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
)
def test_all_other_text_is_fine(text: str) -> None:
    assert rows.is_storable(message("ann", text, nonce=text, mentions=(text,), attachment={"k": "\0\ud800"}))
    assert rows.is_storable(create(freq=None))
    assert rows.is_storable(TransientMembers())
    assert rows.is_storable(Prune())
