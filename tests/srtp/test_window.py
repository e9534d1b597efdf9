from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.srtp.window import WINDOW_PACKETS, ReplayWindow


def window_at(*indexes: int) -> ReplayWindow:
    window = ReplayWindow()
    for index in indexes:
        window.commit(index)
    return window


def rfc_3711_appendix_a(highest: int, sequence: int) -> int:
    """The index as the RFC's pseudocode has it."""
    rollover, last = highest >> 16, highest & 0xFFFF
    if last < 32768:
        guess = rollover - 1 if sequence - last > 32768 else rollover
    else:
        guess = rollover + 1 if last - 32768 > sequence else rollover
    return sequence + guess * 65536


@given(st.integers(65536, 2**48 - 1), st.integers(0, 65535))
def test_the_estimate_is_that_of_the_rfc(highest: int, sequence: int) -> None:
    assert window_at(highest).estimate(sequence) == rfc_3711_appendix_a(highest, sequence)


@pytest.mark.parametrize("highest", [0, 1, 32767, 32768, 32769, 65535, 65536, 3 * 65536 + 32768])
@pytest.mark.parametrize("ahead", [1, 2, 32767, 32768, 32769, 65535, 65536])
def test_the_estimate_at_the_borders_is_that_of_the_rfc(highest: int, ahead: int) -> None:
    sequence = (highest + ahead) & 0xFFFF
    expected = rfc_3711_appendix_a(highest, sequence)
    # Below zero, where the RFC wraps to 2^48, only the jump ahead can be meant.
    assert window_at(highest).estimate(sequence) == (expected if expected >= 0 else expected + 65536)


def test_the_first_estimate_is_the_sequence_number() -> None:
    assert ReplayWindow().estimate(0) == 0
    assert ReplayWindow().estimate(65535) == 65535


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(0, 400))
def test_an_index_is_a_replay_iff_committed_or_older_than_the_window(indexes: list[int], probe: int) -> None:
    window = ReplayWindow()
    committed: set[int] = set()
    for index in indexes:
        expected = index in committed or index <= max(committed, default=-1) - WINDOW_PACKETS
        assert window.is_replay(index) == expected
        if not expected:
            assert window.commit(index) == (index > max(committed, default=-1))
            committed.add(index)
    assert window.highest == max(committed, default=-1)
    assert window.is_replay(probe) == (probe in committed or probe <= max(committed, default=-1) - WINDOW_PACKETS)


def test_the_window_reaches_exactly_as_far_as_it_says() -> None:
    window = window_at(1000)
    assert not window.is_replay(1000 - WINDOW_PACKETS + 1)
    assert window.is_replay(1000 - WINDOW_PACKETS)


@given(st.lists(st.integers(0, 300), min_size=1))
def test_the_next_index_is_committed_as_any_other(indexes: list[int]) -> None:
    one, other = ReplayWindow(), ReplayWindow()
    for index in indexes:
        if not one.is_replay(index):
            one.commit(index)
            other.commit(index)
    one.commit_next()
    assert other.commit(other.highest + 1) is True
    assert (one.highest, one._seen) == (other.highest, other._seen)
