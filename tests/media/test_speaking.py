from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ConfigError
from livechat.media.settings import SpeakingSettings
from livechat.media.speaking import SILENCE_DB, Speech

SETTINGS = SpeakingSettings(start_level=40, stop_level=50, start_packets=3, hangover_ms=300)
PACKET_S = 0.02
V = 0x80


class Publisher:
    """Sends a packet every 20 ms and notes when its speech begins and ends."""

    def __init__(self) -> None:
        self.speech = Speech(SETTINGS)
        self.now = 1000.0
        self.packets = 0
        self.changes: list[tuple[bool, int]] = []
        """(what it became, with which packet, counted from 1)"""

    def send(self, level: int | None, times: int = 1) -> Publisher:
        for _ in range(times):
            self.now += PACKET_S
            self.packets += 1
            self.speech.measure(level, self.now)
            if self.speech.update(self.now):
                self.changes.append((self.speech.is_speaking, self.packets))
        return self


@pytest.mark.parametrize(
    ("levels", "begins_with"),
    [
        ([20, 20, 20], 3),
        ([40, 40, 40], 3),
        ([41, 41, 41, 41], None),
        ([V | 50, V | 50, V | 50], 3),
        ([V | 51, V | 51, V | 51], None),
        ([20, 20], None),
        ([20, 60, 20, 60, 20, 60, 20, 60], None),
        ([20, 20, 60, 20, 20], 5),
        ([V | 20, 20, 20, 20, 20, 20], None),
        ([V | 20, 20, V | 20, V | 20, V | 20], 5),
        ([127] * 20, None),
        ([None] * 20, None),
        ([60, None, None, None, None], None),
    ],
    ids=[
        *(
            "loud",
            "just loud enough",
            "too quiet",
            "flagged",
            "flagged and too quiet",
            "too short",
            "now and then",
        ),
        *(
            "with a gap",
            "loud, but not flagged by who flags",
            "flagged",
            "muted",
            "no levels",
            "levels, and repairs",
        ),
    ],
)
def test_speech_begins_once_enough_packets_are_loud(levels: list[int | None], begins_with: int | None) -> None:
    publisher = Publisher()
    for level in levels:
        publisher.send(level)
    assert publisher.changes == ([] if begins_with is None else [(True, begins_with)])


def test_speech_goes_on_between_the_two_thresholds_and_ends_after_the_hangover() -> None:
    publisher = Publisher().send(20, 3).send(50, 100)
    assert publisher.changes == [(True, 3)]
    publisher.send(51, 14)
    assert publisher.speech.is_speaking
    publisher.send(51, 2)
    assert publisher.changes[1][0] is False


def test_a_pause_between_words_is_a_pause() -> None:
    publisher = Publisher().send(20, 10).send(90, 14).send(20, 10)
    assert publisher.changes == [(True, 3)]


def test_speech_whose_packets_stop_ends_as_well() -> None:
    publisher = Publisher().send(20, 3)
    assert not publisher.speech.update(publisher.now + 0.299)
    assert publisher.speech.update(publisher.now + 0.3)
    assert not publisher.speech.is_speaking
    assert not publisher.speech.update(publisher.now + 1)


def test_what_was_before_a_pause_counts_for_nothing() -> None:
    publisher = Publisher().send(20, 2)
    publisher.now += 0.4
    publisher.send(20, 2)
    assert publisher.changes == []
    publisher.send(20)
    assert publisher.changes == [(True, 5)]


def test_whom_nobody_hears_is_silenced_at_once() -> None:
    publisher = Publisher().send(20, 3)
    assert publisher.speech.silence()
    assert not publisher.speech.is_speaking
    assert not publisher.speech.silence()


def test_noise_between_the_thresholds_is_nothing_to_say() -> None:
    publisher = Publisher().send(48, 20)
    assert not publisher.speech.is_active(publisher.now)
    publisher.send(V | 48)
    assert publisher.speech.is_active(publisher.now)


def test_a_packet_without_a_level_tells_nothing_of_who_tells_levels() -> None:
    publisher = Publisher().send(60, 100).send(None, 20)
    assert not publisher.speech.is_active(publisher.now)
    assert round(publisher.speech.level_db) == -60


def test_the_level_follows_louder_packets_fast_and_quieter_ones_slowly() -> None:
    publisher = Publisher()
    assert publisher.speech.level_db == SILENCE_DB
    publisher.send(20, 6)
    assert -23 < publisher.speech.level_db <= -20
    publisher.send(90, 5)
    assert -45 < publisher.speech.level_db < -30
    publisher.send(90, 200)
    assert round(publisher.speech.level_db) == -90


def test_who_tells_no_levels_has_something_to_say_while_packets_flow() -> None:
    publisher = Publisher().send(None)
    assert publisher.speech.level_db == -40
    assert publisher.speech.is_active(publisher.now + 0.299)
    assert not publisher.speech.is_active(publisher.now + 0.301)


LEVELS = st.lists(st.none() | st.integers(0, 255), max_size=60)


@given(LEVELS, st.floats(0.001, 1.0))
def test_the_level_stays_on_its_scale_and_states_alternate(levels: list[int | None], packet_s: float) -> None:
    publisher = Publisher()
    for level in levels:
        publisher.now += packet_s
        publisher.send(level)
        assert SILENCE_DB <= publisher.speech.level_db <= 0
    states = [state for state, _ in publisher.changes]
    assert states == [number % 2 == 0 for number in range(len(states))]


@given(st.lists(st.integers(51, 127) | st.integers(V | 51, V | 127), max_size=60))
def test_what_is_quieter_than_both_thresholds_is_never_speech(levels: list[int]) -> None:
    publisher = Publisher()
    for level in levels:
        publisher.send(level)
    assert publisher.changes == []


@given(LEVELS)
def test_whoever_speaks_stops_a_hangover_after_the_last_packet(levels: list[int | None]) -> None:
    publisher = Publisher()
    for level in levels:
        publisher.send(level)
    publisher.speech.update(publisher.now + 0.3)
    assert not publisher.speech.is_speaking


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (SpeakingSettings(stop_level=127), "speaking.stop_level: expected at most 126, got 127"),
        (
            SpeakingSettings(start_level=60, stop_level=50),
            "speaking.start_level: expected at most speaking.stop_level, 50, got 60",
        ),
    ],
)
def test_levels_that_could_never_begin_or_end_are_refused(settings: SpeakingSettings, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        settings.check()
