from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from livechat.media.settings import SpeakingSettings
from livechat.media.speaking import Speech
from livechat.media.stage import Stage

SETTINGS = SpeakingSettings(challenge_db=6, challenge_ms=500)
PACKET_S = 0.02


class Channel:
    """Publishers that each send a packet every 20 ms."""

    def __init__(self, limit: int, names: Iterable[str]) -> None:
        self.speeches = {name: Speech(SETTINGS) for name in names}
        self.stage = Stage(limit, SETTINGS)
        self.now = 1000.0

    def send(self, seconds: float = PACKET_S, **levels: int | None) -> list[str]:
        """Send packets for some time; return who was forwarded the last time, in order of sending."""
        forwarded: list[str] = []
        for _ in range(round(seconds / PACKET_S)):
            self.now += PACKET_S
            forwarded = []
            for name, level in levels.items():
                speech = self.speeches[name]
                speech.measure(level, self.now)
                if self.stage.admits(speech, self.now):
                    forwarded.append(name)
                    speech.update(self.now)
                else:
                    speech.silence()
        return forwarded

    @property
    def on_stage(self) -> set[str]:
        return {name for name, speech in self.speeches.items() if speech in self.stage}


def test_the_first_words_are_heard_while_there_is_room() -> None:
    channel = Channel(2, ["ann", "bob"])
    assert channel.send(ann=30) == ["ann"]
    assert channel.send(bob=90) == ["bob"], "also quiet ones: a word may begin so"


def test_digital_silence_takes_no_place() -> None:
    channel = Channel(1, ["ann", "bob"])
    assert channel.send(1, ann=127) == []
    assert channel.send(ann=127, bob=90) == ["bob"]


def test_who_has_something_to_say_takes_the_place_of_the_quiet_at_once() -> None:
    channel = Channel(2, ["ann", "bob", "cyd"])
    channel.send(1, ann=80, bob=30)
    assert channel.send(ann=80, bob=30, cyd=30) == ["ann", "bob", "cyd"], "ann's packet came before"
    assert channel.send(ann=80, bob=30, cyd=30) == ["bob", "cyd"]


def test_nobody_gets_a_place_for_being_less_quiet() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=90)
    assert channel.send(1, ann=90, bob=60) == ["ann"]


def test_the_place_of_who_was_quiet_longest_goes_first() -> None:
    channel = Channel(2, ["ann", "bob", "cyd"])
    channel.send(ann=90, bob=90)
    channel.send(1, bob=30)
    channel.send(1, ann=30)
    channel.send(1, ann=60, bob=60)
    assert channel.send(cyd=30) == ["cyd"]
    assert channel.on_stage == {"ann", "cyd"}


def test_the_place_of_who_is_gone_is_taken_after_the_hangover() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=30)
    assert channel.send(0.26, bob=30) == []
    assert channel.send(0.06, bob=30) == ["bob"]


@pytest.mark.parametrize(("level", "seconds", "expected"), [(20, 0.8, "bob"), (20, 0.4, "ann"), (27, 3, "ann")])
def test_a_challenger_must_be_louder_by_enough_for_long_enough(level: int, seconds: float, expected: str) -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=30)
    channel.send(seconds, ann=30, bob=level)
    assert channel.on_stage == {expected}


@pytest.mark.parametrize("between", [{"ann": 30, "bob": 34}, {"ann": 30}], ids=["not loud enough", "a pause"])
def test_a_challenge_begins_anew_after(between: dict[str, int | None]) -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=30)
    for _ in range(5):
        channel.send(0.3, ann=30, bob=20)
        assert channel.on_stage == {"ann"}
        channel.send(0.4, **between)


def test_who_lost_the_place_has_to_be_louder_for_as_long_again() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=35)
    channel.send(1, ann=35, bob=25)
    assert channel.on_stage == {"bob"}
    channel.send(1, ann=15, bob=25)
    assert channel.on_stage == {"ann"}
    channel.send(0.4, ann=15, bob=5)
    assert channel.on_stage == {"ann"}
    channel.send(0.4, ann=15, bob=5)
    assert channel.on_stage == {"bob"}


def test_two_who_are_equally_loud_do_not_take_turns() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(ann=25)
    heard = set()
    for word in range(40):
        channel.send(0.3, ann=25 + word % 3, bob=27 - word % 3)
        heard |= channel.on_stage
        channel.send(0.2, ann=80, bob=80)
        heard |= channel.on_stage
    assert heard == {"ann"}


def test_the_quietest_of_those_who_speak_is_the_one_to_go() -> None:
    channel = Channel(2, ["ann", "bob", "cyd"])
    channel.send(1, ann=22, bob=34)
    channel.send(1, ann=22, bob=34, cyd=20)
    assert channel.on_stage == {"ann", "cyd"}


def test_who_tells_no_levels_keeps_a_place_while_packets_flow() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=None)
    assert channel.send(2, ann=None, bob=None) == ["ann"]
    channel.send(0.4, ann=None)
    channel.now += 0.3
    assert channel.send(bob=None) == ["bob"]


def test_loud_voices_come_before_those_who_tell_no_levels() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=None)
    assert channel.send(1, ann=None, bob=20) == ["bob"]
    assert channel.send(2, ann=None, bob=20) == ["bob"]


def test_more_places_are_there_at_once_and_fewer_keep_the_loudest() -> None:
    channel = Channel(3, ["ann", "bob", "cyd"])
    channel.send(1, ann=38, bob=80, cyd=20)
    channel.stage.set_limit(2)
    assert channel.on_stage == {"ann", "cyd"}
    channel.stage.set_limit(1)
    assert channel.on_stage == {"cyd"}
    channel.stage.set_limit(2)
    assert channel.send(ann=38) == ["ann"]


def test_a_stage_begins_with_the_loudest_of_those_who_speak() -> None:
    channel = Channel(3, ["ann", "bob", "cyd"])
    channel.send(1, ann=38, bob=80, cyd=20)
    channel.stage = Stage(1, SETTINGS, channel.speeches.values())
    assert channel.on_stage == {"cyd"}


def test_who_leaves_frees_the_place() -> None:
    channel = Channel(1, ["ann", "bob"])
    channel.send(1, ann=30)
    channel.stage.discard(channel.speeches["bob"])
    channel.stage.discard(channel.speeches["ann"])
    assert len(channel.stage) == 0
    assert channel.send(bob=90) == ["bob"]


class StageModel(RuleBasedStateMachine):
    """Any packets, pauses and changes of the limit, in any order."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.channel = Channel(limit, "abcdef")

    @rule(name=st.sampled_from("abcdef"), level=st.none() | st.integers(0, 255), times=st.integers(1, 40))
    def send(self, name: str, level: int | None, times: int) -> None:
        before = self.channel.on_stage
        free = self.limit - len(before)
        forwarded = self.channel.send(times * PACKET_S, **{name: level})
        has_sound = level is not None and level & 0x7F < 127
        if name in before or (free and has_sound):
            assert forwarded == [name], "who has a place keeps it while nobody else wants it"
        assert self.channel.on_stage - before <= {name}

    @rule(seconds=st.sampled_from([0.1, 0.3, 2.0]))
    def pause(self, seconds: float) -> None:
        self.channel.now += seconds

    @rule(limit=st.integers(1, 4))
    def set_limit(self, limit: int) -> None:
        self.limit = limit
        self.channel.stage.set_limit(limit)

    @rule(name=st.sampled_from("abcdef"))
    def leave(self, name: str) -> None:
        self.channel.stage.discard(self.channel.speeches[name])
        self.channel.speeches[name] = Speech(SETTINGS)

    @rule(name=st.sampled_from("abcdef"))
    def speak_when_all_are_quiet(self, name: str) -> None:
        self.channel.now += 1
        assert self.channel.send(**{name: 20 | 0x80}) == [name]

    @invariant()
    def is_within_its_limit(self) -> None:
        if hasattr(self, "channel"):
            assert len(self.channel.stage) <= self.limit


StageModel.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=30, deadline=None)
TestStageModel = StageModel.TestCase
