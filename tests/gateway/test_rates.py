from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.gateway.rates import REFUSALS_MAX, REFUSALS_WINDOW_S, RateLimiter, RateLimiters, RateLimits
from livechat.protocol.opcodes import Op

CLASSES: dict[str, tuple[int, ...]] = {
    "messages": (Op.MESSAGE_CREATE,),
    "history": (Op.HISTORY,),
    "sync": (Op.SYNC,),
    "read": (Op.READ,),
    "chunks": (Op.MEDIA_CHUNK,),
    "others": (Op.IDENTIFY, Op.RESUME, Op.CHANNEL_JOIN, Op.TYPING, Op.SETTINGS_SET, 9999),
}
"""Settings by what their names begin with, and the ops that they are about."""
RATES = st.integers(1, 5000)
BURSTS = st.integers(1, 300)
OPENED_AT = st.floats(0, 1e6, allow_nan=False)


def make_limits(name: str, per_s: int, burst: int) -> RateLimits:
    return attrs.evolve(RateLimits(), **{f"{name}_per_s": per_s, f"{name}_burst": burst})


def passed_at_once(limiter: RateLimiter, op: int, now: float) -> int:
    passed = 0
    while limiter.take(op, now) is None:
        passed += 1
        assert passed <= 10_000, "no limit"
    return passed


# --- which bucket ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "op"), [(name, op) for name, ops in CLASSES.items() for op in ops])
def test_an_op_has_the_burst_of_its_class_and_leaves_the_others_alone(name: str, op: int) -> None:
    limiter = RateLimiter(make_limits(name, per_s=1, burst=7), now=5.0)
    assert passed_at_once(limiter, op, 5.0) == 7
    for other, ops in CLASSES.items():
        if other != name:
            assert passed_at_once(limiter, ops[0], 5.0) == getattr(RateLimits(), f"{other}_burst")


def test_all_ops_without_a_class_take_from_one_bucket() -> None:
    limiter = RateLimiter(make_limits("others", per_s=1, burst=len(CLASSES["others"])), now=0.0)
    assert [limiter.take(op, 0.0) for op in CLASSES["others"]] == [None] * len(CLASSES["others"])
    assert [limiter.take(op, 0.0) for op in CLASSES["others"]] == [1000] * len(CLASSES["others"])


def test_a_heartbeat_is_free() -> None:
    limiter = RateLimiter(make_limits("others", per_s=1, burst=1), now=0.0)
    assert {limiter.take(Op.HEARTBEAT, 0.0) for _ in range(1000)} == {None}
    assert limiter.take(Op.CHANNEL_LIST, 0.0) is None


@pytest.mark.parametrize(("name", "op"), [(name, ops[0]) for name, ops in CLASSES.items()])
def test_a_rate_of_0_is_no_limit(name: str, op: int) -> None:
    limiter = RateLimiter(make_limits(name, per_s=0, burst=1), now=0.0)
    assert {limiter.take(op, 0.0) for _ in range(5000)} == {None}


def test_connections_share_nothing_but_the_limits() -> None:
    limits = make_limits("messages", per_s=1, burst=3)
    one, other = RateLimiter(limits, 0.0), RateLimiter(limits, 0.0)
    assert passed_at_once(one, Op.MESSAGE_CREATE, 0.0) == 3
    assert passed_at_once(other, Op.MESSAGE_CREATE, 0.0) == 3


# --- how many -------------------------------------------------------------------------------------------------


@given(
    per_s=RATES,
    burst=BURSTS,
    opened_at=OPENED_AT,
    gaps=st.lists(st.floats(0, 0.05, allow_nan=False) | st.just(0.0) | st.floats(0, 100), max_size=400),
)
@settings(max_examples=200, deadline=None)
def test_no_window_lets_more_through_than_the_burst_and_what_the_rate_gives(
    per_s: int, burst: int, opened_at: float, gaps: list[float]
) -> None:
    limiter = RateLimiter(make_limits("messages", per_s, burst), opened_at)
    now, passes = opened_at, []
    for gap in gaps:
        now += gap
        if limiter.take(Op.MESSAGE_CREATE, now) is None:
            passes.append(now)
    # For each pass, the fewest tokens that a window ending there can have left; the windows begin at the passes.
    fullest = 0.0
    for number, at in enumerate(passes):
        fullest = max(fullest, per_s * at - number)
        assert number + 1 - (per_s * at - fullest) <= burst + 0.02


@given(per_s=RATES, burst=BURSTS, opened_at=OPENED_AT, pause=st.floats(0, 1e6))
def test_the_whole_burst_is_there_at_first_and_after_a_long_pause(
    per_s: int, burst: int, opened_at: float, pause: float
) -> None:
    limiter = RateLimiter(make_limits("history", per_s, burst), opened_at)
    assert passed_at_once(limiter, Op.HISTORY, opened_at) == burst
    later = opened_at + burst / per_s + pause
    assert passed_at_once(limiter, Op.HISTORY, later) == burst


@given(per_s=st.integers(1, 400), burst=BURSTS, opened_at=OPENED_AT)
def test_who_keeps_to_the_rate_is_never_refused(per_s: int, burst: int, opened_at: float) -> None:
    limiter = RateLimiter(make_limits("sync", per_s, burst), opened_at)
    passed_at_once(limiter, Op.SYNC, opened_at)
    assert {limiter.take(Op.SYNC, opened_at + number / per_s) for number in range(1, 300)} == {None}


@given(
    per_s=RATES,
    burst=BURSTS,
    opened_at=OPENED_AT,
    gaps=st.lists(st.floats(0, 0.01), max_size=50),
)
@settings(max_examples=300)
def test_retry_after_ms_is_honest(per_s: int, burst: int, opened_at: float, gaps: list[float]) -> None:
    limiter = RateLimiter(make_limits("read", per_s, burst), opened_at)
    now = opened_at
    passed_at_once(limiter, Op.READ, now)
    for gap in gaps:
        now += gap
        limiter.take(Op.READ, now)
    passed_at_once(limiter, Op.READ, now)
    retry_after_ms = limiter.take(Op.READ, now)
    assert retry_after_ms is not None
    assert retry_after_ms >= 1
    if retry_after_ms >= 2:
        assert limiter.take(Op.READ, now + (retry_after_ms - 2) / 1000) is not None
    assert limiter.take(Op.READ, now + retry_after_ms / 1000) is None


def test_a_refusal_takes_nothing() -> None:
    limiter = RateLimiter(make_limits("messages", per_s=10, burst=1), now=0.0)
    assert limiter.take(Op.MESSAGE_CREATE, 0.0) is None
    assert [limiter.take(Op.MESSAGE_CREATE, 0.05) for _ in range(10)] == [50] * 10
    assert limiter.take(Op.MESSAGE_CREATE, 0.1) is None


# --- abuse ----------------------------------------------------------------------------------------------------


def refused(limiter: RateLimiter, times: int, now: float) -> None:
    for _ in range(times):
        assert limiter.take(Op.MESSAGE_CREATE, now) is not None


def test_a_thousand_refusals_within_ten_seconds_are_abuse() -> None:
    limiter = RateLimiter(make_limits("messages", per_s=1, burst=1), now=0.0)
    assert limiter.take(Op.MESSAGE_CREATE, 0.0) is None
    refused(limiter, REFUSALS_MAX - 1, 0.5)
    assert not limiter.is_abusive
    refused(limiter, 1, 0.9)
    assert limiter.is_abusive


@pytest.mark.parametrize(("seconds", "is_abusive"), [(REFUSALS_WINDOW_S, True), (REFUSALS_WINDOW_S + 0.01, False)])
def test_only_refusals_of_the_last_ten_seconds_count(seconds: float, is_abusive: bool) -> None:
    limiter = RateLimiter(make_limits("messages", per_s=1, burst=1), now=0.0)
    now = 0.0
    for _ in range(20):
        limiter.take(Op.MESSAGE_CREATE, now)
        refused(limiter, 50, now)
        now += 100
    assert not limiter.is_abusive
    limiter.take(Op.MESSAGE_CREATE, now)
    refused(limiter, 1, now)
    # What passes in between does not count.
    assert [limiter.take(Op.HISTORY, now) for _ in range(100)] == [None] * 100
    refused(limiter, REFUSALS_MAX - 2, now + 0.5)
    limiter.take(Op.MESSAGE_CREATE, now + seconds)
    refused(limiter, 1, now + seconds)
    assert limiter.is_abusive is is_abusive


def test_refusals_of_all_classes_count_together() -> None:
    limits = attrs.evolve(RateLimits(), messages_burst=1, messages_per_s=1, read_burst=1, read_per_s=1)
    limiter = RateLimiter(limits, now=0.0)
    for _ in range(REFUSALS_MAX // 2 + 1):
        assert not limiter.is_abusive
        limiter.take(Op.MESSAGE_CREATE, 0.0)
        limiter.take(Op.READ, 0.0)
    assert limiter.is_abusive


# --- many names ----------------------------------------------------------------------------------------


def test_each_name_has_buckets_of_its_own() -> None:
    limiters = RateLimiters(RateLimits(messages_per_s=1, messages_burst=1), names_max=10)
    assert [limiters.take(name, Op.MESSAGE_CREATE, 5.0) for name in "abab"] == [None, None, 1000, 1000]
    assert limiters.take("a", Op.HISTORY, 5.0) is None
    assert limiters.take("a", Op.MESSAGE_CREATE, 6.0) is None


def test_the_name_that_asked_longest_ago_is_forgotten_first() -> None:
    limiters = RateLimiters(RateLimits(messages_per_s=1, messages_burst=1), names_max=2)
    for name in ("a", "b", "a", "c"):
        limiters.take(name, Op.MESSAGE_CREATE, 5.0)
    assert len(limiters) == 2
    assert limiters.take("a", Op.MESSAGE_CREATE, 5.0) == 1000
    assert limiters.take("b", Op.MESSAGE_CREATE, 5.0) is None


def test_the_bytes_of_chunks_have_a_bucket_beside_their_number() -> None:
    limits = RateLimits(chunks_per_s=1, chunks_burst=3, chunk_bytes_per_s=1000, chunk_bytes_burst=1000)
    limiter = RateLimiter(limits, 0.0)
    assert [limiter.take_chunk(size, 0.0) for size in (600, 600, 400)] == [None, 200, None]
    assert limiter.take_chunk(0, 0.0) == 1000
    assert limiter.take(Op.MESSAGE_CREATE, 0.0) is None
