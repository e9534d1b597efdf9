from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.client.error import NotSent, OutboxFull, OutcomeUnknown
from livechat.client.outbox import Entry, Outbox
from livechat.client.settings import INTERNAL_ERRORS_MAX, ClientSettings
from livechat.error import (
    BackendUnavailable,
    EmptyMessage,
    InternalError,
    LiveError,
    NotPersisted,
    Overloaded,
    RateLimited,
)
from livechat.protocol.events import Message, MessageCreated
from livechat.protocol.requests import MessageCreate
from livechat.protocol.types import ChannelId, MessageId, UserId

DEN, HALL = ChannelId("den"), ChannelId("hall")


@attrs.define
class Outcome:
    created: MessageCreated | None = None
    error: Exception | None = None
    times: int = 0

    def __call__(self, created: MessageCreated | None, error: Exception | None) -> None:
        self.created, self.error = created, error
        self.times += 1


def create(nonce: str, channel_id: ChannelId = DEN) -> MessageCreate:
    return MessageCreate(channel_id, nonce, nonce=nonce)


def stored(entry: Entry, seq: int = 1) -> MessageCreated:
    return MessageCreated(MessageId("msg"), entry.request.channel_id, seq, 0, False, entry.nonce)


def new(**overrides: Any) -> Outbox:
    return Outbox(ClientSettings(**overrides), uniform=lambda: 1.0)


def post(outbox: Outbox, nonce: str, channel_id: ChannelId = DEN, now: float = 0.0) -> Outcome:
    outcome = Outcome()
    outbox.add(create(nonce, channel_id), outcome, now)
    return outcome


def nonces(entries: list[Entry]) -> list[str]:
    return [entry.nonce for entry in entries]


def test_messages_of_one_channel_leave_one_after_the_other() -> None:
    outbox = new()
    outcomes = [post(outbox, nonce) for nonce in "abc"]
    for nonce, outcome in zip("abc", outcomes, strict=True):
        (entry,) = outbox.due(0.0)
        assert entry.nonce == nonce
        assert outbox.due(0.0) == []
        outbox.created(entry, stored(entry))
        assert outcome.created is not None
    assert (outbox.due(0.0), len(outbox)) == ([], 0)


def test_channels_do_not_wait_for_each_other() -> None:
    outbox = new()
    post(outbox, "a")
    post(outbox, "b", HALL)
    assert sorted(nonces(outbox.due(0.0))) == ["a", "b"]


def test_several_may_be_under_way_if_asked_for() -> None:
    outbox = new(sends_in_flight=2)
    for nonce in "abc":
        post(outbox, nonce)
    first, second = outbox.due(0.0)
    assert nonces([first, second]) == ["a", "b"]
    outbox.created(second, stored(second))
    assert nonces(outbox.due(0.0)) == ["c"]


@pytest.mark.parametrize(
    "refusal",
    [
        RateLimited("slow down"),
        Overloaded("later"),
        BackendUnavailable("away"),
        NotPersisted("who knows", action="RETRY"),
    ],
)
def test_what_is_refused_for_now_is_sent_again_with_the_same_nonce_before_what_follows(refusal: LiveError) -> None:
    outbox = new()
    outcome = post(outbox, "a")
    post(outbox, "b")
    waits = []
    now = 0.0
    for _ in range(4):
        (entry,) = outbox.due(now)
        assert entry.nonce == "a"
        outbox.refused(entry, refusal, now)
        assert outbox.due(now) == []
        wake = outbox.deadline(online=True)
        waits.append(wake - now)
        now = wake
    assert waits == [1.0, 1.5, 2.25, 3.375]
    assert outcome.times == 0


def test_what_the_server_fails_at_again_and_again_is_given_up() -> None:
    outbox = new()
    outcome = post(outbox, "a")
    now = 0.0
    for times in range(INTERNAL_ERRORS_MAX + 1):
        assert outcome.times == 0, times
        (entry,) = outbox.due(now)
        outbox.refused(entry, InternalError("internal error"), now)
        now = outbox.deadline(online=True)
    assert isinstance(outcome.error, OutcomeUnknown)
    assert "the server fails at it (internal error)" in str(outcome.error)
    assert len(outbox) == 0


def test_what_is_posted_while_another_waits_does_not_overtake_it() -> None:
    outbox = new()
    post(outbox, "a")
    (entry,) = outbox.due(0.0)
    outbox.refused(entry, RateLimited("slow down"), 0.0)
    post(outbox, "b")
    assert outbox.due(0.0) == []


def test_the_servers_word_on_when_to_come_back_is_kept() -> None:
    outbox = new()
    post(outbox, "a")
    (entry,) = outbox.due(0.0)
    outbox.refused(entry, RateLimited("slow down", retry_after_ms=7000), 0.0)
    assert outbox.due(6.9) == []
    assert outbox.due(7.0) == [entry]


@pytest.mark.parametrize("refusal", [EmptyMessage("empty"), NotPersisted("disk full")])
def test_what_is_refused_for_good_is_rolled_back_and_the_next_one_goes(refusal: LiveError) -> None:
    outbox = new()
    outcome = post(outbox, "a")
    post(outbox, "b")
    (entry,) = outbox.due(0.0)
    outbox.refused(entry, refusal, 0.0)
    assert outcome.error is refusal
    assert nonces(outbox.due(0.0)) == ["b"]


def test_after_a_lost_connection_all_is_sent_again_in_order() -> None:
    outbox = new(sends_in_flight=2)
    for nonce in "abc":
        post(outbox, nonce)
    assert nonces(outbox.due(0.0)) == ["a", "b"]
    outbox.lost(set())
    assert nonces(outbox.due(0.0)) == ["a", "b"]


def test_ones_own_message_heard_is_as_good_as_its_ack() -> None:
    outbox = new()
    outcome = post(outbox, "a")
    (entry,) = outbox.due(0.0)
    outbox.lost(set())
    heard = Message(MessageId("msg"), DEN, 7, UserId("ann"), "TEXT", "a", 5, nonce="a")
    outbox.heard(attrs.evolve(heard, channel_id=HALL))
    outbox.heard(attrs.evolve(heard, nonce="z"))
    outbox.heard(attrs.evolve(heard, nonce=None))
    assert outcome.times == 0
    outbox.heard(heard)
    assert outcome.created == MessageCreated(MessageId("msg"), DEN, 7, 5, False, "a")
    outbox.created(entry, stored(entry))
    outbox.refused(entry, EmptyMessage(""), 0.0)
    assert outcome.times == 1, "the ACK that comes late changes nothing"


def test_what_was_never_sent_is_surely_not_stored_when_its_time_is_over() -> None:
    outbox = new(send_timeout_s=10.0)
    outcome = post(outbox, "a", now=100.0)
    assert outbox.deadline(online=False) == 110.0
    outbox.expire(109.9)
    assert outcome.times == 0
    outbox.expire(110.0)
    assert isinstance(outcome.error, NotSent)
    assert outbox.deadline(online=False) == math.inf


@pytest.mark.parametrize("how", ["in flight", "lost", "unknown"])
def test_of_what_was_sent_nobody_knows_when_its_time_is_over(how: str) -> None:
    outbox = new(send_timeout_s=10.0)
    outcome = post(outbox, "a")
    (entry,) = outbox.due(0.0)
    if how == "lost":
        outbox.lost(set())
    elif how == "unknown":
        outbox.refused(entry, NotPersisted("who knows", action="RETRY"), 0.0)
    outbox.expire(10.0)
    assert isinstance(outcome.error, OutcomeUnknown)


def test_what_had_not_left_when_the_connection_ended_is_surely_not_stored() -> None:
    outbox = new(send_timeout_s=10.0)
    outcome = post(outbox, "a")
    outbox.due(0.0)
    outbox.lost({"a"})
    outbox.expire(10.0)
    assert isinstance(outcome.error, NotSent)


def test_after_a_definite_refusal_it_is_surely_not_stored() -> None:
    outbox = new(send_timeout_s=10.0)
    outcome = post(outbox, "a")
    (entry,) = outbox.due(0.0)
    outbox.refused(entry, RateLimited("slow down"), 0.0)
    outbox.expire(10.0)
    assert isinstance(outcome.error, NotSent)


def test_closing_gives_everything_up() -> None:
    outbox = new()
    outcomes = [post(outbox, nonce) for nonce in "ab"]
    outbox.due(0.0)
    outbox.close("left")
    assert [type(outcome.error) for outcome in outcomes] == [OutcomeUnknown, NotSent]
    assert len(outbox) == 0


def test_it_takes_so_many_and_no_more() -> None:
    outbox = new(outbox_max=2)
    post(outbox, "a")
    post(outbox, "b")
    with pytest.raises(OutboxFull, match="2 messages"):
        post(outbox, "c")


class Sending(RuleBasedStateMachine):
    """An outbox against a server that stores a nonce once, over a network that loses requests and answers.

    What is settled as stored is stored, what is settled as not stored is not, and a channel's messages are stored
    in the order in which they were posted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outbox = new(send_timeout_s=math.inf)
        self.now = 0.0
        self.posted: dict[ChannelId, list[str]] = {DEN: [], HALL: []}
        self.outcomes: dict[str, Outcome] = {}
        self.server: dict[ChannelId, list[str]] = {DEN: [], HALL: []}
        self.on_the_way: list[Entry] = []
        self.answers: list[tuple[Entry, MessageCreated | LiveError]] = []

    @rule(channel_id=st.sampled_from([DEN, HALL]))
    def post(self, channel_id: ChannelId) -> None:
        nonce = f"n{len(self.outcomes)}"
        self.outcomes[nonce] = post(self.outbox, nonce, channel_id, self.now)
        self.posted[channel_id].append(nonce)

    @rule()
    def send(self) -> None:
        self.now += 40.0
        self.on_the_way += self.outbox.due(self.now)

    @precondition(lambda self: self.on_the_way)
    @rule(how=st.sampled_from(["store", "store", "rollback", "retry", "stored, retry", "limit"]))
    def serve(self, how: str) -> None:
        entry = self.on_the_way.pop(0)
        log = self.server[entry.request.channel_id]
        if "store" in how and entry.nonce not in log:
            log.append(entry.nonce)
        if entry.nonce in log:
            unknown = NotPersisted("", action="RETRY")
            self.answers.append((entry, unknown if "retry" in how else stored(entry, log.index(entry.nonce) + 1)))
        elif how == "rollback":
            self.answers.append((entry, NotPersisted("")))
        elif how == "retry":
            self.answers.append((entry, NotPersisted("", action="RETRY")))
        else:
            self.answers.append((entry, RateLimited("")))

    @precondition(lambda self: self.answers)
    @rule()
    def answer(self) -> None:
        entry, answer = self.answers.pop(0)
        if isinstance(answer, LiveError):
            self.outbox.refused(entry, answer, self.now)
        else:
            self.outbox.created(entry, answer)

    @rule(server_still_gets_them=st.booleans())
    def lose_the_connection(self, server_still_gets_them: bool) -> None:
        if server_still_gets_them:
            for entry in self.on_the_way:
                log = self.server[entry.request.channel_id]
                if entry.nonce not in log:
                    log.append(entry.nonce)
        self.on_the_way.clear()
        self.answers.clear()
        self.outbox.lost(set())

    @invariant()
    def nothing_is_claimed_that_is_not_so(self) -> None:
        everything = [nonce for log in self.server.values() for nonce in log]
        for nonce, outcome in self.outcomes.items():
            assert outcome.times <= 1
            if outcome.created is not None:
                assert nonce in everything
                assert self.server[outcome.created.channel_id][outcome.created.seq - 1] == nonce
            if outcome.error is not None:
                assert nonce not in everything
        for channel_id, log in self.server.items():
            assert log == [nonce for nonce in self.posted[channel_id] if nonce in log]

    def teardown(self) -> None:
        while len(self.outbox):
            self.send()
            while self.on_the_way:
                self.serve("store")
            while self.answers:
                self.answer()
        self.nothing_is_claimed_that_is_not_so()
        assert all(outcome.times == 1 for outcome in self.outcomes.values())


TestSending = Sending.TestCase
TestSending.settings = settings(max_examples=100, stateful_step_count=40)
