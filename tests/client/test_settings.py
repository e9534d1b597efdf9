from __future__ import annotations

from typing import Any

import pytest

from livechat.client.settings import Backoff, ClientSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"linger_s": -0.01},
        {"linger_s": 0.11},
        {"packets_joined_max": 0},
        {"sends_in_flight": 0},
        {"outbox_max": 0},
        {"events_held_max": 0},
        {"events_buffered_max": 0},
        {"heartbeats_missed_max": 0},
    ],
)
def test_a_bound_that_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClientSettings(**wrong)


@pytest.mark.parametrize("right", [{"linger_s": 0.0}, {"linger_s": 0.1}, {"sends_in_flight": 1}])
def test_the_bounds_themselves_are_taken(right: dict[str, Any]) -> None:
    ClientSettings(**right)


def test_the_wait_has_a_ceiling_however_often_it_was_tried() -> None:
    assert [Backoff().ceiling_s(tries) for tries in (0, 1, 50, 10**9)] == [1.0, 1.5, 30.0, 30.0]
