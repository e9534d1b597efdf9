"""Channels come and go, and what is missed of them is fetched or told."""

from __future__ import annotations

from typing import Any

import pytest

from livechat.client.events import ChannelLost, Gap
from livechat.client.session import Envelope
from livechat.protocol import requests
from livechat.protocol.events import Announcement, ChannelEvent
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId
from tests.support import fake_gateway as fake
from tests.support.client_session import Driven

DEN, HALL = ChannelId("den"), ChannelId("hall")


def online(*channels: dict[str, Any], **settings: Any) -> Driven:
    driven = Driven(**settings)
    driven.ready(*(channels or (fake.channel("den", 5),)))
    return driven


def new_session(driven: Driven, *channels: dict[str, Any]) -> None:
    driven.cut()
    driven.hello()
    driven.receive(Op.INVALID_SESSION, {"reason": "late"})
    driven.sent()
    driven.receive(Op.READY, fake.ready(*channels, session="sess_2"))


def done(driven: Driven, op: int, payload: Any, data: Any) -> None:
    """Make a request and have it acknowledged."""
    answer = driven.request(op, payload)
    request = driven.sent_one()
    assert request["op"] == op
    driven.ack(request, data)
    assert answer == [data] or not isinstance(answer[0], Exception)


def join(driven: Driven, channel_id: ChannelId, last_seq: int) -> None:
    joined = {"channel_id": channel_id, "mode": "conference", "active_members": [], "last_seq": last_seq}
    done(driven, Op.CHANNEL_JOIN, requests.ChannelJoin(channel_id), joined)


def details(channel_id: str, last_seq: int, **fields: Any) -> dict[str, Any]:
    return fake.channel(channel_id, last_seq, **fields) | {"capacity": 5, "created_at": 1, "peers": []}


def sync_of(packet: Envelope) -> Any:
    assert packet["op"] == Op.SYNC
    return packet["d"]["channels"]


# --- holes ------------------------------------------------------------------------------------------------


def test_a_hole_in_the_live_stream_is_repaired_before_what_follows_is_told() -> None:
    driven = online()
    driven.say(6, 9)
    sync = driven.sent_one()
    assert sync_of(sync) == {"den": {"after": 6, "before": 9}}
    driven.say(10)
    assert driven.heard() == [6]
    driven.say(7, 8)
    assert driven.heard() == [7, 8, 9, 10]
    driven.ack(sync, {"channels": {"den": {"replayed": 2, "last_seq": 10, "recovered": True}}})
    assert driven.sent() == []


def test_what_cannot_be_had_is_told_as_a_gap() -> None:
    driven = online()
    driven.say(8)
    driven.refuse(driven.sent_one(), 1003)
    driven.refuse(driven.sent_one(), 1003)
    assert driven.heard() == [(5, 8), 8]


def test_history_fills_a_hole_and_its_system_messages_are_the_events_that_they_were() -> None:
    driven = online()
    driven.say(9)
    driven.refuse(driven.sent_one(), 1003)
    history = driven.sent_one()
    assert history["d"] == {"channel_id": "den", "after_seq": 5, "limit": 100}
    joined = fake.message(7, message_type="SYSTEM", system={"event": "join", "user_id": "cyd"})
    rows = [fake.message(6), joined, fake.message(9)]
    page = {"channel_id": "den", "messages": rows, "has_before": True, "has_after": False, "last_seq": 9}
    driven.ack(history, page)
    events = [event for event in driven.told if isinstance(event, ChannelEvent)]
    assert [(event.event, event.member.user_id, event.seq) for event in events] == [("join", "cyd", 7)]
    assert driven.heard() == [6, 7, (7, 9), 9]


def test_a_server_that_does_not_answer_a_repair_is_left() -> None:
    driven = online(request_timeout_s=20.0)
    driven.say(8)
    driven.sent()
    driven.pass_time(19.9)
    assert driven.closing() is None
    driven.pass_time(0.1)
    assert driven.closing() is not None


def test_a_repair_that_is_refused_for_now_is_tried_again() -> None:
    driven = online()
    driven.say(8)
    driven.refuse(driven.sent_one(), 1006, retryable=True, retry_after_ms=3000)
    driven.pass_time(2.9)
    assert driven.sent() == []
    driven.pass_time(0.1)
    assert sync_of(driven.sent_one()) == {"den": {"after": 5, "before": 8}}


def test_joins_and_leaves_of_others_are_part_of_the_sequence() -> None:
    driven = online()
    driven.change("join", 6)
    driven.say(7)
    driven.change("voice_join")
    driven.change("leave", 8)
    assert driven.heard() == [6, 7, 8]


# --- coming in --------------------------------------------------------------------------------------------


def test_a_channel_is_followed_from_its_join_on() -> None:
    driven = online()
    join(driven, HALL, 12)
    driven.say(12, 13, channel_id="hall")
    assert driven.heard("hall") == [13]


def test_a_channel_that_was_joined_is_described() -> None:
    driven = online()
    join(driven, HALL, 12)
    info = driven.sent_one()
    assert (info["op"], info["d"]) == (Op.CHANNEL_INFO, {"channel_id": "hall"})
    driven.ack(info, details("hall", 12, role="owner"))
    channel = driven.session.state.channels[HALL]
    assert (channel.channel_name, channel.role) == ("Hall", "owner")
    join(driven, HALL, 12)
    assert driven.sent() == [], "it is known by now"


def test_a_join_that_tells_of_more_than_was_heard_shows_a_hole() -> None:
    driven = online()
    join(driven, DEN, 8)
    assert sync_of(driven.sent_one()) == {"den": {"after": 5, "before": 9}}


def test_a_channel_that_another_device_has_joined_is_followed() -> None:
    driven = online()
    driven.change("join", 4, user_id=fake.USER, channel_id="hall")
    info = driven.sent_one()
    driven.say(5, channel_id="hall")
    assert driven.heard("hall") == [4, 5]
    driven.ack(info, details("hall", 4))
    assert driven.session.state.channels[HALL].channel_name == "Hall"


def test_a_channel_that_resumed_lists_and_was_not_known_is_followed() -> None:
    driven = online()
    driven.cut()
    driven.hello()
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5), hall=fake.resumed_channel(3)))
    assert driven.sent_one()["op"] == Op.CHANNEL_INFO
    driven.say(4, channel_id="hall")
    assert driven.heard("hall") == [4]


# --- going ------------------------------------------------------------------------------------------------


def test_after_leaving_a_channel_is_not_followed() -> None:
    driven = online()
    done(driven, Op.CHANNEL_LEAVE, requests.ChannelLeave(DEN), {"channel_id": "den"})
    assert DEN not in driven.session.state.channels
    assert driven.session.book.positions() == {}


def test_being_removed_is_told_last() -> None:
    driven = online()
    driven.change("leave", 6, user_id=fake.USER)
    assert driven.heard() == [6]
    assert DEN not in driven.session.state.channels
    driven.change("leave", 7, user_id=fake.USER)
    assert DEN not in driven.session.state.channels


def test_being_removed_after_a_hole_is_told_after_the_gap() -> None:
    driven = online()
    driven.change("leave", 8, user_id=fake.USER)
    assert driven.heard() == []
    driven.refuse(driven.sent_one(), 2004)
    driven.refuse(driven.sent_one(), 2004)
    assert driven.heard() == [(5, 8), 8]
    assert DEN not in driven.session.state.channels


@pytest.mark.parametrize("by_history", [False, True])
def test_a_leave_that_was_followed_by_another_join_is_not_the_end(by_history: bool) -> None:
    driven = online()
    new_session(driven, fake.channel("den", 9))
    repair = driven.sent_one()
    driven.say(10)
    if by_history:
        driven.refuse(repair, 1003)
        rows = [fake.message(6, message_type="SYSTEM", system={"event": "leave", "user_id": fake.USER})]
        rows += [fake.message(7, message_type="SYSTEM", system={"event": "join", "user_id": fake.USER})]
        page = {"messages": rows, "has_before": True, "has_after": True, "last_seq": 9}
        driven.ack(driven.sent_one(), {"channel_id": "den", **page})
        page |= {"messages": [fake.message(8), fake.message(9)], "has_after": False}
        driven.ack(driven.sent_one(), {"channel_id": "den", **page})
    else:
        driven.change("leave", 6, user_id=fake.USER)
        driven.change("join", 7, user_id=fake.USER)
        driven.say(8, 9)
    assert driven.heard() == [6, 7, 8, 9, 10]
    assert DEN in driven.session.state.channels


def test_what_was_held_comes_before_the_end_of_its_channel() -> None:
    driven = online()
    driven.say(8)
    driven.change("delete")
    assert [type(event) for event in driven.told[-3:]] == [Gap, type(driven.told[-2]), ChannelEvent]
    assert driven.heard() == [(5, 8), 8]
    assert DEN not in driven.session.state.channels


def test_deleting_a_channel_oneself_ends_it() -> None:
    driven = online()
    done(driven, Op.CHANNEL_DELETE, requests.ChannelDelete(DEN), {"channel_id": "den"})
    driven.change("delete")
    assert DEN not in driven.session.state.channels


def test_a_membership_that_is_gone_in_the_new_session_is_told() -> None:
    driven = online(fake.channel("den", 5), fake.channel("hall", 0))
    driven.say(6)
    new_session(driven, fake.channel("hall", 0))
    assert driven.told[-1] == ChannelLost(DEN, 6, "the user is no member any more")
    assert set(driven.session.state.channels) == {HALL}


def test_a_membership_that_ended_with_the_session_is_taken_up_again() -> None:
    driven = online(fake.channel("hall", 0))
    join(driven, DEN, 5)
    driven.ack(driven.sent_one(), details("den", 5, durable=False))
    driven.say(6)
    new_session(driven, fake.channel("hall", 0))
    again = driven.sent_one()
    assert (again["op"], again["d"]) == (Op.CHANNEL_JOIN, {"channel_id": "den"})
    driven.ack(again, {"channel_id": "den", "mode": "conference", "active_members": [], "last_seq": 9})
    assert sync_of(driven.sent_one()) == {"den": {"after": 6, "before": 10}}
    assert not [event for event in driven.told if isinstance(event, ChannelLost)]


def test_where_it_cannot_be_taken_up_again_that_is_told() -> None:
    driven = online(fake.channel("hall", 0))
    join(driven, DEN, 5)
    driven.ack(driven.sent_one(), details("den", 5, durable=False))
    new_session(driven)
    driven.refuse(driven.sent_one(), 2000)
    assert ChannelLost(DEN, 5, "no") in driven.told


@pytest.mark.parametrize("how", ["there", "no member", "deleted", "away"])
def test_a_channel_that_resumed_does_not_list_is_asked_about(how: str) -> None:
    driven = online()
    driven.cut()
    driven.hello()
    driven.receive(Op.RESUMED, fake.resumed())
    info = driven.sent_one()
    assert info["op"] == Op.CHANNEL_INFO
    if how in ("there", "no member"):
        driven.ack(info, details("den", 5, role="member" if how == "there" else None))
    else:
        driven.refuse(info, 2000 if how == "deleted" else 9003, retryable=how == "away")
    is_gone = how in ("no member", "deleted")
    assert (DEN in driven.session.state.channels) == (not is_gone)
    assert isinstance(driven.told[-1], ChannelLost) == is_gone


def test_an_unsubscribed_channel_that_is_gone_in_the_new_session_is_told() -> None:
    driven = online()
    done(driven, Op.UNSUBSCRIBE, requests.Unsubscribe(DEN), {"channel_id": "den"})
    new_session(driven)
    assert driven.sent() == []
    assert driven.told[-1] == ChannelLost(DEN, 5, "the user is no member any more")


def test_a_server_that_has_lost_its_newest_messages_is_believed() -> None:
    driven = online()
    driven.say(6, 7, 8)
    driven.heard()
    new_session(driven, fake.channel("den", 6))
    assert driven.sent() == []
    driven.say(7)
    assert driven.heard() == [7]


# --- subscriptions, focus, reading ------------------------------------------------------------------------


def test_between_unsubscribe_and_subscribe_there_is_a_gap() -> None:
    driven = online()
    done(driven, Op.UNSUBSCRIBE, requests.Unsubscribe(DEN), {"channel_id": "den"})
    channel = driven.session.state.channels[DEN]
    assert not channel.is_subscribed
    driven.receive(Op.UNREAD_EVENT, {"channel_id": "den", "unread": 3, "read_seq": 5, "last_seq": 8})
    assert channel.unread == 3
    done(driven, Op.SUBSCRIBE, requests.Subscribe(DEN), {"channel_id": "den", "last_seq": 8})
    driven.say(9)
    assert driven.heard() == [(5, 9), 9]
    assert (channel.is_subscribed, channel.unread) == (True, 4)


def test_an_unsubscribed_channel_stays_so_in_a_new_session_and_is_not_repaired() -> None:
    driven = online()
    done(driven, Op.UNSUBSCRIBE, requests.Unsubscribe(DEN), {"channel_id": "den"})
    new_session(driven, fake.channel("den", 9))
    again = driven.sent_one()
    assert (again["op"], again["d"]) == (Op.UNSUBSCRIBE, {"channel_id": "den"})
    driven.say(10)
    driven.ack(again, {"channel_id": "den"})
    assert driven.heard() == []
    assert driven.session.state.channels[DEN].unread == 1
    driven.cut()
    assert driven.hello()["d"]["channels"] == {}


def test_being_removed_from_an_unsubscribed_channel_is_told() -> None:
    driven = online()
    done(driven, Op.UNSUBSCRIBE, requests.Unsubscribe(DEN), {"channel_id": "den"})
    driven.change("leave", 6, user_id=fake.USER)
    assert driven.heard() == [6]
    assert DEN not in driven.session.state.channels


def test_subscribing_to_what_is_subscribed_is_no_gap() -> None:
    driven = online()
    done(driven, Op.SUBSCRIBE, requests.Subscribe(DEN), {"channel_id": "den", "last_seq": 5})
    driven.say(6)
    assert driven.heard() == [6]


@pytest.mark.parametrize("resumes", [True, False])
def test_the_focus_is_set_again_after_a_reconnect(resumes: bool) -> None:
    driven = online()
    done(driven, Op.FOCUS, requests.Focus(DEN), {"channel_id": "den"})
    assert driven.session.book.focus == DEN
    if resumes:
        driven.cut()
        driven.hello()
        driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)))
    else:
        new_session(driven, fake.channel("den", 5))
    again = driven.sent_one()
    assert (again["op"], again["d"]) == (Op.FOCUS, {"channel_id": "den"})


def test_the_focus_goes_with_its_channel() -> None:
    driven = online()
    done(driven, Op.FOCUS, requests.Focus(DEN), {"channel_id": "den"})
    driven.change("leave", 6, user_id=fake.USER)
    assert driven.session.book.focus is None
    done(driven, Op.FOCUS, requests.Focus(None), {"channel_id": None})
    assert driven.session.book.focus is None


def test_reading_resets_the_count() -> None:
    driven = online()
    driven.say(6, 7)
    done(driven, Op.READ, requests.Read(DEN, 7), {"channel_id": "den", "read_seq": 7, "unread": 0})
    channel = driven.session.state.channels[DEN]
    assert (channel.unread, channel.read_seq) == (0, 7)


def test_what_is_fetched_after_ready_is_not_counted_twice() -> None:
    driven = online()
    new_session(driven, fake.channel("den", 8, unread=3, read_seq=5))
    sync = driven.sent_one()
    driven.say(6, 7, 8)
    driven.ack(sync, {"channels": {"den": {"replayed": 3, "last_seq": 8, "recovered": True}}})
    assert driven.session.state.channels[DEN].unread == 3


def test_settings_are_those_that_were_stored() -> None:
    driven = online()
    done(driven, Op.SETTINGS_SET, requests.SettingsSet({"a": 1}), {"settings": {"a": 1, "b": 2}})
    assert driven.session.state.settings == {"a": 1, "b": 2}


@pytest.mark.parametrize("resumes", [True, False])
def test_announcements_that_were_missed_are_told_once(resumes: bool) -> None:
    news = {"announcement_id": "a", "title": "t", "body": "b", "severity": "info", "created_at": 1}
    both: dict[str, Any] = {"announcements": [news, news | {"announcement_id": "b"}]}
    driven = online()
    driven.receive(Op.ANNOUNCEMENT, news)
    driven.cut()
    driven.hello()
    if resumes:
        driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)) | both)
    else:
        driven.receive(Op.INVALID_SESSION, {"reason": "late"})
        driven.receive(Op.READY, fake.ready(fake.channel("den", 5), **both))
    told = [event.announcement_id for event in driven.told if isinstance(event, Announcement)]
    assert told == ["a", "b"]
