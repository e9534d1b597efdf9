"""Random lives of a room under a ledger: no key ever seals twice at one (ssrc, index).

Every packet is opened by the libsrtp session that its listener made at the join, so these scenarios also show
that whoever is sent something can open it, from the first packet on.
"""

from __future__ import annotations

import random

import pytest

from livechat.rtp import rtcp
from livechat.rtp.feedback import Nack, PictureLoss
from tests.support.room import Caller, Room
from tests.support.voice import PROFILES, sender_report

STEPS = 3000
USERS = "abcdefgh"
SSRCS = (11, 12, 13)
"""Few, so that they are recycled all the time."""


class Life:
    """One random scenario."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.room = Room(seed)
        self.by_user: dict[str, Caller] = {}
        self.held_back: list[tuple[Caller, bytes]] = []
        self.untaken: set[Caller] = set()
        """Whose client has not gone over to its new keys yet."""
        self.rejoins = 0
        self.rekeys = 0
        self.heard = 0

    def step(self) -> None:
        action = self.rng.choices(
            (
                *(self.toggle, self.speak, self.release, self.move, self.report, self.forge, self.ask, self.wait),
                *(self.rekey, self.take),
            ),
            (6, 70, 10, 3, 6, 5, 6, 3, 2, 2),
        )[0]
        action()

    def anyone(self) -> Caller | None:
        return self.rng.choice(list(self.by_user.values())) if self.by_user else None

    def toggle(self) -> None:
        user = self.rng.choice(USERS)
        caller = self.by_user.pop(user, None)
        if caller is not None:
            self.untaken.discard(caller)
            self.room.leave(caller, hub_first=self.rng.random() < 0.5)
            self.heard += len(caller.heard)
            if self.rng.random() < 0.5:
                return
        self.rejoins += caller is not None
        # Now and then with what someone is or was heard as.
        recent = [each.peer.egress_ssrc for each in self.by_user.values()]
        joined = self.by_user[user] = self.room.join(
            user,
            profile=self.rng.choice(PROFILES),
            ssrc=self.rng.choice([*SSRCS, *recent, None]),
            stated=self.rng.random() < 0.5,
        )
        joined.sequence = self.rng.choice((0, 1, 40_000, 65_530))

    def speak(self) -> None:
        caller = self.anyone()
        if caller is None:
            return
        skip = self.rng.choice((0, 0, 0, 0, 1, 50, 20_000))
        packet = caller.speak(self.rng.randbytes(self.rng.randrange(40)), skip=skip)
        fate = self.rng.random()
        if fate < 0.1:
            return
        if fate < 0.25:
            self.held_back.append((caller, packet))
            return
        self.room.send(packet, caller.address)
        if fate < 0.35:
            assert self.room.send(packet, caller.address) == []

    def release(self) -> None:
        self.rng.shuffle(self.held_back)
        for caller, packet in self.held_back:
            self.room.send(packet, caller.address)
        self.held_back.clear()

    def move(self) -> None:
        caller = self.anyone()
        if caller is not None:
            caller.address = self.room.new_address()

    def rekey(self) -> None:
        caller = self.anyone()
        if caller is None:
            return
        self.rekeys += 1
        self.pass_time(10.0)  # one change after the other
        self.room.rekey(caller)
        self.untaken.add(caller)

    def pass_time(self, seconds: float) -> None:
        self.take()  # who has not taken its keys in half of the overlap is deaf
        self.room.wait(seconds)

    def take(self) -> None:
        for caller in self.untaken:
            caller.take_keys()
            if self.rng.random() < 0.3:
                caller.sequence = self.rng.randrange(65_536)
        self.untaken.clear()

    def report(self) -> None:
        caller = self.anyone()
        if caller is None:
            return
        ssrc = caller.peer.ssrc
        packets = self.rng.choice(
            ((rtcp.ReceiverReport(ssrc),), (sender_report(ssrc),), (sender_report(ssrc), rtcp.Goodbye((ssrc,))))
        )
        self.room.send(caller.report(*packets), caller.address)

    def ask(self) -> None:
        """Have somebody report on, ask for a key frame of, and ask once more for packets of somebody."""
        caller, other = self.anyone(), self.anyone()
        if caller is None or other is None:
            return
        ours, theirs = caller.peer.ssrc, other.peer.egress_ssrc
        newest = next((header.sequence for header, _ in reversed(caller.heard) if header.ssrc == theirs), 5000)
        self.pass_time(1.0)
        # What it asks for it has: that it comes again, and is the same, is the ledger's to see.
        caller.is_deaf = True
        self.room.report(
            caller,
            rtcp.ReceiverReport(ours, (rtcp.ReportBlock(theirs, highest_sequence=newest),)),
            Nack.of(ours, theirs, range(max(newest - 20, 0), newest + 1)),
            PictureLoss(ours, theirs),
        )
        caller.is_deaf = False

    def wait(self) -> None:
        self.pass_time(self.rng.choice((0.1, 3.0, 10.0)))

    def forge(self) -> None:
        caller = self.anyone()
        if caller is None:
            return
        packet = bytearray(caller.speak())
        packet[self.rng.randrange(len(packet))] ^= 1 << self.rng.randrange(8)
        assert self.room.send(bytes(packet), self.room.new_address()) == []


@pytest.mark.parametrize("seed", range(12))
def test_no_nonce_repeats_in_a_random_life(seed: int) -> None:
    life = Life(seed)
    for _ in range(STEPS):
        life.step()
    assert life.rejoins > 10
    assert life.rekeys > 10
    assert len(life.room.ledger) > STEPS
    assert life.heard + sum(len(caller.heard) for caller in life.by_user.values()) > STEPS
    statistics = life.room.relay.statistics()
    assert statistics["replay"] > 0
    assert statistics["authentication"] > 0
    assert statistics["internal"] == 0
    for figure in (
        "retransmitted",
        "rtcp_reports_translated",
        "key_frame_requests_forwarded",
        "rtcp_reports_sent",
    ):
        assert statistics[figure] > 0
