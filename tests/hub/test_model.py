from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.hub.channels import Channel, ChannelHub
from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import MediaPeer
from livechat.hub.users import Session, SessionState, UserHub
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile
from tests.support.channels import make_facts
from tests.support.outlet import NullOutlet

USERS = st.sampled_from([UserId(name) for name in ("ann", "bob", "cyd")])
CHANNELS = st.sampled_from([ChannelId(name) for name in ("lobby", "hall", "cellar")])
SSRCS = st.none() | st.integers(1, 5).map(Ssrc)
SESSIONS_MAX = 12


class Hubs(RuleBasedStateMachine):
    """The three hubs, driven as handlers drive them, against plain sets of what should be so."""

    def __init__(self) -> None:
        super().__init__()
        self.users = UserHub()
        self.channels = ChannelHub()
        self.media = MediaPeerHub(random.Random(1).randbytes)
        self.begun = 0
        self.now = 0.0
        # The model: what every handler believes.
        self.live: list[Session] = []
        self.parked: list[Session] = []
        self.ended: list[Session] = []
        self.members: set[tuple[ChannelId, UserId]] = set()
        self.heard: set[tuple[ChannelId, Session]] = set()
        self.muted: set[tuple[ChannelId, Session]] = set()
        """Unsubscribed, parked sessions included."""
        self.looks: dict[Session, ChannelId] = {}
        """What a session has on its screen, parked ones included."""
        self.voices: dict[tuple[ChannelId, UserId], MediaPeer] = {}
        self.voice_sessions: dict[int, Session] = {}

    # --- what happens ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.live) + len(self.parked) < SESSIONS_MAX)
    @rule(user_id=USERS)
    def begin(self, user_id: UserId) -> None:
        self.begun += 1
        session = Session(SessionId(f"sess_{self.begun}"), user_id, self.now, outlet=NullOutlet())
        self.users.add(session)
        self.live.append(session)
        for channel_id in sorted(channel for channel, user in self.members if user == user_id):
            self.channels.admit(user_id, make_facts(channel_id), 0)
            self._subscribe(session, channel_id)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        session = self._take(self.live, data)
        heard = self.channels.detach(session)
        assert set(heard) == {channel_id for channel_id, other in self.heard if other is session}
        self.users.park(session, self.now, 0)
        self.heard = {(channel_id, other) for channel_id, other in self.heard if other is not session}
        self.parked.append(session)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        session = self._take(self.parked, data)
        self.users.revive(session, NullOutlet())
        self.channels.attach(session)
        self.live.append(session)
        memberships = {channel_id for channel_id, user_id in self.members if user_id == session.user_id}
        self.heard |= {(channel_id, session) for channel_id in memberships - session.unsubscribed}

    @precondition(lambda self: self.live or self.parked)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        sessions = self.live if self.live and (not self.parked or data.draw(st.booleans())) else self.parked
        session = self._take(sessions, data)
        self.channels.detach(session)
        for peer in self.media.of_session(session.session_id):
            self._end_voice(peer)
        self.heard = {(channel_id, other) for channel_id, other in self.heard if other is not session}
        self.muted = {(channel_id, other) for channel_id, other in self.muted if other is not session}
        self.looks.pop(session, None)
        was_last = self.users.end(session)
        assert was_last == (not any(other.user_id == session.user_id for other in self._present()))
        if was_last:
            self.channels.forget_user(session.user_id)
            self.members = {(channel, user) for channel, user in self.members if user != session.user_id}
        self.ended.append(session)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), channel_id=CHANNELS)
    def join(self, data: st.DataObject, channel_id: ChannelId) -> None:
        user_id = data.draw(st.sampled_from(self.live)).user_id
        self.channels.admit(user_id, make_facts(channel_id), 0)
        self.members.add((channel_id, user_id))
        for session in self.users.live_sessions_of(user_id):
            self._subscribe(session, channel_id)

    @rule(channel_id=CHANNELS, user_id=USERS)
    def remove_member(self, channel_id: ChannelId, user_id: UserId) -> None:
        peer = self.media.of(channel_id, user_id)
        if peer is not None:
            self._end_voice(peer)
        self.channels.remove_member(channel_id, user_id)
        self.members.discard((channel_id, user_id))
        for session in self._present():
            if session.user_id == user_id:
                self._leave(session, channel_id)

    @rule(channel_id=CHANNELS)
    def remove_channel(self, channel_id: ChannelId) -> None:
        for peer in list(self.media.peers_of(channel_id)):
            self._end_voice(peer)
        self.channels.remove_channel(channel_id)
        self.members = {(channel, user) for channel, user in self.members if channel != channel_id}
        for session in self._present():
            self._leave(session, channel_id)

    @precondition(lambda self: any(session.outlet for _, session in self.heard | self.muted))
    @rule(data=st.data(), wants=st.booleans())
    def subscribe_or_not(self, data: st.DataObject, wants: bool) -> None:
        channel_id, session = self._draw_place(data)
        if wants:
            self._subscribe(session, channel_id)
        else:
            self.channels.unsubscribe(session, channel_id)
            self.heard.discard((channel_id, session))
            self.muted.add((channel_id, session))

    @precondition(lambda self: any(session.outlet for _, session in self.heard | self.muted))
    @rule(data=st.data(), looks_away=st.booleans())
    def focus(self, data: st.DataObject, looks_away: bool) -> None:
        channel_id, session = self._draw_place(data)
        self.channels.focus(session, None if looks_away else channel_id)
        if looks_away:
            self.looks.pop(session, None)
        else:
            self.looks[session] = channel_id

    @precondition(lambda self: self.heard)
    @rule(data=st.data(), ssrc=SSRCS)
    def begin_voice(self, data: st.DataObject, ssrc: Ssrc | None) -> None:
        order = sorted(self.heard, key=lambda pair: (pair[0], pair[1].session_id))
        channel_id, session = data.draw(st.sampled_from(order))
        replaced = self.media.of(channel_id, session.user_id)
        if replaced is not None:
            self._end_voice(replaced)
        peer = self.media.add(
            channel_id,
            session.user_id,
            session.session_id,
            profile=SrtpProfile.AEAD_AES_128_GCM,
            now=self.now,
            ssrc=ssrc,
        )
        self.voices[channel_id, session.user_id] = peer
        self.voice_sessions[peer.peer_id] = session

    @precondition(lambda self: self.voices)
    @rule(data=st.data())
    def end_voice(self, data: st.DataObject) -> None:
        self._end_voice(self.voices[data.draw(st.sampled_from(sorted(self.voices)))])

    def _subscribe(self, session: Session, channel_id: ChannelId) -> None:
        self.channels.subscribe(session, channel_id)
        self.heard.add((channel_id, session))
        self.muted.discard((channel_id, session))

    def _leave(self, session: Session, channel_id: ChannelId) -> None:
        """Do as the fan-out does with every session of a user who is no member any more."""
        session.unsubscribed -= {channel_id}
        if session.focus == channel_id:
            session.focus = None
        self.heard.discard((channel_id, session))
        self.muted.discard((channel_id, session))
        if self.looks.get(session) == channel_id:
            del self.looks[session]

    def _draw_place(self, data: st.DataObject) -> tuple[ChannelId, Session]:
        """Draw a connected session and a channel that its user is a member of."""
        places = [place for place in self.heard | self.muted if place[1].outlet is not None]
        return data.draw(st.sampled_from(sorted(places, key=lambda place: (place[0], place[1].session_id))))

    def _end_voice(self, peer: MediaPeer) -> None:
        self.media.remove(peer)
        del self.voices[peer.channel_id, peer.user_id]

    def _take(self, sessions: list[Session], data: st.DataObject) -> Session:
        return sessions.pop(data.draw(st.integers(0, len(sessions) - 1)))

    def _present(self) -> list[Session]:
        return self.live + self.parked

    # --- what must always be so -------------------------------------------------------------------------

    @invariant()
    def sessions_are_where_they_belong(self) -> None:
        assert same(self.users, self._present())
        for session in self._present():
            assert self.users.get(session.session_id) is session
            assert session in list(self.users.sessions_of(session.user_id))
        assert all((s.state, s.outlet is not None) == (SessionState.LIVE, True) for s in self.live)
        assert all((s.state, s.outlet) == (SessionState.PARKED, None) for s in self.parked)

    @invariant()
    def ended_sessions_are_nowhere(self) -> None:
        for session in self.ended:
            assert (session.state, session.outlet) == (SessionState.ENDED, None)
            assert self.users.get(session.session_id) is None
            assert session not in list(self.users.sessions_of(session.user_id))
            assert not self.channels.channels_of(session)
            assert self.media.of_session(session.session_id) == []

    @invariant()
    def a_user_is_connected_while_a_session_is(self) -> None:
        for user_id in ("ann", "bob", "cyd"):
            live = [session for session in self.live if session.user_id == user_id]
            assert same(self.users.live_sessions_of(UserId(user_id)), live)
            assert self.users.is_connected(UserId(user_id)) == bool(live)

    @invariant()
    def members_are_users_with_sessions_and_found_both_ways(self) -> None:
        by_channel = {(channel.facts.channel_id, user) for channel in self.channels for user in channel.members}
        by_user = {
            (channel_id, UserId(user))
            for user in ("ann", "bob", "cyd")
            for channel_id in self.channels.memberships(UserId(user))
        }
        assert by_channel == by_user == self.members
        assert {user for _, user in by_channel} <= {session.user_id for session in self._present()}
        assert all(self.channels.is_member(channel_id, user_id) for channel_id, user_id in self.members)

    @invariant()
    def subscribers_are_connected_members_and_found_both_ways(self) -> None:
        by_channel = {
            (channel.facts.channel_id, session) for channel in self.channels for session in channel.subscribers
        }
        by_session = {(channel_id, s) for s in self._present() for channel_id in self.channels.channels_of(s)}
        assert by_channel == by_session == self.heard
        for channel_id, session in by_channel:
            assert session.outlet is not None
            assert self.channels.is_member(channel_id, session.user_id)
            assert session in self.channels.recipients(channel_id)
            assert session not in self.channels.recipients(channel_id, session)

    @invariant()
    def a_connected_session_either_hears_a_channel_of_its_user_or_is_unsubscribed(self) -> None:
        unsubscribed = {(c.facts.channel_id, session) for c in self.channels for session in c.unsubscribed}
        assert unsubscribed == {place for place in self.muted if place[1].outlet is not None}
        assert self.muted == {(channel_id, s) for s in self._present() for channel_id in s.unsubscribed}
        places = {
            (channel_id, session)
            for channel_id, user_id in self.members
            for session in self.live
            if session.user_id == user_id
        }
        assert self.heard | unsubscribed == places
        assert not self.heard & unsubscribed

    @invariant()
    def a_session_looks_at_one_channel_and_is_found_there_while_it_is_connected(self) -> None:
        assert {s: s.focus for s in self._present() if s.focus is not None} == self.looks
        focused = {(c.facts.channel_id, session) for c in self.channels for session in self.focused_in(c)}
        assert focused == {(channel_id, s) for s, channel_id in self.looks.items() if s.outlet is not None}

    def focused_in(self, channel: Channel) -> list[Session]:
        sessions = self.channels.focused(channel.facts.channel_id)
        assert sessions == list(channel.focused)
        return sessions

    @invariant()
    def users_know_those_they_share_a_channel_with(self) -> None:
        for user_id in {user for _, user in self.members}:
            mine = {channel_id for channel_id, user in self.members if user == user_id}
            known = {user for channel_id, user in self.members if channel_id in mine} - {user_id}
            assert self.channels.acquaintances(user_id) == known

    @invariant()
    def voices_are_found_by_ssrc_channel_user_and_session(self) -> None:
        voices = list(self.voices.values())
        assert same(self.media, voices)
        assert len({peer.ssrc for peer in voices}) == len(voices)
        for (channel_id, user_id), peer in self.voices.items():
            assert self.media.by_ssrc(peer.ssrc) is peer
            assert self.media.of(channel_id, user_id) is peer
            session = self.voice_sessions[peer.peer_id]
            assert peer in self.media.of_session(session.session_id)
            assert session.state is not SessionState.ENDED
        for peer_ssrc in range(6):
            found = self.media.by_ssrc(peer_ssrc)
            assert found is None or found in voices
        for channel in ("lobby", "hall", "cellar"):
            here = [peer for peer in voices if peer.channel_id == channel]
            assert same(self.media.peers_of(ChannelId(channel)), here)
            assert len({peer.egress_ssrc for peer in here}) == len(here)

    @invariant()
    def no_empty_entry_is_left_behind(self) -> None:
        assert all(self.users._by_user.values())
        assert all(self.channels._by_user.values())
        assert all(self.channels._by_session.values())
        assert all(channel.members for channel in self.channels)
        assert all(self.media._by_session.values())
        assert all(channel.peers for channel in self.media._channels.values())

    def teardown(self) -> None:
        """Once everybody has gone, nothing is left in any hub."""
        for session in self._present():
            self.channels.detach(session)
            for peer in self.media.of_session(session.session_id):
                self.media.remove(peer)
            if self.users.end(session):
                self.channels.forget_user(session.user_id)
        for user_id in ("ann", "bob", "cyd"):
            self.channels.settle(UserId(user_id))
        for index in (
            self.users._by_id,
            self.users._by_user,
            self.channels._channels,
            self.channels._by_user,
            self.channels._by_session,
            self.channels._gone,
            self.media._by_ssrc,
            self.media._by_session,
            self.media._channels,
        ):
            assert not index


def same(found: Iterable[object], expected: Iterable[object]) -> bool:
    """Tell whether exactly the expected objects were found, each once."""
    return sorted(map(id, found)) == sorted(map(id, expected))


TestHubs = Hubs.TestCase
TestHubs.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
