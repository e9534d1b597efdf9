from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

from livechat.hub.users import MISSED_MAX, Mark, Outlet, Session, SessionState, UserHub
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, UserId
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
    hub.park(session, 5.0, 0)
    assert (session.state, session.parked_at, session.outlet) == (SessionState.PARKED, 5.0, None)
    assert hub.get(session.session_id) is session
    assert list(hub.sessions_of(ANN)) == [session]
    assert (hub.live_sessions_of(ANN), hub.is_connected(ANN)) == ([], False)


def test_a_user_is_connected_while_any_session_is() -> None:
    hub = UserHub()
    first, second = begin(hub, ANN, 1), begin(hub, ANN, 2)
    hub.park(first, 5.0, 0)
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
    hub.park(second, 5.0, 0)
    assert hub.end(second) is True
    assert (len(hub), list(hub.sessions_of(ANN))) == (0, [])


def test_a_session_begins_once_and_ends_once() -> None:
    hub = UserHub()
    session = begin(hub, ANN, 1)
    with pytest.raises(AssertionError):
        hub.add(session)
    hub.park(session, 5.0, 0)
    with pytest.raises(AssertionError):
        hub.park(session, 6.0, 0)
    hub.end(session)
    for again in (lambda: hub.end(session), lambda: hub.park(session, 7.0, 0), lambda: hub.add(session)):
        with pytest.raises(AssertionError):
            again()


def test_a_session_id_does_not_show_in_a_repr() -> None:
    hub = UserHub()
    assert "sess_1" not in repr(begin(hub, ANN, 1))


# --- what a parked session has missed ----------------------------------------------------------------------

LOBBY, HALL = ChannelId("lobby"), ChannelId("hall")


class LostOutlet(NullOutlet):
    """Had queued these when it was lost."""

    def __init__(self, *unsent: Mark) -> None:
        self.unsent = unsent
        self.successors: list[Outlet | None] = []

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        self.successors.append(successor)
        return self.unsent


def parked(*unsent: Mark) -> tuple[Session, LostOutlet]:
    hub, outlet = UserHub(), LostOutlet(*unsent)
    session = Session(SessionId("sess_1"), ANN, created_at=1.0, outlet=outlet)
    hub.add(session)
    hub.park(session, 5.0, 0)
    return session, outlet


def claim(session: Session) -> None:
    session.claim = NullOutlet()


def spans(session: Session) -> dict[str, list[tuple[int, int | None]]]:
    return {channel_id: [(span.after, span.last) for span in each] for channel_id, each in session.spans.items()}


def kept(key: Hashable, payload: object = None) -> Outgoing:
    return Outgoing(Op.NOTIFICATION, payload, key=key)


def test_a_parked_session_misses_everything_from_where_it_stood_until_its_user_leaves() -> None:
    session, _ = parked()
    session.miss_from(LOBBY, 5)
    session.miss_from(HALL, 1)
    assert spans(session) == {"lobby": [(4, None)], "hall": [(0, None)]}
    session.miss_until(LOBBY, 9)
    session.miss_until(LOBBY, 12)
    assert spans(session)["lobby"] == [(4, 9)]
    session.miss_from(LOBBY, 15)
    assert spans(session)["lobby"] == [(4, 9), (14, None)]
    session.miss_until(ChannelId("none"), 3)
    assert set(session.spans) == {LOBBY, HALL}


def test_of_events_with_the_same_key_the_newest_is_kept_as_the_newest_of_all() -> None:
    session, _ = parked()
    first, other, second = kept("a"), kept("b"), kept("a")
    for packet in (first, other, second):
        session.miss(packet)
    assert list(session.missed.values()) == [other, second]


def test_past_the_most_that_is_kept_the_oldest_go() -> None:
    session, _ = parked()
    packets = [kept(number) for number in range(MISSED_MAX + 10)]
    for packet in packets:
        session.miss(packet)
    assert list(session.missed.values()) == packets[10:]


@pytest.mark.parametrize(
    ("unsent", "expected"),
    [
        ([], [(9, None)]),
        ([9], [(8, None)]),
        ([7, 8, 9], [(6, None)]),
        ([9, 8, 7, 8], [(6, None)]),
        # The user left at 5 and joined again at 8; the session was there all the time.
        ([4, 5, 8, 9], [(3, 5), (7, None)]),
        ([4, 5], [(3, 5), (9, None)]),
        ([2, 4, 6], [(1, 2), (3, 4), (5, 6), (9, None)]),
        # What lies behind is to be told anyway.
        ([10, 11], [(9, None)]),
        ([9, 10, 11], [(8, None)]),
    ],
)
def test_what_a_lost_outlet_has_not_sent_is_missed_as_well(
    unsent: list[int], expected: list[tuple[int, int | None]]
) -> None:
    session, outlet = parked(*[(LOBBY, seq) for seq in unsent])
    session.miss_from(LOBBY, 10)
    session.note_unsent(None)
    assert spans(session) == {"lobby": expected}
    session.note_unsent(None)
    assert (outlet.successors, session.tail) == ([None], None)


def test_of_a_channel_that_was_left_what_was_not_sent_is_missed_and_nothing_more() -> None:
    session, _ = parked((LOBBY, 4), (LOBBY, 5))
    session.note_unsent(None)
    assert spans(session) == {"lobby": [(3, 5)]}


def test_what_was_not_sent_comes_before_a_part_with_an_end() -> None:
    session, _ = parked((LOBBY, 4), (LOBBY, 7))
    session.miss_from(LOBBY, 8)
    session.miss_until(LOBBY, 9)
    session.miss_from(LOBBY, 12)
    session.note_unsent(None)
    assert spans(session) == {"lobby": [(3, 4), (6, 9), (11, None)]}


def test_unsent_events_without_a_seq_come_before_those_missed_since() -> None:
    early, replaced, late = kept("early"), kept("update"), kept("update")
    session, outlet = parked(early, (LOBBY, 3), replaced)
    session.miss(late)
    successor = NullOutlet()
    session.note_unsent(successor)
    assert list(session.missed.values()) == [early, late]
    assert outlet.successors == [successor]


def test_a_revived_session_has_missed_nothing() -> None:
    hub = UserHub()
    session = begin(hub, ANN, 1)
    hub.park(session, 5.0, 77)
    session.miss_from(LOBBY, 3)
    session.miss(kept("a"))
    claim(session)
    outlet = NullOutlet()
    hub.revive(session, outlet)
    assert (session.state, session.outlet, session.parked_at) == (SessionState.LIVE, outlet, None)
    assert (session.claim, session.tail, session.spans, session.missed) == (None, None, {}, {})
    with pytest.raises(AssertionError):
        hub.revive(session, outlet)


def test_nothing_is_kept_of_an_ended_session() -> None:
    hub = UserHub()
    session = begin(hub, ANN, 1)
    hub.park(session, 5.0, 77)
    session.miss_from(LOBBY, 3)
    session.miss(kept("a"))
    claim(session)
    hub.end(session)
    assert (session.outlet, session.claim, session.tail) == (None, None, None)
    assert (session.spans, session.missed) == ({}, {})
