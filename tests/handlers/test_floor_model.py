"""Push-to-talk on a whole node: whatever members do, however connections end, one has the floor, and all know."""

from __future__ import annotations

import os

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.handlers import floor
from livechat.hub.users import SessionState
from livechat.protocol.opcodes import Op
from livechat.protocol.types import UserId
from tests.support.floor_stage import OPS, Device, Stage

USERS = [UserId(name) for name in ("ann", "bob", "cyd")]
DEVICES = ["ann", "ann", "bob", "cyd"]
WHO = st.integers(0, len(DEVICES) - 1)


EXAMPLES = int(os.environ.get("LIVECHAT_TEST_EXAMPLES", "0"))
"""How many random histories a long search tries; without it, always the same few."""


class Node(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.node = self.stage.node
        self.devices = [Device(self.node, UserId(name)) for name in DEVICES]
        self.owner = Device(self.node, UserId("owner"))
        self.owner.identify(100)
        self.create()

    def create(self) -> None:
        assert self.owner.ask(Op.CHANNEL_CREATE, mode="ptt") is None

    # --- what happens -----------------------------------------------------------------------------------

    @rule(who=WHO, priority=st.integers(0, 3))
    def connect(self, who: int, priority: int) -> None:
        device = self.devices[who]
        if device.is_connected:
            return
        if device.session is not None and device.session.state is SessionState.PARKED:
            device.resume()
        if not device.is_connected:
            device.identify(priority)

    @rule(who=WHO, voice=st.booleans())
    def join(self, who: int, voice: bool) -> None:
        self.connect(who, 1)
        self.devices[who].ask(Op.CHANNEL_JOIN, **({"ssrc": who + 1} if voice else {}))

    @rule(
        who=WHO,
        priority=st.none() | st.integers(0, 3),
        indicator=st.sampled_from(["normal", "normal", "imminent_peril", "emergency"]),
    )
    def press(self, who: int, priority: int | None, indicator: str) -> None:
        device = self.devices[who]
        self.connect(who, 1)
        if not device.view.is_member:
            self.join(who, voice=True)
        refused = device.ask(Op.FLOOR_REQUEST, priority=priority, indicator=indicator)
        assert refused is None or not device.is_connected

    @rule(users=st.permutations(range(len(DEVICES))))
    def all_press(self, users: list[int]) -> None:
        for who in users:
            self.press(who, None, "normal")

    @rule(who=WHO, op=st.sampled_from([Op.FLOOR_RELEASE, Op.FLOOR_PING]))
    def let_go_or_ping(self, who: int, op: Op) -> None:
        device = self.devices[who]
        if not device.is_connected:
            return
        may = device.view.has_floor or (op == Op.FLOOR_RELEASE and device.view.place is not None)
        was_stuck, refused = device.is_stuck, device.ask(op)
        if not was_stuck:
            assert (refused is None) is may
        elif op == Op.FLOOR_RELEASE:
            device.view.has_floor = False  # the answer was lost, but it knows what it wanted

    @rule(who=WHO, op=st.sampled_from([Op.CHANNEL_LEAVE, Op.SUBSCRIBE, Op.UNSUBSCRIBE]))
    def leave_or_listen(self, who: int, op: Op) -> None:
        device = self.devices[who]
        if not device.is_connected:
            return
        was_stuck, refused = device.is_stuck, device.ask(op)
        if was_stuck and refused is None and op != Op.CHANNEL_LEAVE:
            device.view.is_subscribed = op == Op.SUBSCRIBE  # as above

    @rule(who=WHO)
    def stick(self, who: int) -> None:
        """Read nothing from now on: whatever is told next ends the connection, in the middle of the telling."""
        self.devices[who].is_stuck = self.devices[who].is_connected

    @rule(who=WHO)
    def lose(self, who: int) -> None:
        self.devices[who].lose()

    @rule(who=WHO)
    def close(self, who: int) -> None:
        self.devices[who].close()

    @rule(user_id=st.sampled_from(USERS))
    def kick(self, user_id: UserId) -> None:
        self.stage.kick(user_id)

    @rule(user_id=st.sampled_from(USERS))
    def remove(self, user_id: UserId) -> None:
        self.owner.ask(Op.MEMBER_REMOVE, user_id=user_id)

    @rule()
    def delete(self) -> None:
        assert self.owner.ask(Op.CHANNEL_DELETE) is None
        self.create()

    @rule(seconds=st.sampled_from([1.0, 5.0, 31.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        self.stage.pass_time(seconds)
        assert all(held.next_due is None or held.next_due > self.stage.now for held in self.node.floors)

    @precondition(lambda self: self.node.floors.holder(OPS) is not None)
    @rule()
    def revoke(self) -> None:
        held = self.node.floors.get(OPS)
        assert held is not None
        floor.tell(self.node, held, held.revoke("admin_revoke", self.stage.now))

    # --- what is always so --------------------------------------------------------------------------------

    def connected(self) -> list[Device]:
        return [device for device in self.devices if device.is_connected]

    @invariant()
    def one_has_the_floor_and_knows_it_and_no_other_thinks_so(self) -> None:
        holder = self.node.floors.holder(OPS)
        holding = [
            device.session.session_id for device in self.connected() if device.view.has_floor and device.session
        ]
        assert holding == ([] if holder is None else [holder.session_id])

    @invariant()
    def all_who_listen_know_who_talks(self) -> None:
        holder = self.node.floors.holder(OPS)
        for device in self.connected():
            view = device.view
            if view.is_member and view.is_subscribed and not view.has_floor:
                assert view.talker == (None if holder is None else holder.user_id)

    @invariant()
    def all_who_wait_know_their_place(self) -> None:
        held = self.node.floors.get(OPS)
        waiting = [] if held is None else [claim.session_id for claim in held.waiting]
        places = {
            device.view.place: device.session.session_id
            for device in self.connected()
            if device.view.place is not None and device.session
        }
        assert places == dict(enumerate(waiting, 1))
        if held is not None and held.holder is None:
            assert not waiting

    @invariant()
    def who_is_on_the_floor_is_a_member_and_connected(self) -> None:
        held = self.node.floors.get(OPS)
        claims = [] if held is None else [claim for claim in (held.holder, *held.waiting) if claim is not None]
        for claim in claims:
            session = self.node.users.get(claim.session_id)
            assert session is not None
            assert session.state is SessionState.LIVE
            assert self.node.channels.is_member(OPS, claim.user_id)

    @invariant()
    def the_relay_forwards_the_holder_alone(self) -> None:
        if self.stage.plane.hub.peers_of(OPS):
            holder = self.node.floors.holder(OPS)
            rules = self.stage.plane.rules[OPS]
            assert rules.floor_control
            assert rules.floor_holder == (None if holder is None else holder.user_id)

    @invariant()
    def nothing_went_wrong_unseen(self) -> None:
        assert [problem for device in self.devices for problem in device.problems] == []
        assert self.node.store.statistics().callback_failures == 0

    @invariant()
    def nothing_is_left_to_tell(self) -> None:
        assert not self.node.floor_notices
        assert not self.node.floor_is_telling

    def teardown(self) -> None:
        """However it went, in the end nobody has it, and nothing is left of it."""
        for device in self.devices:
            device.close()
        self.stage.pass_time(1000.0)
        assert len(self.node.floors) == 0


Node.TestCase.settings = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    phases=(Phase.generate,),  # to shrink a history takes minutes
)
TestNode = Node.TestCase


def test_what_came_first_is_told_first_where_the_telling_ends_a_connection() -> None:
    stage = Stage()
    owner, *devices = (Device(stage.node, UserId(name)) for name in ("owner", "ann", "bob", "cyd"))
    ann, bob, cyd = devices
    owner.identify(100)
    owner.ask(Op.CHANNEL_CREATE, mode="ptt")
    for device in devices:
        device.identify(100)
        device.ask(Op.CHANNEL_JOIN)
        device.ask(Op.FLOOR_REQUEST)
    assert (ann.view.has_floor, bob.view.place, cyd.view.place) == (True, 1, 2)
    bob.is_stuck = True
    # Being granted the floor ends Bob's connection, so that it goes on to Cyd before Ann was told of Bob.
    ann.ask(Op.FLOOR_RELEASE)
    assert (ann.view.talker, cyd.view.has_floor, bob.is_connected) == ("cyd", True, False)
    cyd.is_stuck = True
    # The ACK ends Cyd's connection, and with it the floor, before what comes of the request was told.
    cyd.ask(Op.FLOOR_REQUEST, indicator="emergency")
    assert (ann.view.talker, stage.node.floors.holder(OPS)) == (None, None)
