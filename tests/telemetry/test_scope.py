from __future__ import annotations

import pytest
import trio
from structlog.contextvars import get_contextvars

from livechat.telemetry.scope import Scope, log_fields, shown_session
from livechat.telemetry.trace import TraceContext, traceparent

SESSION = "sess_" + "0123456789" * 4
TRACE = TraceContext("a" * 32, "b" * 16, 1)


def test_fields_that_are_none_are_left_out() -> None:
    assert log_fields() == {}
    assert log_fields(session=SESSION, user="ann", channel="c", trace=TRACE) == {
        "session": "sess_01234567",
        "user": "ann",
        "channel": "c",
        "trace_id": "a" * 32,
    }


def test_of_a_session_id_only_so_much_is_shown_that_nobody_can_resume_it() -> None:
    assert SESSION.startswith(shown_session(SESSION))
    # 160 random bits, of which 128 stay hidden.
    assert len(SESSION) - len(shown_session(SESSION)) >= 32


def test_a_scope_binds_while_it_lasts() -> None:
    with Scope(TRACE, {"user": "ann"}):
        assert get_contextvars() == {"user": "ann"}
        assert traceparent() == str(TRACE)
    assert get_contextvars() == {}
    assert traceparent() is None


def test_a_scope_without_a_trace_hides_that_around_it() -> None:
    with Scope(TRACE, {"user": "ann"}):
        with Scope(None, {"user": "bob"}):
            assert traceparent() is None
            assert get_contextvars()["user"] == "bob"
        assert traceparent() == str(TRACE)
        assert get_contextvars()["user"] == "ann"


def test_a_scope_ends_when_its_block_fails() -> None:
    with pytest.raises(ValueError, match="x"), Scope(TRACE, {"user": "ann"}):
        raise ValueError("x")
    assert get_contextvars() == {}
    assert traceparent() is None


async def test_tasks_inherit_a_scope_and_keep_it_to_themselves() -> None:
    seen = []

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        seen.append((get_contextvars(), traceparent()))

    async with trio.open_nursery() as nursery:
        with Scope(TRACE, {"user": "ann"}):
            nursery.start_soon(work)
        nursery.start_soon(work)
    assert sorted(seen, key=str) == sorted([({"user": "ann"}, str(TRACE)), ({}, None)], key=str)
