"""The conversation: handshakes, sessions that go on, requests and their answers."""

from __future__ import annotations

from typing import Any

import pytest

from livechat.client.error import (
    CannotConnect,
    ClientClosed,
    ConnectionLost,
    NotSent,
    OutcomeUnknown,
    SessionEnded,
)
from livechat.client.events import StateChanged
from livechat.client.reconnect import Again, Ended
from livechat.error import (
    AccessDenied,
    InvalidToken,
    NotPersisted,
    Overloaded,
    PayloadTooLarge,
    ProtocolError,
)
from livechat.protocol import requests
from livechat.protocol.events import Error, MessageCreated
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId
from tests.support import fake_gateway as fake
from tests.support.client_session import CUT, Driven

DEN = ChannelId("den")


def online(*channels: dict[str, Any], **settings: Any) -> Driven:
    driven = Driven(**settings)
    driven.ready(*(channels or (fake.channel("den", 5),)))
    return driven


# --- handshakes -----------------------------------------------------------------------------------------


def test_hello_is_answered_by_identify_with_all_that_is_configured() -> None:
    driven = Driven(device="phone", status="AWAY")
    said = driven.hello("secret")
    assert said["op"] == Op.IDENTIFY
    assert said["d"] == {"token": "secret", "device": "phone", "status": "AWAY", "presence_batches": True}


def test_ready_makes_it_online() -> None:
    driven = online()
    assert driven.session.is_online
    assert driven.states() == [StateChanged("online")]
    assert driven.session.state.user_id == fake.USER


def test_a_lost_connection_is_resumed_from_what_was_handed_over() -> None:
    driven = online(fake.channel("den", 5), fake.channel("hall", 0))
    driven.say(6, 8)
    driven.sent()
    assert driven.cut() == Again(1.0)
    assert driven.states()[-1] == StateChanged("resuming", CUT.reason, retry_in_s=1.0)
    said = driven.hello()
    assert said["op"] == Op.RESUME
    assert said["d"] == {
        "session_id": "sess_1",
        "token": "token",
        "channels": {"den": 6, "hall": 0},
        "presence_batches": True,
    }
    driven.say(7, 8, 9)
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(9), hall=fake.resumed_channel(0)))
    assert driven.heard() == [6, 7, 8, 9]
    assert driven.states()[-1] == StateChanged("online")
    assert driven.sent() == []


def test_what_a_resume_could_not_recover_is_repaired() -> None:
    driven = online()
    driven.cut()
    driven.hello()
    driven.say(7)
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(7, recovered=False)))
    sync = driven.sent_one()
    assert (sync["op"], sync["d"]) == (Op.SYNC, {"channels": {"den": {"after": 5, "before": 7}}})


def test_a_session_that_is_gone_is_replaced_and_what_was_missed_is_fetched() -> None:
    driven = online()
    driven.say(6)
    driven.cut()
    driven.hello()
    driven.receive(Op.INVALID_SESSION, {"reason": "too late"})
    assert driven.sent_one()["op"] == Op.IDENTIFY
    driven.receive(Op.READY, fake.ready(fake.channel("den", 9), session="sess_2"))
    assert driven.session.session_id == "sess_2"
    assert driven.states()[-1] == StateChanged("online", new_session=True)
    sync = driven.sent_one()
    assert sync["d"] == {"channels": {"den": {"after": 6, "before": 10}}}
    driven.say(7, 8, 10, 9)
    driven.ack(sync, {"channels": {"den": {"replayed": 3, "last_seq": 9, "recovered": True}}})
    assert driven.heard() == [6, 7, 8, 9, 10]


def test_a_session_may_be_called_off_while_it_is_online() -> None:
    driven = online()
    driven.receive(Op.INVALID_SESSION, {"reason": "kicked"})
    assert driven.sent_one()["op"] == Op.IDENTIFY
    assert not driven.session.is_online


@pytest.mark.parametrize("code", [1000, 1003, 1004, 1007])
def test_where_resume_is_refused_for_good_it_identifies_on_the_same_connection(code: int) -> None:
    driven = online()
    driven.cut()
    driven.refuse(driven.hello(), code)
    assert driven.sent_one()["op"] == Op.IDENTIFY
    assert driven.closing() is None


@pytest.mark.parametrize(("code", "retryable"), [(1001, False), (9003, True)])
def test_a_refused_resume_keeps_the_session_where_it_may_work_later(code: int, retryable: bool) -> None:
    driven = Driven(can_renew=True)
    driven.ready()
    driven.cut()
    driven.refuse(driven.hello(), code, retryable=retryable)
    closing = driven.closing()
    assert closing is not None
    assert closing.code not in (None, 1000, 1001), "those would end the session"
    again = driven.cut(closing.ended)
    assert again.fresh_token == (code == 1001)
    assert driven.hello("fresh")["op"] == Op.RESUME


def test_a_refused_token_is_the_end() -> None:
    driven = Driven()
    driven.refuse(driven.hello(), 1001)
    closing = driven.closing()
    assert closing is not None
    with pytest.raises(InvalidToken, match="no"):
        driven.session.lost(closing.ended, driven.now)


def test_a_refusal_without_an_id_during_the_handshake_is_that_of_the_handshake() -> None:
    driven = Driven()
    driven.hello()
    driven.receive(Op.ERROR, {"code": 9001, "reason": "full", "retryable": True})
    closing = driven.closing()
    assert closing is not None
    assert isinstance(closing.ended.refusal, Overloaded)


def test_a_token_that_has_expired_ends_the_session_but_not_the_client() -> None:
    driven = Driven(can_renew=True)
    driven.ready(fake.channel("den", 5))
    assert driven.cut(Ended("token expired", 4502)) == Again(0.0, fresh_token=True)
    assert driven.hello("fresh")["op"] == Op.IDENTIFY


def test_a_session_that_the_server_ended_is_not_resumed() -> None:
    driven = online()
    with pytest.raises(SessionEnded, match="4505"):
        driven.cut(Ended("taken over", 4505))


def test_hello_that_is_none_ends_the_connection_with_a_clear_reason() -> None:
    driven = Driven()
    driven.session.opened("token", driven.now)
    with pytest.raises(ProtocolError):
        driven.receive(Op.HELLO, {"heartbeat_interval": "soon"})
    closing = driven.closing()
    assert closing is not None
    assert "does not speak our protocol" in closing.ended.reason


def test_no_answer_to_the_handshake_ends_the_connection() -> None:
    driven = Driven(connect_timeout_s=7.0)
    driven.hello()
    driven.pass_time(6.9)
    assert driven.closing() is None
    driven.pass_time(0.1)
    closing = driven.closing()
    assert closing is not None
    assert closing.code is None


@pytest.mark.parametrize(
    ("op", "d"),
    [
        (Op.READY, fake.ready()),
        (Op.RESUMED, fake.resumed()),
        (Op.INVALID_SESSION, {"reason": "x"}),
        (Op.HEARTBEAT_ACK, None),
        (150, {"anything": [1]}),
        (Op.ACK, {"op": 20, "data": {}}),
    ],
)
def test_what_comes_before_hello_is_ignored(op: int, d: Any) -> None:
    driven = Driven()
    driven.session.opened("token", driven.now)
    driven.receive(op, d)
    assert driven.sent() == []
    assert not driven.session.is_online


def test_a_new_session_is_not_waited_for_for_ever() -> None:
    driven = online(connect_timeout_s=7.0)
    driven.receive(Op.INVALID_SESSION, {"reason": "kicked"})
    driven.pass_time(7.0)
    assert driven.closing() is not None


def test_a_server_that_wants_heartbeats_without_pause_does_not_get_them() -> None:
    driven = Driven()
    driven.hello(heartbeat_interval=0)
    assert driven.session.deadline() > driven.now


def test_a_second_hello_ready_or_resumed_is_ignored() -> None:
    driven = online()
    driven.receive(Op.READY, fake.ready(session="sess_9"))
    driven.receive(Op.RESUMED, fake.resumed("sess_9"))
    assert driven.session.session_id == "sess_1"
    assert driven.sent() == []


# --- heartbeats, RECONNECT --------------------------------------------------------------------------------


def test_heartbeats_go_out_and_two_without_an_answer_end_the_connection() -> None:
    driven = online()
    driven.pass_time(30.0)
    assert driven.sent() == [{"op": Op.HEARTBEAT, "d": None}]
    driven.receive(Op.HEARTBEAT_ACK)
    driven.pass_time(60.0)
    assert [packet["op"] for packet in driven.sent()] == [Op.HEARTBEAT, Op.HEARTBEAT]
    driven.say(6)
    driven.pass_time(30.0)
    closing = driven.closing()
    assert closing is not None, "events are no answer"
    assert closing.code is None
    assert driven.cut(closing.ended) == Again(1.0)
    assert driven.hello()["op"] == Op.RESUME


def test_a_resume_that_is_acknowledged_twice_is_online_once() -> None:
    driven = online()
    driven.cut()
    driven.hello()
    for _ in range(2):
        driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)))
    assert [state.state for state in driven.states()] == ["online", "resuming", "online"]


def test_reconnect_is_obeyed_when_it_says_and_the_session_goes_along() -> None:
    driven = online()
    driven.receive(Op.RECONNECT, {"delay_ms": 4000, "reason": "drain"})
    driven.pass_time(3.9)
    assert driven.closing() is None
    driven.say(6)
    driven.pass_time(0.1)
    closing = driven.closing()
    assert closing is not None
    assert closing.code not in (None, 1000, 1001)
    assert driven.cut(closing.ended) == Again(0.0)
    assert driven.hello()["d"]["channels"] == {"den": 6}


def test_a_server_that_is_gone_before_that_is_still_given_its_time() -> None:
    driven = online()
    driven.receive(Op.RECONNECT, {"delay_ms": 4000, "reason": "drain"})
    driven.pass_time(1.0)
    assert driven.cut(Ended("server is shutting down", 4003)) == Again(3.0)


def test_tries_that_fail_are_counted_over_connections() -> None:
    driven = online()
    for _ in range(10):
        driven.cut()
    with pytest.raises(CannotConnect):
        driven.cut()


# --- requests ---------------------------------------------------------------------------------------------


def test_a_request_waits_for_the_session() -> None:
    driven = Driven()
    answer = driven.request(Op.CHANNEL_INFO, requests.ChannelInfo(DEN))
    driven.ready()
    request = driven.sent_one()
    assert (request["op"], request["d"]) == (Op.CHANNEL_INFO, {"channel_id": "den"})
    driven.refuse(request, 2002)
    assert isinstance(answer[0], AccessDenied)


def test_answers_find_their_requests_in_any_order() -> None:
    driven = online()
    answers = [driven.request(Op.READ, requests.Read(DEN, seq)) for seq in (4, 5)]
    first, second = driven.sent()
    driven.ack(second, {"channel_id": "den", "read_seq": 5, "unread": 0})
    driven.ack(first, {"channel_id": "den", "read_seq": 4, "unread": 0})
    assert [answer[0].read_seq for answer in answers] == [4, 5]


def test_what_may_be_repeated_outlives_the_connection_and_what_may_not_is_told() -> None:
    driven = online()
    read = driven.request(Op.READ, requests.Read(DEN, 5))
    join = driven.request(Op.CHANNEL_JOIN, requests.ChannelJoin(DEN))
    driven.sent()
    driven.cut()
    assert isinstance(join[0], ConnectionLost)
    assert read == []
    driven.hello()
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)))
    assert driven.sent_one()["op"] == Op.READ


def test_what_had_not_left_is_sent_on_the_next_connection() -> None:
    driven = online()
    join = driven.request(Op.CHANNEL_JOIN, requests.ChannelJoin(DEN))
    driven.cut()
    driven.hello()
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)))
    assert driven.sent_one()["op"] == Op.CHANNEL_JOIN
    assert join == []


def test_an_answer_that_is_none_fails_its_request_only() -> None:
    driven = online()
    answer = driven.request(Op.READ, requests.Read(DEN, 5))
    driven.ack(driven.sent_one(), {"channel_id": "den"})
    assert isinstance(answer[0], ProtocolError)
    assert driven.closing() is None


def test_plain_values_are_answered_by_plain_values() -> None:
    driven = online()
    known = driven.request(Op.READ, {"channel_id": "den", "seq": 5})
    unknown = driven.request(77, {"x": 1})
    first, second = driven.sent()
    driven.ack(first, {"channel_id": "den", "read_seq": 5, "unread": 0, "more": 1})
    driven.ack(second, [1, 2])
    assert known == [{"channel_id": "den", "read_seq": 5, "unread": 0, "more": 1}]
    assert unknown == [[1, 2]]


def test_an_answer_may_have_an_op_of_its_own() -> None:
    driven = online()
    answer = driven.request(17, {"channel_id": "den", "sdp_offer": "v=0"})
    driven.receive(117, {"sdp_answer": "v=0"}, id=driven.sent_one()["id"])
    assert answer == [{"sdp_answer": "v=0"}]


def test_answers_that_nobody_waits_for_are_ignored_and_errors_are_told() -> None:
    driven = online()
    driven.receive(Op.ACK, {"op": 20, "data": None}, id=999)
    driven.receive(Op.ACK, None)
    driven.receive(Op.ERROR, {"code": 1004, "reason": "what?", "retryable": False}, id="odd")
    assert driven.told[-1] == Error(1004, "what?", False)


def test_a_packet_that_is_not_what_it_says_changes_nothing() -> None:
    driven = online()
    with pytest.raises(ProtocolError):
        driven.receive(Op.MESSAGE_EVENT, {"seq": 6})
    driven.say(6)
    assert driven.heard() == [6]


def test_what_nobody_waits_for_any_more_takes_effect_all_the_same() -> None:
    driven = online()
    answer = driven.request(Op.CHANNEL_LEAVE, requests.ChannelLeave(DEN))
    leave = driven.sent_one()
    driven.session.withdraw(leave["id"])
    driven.ack(leave, {"channel_id": "den"})
    assert (answer, dict(driven.session.state.channels)) == ([], {})


def test_a_replayed_packet_that_is_none_does_not_end_the_resume() -> None:
    driven = online()
    driven.cut()
    driven.hello()
    with pytest.raises(ProtocolError):
        driven.receive(Op.MESSAGE_EVENT, {"seq": 6})
    assert driven.closing() is None
    driven.say(7)
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(7)))
    assert driven.sent_one()["d"] == {"channels": {"den": {"after": 5, "before": 7}}}


def test_a_request_that_is_too_large_is_refused_as_the_server_would() -> None:
    driven = online()
    answer = driven.request(Op.READ, requests.Read(DEN, 5))
    driven.session.reject(driven.sent_one()["id"], PayloadTooLarge("large"))
    assert isinstance(answer[0], PayloadTooLarge)


def test_stopping_tells_whoever_waits() -> None:
    driven = online()
    answer = driven.request(Op.READ, requests.Read(DEN, 5))
    outcomes = [driven.post("a"), driven.post("b")]
    driven.session.stop("left")
    assert isinstance(answer[0], ClientClosed)
    assert [type(outcome[0]) for outcome in outcomes] == [OutcomeUnknown, NotSent]
    assert driven.session.events[-1] == StateChanged("offline", "left")


def test_a_fresh_token_is_sent_and_used_from_then_on() -> None:
    driven = online()
    driven.session.renew("fresh", driven.now)
    request = driven.sent_one()
    assert (request["op"], request["d"]["token"]) == (Op.IDENTIFY, "fresh")
    driven.ack(request, {"expires_at": 77})
    assert driven.session.expires_at == 77


def test_presence_is_said_again_in_a_new_session() -> None:
    driven = online()
    driven.request(Op.PRESENCE_UPDATE, requests.PresenceUpdate("AWAY", "lunch"))
    driven.ack(driven.sent_one(), {"status": "AWAY"})
    driven.cut()
    driven.hello()
    driven.receive(Op.INVALID_SESSION, {"reason": "late"})
    assert driven.sent_one()["d"]["status"] == "AWAY"
    driven.receive(Op.READY, fake.ready(fake.channel("den", 5)))
    again = driven.sent_one()
    assert (again["op"], again["d"]) == (Op.PRESENCE_UPDATE, {"status": "AWAY", "text": "lunch"})


# --- messages ---------------------------------------------------------------------------------------------


def test_a_message_without_an_answer_is_sent_again_with_its_nonce() -> None:
    driven = online()
    outcome = driven.post("n1")
    assert driven.sent_one()["d"]["nonce"] == "n1"
    driven.cut()
    driven.hello()
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(5)))
    again = driven.sent_one()
    assert again["d"]["nonce"] == "n1"
    driven.ack(again, fake.created(again["d"], 6, duplicate=True))
    assert [type(each) for each in outcome] == [MessageCreated]


def test_a_message_that_is_replayed_is_not_sent_again() -> None:
    driven = online()
    outcome = driven.post("n1")
    driven.sent()
    driven.cut()
    driven.hello()
    driven.say(6, author_id=fake.USER, nonce="n1")
    driven.receive(Op.RESUMED, fake.resumed(den=fake.resumed_channel(6)))
    assert driven.sent() == []
    assert isinstance(outcome[0], MessageCreated)
    assert outcome[0].seq == 6


def test_somebody_elses_nonce_confirms_nothing() -> None:
    driven = online()
    outcome = driven.post("n1")
    driven.say(6, nonce="n1")
    assert outcome == []


def test_rollback_is_told_and_retry_is_obeyed() -> None:
    driven = online()
    outcome = driven.post("n1")
    driven.refuse(driven.sent_one(), 3005, retryable=True, action="RETRY")
    assert (outcome, driven.sent()) == ([], [])
    driven.pass_time(1.0)
    driven.refuse(driven.sent_one(), 3005, retryable=True, action="ROLLBACK")
    assert isinstance(outcome[0], NotPersisted)
    assert outcome[0].action == "ROLLBACK"


def test_an_ack_of_a_message_that_is_none_leaves_its_outcome_unknown() -> None:
    driven = online()
    outcome = driven.post("n1")
    driven.ack(driven.sent_one(), {"seq": 6})
    assert isinstance(outcome[0], OutcomeUnknown)


def test_a_message_that_nobody_lets_through_is_given_up_while_away_too() -> None:
    driven = online(send_timeout_s=60.0)
    outcome = driven.post("n1")
    driven.sent()
    driven.cut()
    driven.pass_time(60.0)
    assert isinstance(outcome[0], OutcomeUnknown)
