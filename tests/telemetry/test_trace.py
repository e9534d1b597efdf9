from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.telemetry.trace import (
    TraceContext,
    current_trace,
    in_trace,
    parse_traceparent_untrusted,
    traceparent,
)

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, TraceContext(TRACE_ID, PARENT_ID, 1)),
        (GOOD[:-2] + "00", TraceContext(TRACE_ID, PARENT_ID, 0)),
        # Flags that this version does not know are not passed on.
        (GOOD[:-2] + "ff", TraceContext(TRACE_ID, PARENT_ID, 1)),
        (GOOD[:-2] + "02", TraceContext(TRACE_ID, PARENT_ID, 0)),
        # A later version may say more, after what this one knows.
        ("01" + GOOD[2:], TraceContext(TRACE_ID, PARENT_ID, 1)),
        ("cc" + GOOD[2:] + "-what-the-future-will-be-like", TraceContext(TRACE_ID, PARENT_ID, 1)),
    ],
)
def test_a_good_traceparent_is_understood(text: str, expected: TraceContext) -> None:
    found = parse_traceparent_untrusted(text)
    assert found == expected
    assert str(found) == f"00-{TRACE_ID}-{PARENT_ID}-{expected.flags:02x}"
    assert expected.is_sampled == bool(expected.flags)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        GOOD + "-",
        GOOD + "-extra",
        GOOD + "0",
        GOOD[:-1],
        GOOD.upper(),
        " " + GOOD,
        GOOD + "\n",
        "ff" + GOOD[2:],
        "cc" + GOOD[2:] + ".what-the-future-will-not-be-like",
        "cc" + GOOD[2:] + "-" + "x" * 1000,
        GOOD.replace(TRACE_ID, "0" * 32),
        GOOD.replace(PARENT_ID, "0" * 16),
        GOOD.replace(TRACE_ID, "g" * 32),
        GOOD.replace("-", "_"),
        GOOD.replace(TRACE_ID, TRACE_ID[:-1] + "٣"),
    ],
)
def test_a_bad_traceparent_is_none(text: str | None) -> None:
    assert parse_traceparent_untrusted(text) is None


@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{16}-[0-9a-f]{2}.*"))
def test_whatever_comes_nothing_is_raised_and_what_is_taken_is_valid(text: str) -> None:
    found = parse_traceparent_untrusted(text)
    if found is not None:
        assert parse_traceparent_untrusted(str(found)) == found


def test_a_function_that_is_called_later_belongs_to_the_request_that_named_it() -> None:
    token = current_trace.set(GOOD)
    later = in_trace(traceparent)
    current_trace.reset(token)
    assert (later(), traceparent()) == (GOOD, None)
    # Without a trace there is nothing to keep.
    assert in_trace(traceparent) is traceparent
