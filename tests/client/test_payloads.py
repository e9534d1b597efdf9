from __future__ import annotations

from typing import Any, get_args, get_origin

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.client.payloads import ANSWERS, EVENTS, event_of_row, events_untrusted, structure_untrusted
from livechat.error import ProtocolError
from livechat.protocol import events
from livechat.protocol.codec import Packet, unstructure
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS
from livechat.protocol.types import ChannelId, MessageId, UserId
from tests.support.fake_gateway import channel, message, ready, resumed, resumed_channel

MESSAGE = events.Message(MessageId("m"), ChannelId("den"), 3, UserId("bob"), "TEXT", "hi", 5)


def test_ready_is_understood_with_all_that_is_in_it() -> None:
    stated = ready(
        channel("den", 5, last_message=message(5)),
        expires_at=9,
        presence={"bob": "AWAY"},
        announcements=[
            {"announcement_id": "a", "title": "t", "body": "b", "severity": "info", "created_at": 1, "url": "u"}
        ],
        settings={"theme": {"dark": True, "sizes": [1, 2.5, None]}},
    )
    taken = structure_untrusted(stated, events.Ready)
    assert unstructure(taken) == stated
    assert isinstance(taken.channels[0].last_message, events.Message)


def test_resumed_is_understood_with_all_that_is_in_it() -> None:
    stated = resumed(den=resumed_channel(7, active_members=[{"user_id": "bob", "ssrc": None}]))
    assert unstructure(structure_untrusted(stated, events.Resumed)) == stated


CLASSES: list[type[Any]] = sorted({*ANSWERS.values(), *EVENTS.values()}, key=str)


@pytest.mark.parametrize("cls", CLASSES)
def test_whatever_the_server_writes_is_read_back(cls: type[Any]) -> None:
    attrs.resolve_types(cls)
    payload = cls(**{field.alias: example(field.type) for field in attrs.fields(cls)})
    assert structure_untrusted(unstructure(payload), cls) == payload


def example(kind: Any) -> Any:
    """Any value of a type that events are made of."""
    if attrs.has(kind):
        attrs.resolve_types(kind)
        return kind(**{field.alias: example(field.type) for field in attrs.fields(kind)})
    origin: Any = get_origin(kind)
    arguments: tuple[Any, ...] = get_args(kind)
    if type(None) in arguments:
        return example(arguments[0])
    if origin is list:
        return [example(arguments[0])]
    if origin is tuple:
        return (example(arguments[0]),)
    if origin is dict:
        return {"key": example(arguments[1])}
    if arguments:
        return arguments[0]
    plain = getattr(kind, "__supertype__", kind)
    return {int: 7, float: 0.5, bool: True, str: "text", bytes: b"\x00\xff"}.get(plain, "anything")


def test_every_request_of_clients_has_an_answer_that_is_understood() -> None:
    assert set(ANSWERS) == set(REQUESTS) - {Op.HEARTBEAT, Op.RESUME, Op.TYPING}


@pytest.mark.parametrize("extra", [{"reactions": []}, {"author_id": "someone", "edited": {"deep": [1]}}])
def test_unknown_fields_are_ignored(extra: dict[str, Any]) -> None:
    assert structure_untrusted(message(3) | extra, events.Message).seq == 3


def test_unknown_words_are_let_through() -> None:
    video = structure_untrusted(message(3, message_type="VIDEO"), events.Message)
    assert str(video.message_type) == "VIDEO"


def test_null_is_as_good_as_left_out() -> None:
    given = message(3, attachment=None, mentions=None, nonce=None, system=None)
    assert structure_untrusted(given, events.Message) == structure_untrusted(message(3), events.Message)
    stated = ready(announcements=None, presence=None, settings=None, expires_at=None)
    assert structure_untrusted(stated, events.Ready).announcements == []


def test_left_out_is_as_good_as_null() -> None:
    assert structure_untrusted({"user_id": "bob"}, events.Member) == events.Member(UserId("bob"), None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seq": "3"},
        {"seq": 3.0},
        {"seq": True},
        {"seq": None},
        {"content": 5},
        {"mentions": "bob"},
        {"mentions": {"bob": 1}},
        {"mentions": [5]},
        {"attachment": []},
        {"channel_id": None},
    ],
)
def test_what_is_not_of_its_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="Message"):
        structure_untrusted(message(3) | wrong, events.Message)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = st.sampled_from(["channel_id", "seq", "users", "member", "event", "channels", "system", "user_id"])


@given(st.sampled_from(sorted(EVENTS)), st.none() | st.dictionaries(FIELDS, JUNK, max_size=6))
def test_no_payload_raises_anything_else(op: int, d: dict[str, Any] | None) -> None:
    try:
        taken = events_untrusted(Packet(op, d))
    except ProtocolError:
        return
    assert all(isinstance(event, tuple({*EVENTS.values()})) for event in taken)


def test_an_unknown_op_is_no_event() -> None:
    assert events_untrusted(Packet(150, {"anything": 1})) == []
    assert events_untrusted(Packet(-1, None)) == []


def test_presence_comes_alone_or_in_batches() -> None:
    bob = {"user_id": "bob", "status": "AWAY", "last_seen": 5}
    cyd = {"user_id": "cyd", "status": "OFFLINE", "last_seen": None, "text": "bye"}
    expected = [
        events.UserPresence(UserId("bob"), "AWAY", 5),
        events.UserPresence(UserId("cyd"), "OFFLINE", None, "bye"),
    ]
    assert events_untrusted(Packet(Op.PRESENCE_EVENT, {"users": [bob, cyd]})) == expected
    assert events_untrusted(Packet(Op.PRESENCE_EVENT, bob)) == expected[:1]


def test_a_row_of_history_is_the_event_that_was_sent_for_it() -> None:
    assert event_of_row(MESSAGE) is MESSAGE
    joined = attrs.evolve(MESSAGE, message_type="SYSTEM", system={"event": "join", "user_id": "cyd"})
    member = events.Member(UserId("cyd"), None)
    assert event_of_row(joined) == events.ChannelEvent("join", ChannelId("den"), member, 3)


@pytest.mark.parametrize("system", [None, {}, {"event": "join"}, {"event": 5, "user_id": "bob"}])
def test_a_system_message_of_another_kind_remains_a_message(system: dict[str, Any] | None) -> None:
    odd = attrs.evolve(MESSAGE, message_type="SYSTEM", system=system)
    assert event_of_row(odd) is odd
