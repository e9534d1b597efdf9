from __future__ import annotations

import attrs
import pytest

from livechat.protocol.opcodes import Op
from livechat.telemetry.counters import Counters
from livechat.telemetry.rates import SAMPLE_INTERVAL_S, WINDOW_S, RecentRates


def test_rates_are_what_the_counters_grew_by_a_second() -> None:
    counters = Counters()
    counters.packets_in = 1000  # before it began
    recent = RecentRates(counters, 100.0)
    counters.packets_in += 50
    counters.packets_out += 100
    counters.bytes_in += 1000
    counters.bytes_out += 2000
    counters.commands[Op.MESSAGE_CREATE].observe(0.001)
    counters.commands[Op.READ].observe(0.001)
    counters.errors[1004] += 2
    counters.errors[3005] += 3
    counters.http["/x", "GET", 200] += 10
    assert attrs.astuple(recent.rates(110.0)) == (10.0, 5.0, 10.0, 100.0, 200.0, 0.1, 0.5, 1.0)


def test_what_is_older_than_a_minute_counts_no_more() -> None:
    counters = Counters()
    recent = RecentRates(counters, 0.0)
    due = SAMPLE_INTERVAL_S
    counters.packets_in += 600
    while due < 2 * WINDOW_S:
        due = recent.sample(due)
    counters.packets_in += 120
    rates = recent.rates(due)
    assert WINDOW_S <= rates.over_s <= WINDOW_S + SAMPLE_INTERVAL_S
    assert rates.packets_in == pytest.approx(120 / rates.over_s, abs=0.01)


def test_at_the_very_start_nothing_has_happened() -> None:
    rates = RecentRates(Counters(), 5.0).rates(5.0)
    assert set(attrs.astuple(rates)) == {0.0}
