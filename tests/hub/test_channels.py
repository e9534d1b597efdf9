from __future__ import annotations

import pytest

from livechat.hub.channels import ChannelHub
from livechat.hub.users import Session
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.types import ChannelId, SessionId, UserId
from tests.support.channels import make_facts
from tests.support.outlet import NullOutlet

LOBBY = ChannelId("lobby")
HALL = ChannelId("hall")
DEN = ChannelId("den")
ANN = UserId("ann")
BOB = UserId("bob")


def connected(user_id: UserId, number: int = 1) -> Session:
    return Session(SessionId(f"sess_{user_id}_{number}"), user_id, created_at=1.0, outlet=NullOutlet())


def join(hub: ChannelHub, session: Session, channel: str = LOBBY, last_seq: int = 0) -> None:
    hub.admit(session.user_id, make_facts(channel), last_seq)
    hub.subscribe(session, ChannelId(channel))


def test_a_channel_nobody_here_is_a_member_of_is_unknown() -> None:
    hub = ChannelHub()
    assert (hub.get(LOBBY), len(hub), list(hub)) == (None, 0, [])
    assert (hub.recipients(LOBBY), hub.is_member(LOBBY, ANN), list(hub.memberships(ANN))) == ([], False, [])


def test_the_first_member_brings_the_channel_and_later_ones_do_not_turn_back_its_seq() -> None:
    hub = ChannelHub()
    channel = hub.admit(ANN, make_facts("lobby"), 5)
    channel.last_seq = 9
    assert hub.admit(BOB, make_facts("lobby"), 7) is channel
    assert (channel.last_seq, channel.members) == (9, {ANN, BOB})
    assert hub.get(LOBBY) is channel


def test_a_member_hears_only_with_the_sessions_that_subscribed() -> None:
    hub = ChannelHub()
    ann = connected(ANN)
    hub.admit(ANN, make_facts("lobby"), 0)
    assert hub.recipients(LOBBY) == []
    hub.subscribe(ann, LOBBY)
    assert hub.recipients(LOBBY) == [ann]
    assert set(hub.channels_of(ann)) == {LOBBY}


def test_all_subscribers_but_the_origin_hear_an_event_in_order_of_arrival() -> None:
    hub = ChannelHub()
    sessions = [connected(ANN), connected(BOB), connected(ANN, 2)]
    for session in sessions:
        join(hub, session)
    assert hub.recipients(LOBBY) == sessions
    assert hub.recipients(LOBBY, sessions[1]) == [sessions[0], sessions[2]]
    assert hub.recipients(LOBBY, connected(UserId("cyd"))) == sessions


def test_subscribing_twice_does_not_make_one_hear_twice() -> None:
    hub = ChannelHub()
    ann = connected(ANN)
    join(hub, ann)
    join(hub, ann)
    assert hub.recipients(LOBBY) == [ann]


def test_recipients_are_a_list_of_their_own() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    join(hub, ann)
    join(hub, bob)
    heard = []
    for session in hub.recipients(LOBBY):
        heard.append(session)
        hub.detach(bob)
    assert heard == [ann, bob]
    assert hub.recipients(LOBBY) == [ann]


def test_only_a_members_connected_session_may_subscribe() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    hub.admit(ANN, make_facts("lobby"), 0)
    with pytest.raises(AssertionError):
        hub.subscribe(bob, LOBBY)
    ann.outlet = None
    with pytest.raises(AssertionError):
        hub.subscribe(ann, LOBBY)


def test_a_detached_session_hears_nothing_and_its_user_stays_a_member() -> None:
    hub = ChannelHub()
    ann, again = connected(ANN), connected(ANN, 2)
    for session in (ann, again):
        join(hub, session)
        join(hub, session, HALL)
    hub.detach(ann)
    assert (hub.recipients(LOBBY), hub.recipients(HALL)) == ([again], [again])
    assert list(hub.channels_of(ann)) == []
    assert set(hub.memberships(ANN)) == {LOBBY, HALL}
    hub.detach(ann)


def test_a_removed_member_hears_nothing_with_any_session() -> None:
    hub = ChannelHub()
    ann, again, bob = connected(ANN), connected(ANN, 2), connected(BOB)
    for session in (ann, again, bob):
        join(hub, session)
    join(hub, ann, HALL)
    hub.remove_member(LOBBY, ANN)
    assert hub.recipients(LOBBY) == [bob]
    assert hub.recipients(HALL) == [ann]
    assert (hub.is_member(LOBBY, ANN), set(hub.memberships(ANN))) == (False, {HALL})
    assert (set(hub.channels_of(ann)), set(hub.channels_of(again))) == ({HALL}, set())


def test_removing_who_is_no_member_changes_nothing() -> None:
    hub = ChannelHub()
    ann = connected(ANN)
    join(hub, ann)
    hub.remove_member(LOBBY, BOB)
    hub.remove_member(HALL, ANN)
    assert hub.recipients(LOBBY) == [ann]


def test_a_channel_goes_with_its_last_member() -> None:
    hub = ChannelHub()
    join(hub, connected(ANN))
    join(hub, connected(BOB))
    hub.remove_member(LOBBY, ANN)
    assert hub.get(LOBBY) is not None
    hub.remove_member(LOBBY, BOB)
    assert (hub.get(LOBBY), len(hub)) == (None, 0)


def test_a_deleted_channel_is_nowhere() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    for session in (ann, bob):
        join(hub, session)
    join(hub, bob, HALL)
    hub.remove_channel(LOBBY)
    assert (hub.get(LOBBY), hub.recipients(LOBBY)) == (None, [])
    assert (set(hub.channels_of(ann)), set(hub.channels_of(bob))) == (set(), {HALL})
    assert (set(hub.memberships(ANN)), set(hub.memberships(BOB))) == (set(), {HALL})
    hub.remove_channel(LOBBY)


def test_a_user_without_sessions_is_forgotten_with_the_channels_only_that_user_was_in() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    for session in (ann, bob):
        join(hub, session)
    join(hub, ann, HALL)
    hub.detach(ann)
    hub.forget_user(ANN)
    assert (hub.get(HALL), hub.recipients(LOBBY)) == (None, [bob])
    assert (hub.is_member(LOBBY, ANN), set(hub.memberships(ANN))) == (False, set())
    hub.forget_user(ANN)


# --- who knows whom ----------------------------------------------------------------------------------------


def test_acquaintances_share_a_channel_and_do_not_include_oneself() -> None:
    hub = ChannelHub()
    ann, bob, cyd, dan = (connected(UserId(name)) for name in ("ann", "bob", "cyd", "dan"))
    for session in (ann, bob):
        join(hub, session)
    for session in (ann, cyd):
        join(hub, session, HALL)
    join(hub, dan, "elsewhere")
    assert hub.acquaintances(ANN) == {BOB, UserId("cyd")}
    assert hub.acquaintances(BOB) == {ANN}
    assert hub.acquaintances(UserId("dan")) == hub.acquaintances(UserId("eve")) == set()
    hub.remove_member(LOBBY, ANN)
    assert hub.acquaintances(ANN) == {UserId("cyd")}


def test_who_has_gone_has_acquaintances_until_they_were_told() -> None:
    hub = ChannelHub()
    for user_id in (ANN, BOB):
        join(hub, connected(user_id))
        join(hub, connected(user_id), HALL)
    hub.detach(next(iter(hub.recipients(LOBBY))))
    for session in hub.recipients(LOBBY):
        hub.detach(session)
    hub.forget_user(ANN)
    assert hub.acquaintances(ANN) == {BOB}
    assert hub.acquaintances(BOB) == set()
    # They may have gone as well by then.
    hub.remove_channel(LOBBY)
    assert hub.acquaintances(ANN) == {BOB}
    hub.settle(ANN)
    assert hub.acquaintances(ANN) == set()
    hub.settle(ANN)


def test_who_comes_back_has_the_acquaintances_of_now() -> None:
    hub = ChannelHub()
    join(hub, connected(BOB))
    join(hub, connected(BOB), HALL)
    ann = connected(ANN)
    join(hub, ann)
    hub.detach(ann)
    hub.forget_user(ANN)
    hub.admit(ANN, make_facts("elsewhere"), 0)
    assert hub.acquaintances(ANN) == set()


# --- unsubscribed and focused ------------------------------------------------------------------------------


def test_an_unsubscribed_session_hears_nothing_and_is_known_as_such() -> None:
    hub = ChannelHub()
    ann, again = connected(ANN), connected(ANN, 2)
    for session in (ann, again):
        join(hub, session)
    hub.unsubscribe(ann, LOBBY)
    hub.unsubscribe(ann, LOBBY)
    channel = hub.get(LOBBY)
    assert channel is not None
    assert (hub.recipients(LOBBY), list(channel.unsubscribed)) == ([again], [ann])
    assert (set(hub.channels_of(ann)), set(ann.unsubscribed), set(again.unsubscribed)) == (set(), {LOBBY}, set())
    hub.subscribe(ann, LOBBY)
    assert (hub.recipients(LOBBY), list(channel.unsubscribed)) == ([again, ann], [])
    assert (set(hub.channels_of(ann)), set(ann.unsubscribed)) == ({LOBBY}, set())


def test_only_a_members_connected_session_may_unsubscribe() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    join(hub, ann)
    with pytest.raises(AssertionError):
        hub.unsubscribe(bob, LOBBY)
    ann.outlet = None
    with pytest.raises(AssertionError):
        hub.unsubscribe(ann, LOBBY)


def test_a_session_looks_at_one_channel_at_a_time() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    for session in (ann, bob):
        join(hub, session)
        join(hub, session, HALL)
    hub.focus(ann, LOBBY)
    hub.focus(bob, LOBBY)
    assert hub.focused(LOBBY) == [ann, bob]
    assert hub.focused(LOBBY, ann) == [bob]
    hub.focus(ann, HALL)
    assert (hub.focused(LOBBY), hub.focused(HALL), ann.focus) == ([bob], [ann], HALL)
    hub.focus(ann, None)
    hub.focus(ann, None)
    assert (hub.focused(HALL), ann.focus) == ([], None)
    assert hub.focused(ChannelId("none")) == []


def test_looking_at_a_channel_and_hearing_it_do_not_depend_on_each_other() -> None:
    hub = ChannelHub()
    ann = connected(ANN)
    join(hub, ann)
    hub.focus(ann, LOBBY)
    hub.unsubscribe(ann, LOBBY)
    assert (hub.focused(LOBBY), hub.recipients(LOBBY)) == ([ann], [])


def test_a_session_that_is_attached_again_hears_and_looks_as_before() -> None:
    hub = ChannelHub()
    ann = connected(ANN)
    for channel in ("lobby", "hall", "cellar"):
        join(hub, ann, channel)
    hub.get(HALL).last_seq = 7  # type: ignore[union-attr]
    hub.unsubscribe(ann, LOBBY)
    hub.focus(ann, LOBBY)
    assert hub.detach(ann) == {HALL: 7, ChannelId("cellar"): 0}
    assert (hub.recipients(HALL), hub.focused(LOBBY)) == ([], [])
    assert not hub.get(LOBBY).unsubscribed  # type: ignore[union-attr]
    assert (ann.focus, set(ann.unsubscribed)) == (LOBBY, {LOBBY})
    # Joined with another session meanwhile.
    hub.admit(ANN, make_facts("attic"), 3)
    hub.attach(ann)
    assert set(hub.channels_of(ann)) == {HALL, "cellar", "attic"}
    assert (hub.focused(LOBBY), list(hub.get(LOBBY).unsubscribed)) == ([ann], [ann])  # type: ignore[union-attr]


def test_a_removed_member_neither_looks_nor_is_told_counts() -> None:
    hub = ChannelHub()
    ann, bob = connected(ANN), connected(BOB)
    for session in (ann, bob):
        join(hub, session)
        hub.focus(session, LOBBY)
        hub.unsubscribe(session, LOBBY)
    hub.remove_member(LOBBY, ANN)
    channel = hub.get(LOBBY)
    assert channel is not None
    assert (hub.focused(LOBBY), list(channel.unsubscribed)) == ([bob], [bob])


# --- tokens that are good for some channels only -----------------------------------------------------------


def test_a_session_hears_only_what_its_token_is_good_for() -> None:
    hub, ann = ChannelHub(), connected(ANN)
    ann.channels = ChannelPatterns(("lob*",))
    join(hub, ann, LOBBY)
    join(hub, ann, HALL)
    hub.unsubscribe(ann, HALL)
    hub.focus(ann, HALL)
    assert (set(hub.channels_of(ann)), set(ann.unsubscribed), ann.focus) == ({LOBBY}, set(), None)
    assert (hub.recipients(HALL), hub.focused(HALL)) == ([], [])
    assert hub.is_member(HALL, ANN)
    assert hub.detach(ann) == {LOBBY: 0}


def test_a_new_token_takes_and_gives_channels() -> None:
    hub, ann = ChannelHub(), connected(ANN)
    for channel_id in (LOBBY, HALL, DEN):
        join(hub, ann, channel_id)
    hub.unsubscribe(ann, DEN)
    hub.focus(ann, HALL)
    ann.channels = ChannelPatterns((LOBBY,))
    hub.follow_token(ann)
    assert (set(hub.channels_of(ann)), set(ann.unsubscribed), ann.focus) == ({LOBBY}, set(), None)
    assert not any(hub.recipients(channel_id) or hub.focused(channel_id) for channel_id in (HALL, DEN))
    ann.channels = None
    hub.follow_token(ann)
    assert set(hub.channels_of(ann)) == {LOBBY, HALL, DEN}
    assert set(hub.detach(ann)) == {LOBBY, HALL, DEN}


def test_a_parked_sessions_new_token_takes_what_it_did_not_want_to_hear() -> None:
    hub, ann = ChannelHub(), connected(ANN)
    join(hub, ann, LOBBY)
    join(hub, ann, HALL)
    hub.unsubscribe(ann, HALL)
    hub.detach(ann)
    ann.outlet = None
    ann.channels = ChannelPatterns((LOBBY,))
    hub.follow_token(ann)
    assert ann.unsubscribed == set()
    ann.outlet = NullOutlet()
    hub.attach(ann)
    assert set(hub.channels_of(ann)) == {LOBBY}


def test_acquaintances_are_known_by_channels_that_the_token_is_good_for() -> None:
    hub, ann, bob = ChannelHub(), connected(ANN), connected(BOB)
    for session in (ann, bob):
        join(hub, session, LOBBY)
    ann.channels = ChannelPatterns((HALL,))
    assert not hub.is_acquainted(ann, BOB)
    assert hub.is_acquainted(bob, ANN)
    join(hub, ann, HALL)
    assert not hub.is_acquainted(ann, BOB)
    join(hub, bob, HALL)
    assert hub.is_acquainted(ann, BOB)
    hub.detach(bob)
    hub.forget_user(BOB)
    assert hub.is_acquainted(ann, BOB), "until everybody was told that they are gone"
    hub.settle(BOB)
    assert not hub.is_acquainted(ann, BOB)
