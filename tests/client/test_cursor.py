from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.client.cursor import Cursor


def new(last: int = 5, *, held_max: int = 3) -> Cursor[int]:
    return Cursor(last, held_max=held_max)


@pytest.mark.parametrize(
    ("seqs", "handed"),
    [
        ([6, 7, 8], [6, 7, 8]),
        ([7, 6], [6, 7]),
        ([8, 7, 6], [6, 7, 8]),
        ([6, 6, 7, 6], [6, 7]),
        ([1, 5, 6], [6]),
        ([8, 8, 6, 7], [6, 7, 8]),
        ([8, 9], []),
        ([6, 9, 8], [6]),
        ([], []),
    ],
)
def test_events_come_out_in_order_and_once(seqs: list[int], handed: list[int]) -> None:
    cursor = new()
    assert [each for seq in seqs for each in cursor.offer(seq, seq)] == handed


def test_a_hole_ends_at_what_is_held_or_after_what_is_known() -> None:
    cursor = new()
    cursor.expect(9)
    assert cursor.hole() == (5, 10)
    cursor.offer(8, 8)
    assert cursor.hole() == (5, 8)
    cursor.offer(6, 6)
    assert cursor.hole() == (6, 8)
    assert cursor.offer(7, 7) == [7, 8]
    assert cursor.hole() == (8, 10)


def test_of_too_many_the_newest_are_let_go_and_remain_missing() -> None:
    cursor = new(held_max=2)
    for seq in (7, 8, 9):
        assert cursor.offer(seq, seq) == []
    assert cursor.held == 2
    assert cursor.offer(6, 6) == [6, 7, 8]
    assert cursor.hole() == (8, 10)


def test_what_is_given_up_lets_the_rest_through() -> None:
    cursor = new()
    cursor.offer(8, 8)
    cursor.offer(9, 9)
    assert cursor.skip(8) == [8, 9]
    assert (cursor.last, cursor.known) == (9, 9)


def test_a_hole_can_be_given_up_in_part() -> None:
    cursor = new()
    cursor.expect(20)
    assert cursor.skip(10) == []
    assert cursor.hole() == (9, 21)


def test_an_expectation_that_is_met_is_none() -> None:
    cursor = new()
    cursor.expect(4)
    assert not cursor.has_hole


@given(st.lists(st.integers(1, 30)), st.integers(1, 10))
def test_whatever_comes_each_seq_goes_out_once_and_in_order(seqs: list[int], held_max: int) -> None:
    cursor: Cursor[int] = Cursor(0, held_max=held_max)
    handed: list[int] = []
    for seq in seqs:
        handed += cursor.offer(seq, seq)
        assert cursor.held <= held_max
        assert handed == list(range(1, cursor.last + 1))
    while cursor.has_hole:
        after, before = cursor.hole()
        assert after + 1 < before
        handed += [each for seq in range(after + 1, before) for each in cursor.offer(seq, seq)]
    assert handed == list(range(1, max(seqs, default=0) + 1))
