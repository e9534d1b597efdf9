"""Which channels a token is good for."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.protocol.patterns import PATTERNS_MAX, ChannelPatterns, allowed


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("lobby", ["lobby"], ["lobby2", "Lobby", "lobb", "a-lobby", "lobby\n"]),
        ("team-*", ["team-", "team-a", "team-a-b"], ["team", "ateam-a", "TEAM-a"]),
        ("*", ["a", "a.b:c@d-e", "é"], []),
        ("room-?", ["room-1", "room-é"], ["room-", "room-12"]),
        ("*-*-x", ["a-b-x", "--x"], ["a-x", "a-b-xy"]),
        ("a.b", ["a.b"], ["aXb"]),
        ("한*", ["한국"], ["국한"]),
    ],
)
def test_a_pattern_fits_whole_ids(pattern: str, fits: list[str], others: list[str]) -> None:
    patterns = ChannelPatterns((pattern,))
    assert [channel_id for channel_id in (*fits, *others) if patterns.allow(channel_id)] == fits


def test_any_pattern_is_enough_and_without_patterns_none_fits() -> None:
    assert [ChannelPatterns(("a", "b*")).allow(channel_id) for channel_id in ("a", "bc", "c", "ab")] == [
        *(True, True, False, False)
    ]
    assert not ChannelPatterns(()).allow("a")
    assert not ChannelPatterns(()).allow("")


def test_without_a_restriction_all_are_allowed() -> None:
    assert allowed(None, "anything")
    assert not allowed(ChannelPatterns(("a",)), "b")


@pytest.mark.parametrize("pattern", ["", "x" * 65, "a b", "[ab]", "a/b", "!a", "a\n", "{a,b}", "\\*", "(a)"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="channels: expected patterns"):
        ChannelPatterns((pattern,))


def test_patterns_have_a_number() -> None:
    assert ChannelPatterns(("a",) * PATTERNS_MAX)
    with pytest.raises(ValueError, match="expected at most 100 patterns, got 101"):
        ChannelPatterns(("a",) * (PATTERNS_MAX + 1))


@given(st.text("ab*?", min_size=1, max_size=12), st.text("ab", min_size=1, max_size=12))
def test_patterns_are_those_of_shells(pattern: str, channel_id: str) -> None:
    assert ChannelPatterns((pattern,)).allow(channel_id) is fnmatchcase(channel_id, pattern)


def test_no_pattern_tries_every_split_of_an_id() -> None:
    """One that did would not be through in the lifetime of the universe."""
    assert not ChannelPatterns(("*a" * 32,) * PATTERNS_MAX).allow("a" * 31 + "b" * 33)
