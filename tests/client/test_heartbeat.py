from __future__ import annotations

import math

from livechat.client.heartbeat import HeartbeatMonitor


def started() -> HeartbeatMonitor:
    """At 100 s, a beat every 30 s."""
    monitor = HeartbeatMonitor(missed_max=2)
    monitor.start(100.0, 30.0)
    return monitor


def test_without_a_connection_nothing_is_due() -> None:
    monitor = HeartbeatMonitor(missed_max=2)
    assert monitor.deadline == math.inf
    assert monitor.due(1e9) == "nothing"


def test_a_beat_is_due_every_interval() -> None:
    monitor = started()
    assert monitor.deadline == 130.0
    assert monitor.due(129.9) == "nothing"
    assert monitor.due(130.0) == "beat"
    assert monitor.due(130.0) == "nothing"
    assert monitor.deadline == 160.0


def test_two_beats_without_an_answer_and_the_connection_is_dead_when_the_third_is_due() -> None:
    monitor = started()
    assert [monitor.due(now) for now in (130.0, 160.0, 190.0)] == ["beat", "beat", "dead"]


def test_an_answer_answers_all_beats_before_it() -> None:
    monitor = started()
    for now in range(130, 1000, 60):
        assert monitor.due(float(now)) == "beat"
        assert monitor.due(float(now + 30)) == "beat"
        monitor.acknowledged()


def test_the_next_connection_begins_anew() -> None:
    monitor = started()
    monitor.due(130.0)
    monitor.due(160.0)
    monitor.stop()
    assert monitor.due(1000.0) == "nothing"
    monitor.start(1000.0, 10.0)
    assert [monitor.due(now) for now in (1010.0, 1020.0, 1030.0)] == ["beat", "beat", "dead"]
