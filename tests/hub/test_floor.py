"""The floor of one channel: the table, what each step tells whom, and time."""

from __future__ import annotations

import attrs
import pytest

from livechat.error import FloorNotHeld
from livechat.hub.floor import TRANSITIONS, Action, Claim, Event, Floor, FloorHub, Standing, State, Told
from livechat.hub.settings import FloorSettings
from livechat.protocol.types import ChannelId, FloorIndicator, SessionId, UserId

OPS = ChannelId("ops")
ANN, BOB, CYD, DAN = (SessionId(f"sess_{name}") for name in ("ann", "bob", "cyd", "dan"))


def claim(session_id: SessionId, priority: int = 100, indicator: FloorIndicator = "normal") -> Claim:
    return Claim(session_id, UserId(session_id.removeprefix("sess_")), priority, indicator)


def floor_of(**settings: int) -> Floor:
    return Floor(OPS, FloorSettings(**settings))


def said(told: list[Told]) -> list[str]:
    """Write what is told, one line each: `only ann: FloorGranted(...)`."""
    lines = []
    for each in told:
        fields = [str(value) for name, value in attrs.asdict(each.event).items() if name != "channel_id"]
        to = each.only or (f"all but {each.but}" if each.but else "all")
        name = type(each.event).__name__.removeprefix("Floor")
        lines.append(f"{to.replace('sess_', '')}: {' '.join([name, *fields])}")
    return lines


def taken_by_ann(**settings: int) -> Floor:
    floor = floor_of(**settings)
    floor.request(claim(ANN), 0.0)
    return floor


# --- the table ------------------------------------------------------------------------------------------


def reach(standing: Standing, state: State) -> tuple[Floor, SessionId]:
    """Return a floor in a state, and a session of this standing."""
    floor = floor_of()
    if state is State.TAKEN:
        floor.request(claim(ANN), 0.0)
        floor.request(claim(BOB), 0.0)
    return floor, {Standing.HOLDING: ANN, Standing.WAITING: BOB, Standing.OUTSIDE: CYD}[standing]


PLACES = [(state, standing) for state, rows in TRANSITIONS.items() for standing in rows]


def test_every_place_that_can_be_reached_is_in_the_table() -> None:
    assert PLACES == [
        (State.IDLE, Standing.OUTSIDE),
        (State.TAKEN, Standing.HOLDING),
        (State.TAKEN, Standing.WAITING),
        (State.TAKEN, Standing.OUTSIDE),
    ]
    for state, standing in PLACES:
        floor, session_id = reach(standing, state)
        assert (floor.state, floor.standing(session_id)) == (state, standing)


def happen(floor: Floor, event: Event, session_id: SessionId) -> list[Told]:
    match event:
        case Event.REQUEST:
            return floor.request(claim(session_id), 1.0)
        case Event.RELEASE:
            return floor.release(session_id, 1.0)
        case Event.PING:
            return floor.ping(session_id, 1.0)
        case Event.LEAVE:
            return floor.leave(session_id, 1.0)
        case Event.REVOKE:
            return floor.revoke("admin_revoke", 1.0)


AFTER = {
    Action.GRANT: Standing.HOLDING,
    Action.CONFIRM: Standing.HOLDING,
    Action.PONG: Standing.HOLDING,
    Action.CONTEND: Standing.WAITING,
    Action.PASS_ON: Standing.OUTSIDE,
    Action.CANCEL: Standing.OUTSIDE,
    Action.NOTHING: Standing.OUTSIDE,
}


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize(("state", "standing"), PLACES)
def test_what_happens_follows_the_table_or_is_refused(state: State, standing: Standing, event: Event) -> None:
    floor, session_id = reach(standing, state)
    if event is Event.REVOKE and state is State.TAKEN:
        session_id = ANN  # it happens to the holder, whoever asks for it
        standing = Standing.HOLDING
    action = TRANSITIONS[state][standing].get(event)
    before = (floor.holder, list(floor.waiting), floor.next_due)
    if action is None:
        with pytest.raises(FloorNotHeld, match=f"{event.name} while the floor is {state.name}, .*{standing.name}"):
            happen(floor, event, session_id)
        assert before == (floor.holder, floor.waiting, floor.next_due)
        return
    told = happen(floor, event, session_id)
    assert floor.standing(session_id) is AFTER[action]
    assert bool(told) is (action is not Action.NOTHING) or action is Action.CANCEL


# --- who is told what -----------------------------------------------------------------------------------


def test_the_first_is_granted_the_floor_and_the_others_are_told() -> None:
    assert said(floor_of().request(claim(ANN), 5.0)) == ["ann: Granted ann 30000", "all but ann: Taken ann normal"]


def test_those_who_come_later_wait_by_priority_and_then_by_arrival() -> None:
    floor = taken_by_ann()
    assert said(floor.request(claim(BOB, 50), 1.0)) == ["bob: QueuePosInfo 1 1"]
    assert said(floor.request(claim(CYD, 50), 2.0)) == ["cyd: QueuePosInfo 2 2"]
    assert said(floor.request(claim(DAN, 70), 3.0)) == [
        "dan: QueuePosInfo 1 3",
        "bob: QueuePosInfo 2 3",
        "cyd: QueuePosInfo 3 3",
    ]
    assert said(floor.release(ANN, 4.0)) == [
        "dan: Granted dan 30000",
        "all but dan: Taken dan normal",
        "bob: QueuePosInfo 1 2",
        "cyd: QueuePosInfo 2 2",
    ]
    assert said(floor.release(BOB, 5.0)) == ["cyd: QueuePosInfo 1 1"]
    assert said(floor.leave(DAN, 6.0)) == ["cyd: Granted cyd 30000", "all but cyd: Taken cyd normal"]
    assert said(floor.release(CYD, 7.0)) == ["all: Idle"]
    assert floor.state is State.IDLE


@pytest.mark.parametrize(
    ("holder", "asker", "preempts"),
    [
        (("normal", 100), ("normal", 100), False),
        (("normal", 100), ("normal", 101), True),
        (("normal", 100), ("broadcast", 100), False),
        (("broadcast", 100), ("normal", 101), True),
        (("normal", 255), ("imminent_peril", 0), True),
        (("imminent_peril", 0), ("normal", 255), False),
        (("imminent_peril", 100), ("imminent_peril", 101), True),
        (("normal", 2**31 - 1), ("emergency", 0), True),
        (("imminent_peril", 255), ("emergency", 0), True),
        (("emergency", 0), ("imminent_peril", 255), False),
        (("emergency", 100), ("emergency", 100), False),
        (("emergency", 100), ("emergency", 101), True),
    ],
)
def test_the_more_urgent_takes_the_floor_away(
    holder: tuple[FloorIndicator, int], asker: tuple[FloorIndicator, int], preempts: bool
) -> None:
    floor = floor_of()
    floor.request(claim(ANN, holder[1], holder[0]), 0.0)
    told = said(floor.request(claim(BOB, asker[1], asker[0]), 1.0))
    if preempts:
        assert told == ["ann: Revoke preempted", "bob: Granted bob 30000", f"all but bob: Taken bob {asker[0]}"]
        assert floor.standing(ANN) is Standing.OUTSIDE
    else:
        assert told == ["bob: QueuePosInfo 1 1"]


def test_one_that_waits_and_gets_more_urgent_overtakes_or_preempts() -> None:
    floor = taken_by_ann()
    floor.request(claim(BOB, 50), 1.0)
    floor.request(claim(CYD, 10), 1.0)
    floor.request(claim(DAN, 10), 1.0)
    assert said(floor.request(claim(DAN, 10), 2.0)) == ["dan: QueuePosInfo 3 3"]
    assert said(floor.request(claim(DAN, 5), 2.0)) == ["dan: QueuePosInfo 3 3"]
    assert said(floor.request(claim(DAN, 50), 2.0)) == ["dan: QueuePosInfo 2 3", "cyd: QueuePosInfo 3 3"]
    assert said(floor.request(claim(BOB, 50, "emergency"), 3.0)) == [
        "ann: Revoke preempted",
        "bob: Granted bob 30000",
        "all but bob: Taken bob emergency",
        "dan: QueuePosInfo 1 2",
        "cyd: QueuePosInfo 2 2",
    ]


def test_the_holder_asks_again_and_has_what_is_left() -> None:
    floor = taken_by_ann()
    assert said(floor.request(claim(ANN, 10), 12.0)) == ["ann: Granted ann 18000"]
    assert floor.holder == claim(ANN)
    assert said(floor.request(claim(ANN, 100, "emergency"), 29.9999)) == [
        "ann: Granted ann 1",
        "all but ann: Taken ann emergency",
    ]
    assert said(floor.request(claim(BOB, 200), 13.0)) == ["bob: QueuePosInfo 1 1"]


def test_a_full_queue_keeps_the_most_urgent() -> None:
    floor = taken_by_ann(waiting_max=2)
    floor.request(claim(BOB, 50), 1.0)
    floor.request(claim(CYD, 40), 1.0)
    assert said(floor.request(claim(DAN, 40), 1.0)) == ["dan: Deny queue_full"]
    assert said(floor.request(claim(DAN, 45), 1.0)) == ["cyd: Deny queue_full", "dan: QueuePosInfo 2 2"]
    assert said(floor.request(claim(BOB, 60), 1.0)) == ["bob: QueuePosInfo 1 2"]
    assert floor.standing(CYD) is Standing.OUTSIDE


def test_where_nobody_may_wait_the_floor_is_just_taken() -> None:
    floor = taken_by_ann(waiting_max=0)
    assert said(floor.request(claim(BOB), 1.0)) == ["bob: Deny taken"]
    assert said(floor.request(claim(BOB, 101), 1.0))[0] == "ann: Revoke preempted"


def test_all_sessions_of_a_user_go_at_once_and_none_has_the_floor_for_a_moment() -> None:
    floor = floor_of()
    for session_id in ("sess_1", "sess_2", "sess_3"):
        floor.request(Claim(SessionId(session_id), UserId("ann"), 100), 0.0)
    floor.request(claim(BOB, 10), 0.0)
    assert said(floor.leave_all(UserId("ann"), 1.0)) == [
        "bob: QueuePosInfo 1 1",
        "bob: Granted bob 30000",
        "all but bob: Taken bob normal",
    ]
    assert floor.leave_all(UserId("nobody"), 1.0) == []


def test_what_is_taken_away_goes_to_the_next() -> None:
    floor = taken_by_ann()
    floor.request(claim(BOB), 1.0)
    assert said(floor.revoke("admin_revoke", 2.0)) == [
        "ann: Revoke admin_revoke",
        "bob: Granted bob 30000",
        "all but bob: Taken bob normal",
    ]
    assert said(floor.leave(BOB, 3.0, "disconnect")) == ["bob: Revoke disconnect", "all: Idle"]


# --- time -----------------------------------------------------------------------------------------------


def test_who_does_not_ping_loses_the_floor() -> None:
    floor = taken_by_ann()
    assert floor.next_due == 6.0
    assert floor.expire(5.999) == []
    assert said(floor.ping(ANN, 5.5)) == ["ann: Pong"]
    assert floor.next_due == 11.5
    with pytest.raises(FloorNotHeld):
        floor.ping(BOB, 11.0)  # nobody else's counts
    assert said(floor.expire(11.5)) == ["ann: Revoke ping_timeout", "all: Idle"]
    assert [floor.next_due, *floor.expire(1e9)] == [None]


def test_nobody_has_the_floor_for_longer_than_allowed() -> None:
    floor = taken_by_ann()
    floor.request(claim(BOB), 10.0)
    for second in range(2, 30, 2):
        assert said(floor.ping(ANN, float(second))) == ["ann: Pong"]
    assert floor.next_due == 30.0
    floor.request(claim(ANN), 29.0)  # asking again gives no more time
    assert said(floor.expire(30.0)) == [
        "ann: Revoke max_duration",
        "bob: Granted bob 30000",
        "all but bob: Taken bob normal",
    ]
    assert floor.next_due == 36.0  # the new holder's time begins now


def test_where_both_are_over_what_was_over_first_is_told() -> None:
    floor = taken_by_ann()
    assert said(floor.expire(100.0))[0] == "ann: Revoke ping_timeout"
    floor = taken_by_ann(ping_timeout_ms=30_000)
    assert said(floor.expire(100.0))[0] == "ann: Revoke max_duration"


def test_no_grant_ends_sooner_than_the_floor_says() -> None:
    assert floor_of().shortest_s == 6.0
    assert floor_of(duration_max_ms=2_000).shortest_s == 2.0


def test_a_claim_does_not_show_its_session() -> None:
    assert "sess_" not in repr(claim(ANN))
    assert "sess_" not in repr(taken_by_ann().release(ANN, 1.0))


# --- all floors -----------------------------------------------------------------------------------------


def test_a_floor_is_kept_from_its_first_claim_until_it_is_forgotten() -> None:
    hub = FloorHub()
    floor = hub.open(OPS)
    assert (hub.get(OPS), hub.holder(OPS)) == (floor, None)
    floor.request(claim(ANN), 0.0)
    assert (hub.get(OPS), hub.holder(OPS)) == (floor, claim(ANN))
    assert (len(hub), list(hub)) == (1, [floor])
    for _ in range(2):
        hub.forget(OPS)
        assert (hub.get(OPS), hub.holder(OPS), list(hub)) == (None, None, [])
