from __future__ import annotations

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.hub.presence import Departure, PresenceHub
from livechat.protocol.events import UserPresence
from livechat.protocol.types import PresenceStatus, SessionId, UserId

ANN, BOB = UserId("ann"), UserId("bob")
USER_IDS = (ANN, BOB, UserId("cyd"))
GRACE_S = 5.0


def ms(now: float) -> int:
    """The wall clock of these tests, by their monotonic one."""
    return 1_000_000 + int(now * 1000)


class Hub(PresenceHub):
    """A hub with the two clocks of these tests, and sessions named by a letter."""

    def connect(self, session: str, status: PresenceStatus, now: float, text: str | None = None) -> None:
        self.connected(SessionId(session), ANN, status, text, now, ms(now))

    def update(self, session: str, status: PresenceStatus, now: float, text: str | None = None) -> None:
        self.updated(SessionId(session), status, text, now, ms(now))

    def lose(self, session: str, now: float) -> None:
        self.disconnected(SessionId(session), now, ms(now))

    def told(self, now: float, version: int = 0) -> list[UserPresence]:
        """What one take tells a session that noted `version`."""
        return [change.presence for change in self.take_changes(now, ms(now)) if change.concerns(version)]

    def seen(self, now: float) -> UserPresence:
        return self.presence_of(ANN, ms(now))


def ann(status: PresenceStatus, last_seen: float | None, text: str | None = None) -> UserPresence:
    return UserPresence(ANN, status, None if last_seen is None else ms(last_seen), text)


# --- what is shown of several sessions ------------------------------------------------------------------------


def test_nobody_is_offline_and_was_never_seen() -> None:
    hub = Hub()
    assert hub.seen(1) == ann("OFFLINE", None)
    assert (hub.shown([ANN], 10), hub.is_changed, hub.next_due, hub.version, len(hub)) == ({}, False, None, 0, 0)


@pytest.mark.parametrize(
    ("statuses", "shown"),
    [
        (["ONLINE"], "ONLINE"),
        (["AWAY"], "AWAY"),
        (["OFFLINE"], "OFFLINE"),
        (["AWAY", "ONLINE"], "ONLINE"),
        (["ONLINE", "AWAY"], "ONLINE"),
        (["OFFLINE", "AWAY"], "AWAY"),
        (["AWAY", "OFFLINE"], "AWAY"),
        (["OFFLINE", "ONLINE", "AWAY"], "ONLINE"),
        (["OFFLINE", "OFFLINE"], "OFFLINE"),
    ],
)
def test_the_most_present_session_decides(statuses: list[PresenceStatus], shown: PresenceStatus) -> None:
    hub = Hub()
    for number, status in enumerate(statuses):
        hub.connect(f"s{number}", status, 1)
    assert hub.seen(1).status == shown


def test_the_text_is_that_of_the_newest_choice_among_those_that_win() -> None:
    hub = Hub()
    hub.connect("a", "ONLINE", 1, "first")
    hub.connect("b", "ONLINE", 2, "second")
    hub.connect("c", "AWAY", 3, "at lunch")
    assert hub.seen(3) == ann("ONLINE", 3, "second")
    hub.update("a", "ONLINE", 4, "again")
    assert hub.seen(4).text == "again"
    hub.update("a", "ONLINE", 5, None)
    assert hub.seen(5).text is None
    hub.update("a", "AWAY", 6, "out")
    assert hub.seen(6).text == "second"
    hub.update("b", "OFFLINE", 7)
    assert hub.seen(7) == ann("AWAY", 7, "out")


def test_a_lost_connection_uncovers_what_the_others_chose_at_once() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.connect("b", "AWAY", 1, "at lunch")
    hub.lose("a", 2)
    assert hub.seen(2) == ann("AWAY", 2, "at lunch")
    assert hub.next_due is None


def test_what_an_invisible_session_says_of_itself_is_not_shown() -> None:
    hub = Hub()
    hub.connect("a", "OFFLINE", 1, "hiding")
    assert hub.seen(1) == ann("OFFLINE", None)
    assert not hub.is_changed


def test_a_session_without_a_connection_has_no_say() -> None:
    hub = Hub(0)
    hub.update("a", "ONLINE", 1)
    hub.connect("a", "ONLINE", 2)
    hub.lose("a", 3)
    hub.update("a", "ONLINE", 4)
    hub.lose("a", 5)
    assert hub.seen(5) == ann("OFFLINE", 3)
    assert [departure.lost_ms for departure in hub.take_departed(9)] == [ms(3)]


def test_a_snapshot_has_those_who_are_not_offline_up_to_its_limit() -> None:
    hub = PresenceHub()
    users = [UserId(f"user_{number}") for number in range(6)]
    statuses: list[PresenceStatus] = ["ONLINE", "OFFLINE", "AWAY", "ONLINE", "ONLINE"]
    for number, status in enumerate(statuses):
        hub.connected(SessionId(str(number)), users[number], status, None, 0, 0)
    assert hub.shown(users, 10) == {
        "user_0": "ONLINE",
        "user_2": "AWAY",
        "user_3": "ONLINE",
        "user_4": "ONLINE",
    }
    assert list(hub.shown(users, 2)) == ["user_0", "user_2"]
    assert hub.shown(users, 0) == {}
    assert hub.shown([users[2], users[1]], 10) == {"user_2": "AWAY"}


# --- the grace ------------------------------------------------------------------------------------------------


def test_a_reconnect_within_the_grace_shows_nothing() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1, "here")
    hub.take_changes(1, ms(1))
    hub.lose("a", 2)
    assert (hub.seen(3).status, hub.next_due) == ("ONLINE", 7)
    hub.connect("a", "ONLINE", 6.9, "here")
    assert (hub.told(100, hub.version), hub.take_departed(100), hub.next_due) == ([], [], None)
    assert hub.seen(100) == ann("ONLINE", 100, "here")


def test_the_end_of_a_grace_is_told_to_who_was_there_before() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1, "here")
    hub.take_changes(1, ms(1))
    version = hub.version
    hub.lose("a", 2)
    assert (hub.told(6.9, version), hub.take_departed(6.9)) == ([], [])
    assert hub.told(7, version) == [ann("OFFLINE", 2)]
    assert hub.take_departed(7) == [Departure(ANN, ms(2), ms(2))]
    assert (hub.told(8, version), hub.take_departed(8), hub.next_due, len(hub)) == ([], [], None, 0)


def test_a_reconnect_after_the_grace_is_a_new_visit_even_if_nobody_looked() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.lose("a", 2)
    hub.connect("a", "OFFLINE", 8)
    assert hub.take_departed(8) == [Departure(ANN, ms(2), ms(2))]
    assert hub.seen(8).status == "OFFLINE"


def test_without_a_grace_a_lost_connection_shows_at_once() -> None:
    hub = Hub(0)
    hub.connect("a", "ONLINE", 1)
    hub.lose("a", 2)
    assert hub.shown([ANN], 10) == {}
    assert (hub.take_departed(2), hub.next_due) == ([Departure(ANN, ms(2), ms(2))], None)


def test_a_chosen_offline_shows_at_once() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.take_changes(1, ms(1))
    hub.update("a", "OFFLINE", 2)
    assert hub.told(2) == [ann("OFFLINE", 2)]
    assert hub.next_due is None


def test_who_comes_back_invisible_is_offline_at_once() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.take_changes(1, ms(1))
    hub.lose("a", 2)
    hub.connect("a", "OFFLINE", 3)
    assert hub.told(3) == [ann("OFFLINE", 2)]
    assert (hub.next_due, hub.take_departed(100)) == (None, [])


def test_the_loss_of_the_last_visible_connection_waits_too_while_an_invisible_one_stays() -> None:
    hub = Hub(GRACE_S)
    hub.connect("hidden", "OFFLINE", 1)
    hub.connect("a", "ONLINE", 1)
    hub.take_changes(1, ms(1))
    version = hub.version
    hub.lose("a", 2)
    assert hub.seen(3).status == "ONLINE"
    hub.lose("hidden", 4)
    assert hub.told(7, version) == [ann("OFFLINE", 2)]
    assert hub.take_departed(7) == []
    assert hub.take_departed(9) == [Departure(ANN, ms(4), ms(2))]


# --- last seen ------------------------------------------------------------------------------------------------


def test_last_seen_of_an_invisible_user_stays_at_what_was_shown() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    assert hub.seen(2).last_seen == ms(2)
    hub.update("a", "OFFLINE", 3)
    assert hub.seen(60).last_seen == ms(3)
    hub.connect("b", "OFFLINE", 61)
    hub.update("b", "OFFLINE", 62, "x")
    hub.lose("a", 63)
    assert hub.seen(64).last_seen == ms(3)
    hub.lose("b", 65)
    assert hub.seen(66).last_seen == ms(3)
    assert hub.take_departed(70) == [Departure(ANN, ms(65), ms(3))]


def test_the_departure_of_who_was_invisible_throughout_is_told_without_a_time_to_show() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "OFFLINE", 1)
    hub.lose("a", 2)
    assert hub.next_due == 7
    assert (hub.seen(3), hub.told(7)) == (ann("OFFLINE", None), [])
    assert hub.take_departed(7) == [Departure(ANN, ms(2), None)]
    assert len(hub) == 0


# --- who must be told -----------------------------------------------------------------------------------------


def test_who_came_and_went_between_two_takes_is_told_to_nobody() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.update("a", "OFFLINE", 2)
    assert hub.take_changes(3, ms(3)) == []


def test_who_looked_between_coming_and_going_is_told_and_nobody_else() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    assert hub.shown([ANN], 10) == {ANN: "ONLINE"}
    version = hub.version
    hub.update("a", "OFFLINE", 2)
    after = hub.version
    (change,) = hub.take_changes(3, ms(3))
    assert change.presence == ann("OFFLINE", 2)
    assert [change.concerns(noted) for noted in (0, version, after)] == [False, True, False]


def test_who_looked_after_a_change_is_not_told_of_it() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    hub.shown([ANN], 10)
    (change,) = hub.take_changes(1, ms(1))
    assert [change.concerns(noted) for noted in (0, hub.version)] == [True, False]


def test_what_nobody_saw_is_not_kept_however_often_it_changes() -> None:
    hub = Hub(GRACE_S)
    hub.connect("a", "ONLINE", 1)
    for number in range(1000):
        hub.update("a", "AWAY", 1, f"text {number}")
    (user,) = hub._users.values()
    assert len(user.history) == 2
    assert hub.told(1) == [ann("AWAY", 1, "text 999")]


@attrs.define
class Observer:
    """A session elsewhere: what its user sees, told by a snapshot and by the changes that concern it."""

    version: int
    known: dict[UserId, tuple[PresenceStatus, str | None]]


@attrs.define
class ModelUser:
    """A user as the protocol has it; recomputed from what the sessions chose."""

    choices: dict[str, tuple[PresenceStatus, str | None]] = attrs.field(factory=dict)
    """Of connected sessions, oldest first."""
    held: tuple[PresenceStatus, str | None] | None = None
    held_until: float = 0.0
    leaves_at: float | None = None
    lost_ms: int = 0
    visible_ms: int | None = None
    told: tuple[PresenceStatus, str | None] = ("OFFLINE", None)
    """Shown when last looked at, to find out whether that changed since the last take."""
    is_changed: bool = False

    def winner(self) -> tuple[PresenceStatus, str | None]:
        for status in ("ONLINE", "AWAY"):
            texts = [choice for choice in self.choices.values() if choice[0] == status]
            if texts:
                return texts[-1]
        return ("OFFLINE", None)

    def shown(self) -> tuple[PresenceStatus, str | None]:
        return self.winner() if self.held is None else self.held

    def settle(self) -> None:
        """Note whether what is shown changed; forget a user who is gone and told."""
        self.is_changed |= self.told != self.shown()
        self.told = self.shown()
        if not self.choices and self.leaves_at is None and not self.is_changed:
            self.visible_ms = None


class Presence(RuleBasedStateMachine):
    """A hub against a plain model, and observers who hear only what concerns them."""

    def __init__(self) -> None:
        super().__init__()
        self.grace_s = 5.0
        self.hub = PresenceHub(self.grace_s)
        self.now = 10.0
        self.begun = 0
        self.owners: dict[str, UserId] = {}
        """Connected sessions."""
        self.parked: dict[str, UserId] = {}
        self.users = {user_id: ModelUser() for user_id in USER_IDS}
        self.observers: list[Observer] = []
        self.departed: list[Departure] = []

    STATUSES = st.sampled_from(["ONLINE", "AWAY", "OFFLINE"])
    TEXTS = st.sampled_from([None, "x", "y"])

    # --- what happens ---------------------------------------------------------------------------------

    @rule(user_id=st.sampled_from(USER_IDS), status=STATUSES, text=TEXTS)
    def connect(self, user_id: UserId, status: PresenceStatus, text: str | None) -> None:
        self.begun += 1
        self._connect(f"sess_{self.begun}", user_id, status, text)

    @precondition(lambda self: self.parked)
    @rule(data=st.data(), status=STATUSES, text=TEXTS)
    def resume(self, data: st.DataObject, status: PresenceStatus, text: str | None) -> None:
        session = data.draw(st.sampled_from(sorted(self.parked)))
        self._connect(session, self.parked.pop(session), status, text)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), status=STATUSES, text=TEXTS)
    def update(self, data: st.DataObject, status: PresenceStatus, text: str | None) -> None:
        session = data.draw(st.sampled_from(sorted(self.owners)))
        self.hub.updated(SessionId(session), status, text, self.now, ms(self.now))
        self._choose(self.users[self.owners[session]], session, (status, text))

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.owners)))
        self.hub.disconnected(SessionId(session), self.now, ms(self.now))
        self.parked[session] = self.owners.pop(session)
        user = self.users[self.parked[session]]
        before = user.winner()
        del user.choices[session]
        if before[0] != "OFFLINE" and user.winner()[0] == "OFFLINE":
            user.held, user.held_until, user.visible_ms = before, self.now + self.grace_s, ms(self.now)
        if not user.choices:
            user.lost_ms, user.leaves_at = ms(self.now), self.now + self.grace_s
        self._pass_time(0.0)

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.5, 5.0]))
    def wait(self, seconds: float) -> None:
        self._pass_time(seconds)

    @rule()
    def look(self) -> None:
        """Somebody logs in: a snapshot, and the version that it is of."""
        assert self.hub.shown(USER_IDS, 10) == {
            user_id: user.shown()[0] for user_id, user in self.users.items() if user.shown()[0] != "OFFLINE"
        }
        self.observers.append(Observer(self.hub.version, {user_id: self._seen(user_id) for user_id in USER_IDS}))

    @rule()
    def take(self) -> None:
        self._expire_hub()
        is_changed = self.hub.is_changed
        changes = self.hub.take_changes(self.now, ms(self.now))
        assert is_changed or not changes
        assert len({change.presence.user_id for change in changes}) == len(changes)
        for change in changes:
            presence = change.presence
            for observer in self.observers:
                if change.concerns(observer.version):
                    assert observer.known[presence.user_id] != (presence.status, presence.text)
                    observer.known[presence.user_id] = (presence.status, presence.text)
        for observer in self.observers:
            assert observer.known == {user_id: user.shown() for user_id, user in self.users.items()}
        for user in self.users.values():
            user.is_changed = False
            user.settle()
        assert not self.hub.is_changed
        present = sum(bool(user.choices) or user.leaves_at is not None for user in self.users.values())
        assert len(self.hub) == present

    @rule()
    def take_departed(self) -> None:
        assert sorted(self.hub.take_departed(self.now), key=repr) == sorted(self.departed, key=repr)
        self.departed.clear()

    def _connect(self, session: str, user_id: UserId, status: PresenceStatus, text: str | None) -> None:
        self.hub.connected(SessionId(session), user_id, status, text, self.now, ms(self.now))
        self.owners[session] = user_id
        user = self.users[user_id]
        user.leaves_at = None
        self._choose(user, session, (status, text))

    def _choose(self, user: ModelUser, session: str, choice: tuple[PresenceStatus, str | None]) -> None:
        before = user.winner()
        user.choices.pop(session, None)
        user.choices[session] = choice
        user.held = None
        if before[0] != "OFFLINE" and user.winner()[0] == "OFFLINE":
            user.visible_ms = ms(self.now)
        user.settle()

    def _pass_time(self, seconds: float) -> None:
        self.now += seconds
        for user_id, user in self.users.items():
            if user.held is not None and user.held_until <= self.now:
                user.held = None
            if user.leaves_at is not None and user.leaves_at <= self.now:
                user.leaves_at = None
                self.departed.append(Departure(user_id, user.lost_ms, user.visible_ms))
            user.settle()
        self._expire_hub()

    def _expire_hub(self) -> None:
        """Let the hub see the time, as the shell does at `next_due`."""
        due = self.hub.next_due
        expected = [
            *(user.held_until for user in self.users.values() if user.held is not None),
            *(user.leaves_at for user in self.users.values() if user.leaves_at is not None),
        ]
        if due is not None and due <= self.now:
            self.hub.updated(SessionId("nobody"), "ONLINE", None, self.now, ms(self.now))
        assert self.hub.next_due == min(expected, default=None)

    def _seen(self, user_id: UserId) -> tuple[PresenceStatus, str | None]:
        presence = self.hub.presence_of(user_id, ms(self.now))
        user = self.users[user_id]
        assert (presence.status, presence.text) == user.shown()
        if user.winner()[0] != "OFFLINE":
            assert presence.last_seen == ms(self.now)
        else:
            assert presence.last_seen == user.visible_ms
        return presence.status, presence.text

    @invariant()
    def no_more_is_kept_than_looks_require(self) -> None:
        for user in self.hub._users.values():
            assert len(user.history) <= len(self.observers) + 2

    def teardown(self) -> None:
        """Once everybody has gone and all is told, nothing is left."""
        for session in list(self.owners):
            self.hub.disconnected(SessionId(session), self.now, ms(self.now))
        self.hub.take_changes(self.now + 100, ms(self.now))
        self.hub.take_departed(self.now + 100)
        hub = self.hub
        assert len(hub) == 0
        for index in (hub._user_of, hub._held, hub._leaving, hub._changed, hub._departed):
            assert not index


TestPresence = Presence.TestCase
TestPresence.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
