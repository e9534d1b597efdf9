from __future__ import annotations

from livechat.media.workers.tally import Tally, sum_up


def test_what_was_counted_before_a_restart_stays() -> None:
    tally = Tally()
    tally.update({"received": 5, "replay": 0, "peers": 2})
    tally.update({"received": 7, "replay": 1, "peers": 3})
    assert tally.total() == {"received": 7, "replay": 1, "peers": 3}
    tally.restart()
    assert tally.total() == {"received": 7, "replay": 1}
    tally.update({"received": 2, "replay": 0, "peers": 1})
    assert tally.total() == {"received": 9, "replay": 1, "peers": 1}
    tally.restart()
    tally.restart()
    assert tally.total() == {"received": 9, "replay": 1}


def test_sums_keep_what_is_zero() -> None:
    total = sum_up([{"received": 1, "replay": 0}, {"received": 2}, {}])
    assert dict(total) == {"received": 3, "replay": 0}
