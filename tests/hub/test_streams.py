from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livechat.error import Forbidden, LiveError, Overloaded, PayloadTooLarge, ProtocolError
from livechat.hub.settings import ChunkSettings
from livechat.hub.streams import StreamHub
from livechat.hub.users import Session
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.types import ChannelId, SessionId, StreamId, UserId

X = ChannelId("x")
ANN = UserId("ann")
S1, S2 = SessionId("s1"), SessionId("s2")
SMALL = ChunkSettings(
    data_bytes=8, init_bytes=4, kept_bytes=6, streams_per_user=2, streams_max=3, silence_ms=10_000
)


def chunk(seq: int, *, stream: str = "cam", user: str = "ann", channel: str = "x", **fields: Any) -> ChunkEvent:
    fields.setdefault("data", b"1234")
    return ChunkEvent(ChannelId(channel), UserId(user), StreamId(stream), seq, mime="video/mp4", **fields)


def listener(user: str = "bob") -> Session:
    return Session(SessionId(f"sess_{user}"), UserId(user), 0.0)


def test_a_chunk_must_rise_or_begin_anew_with_init() -> None:
    hub = StreamHub()
    hub.follow(chunk(5), S1, 0.0)
    for seq in (4, 5):
        with pytest.raises(ProtocolError, match=r"^chunk_seq: expected more than 5"):
            hub.check(chunk(seq), S1)
        hub.check(chunk(seq, init=True), S1)
    hub.check(chunk(6), S1)
    stream = hub.follow(chunk(1, init=True), S1, 1.0)
    assert stream is not None
    assert (stream.last_seq, stream.marks_keyframes, len(hub)) == (1, False, 1)


def test_a_stream_is_another_sessions_only_once_its_own_is_away() -> None:
    hub = StreamHub()
    hub.follow(chunk(5, init=True), S1, 0.0)
    with pytest.raises(Forbidden):
        hub.check(chunk(6, init=True), S2)
    hub.lost(S1)
    hub.check(chunk(1), S2)
    hub.follow(chunk(1), S2, 1.0)
    hub.end_session(S1)
    assert (len(hub), hub.kept_bytes) == (1, 0)
    with pytest.raises(Forbidden):
        hub.check(chunk(9), S1)


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        (chunk(1, data=bytes(9)), PayloadTooLarge),
        (chunk(2, stream="a", data=bytes(5), init=True), PayloadTooLarge),
        (chunk(1, stream="c"), Overloaded),
        (chunk(1, user="bob", init=True), Overloaded),
    ],
)
def test_sizes_and_numbers_are_bounded(event: ChunkEvent, refusal: type[LiveError]) -> None:
    hub = StreamHub(SMALL)
    hub.follow(chunk(1, stream="a", init=True), S1, 0.0)
    hub.follow(chunk(1, stream="b"), S1, 0.0)
    hub.check(chunk(1, user="bob", data=b"12", init=True), S2)
    with pytest.raises(refusal):
        hub.check(event, S1)


def test_who_comes_later_waits_for_a_keyframe_only_where_there_are_any() -> None:
    hub, bob, cyd = StreamHub(), listener(), listener("cyd")
    stream = hub.follow(chunk(1, init=True), S1, 0.0)
    assert stream is not None
    assert [each.init for each in hub.listen(bob, X)] == [chunk(1, init=True)]
    assert not stream.waiting
    hub.follow(chunk(2, keyframe=True), S1, 0.0)
    hub.listen(bob, X)
    hub.listen(cyd, X)
    hub.follow(chunk(3), S1, 0.0)
    assert stream.waiting == {bob, cyd}
    hub.ignore(cyd, [X])
    assert stream.waiting == {bob}
    hub.follow(chunk(4, keyframe=True), S1, 0.0)
    assert not stream.waiting


def test_the_publisher_does_not_listen_to_itself() -> None:
    hub = StreamHub()
    hub.follow(chunk(1, init=True), SessionId("sess_ann"), 0.0)
    assert not hub.listen(listener("ann"), X)


def test_it_says_once_which_streams_have_ended() -> None:
    hub = StreamHub(SMALL)
    for index, (user, channel) in enumerate([("ann", "x"), ("ann", "y"), ("bob", "y")]):
        hub.follow(chunk(5, user=user, channel=channel), SessionId(user), float(index))
    ann_x, ann_y, bob_y = [stream.key for stream in hub]
    assert hub.take_ended() == []
    hub.follow(chunk(5), SessionId("ann"), 3.0)
    assert (hub.take_ended(), hub.take_ended()) == ([ann_x], [])
    hub.end_user(ChannelId("y"), ANN)
    assert hub.take_ended() == [ann_y]
    hub.end_channel(ChannelId("y"))
    hub.end_session(SessionId("ann"))
    assert hub.take_ended() == [bob_y, ann_x]
    hub.follow(chunk(6), S1, 4.0)
    hub.expire(100.0)
    assert hub.take_ended() == [ann_x]


def test_streams_end_by_silence_in_the_order_of_their_last_chunks() -> None:
    hub = StreamHub(SMALL)
    hub.follow(chunk(1, stream="a", init=True), S1, 0.0)
    hub.follow(chunk(1, stream="b"), S1, 1.0)
    hub.follow(chunk(2, stream="a"), S1, 2.0)
    assert hub.next_due == 11.0
    hub.expire(11.0)
    assert [stream.key[2] for stream in hub] == ["a"]
    hub.expire(12.0)
    assert (len(hub), hub.kept_bytes) == (0, 0)


class StreamModel(RuleBasedStateMachine):
    """Whatever comes, what the hub holds is bounded, indexed consistently and gone with its sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = StreamHub(attrs.evolve(SMALL, streams_max=5))
        self.now = 0.0
        self.bob = listener()

    @rule(
        seq=st.integers(0, 9),
        stream=st.sampled_from("abc"),
        channel=st.sampled_from("xy"),
        user=st.sampled_from(["ann", "cyd"]),
        device=st.integers(1, 2),
        size=st.integers(0, 9),
        keyframe=st.booleans(),
        init=st.booleans(),
    )
    def publish(
        self, seq: int, stream: str, channel: str, user: str, device: int, size: int, **flags: bool
    ) -> None:
        event = chunk(seq, stream=stream, channel=channel, user=user, data=bytes(size), **flags)
        session_id = SessionId(f"{user}{device}")
        before = self.hub.get((event.channel_id, event.user_id, event.stream_id))
        try:
            self.hub.check(event, session_id)
        except LiveError:
            return
        if before is not None and before.session_id == session_id and not event.init:
            assert seq > before.last_seq
        after = self.hub.follow(event, session_id, self.now)
        assert after is not None
        assert after.last_seq == seq
        assert after.init == event or not event.init
        assert not (event.keyframe and after.waiting)

    @rule(channel=st.sampled_from("xy"))
    def listen(self, channel: str) -> None:
        for stream in self.hub.listen(self.bob, ChannelId(channel)):
            assert stream.init is not None

    @rule(name=st.sampled_from(["ann1", "ann2", "cyd1", "cyd2"]), over=st.booleans())
    def lose(self, name: str, over: bool) -> None:
        self.hub.lost(SessionId(name))
        if over:
            self.hub.end_session(SessionId(name))
            assert all(stream.session_id != name for stream in self.hub)

    @rule(channel=st.sampled_from("xy"), user=st.sampled_from(["ann", "cyd", "bob"]))
    def leave(self, channel: str, user: str) -> None:
        self.hub.end_user(ChannelId(channel), UserId(user))
        for stream in self.hub.of_channel(ChannelId(channel)):
            assert stream.key[1] != user
            assert all(session.user_id != user for session in stream.waiting)

    @rule(seconds=st.floats(0, 12))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.hub.expire(self.now)
        assert all(stream.last_at + 10 > self.now for stream in self.hub)

    @invariant()
    def all_is_bounded_and_consistent(self) -> None:
        hub = self.hub
        assert len(hub) <= 5
        assert hub.kept_bytes == sum(len(each.init.data) for each in hub if each.init is not None) <= 6
        assert sorted(each.key for name in "xy" for each in hub.of_channel(ChannelId(name))) == sorted(
            each.key for each in hub
        )
        assert {each.key for held in hub._by_session.values() for each in held.values()} == {e.key for e in hub}
        assert all(hub._by_session.values())
        times = [each.last_at for each in hub]
        assert times == sorted(times)


TestStreamModel = StreamModel.TestCase
