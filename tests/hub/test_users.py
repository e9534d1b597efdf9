from __future__ import annotations

import pytest

from livechat.hub.users import Session, SessionState, UserHub
from livechat.protocol.types import SessionId, UserId
from tests.support.outlet import NullOutlet

ANN = UserId("ann")
BOB = UserId("bob")


def begin(hub: UserHub, user_id: UserId, number: int) -> Session:
    session = Session(SessionId(f"sess_{number}"), user_id, created_at=1.0, outlet=NullOutlet())
    hub.add(session)
    return session


def test_an_empty_hub_knows_nobody() -> None:
    hub = UserHub()
    assert (len(hub), list(hub)) == (0, [])
    assert hub.get(SessionId("sess_1")) is None
    assert (list(hub.sessions_of(ANN)), hub.live_sessions_of(ANN), hub.is_connected(ANN)) == ([], [], False)


def test_sessions_are_found_by_id_and_by_user_in_order_of_arrival() -> None:
    hub = UserHub()
    first, other, second = begin(hub, ANN, 1), begin(hub, BOB, 2), begin(hub, ANN, 3)
    assert hub.get(SessionId("sess_3")) is second
    assert list(hub.sessions_of(ANN)) == [first, second]
    assert list(hub) == [first, other, second]
    assert len(hub) == 3


def test_a_parked_session_is_still_the_users_but_has_no_connection() -> None:
    hub = UserHub()
    session = begin(hub, ANN, 1)
    hub.park(session, 5.0)
    assert (session.state, session.parked_at, session.outlet) == (SessionState.PARKED, 5.0, None)
    assert hub.get(session.session_id) is session
    assert list(hub.sessions_of(ANN)) == [session]
    assert (hub.live_sessions_of(ANN), hub.is_connected(ANN)) == ([], False)


def test_a_user_is_connected_while_any_session_is() -> None:
    hub = UserHub()
    first, second = begin(hub, ANN, 1), begin(hub, ANN, 2)
    hub.park(first, 5.0)
    assert (hub.live_sessions_of(ANN), hub.is_connected(ANN)) == ([second], True)
    hub.end(second)
    assert not hub.is_connected(ANN)


def test_an_ended_session_is_nowhere_and_only_the_last_one_says_so() -> None:
    hub = UserHub()
    first, second = begin(hub, ANN, 1), begin(hub, ANN, 2)
    assert hub.end(first) is False
    assert (first.state, first.outlet) == (SessionState.ENDED, None)
    assert hub.get(first.session_id) is None
    assert list(hub.sessions_of(ANN)) == [second]
    hub.park(second, 5.0)
    assert hub.end(second) is True
    assert (len(hub), list(hub.sessions_of(ANN))) == (0, [])


def test_a_session_begins_once_and_ends_once() -> None:
    hub = UserHub()
    session = begin(hub, ANN, 1)
    with pytest.raises(AssertionError):
        hub.add(session)
    hub.park(session, 5.0)
    with pytest.raises(AssertionError):
        hub.park(session, 6.0)
    hub.end(session)
    for again in (lambda: hub.end(session), lambda: hub.park(session, 7.0), lambda: hub.add(session)):
        with pytest.raises(AssertionError):
            again()


def test_a_session_id_does_not_show_in_a_repr() -> None:
    hub = UserHub()
    assert "sess_1" not in repr(begin(hub, ANN, 1))
