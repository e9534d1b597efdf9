"""That no keys are told to two runs of a worker, whatever happens in between."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.hub.peer import MediaPeer
from livechat.media.workers.roster import Roster
from tests.media.workers.test_messages import make_peer


class Rosters(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.peers: list[MediaPeer] = []
        self.run = 0
        self.keys_made = 0
        self.told: dict[bytes, int] = {}
        """Which run was told a key."""

    def new_key(self) -> bytes:
        self.keys_made += 1
        return self.keys_made.to_bytes(28, "big")

    @rule()
    def join(self) -> None:
        peer = make_peer(
            peer_id=len(self.told) + self.keys_made, client_key=self.new_key(), server_key=self.new_key()
        )
        self.peers.append(peer)
        self.roster.wait(peer)

    @rule(most=st.integers(1, 3))
    def tell(self, most: int) -> None:
        for peer in self.roster.waiting(most):
            for key in (peer.client_key, peer.server_key):
                assert key not in self.told
                self.told[key] = self.run
            self.roster.told(peer)

    @rule()
    def rekey_the_living(self) -> None:
        for peer in self.peers:
            if self.roster.get_open(peer.peer_id) is not None:
                peer.client_key, peer.server_key = self.new_key(), self.new_key()
                self.told |= dict.fromkeys((peer.client_key, peer.server_key), self.run)

    @rule()
    def fail(self) -> None:
        expected = sum(self.roster.get_open(peer.peer_id) is not None for peer in self.peers)
        assert self.roster.lost() == expected
        self.run += 1

    @rule(most=st.integers(1, 3), what=st.sampled_from(["both", "one", "none", "ended"]))
    def move(self, most: int, what: str) -> None:
        for peer in self.roster.spent(most):
            if what != "none":
                peer.client_key = self.new_key()
            if what in ("both", "ended"):
                peer.server_key = self.new_key()
            peer.is_ended = what == "ended"
            assert self.roster.renewed(peer) is (what == "both")
            if what != "both":
                self.peers.remove(peer)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        self.peers.remove(peer)
        is_open = self.roster.get_open(peer.peer_id) is not None
        assert self.roster.remove(peer) is is_open
        assert not self.roster.renewed(peer)

    @invariant()
    def everybody_is_there_once(self) -> None:
        assert len(self.roster) == len(self.peers)
        assert sorted(peer.peer_id for peer in self.roster) == sorted(peer.peer_id for peer in self.peers)


TestRosters = Rosters.TestCase
