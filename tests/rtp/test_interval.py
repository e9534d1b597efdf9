from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp.interval import INTERVAL_MIN_S, ReportSchedule, interval_s


@pytest.mark.parametrize(
    ("members", "senders", "is_sender", "expected_s"),
    [
        (2, 0, False, 5.0),
        (2, 1, True, 5.0),
        # 400 bytes a second for all; the senders are many, so all share alike.
        (200, 100, False, 50.0),
        (200, 100, True, 50.0),
        # They are few: 300 bytes a second for 180 receivers, 100 for 20 senders.
        (200, 20, False, 60.0),
        (200, 20, True, 20.0),
    ],
)
def test_the_interval_is_that_of_rfc_3550(members: int, senders: int, is_sender: bool, expected_s: float) -> None:
    assert interval_s(members, senders, 100, INTERVAL_MIN_S, is_sender=is_sender) == pytest.approx(expected_s)


def test_the_first_report_comes_in_half_the_time() -> None:
    schedule = ReportSchedule()
    assert [schedule.next_after_s(chance, other_sends=False) for chance in (0.0, 0.5)] == [1.25, 2.5]
    schedule.reported(60)
    assert [schedule.next_after_s(chance, other_sends=True) for chance in (0.0, 0.5)] == [2.5, 5.0]


def test_large_reports_come_more_seldom() -> None:
    schedule = ReportSchedule()
    for _ in range(100):
        schedule.heard(2000)
    assert schedule.next_after_s(0.5, other_sends=True) == pytest.approx(2028 * 2 / 400, rel=0.01)


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.lists(st.integers(8, 1400), max_size=30))
def test_chance_spreads_reports_around_the_interval(chance: float, sends: bool, sizes: list[int]) -> None:
    schedule = ReportSchedule()
    for size in sizes:
        schedule.heard(size)
    schedule.reported(60)
    calm = schedule.next_after_s(0.5, other_sends=sends)
    assert calm >= INTERVAL_MIN_S
    assert 0.5 * calm <= schedule.next_after_s(chance, other_sends=sends) <= 1.5 * calm
