from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livechat.error import SsrcInUse
from livechat.hub.media import RETIRED_MAX, MediaPeerHub
from livechat.hub.peer import MediaPeer
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile

GCM = SrtpProfile.AEAD_AES_128_GCM
ROOM = ChannelId("room")


def make_hub(seed: int = 1) -> MediaPeerHub:
    return MediaPeerHub(random.Random(seed).randbytes)


def join(
    hub: MediaPeerHub,
    user: str,
    ssrc: int | None = None,
    *,
    channel: str = ROOM,
    session: str | None = None,
    insist: bool = False,
) -> MediaPeer:
    return hub.add(
        ChannelId(channel),
        UserId(user),
        SessionId(session or f"sess_{user}"),
        profile=GCM,
        now=100.0,
        ssrc=None if ssrc is None else Ssrc(ssrc),
        insist=insist,
    )


def test_a_free_ssrc_is_kept_in_both_directions() -> None:
    peer = join(make_hub(), "ann", 5)
    assert (peer.ssrc, peer.egress_ssrc) == (5, 5)


def test_what_the_server_reports_as_is_nobodys_wish() -> None:
    hub = make_hub()
    start = join(hub, "ann", 5).reporter_ssrc
    assert join(hub, "bob").reporter_ssrc == start
    assert not hub.is_free(ROOM, start)
    with pytest.raises(SsrcInUse):
        join(hub, "cyd", start, insist=True)
    assert join(hub, "cyd", start).ssrc != start
    # The first peer of a channel, peers elsewhere and those about to join are spared as well.
    hub = MediaPeerHub(lambda count: (7).to_bytes(count, "big"))
    assert join(hub, "ann", 8, channel="elsewhere").reporter_ssrc == 7
    hub.reserve(Ssrc(9))
    assert join(hub, "bob", 7).reporter_ssrc == 10


def test_without_a_wish_an_ssrc_is_made_up() -> None:
    peer = join(make_hub(), "ann")
    assert peer.ssrc == peer.egress_ssrc != 0


def test_an_ssrc_is_unique_on_the_node_while_its_peer_lives() -> None:
    hub = make_hub()
    ann = join(hub, "ann", 5)
    bob = join(hub, "bob", 5, channel="elsewhere")
    assert bob.ssrc != 5
    hub.remove(ann)
    assert join(hub, "cyd", 5, channel="third").ssrc == 5


def test_who_insists_on_a_taken_ssrc_is_refused_and_nothing_changes() -> None:
    hub = make_hub()
    ann = join(hub, "ann", 5)
    with pytest.raises(SsrcInUse):
        join(hub, "bob", 5, insist=True)
    with pytest.raises(SsrcInUse):
        join(hub, "bob", 5, channel="elsewhere", insist=True)
    assert list(hub) == [ann]
    assert hub.peers_of(ChannelId("elsewhere")) == ()
    assert join(hub, "bob", 6, insist=True).ssrc == 6


def test_an_ssrc_can_be_asked_for_before_anything_is_changed() -> None:
    hub = make_hub()
    witness = join(hub, "witness", 9)
    hub.remove(join(hub, "ann", 5))
    ann = join(hub, "ann", 5)
    egress_ssrc = ann.egress_ssrc
    elsewhere = ChannelId("elsewhere")
    assert hub.is_free(ROOM, Ssrc(6))
    assert not hub.is_free(ROOM, ann.ssrc)
    assert not hub.is_free(elsewhere, ann.ssrc)
    assert not hub.is_free(ROOM, egress_ssrc)
    assert hub.is_free(elsewhere, egress_ssrc)
    assert hub.is_free(ROOM, ann.ssrc, leaving=ann)
    assert hub.is_free(ROOM, egress_ssrc, leaving=ann)
    assert not hub.is_free(ROOM, witness.ssrc, leaving=ann)


def test_nobody_sends_with_what_another_of_the_channel_is_heard_as() -> None:
    hub = make_hub()
    join(hub, "listener")
    hub.remove(join(hub, "ann", 5))
    ann = join(hub, "ann", 5)
    bob = join(hub, "bob", ann.egress_ssrc)
    assert ann.egress_ssrc not in (ann.ssrc, bob.ssrc)


def test_after_a_rejoin_a_living_receiver_hears_another_ssrc() -> None:
    hub = make_hub()
    join(hub, "listener")
    heard = set()
    for _ in range(50):
        ann = join(hub, "ann", 5)
        assert ann.ssrc == 5
        heard.add(ann.egress_ssrc)
        hub.remove(ann)
    assert len(heard) == 50


def test_an_egress_ssrc_may_return_once_every_receiver_that_could_hear_it_has_left() -> None:
    hub = make_hub()
    witness = join(hub, "witness")
    hub.remove(join(hub, "ann", 5))
    later = join(hub, "later")
    hub.remove(witness)
    # Only `later` is left, and it joined after ann had gone.
    ann = join(hub, "ann", 5)
    assert ann.egress_ssrc == 5
    hub.remove(ann)
    hub.remove(later)
    # The channel was empty: nothing is remembered.
    assert join(hub, "bob", 5).egress_ssrc == 5


def test_another_channel_remembers_nothing_of_this_one() -> None:
    hub = make_hub()
    join(hub, "listener")
    hub.remove(join(hub, "ann", 5))
    assert join(hub, "ann", 5, channel="elsewhere").egress_ssrc == 5


def test_the_record_of_a_busy_channel_is_bounded_and_never_repeats() -> None:
    hub = make_hub()
    join(hub, "listener")
    heard = set()
    for ssrc in range(1, 2 * RETIRED_MAX):
        ann = join(hub, "ann", ssrc)
        heard.add(ann.egress_ssrc)
        hub.remove(ann)
    assert len(heard) == 2 * RETIRED_MAX - 1
    assert len(hub._channels[ROOM].retired) < RETIRED_MAX


def test_peers_are_found_by_ssrc_channel_user_and_session() -> None:
    hub = make_hub()
    ann = join(hub, "ann", 1)
    bob = join(hub, "bob", 2)
    ann_elsewhere = join(hub, "ann", 3, channel="elsewhere")
    assert hub.by_ssrc(1) is ann
    assert hub.by_ssrc(4) is None
    assert list(hub.peers_of(ROOM)) == [ann, bob]
    assert hub.of(ROOM, UserId("bob")) is bob
    assert hub.of(ROOM, UserId("cyd")) is None
    assert hub.of(ChannelId("none"), UserId("ann")) is None
    assert hub.of_session(SessionId("sess_ann")) == [ann, ann_elsewhere]
    assert hub.listeners_of(ann) == [bob]
    assert len(hub) == 3


def test_a_removed_peer_is_found_nowhere_but_still_knows_its_listeners() -> None:
    hub = make_hub()
    ann = join(hub, "ann", 1)
    bob = join(hub, "bob", 2)
    hub.remove(ann)
    assert ann.is_ended
    assert hub.by_ssrc(1) is None
    assert hub.of(ROOM, UserId("ann")) is None
    assert hub.of_session(SessionId("sess_ann")) == []
    assert hub.listeners_of(ann) == [bob]


def test_a_user_has_one_voice_a_channel() -> None:
    hub = make_hub()
    join(hub, "ann")
    with pytest.raises(AssertionError):
        join(hub, "ann", session="sess_other")


@pytest.mark.parametrize("profile", SrtpProfile)
def test_keys_fit_the_profile_are_fresh_and_do_not_show(profile: SrtpProfile) -> None:
    hub = make_hub()
    keys: set[bytes] = set()
    for _ in range(3):
        peer = hub.add(ROOM, UserId("ann"), SessionId("sess_secret"), profile=profile, now=0.0)
        assert len(peer.client_key) == len(peer.server_key) == profile.master_bytes
        for key in (peer.client_key, peer.server_key):
            keys.add(key)
            assert repr(key) not in repr(peer)
            assert key.hex() not in repr(peer)
        assert "secret" not in repr(peer)
        hub.remove(peer)
    assert len(keys) == 6


def test_a_silent_peer_expires_after_the_timeout_counted_from_its_join() -> None:
    hub = MediaPeerHub(random.Random(1).randbytes, peer_timeout_s=12.0)
    peer = hub.add(ROOM, UserId("ann"), SessionId("sess"), profile=GCM, now=100.0)
    assert hub.expires_at(peer) == 112.0
    peer.last_seen = 150.0
    assert hub.expires_at(peer) == 162.0


def test_a_stated_address_that_never_sent_does_not_expire() -> None:
    hub = make_hub()
    peer = hub.add(ROOM, UserId("ann"), SessionId("sess"), profile=GCM, now=100.0, address=("127.0.0.1", 4000))
    assert peer.address == ("127.0.0.1", 4000)
    assert hub.expires_at(peer) is None
    peer.last_seen = 150.0
    assert hub.expires_at(peer) == 180.0


def test_new_keys_take_the_place_of_the_old_and_are_not_known_to_be_taken() -> None:
    hub = MediaPeerHub(random.Random(1).randbytes)
    peer = join(hub, "ann", 1)
    assert (peer.keys_taken, peer.rekeys, peer.keys_since) == (True, 0, peer.joined_at)
    before = {peer.client_key, peer.server_key}
    peer.rekey_cause = "age"
    hub.renew_keys(peer, 77.0)
    after = {peer.client_key, peer.server_key}
    assert len(before | after) == 4
    assert {len(key) for key in after} == {peer.profile.master_bytes}
    assert (peer.keys_taken, peer.rekeys, peer.keys_since) == (False, 1, 77.0)
    assert [peer.rekey_cause] == [None]
    assert not any(key.hex() in repr(peer) or repr(key) in repr(peer) for key in after)
    hub.remove(peer)
    with pytest.raises(AssertionError):
        hub.renew_keys(peer, 78.0)


class EgressRecord(RuleBasedStateMachine):
    """No receiver ever hears two peers under one ssrc, however they come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = make_hub()
        self.heard: dict[int, dict[int, int]] = {}
        """Receiver's peer id -> egress ssrc -> the peer id it belonged to."""

    @rule(user=st.sampled_from("abcd"), ssrc=st.integers(1, 4))
    def toggle(self, user: str, ssrc: int) -> None:
        peer = self.hub.of(ROOM, UserId(user))
        if peer is not None:
            self.hub.remove(peer)
            del self.heard[peer.peer_id]
        else:
            peer = join(self.hub, user, ssrc)
            self.heard[peer.peer_id] = {}

    @rule(user=st.sampled_from("abcd"), back=st.integers(1, 3))
    def rejoin_with_a_recent_egress_ssrc(self, user: str, back: int) -> None:
        recent = [ssrc for heard in self.heard.values() for ssrc in heard]
        if recent and self.hub.of(ROOM, UserId(user)) is None:
            peer = join(self.hub, user, recent[-min(back, len(recent))])
            self.heard[peer.peer_id] = {}

    @invariant()
    def every_ssrc_has_one_owner(self) -> None:
        for listener in self.hub.peers_of(ROOM):
            for peer in self.hub.listeners_of(listener):
                owner = self.heard[listener.peer_id].setdefault(peer.egress_ssrc, peer.peer_id)
                assert owner == peer.peer_id

    @invariant()
    def the_server_reports_as_nobody(self) -> None:
        for listener in self.hub.peers_of(ROOM):
            assert self.heard[listener.peer_id].setdefault(listener.reporter_ssrc, 0) == 0
            assert listener.reporter_ssrc not in (0, listener.ssrc, listener.egress_ssrc)

    @invariant()
    def nobody_hears_its_own_ssrc(self) -> None:
        for listener in self.hub.peers_of(ROOM):
            assert all(peer.egress_ssrc != listener.ssrc for peer in self.hub.listeners_of(listener))


TestEgressRecord = EgressRecord.TestCase
TestEgressRecord.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
