"""Keys that change while libsrtp peers talk and listen over real sockets, and what clients are told of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
from pylibsrtp import Error, Session

import livechat
from livechat.handlers import rekey
from livechat.handlers.media_events import NodeMediaEvents
from livechat.hub.peer import MediaPeer
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import header_length_untrusted
from livechat.srtp.profile import SrtpProfile
from tests.integration.test_voice import Phone, dropped, phone_of
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    JOIN,
    LEAVE,
    MEDIA_UPDATE,
    Client,
    connected,
    identified,
)
from tests.support.resume import park, resumed
from tests.support.server import DEADLINE_S, running_server, wait_until
from tests.support.voice import libsrtp_receiver, libsrtp_sender, rtp_packet

PACKET_S = 0.02
"""50 packets a second."""
FAMILIES = ["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"]


class Handset:
    """A phone whose keys change: it opens by the newest and by those before."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.heard: list[tuple[int, int, bytes]] = []
        """(ssrc, sequence number, payload) of each packet."""
        self._receivers: list[Session] = [phone.receiver]

    def take(self, update: dict[str, Any]) -> None:
        """Go over to the keys of a MEDIA_UPDATE, by new libsrtp sessions: they count from rollover count 0."""
        media = update["media"]
        assert media["ssrc"] == self.phone.ssrc
        self.phone.server = (media["host"], media["port"])
        profile = SrtpProfile(media["profile"])
        self.phone.sender = libsrtp_sender(profile, base64.b64decode(media["client_key"]))
        newer = libsrtp_receiver(profile, base64.b64decode(media["server_key"]))
        self.phone.receiver = newer
        self._receivers = [newer, self._receivers[0]]

    async def listen(self) -> None:
        """Hear SRTP until cancelled; RTCP is opened as well, and nothing may come that neither keys open."""
        while True:
            packet = (await self.phone.socket.recvfrom(2048))[0]
            if classify(packet) is Kind.RTCP:
                self._open(packet, "unprotect_rtcp")
                continue
            plain = self._open(packet, "unprotect")
            length = header_length_untrusted(plain)
            ssrc, sequence = int.from_bytes(plain[8:12], "big"), int.from_bytes(plain[2:4], "big")
            self.heard.append((ssrc, sequence, plain[length:]))

    def _open(self, packet: bytes, method: str) -> bytes:
        *newer, oldest = self._receivers
        for receiver in newer:
            try:
                opened: bytes = getattr(receiver, method)(packet)
            except Error:
                continue
            return opened
        return bytes(getattr(oldest, method)(packet))

    def payloads_of(self, ssrc: int) -> list[bytes]:
        """Return what was heard of one talker."""
        return [payload for each, _, payload in self.heard if each == ssrc]


def settings(*, overlap_ms: int = 400, after_ms: int = 0) -> livechat.MediaSettings:
    return livechat.MediaSettings(rekey_overlap_ms=overlap_ms, rekey_after_ms=after_ms)


def peer_of(server: livechat.Server, user: str) -> MediaPeer:
    peer = server._node.media.hub.of(ChannelId("x"), UserId(user))
    assert peer is not None
    return peer


@asynccontextmanager
async def voice(server: livechat.Server, user: str, **fields: Any) -> AsyncGenerator[tuple[Client, Handset]]:
    """A user with a voice in `x`."""
    async with identified(server, user) as client:
        reply = await client.request(CREATE, {"channel_id": "x"})
        assert reply["op"] in (200, 201)
        fields.setdefault("media", {"profiles": FAMILIES})
        async with phone_of(client, "x", **fields) as phone:
            yield client, Handset(phone)


async def media_update(client: Client) -> dict[str, Any]:
    """Return the next MEDIA_UPDATE; other events before it are passed over."""
    while True:
        packet = await client.receive()
        if packet["op"] == MEDIA_UPDATE:
            update: dict[str, Any] = packet["d"]
            assert update["channel_id"] == "x"
            return update


# --- at 50 packets a second -----------------------------------------------------------------------


@pytest.mark.parametrize("profile", FAMILIES)
async def test_nothing_is_lost_at_50_packets_a_second_while_all_keys_change(profile: str, tmp_path: Path) -> None:
    media = {"profiles": [profile]}
    async with (
        running_server(tmp_path, media=settings(overlap_ms=4000)) as server,
        voice(server, "alice", ssrc=1111, media=media) as (alice, one),
        voice(server, "bob", ssrc=2222, media=media) as (bob, other),
        # Carol says nothing at all, not even by RTCP: she has stated where she listens.
        voice(server, "carol", media=media, state_address=True) as (carol, silent),
        trio.open_nursery() as nursery,
    ):
        for handset in (one, other, silent):
            nursery.start_soon(handset.listen)
        # All know where the others are, and what is sent from here on must be heard.
        await one.phone.keep_alive()
        await other.phone.keep_alive()
        await wait_until(lambda: all(peer.address for peer in server._node.media.hub))
        for number in range(160):
            # The rollover comes before the keys change, so that theirs and ours differ.
            for handset in (one, other):
                await handset.phone.talk(65_516 + number, str(number).encode())
            if number == 30:
                assert server.rekey("x") == 3
            if number == 32:
                for client, handset in ((alice, one), (bob, other), (carol, silent)):
                    update = await media_update(client)
                    assert update["cause"] == "demand"
                    handset.take(update)
            await trio.sleep(PACKET_S)
        sent = [str(number).encode() for number in range(160)]
        with trio.fail_after(DEADLINE_S):
            while len(silent.heard) < 320 or len(one.heard) < 160 or len(other.heard) < 160:  # noqa: ASYNC110
                await trio.sleep(PACKET_S)
        assert one.payloads_of(2222) == other.payloads_of(1111) == sent
        for ssrc in (1111, 2222):
            assert silent.payloads_of(ssrc) == sent
            numbers = [sequence for each, sequence, _ in silent.heard if each == ssrc]
            assert numbers == list(range(numbers[0], numbers[0] + 160))
        counters = dropped(server)
        assert counters.get("authentication", 0) == counters.get("replay", 0) == 0
        # Everybody's are taken but those of who never sends; she was switched by the time that had passed.
        assert server._node.instruments.counters.rekeys["demand"] == 3
        assert [peer_of(server, user).keys_taken for user in ("alice", "bob", "carol")] == [True, True, False]
        nursery.cancel_scope.cancel()


async def test_old_keys_are_refused_after_the_overlap_and_new_ones_are_good(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=100)) as server,
        voice(server, "alice", ssrc=1111) as (alice, talker),
        voice(server, "bob", state_address=True) as (_, listener),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listener.listen)
        assert server.rekey("x", "alice") == 1
        update = await media_update(alice)
        sequence = 0
        while not dropped(server).get("authentication"):
            sequence += 1
            await talker.phone.talk(sequence, b"old")
            await trio.sleep(PACKET_S)
        before = server.statistics()["media"]["rtp_accepted"]
        refused = [talker.phone.sender.protect(rtp_packet(sequence + 1 + number, 1111)) for number in range(5)]
        for packet in refused:
            await talker.phone.socket.sendto(packet, talker.phone.server)
        await wait_until(lambda: dropped(server)["authentication"] >= 6)
        assert server.statistics()["media"]["rtp_accepted"] == before
        talker.take(update)
        await talker.phone.talk(sequence + 10, b"new")
        await wait_until(lambda: listener.payloads_of(1111)[-1:] == [b"new"])
        nursery.cancel_scope.cancel()


async def test_keys_change_by_age_again_and_again(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=60, after_ms=150)) as server,
        voice(server, "alice", ssrc=1111) as (alice, talker),
        voice(server, "bob", state_address=True),
        trio.open_nursery() as nursery,
    ):
        told: list[dict[str, Any]] = []

        async def update() -> None:
            while True:
                told.append(await media_update(alice))
                talker.take(told[-1])

        nursery.start_soon(update)
        number = 0
        with trio.fail_after(DEADLINE_S):
            while len(told) < 4:
                number += 1
                await talker.phone.talk(number, str(number).encode())
                await trio.sleep(PACKET_S)
        assert {each["cause"] for each in told} == {"age"}
        assert len({each["media"]["client_key"] for each in told}) == len(told)
        assert len({each["media"]["server_key"] for each in told}) == len(told)
        await wait_until(lambda: server._node.instruments.counters.rekeys["age"] >= 8)
        assert peer_of(server, "bob").rekeys > 1
        nursery.cancel_scope.cancel()


async def test_keys_of_one_hour_do_not_all_change_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path, media=settings(after_ms=1_000_000)) as server:
        node, profile = server._node, SrtpProfile.AEAD_AES_128_GCM
        peers = [
            node.media.hub.add(ChannelId("x"), UserId(f"u{n}"), SessionId("sess_x"), profile=profile, now=50.0)
            for n in range(100)
        ]
        due = sorted(rekey.old_at(node, peer) - 50.0 for peer in peers)
        assert 750.0 <= due[0] < due[-1] <= 1000.0
        assert max(after - before for before, after in pairwise(due)) < 250.0 / 30
        peers[0].rekey_cause = "demand"
        assert rekey.old_at(node, peers[0]) == inf
    async with running_server(tmp_path, media=settings(after_ms=0)) as server:
        assert rekey.old_at(server._node, peers[1]) == inf


async def test_a_large_channel_is_rekeyed_a_few_voices_at_a_time(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        hub, profile = server._node.media.hub, SrtpProfile.AEAD_AES_128_GCM
        peers = [
            hub.add(ChannelId("x"), UserId(f"u{n}"), SessionId("sess_x"), profile=profile, now=0.0)
            for n in range(11)
        ]
        assert server.rekey("x") == 11
        # None of them has a connection, so it is only noted, in the same pieces.
        assert [peer.rekey_cause for peer in peers] == ["demand"] * rekey.AT_ONCE + [None] * (11 - rekey.AT_ONCE)
        hub.remove(peers.pop())
        await wait_until(lambda: all(peer.rekey_cause == "demand" for peer in peers))


# --- whom it is told ------------------------------------------------------------------------------


async def test_a_parked_session_keeps_its_keys_until_it_is_resumed(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings()) as server,
        voice(server, "bob", state_address=True) as (bob, listener),
        voice(server, "alice", ssrc=1111) as (alice, talker),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listener.listen)
        session_id = await park(server, alice)
        key = peer_of(server, "alice").client_key
        assert server.rekey("x") == 2
        listener.take(await media_update(bob))
        assert peer_of(server, "alice").client_key == key
        await talker.phone.talk(1, b"while away")
        await wait_until(lambda: listener.payloads_of(1111) == [b"while away"])
        async with connected(server) as again:
            before, _ = await resumed(again, session_id)
            assert MEDIA_UPDATE not in [packet["op"] for packet in before]
            # It comes right after.
            update = await again.expect(MEDIA_UPDATE)
            assert update["cause"] == "demand"
            talker.take(update)
            await talker.phone.talk(2, b"under the new")
            await wait_until(lambda: listener.payloads_of(1111)[1:] == [b"under the new"])
            await again.expect_silence()
        nursery.cancel_scope.cancel()


async def test_keys_that_a_client_never_took_change_once_more_when_it_resumes(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=150)) as server,
        voice(server, "alice", ssrc=1111) as (alice, talker),
    ):
        server.rekey("x")
        lost = await media_update(alice)
        session_id = await park(server, alice)
        async with connected(server) as again:
            await resumed(again, session_id)
            update = await media_update(again)
            assert update["cause"] == "resumed"
            assert update["media"]["client_key"] != lost["media"]["client_key"]
            talker.take(update)
            await talker.phone.talk(1)
            await wait_until(lambda: peer_of(server, "alice").keys_taken)
            again.ready = {"session_id": session_id}
            await park(server, again)
        async with connected(server) as again:
            # These it has, so nothing has to be told.
            await resumed(again, session_id)
            await again.expect_silence()


async def test_a_client_that_did_get_the_update_before_it_was_parked_is_told_no_more(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=1500)) as server,
        voice(server, "alice", ssrc=1111) as (alice, talker),
    ):
        server.rekey("x")
        talker.take(await media_update(alice))
        session_id = await park(server, alice)
        async with connected(server) as again:
            await resumed(again, session_id)
            peer = peer_of(server, "alice")
            await talker.phone.talk(1)
            await wait_until(lambda: peer.keys_taken)
            await wait_until(lambda: peer.rekey_cause is None)
            await again.expect_silence()
            assert peer.rekeys == 1


async def test_a_change_waits_for_the_one_before_and_asked_for_twice_is_done_once(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=1000)) as server,
        voice(server, "alice", ssrc=1111) as (alice, _),
    ):
        assert [server.rekey("x"), server.rekey("x"), server.rekey("x", "alice")] == [1, 1, 1]
        first = await media_update(alice)
        await alice.expect_silence()
        second = await media_update(alice)
        assert first["media"]["client_key"] != second["media"]["client_key"]
        assert peer_of(server, "alice").rekeys == 2
        assert (server.rekey("x", "nobody"), server.rekey("nowhere")) == (0, 0)


async def test_a_voice_that_ends_before_its_change_is_left_alone(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=1000)) as server,
        voice(server, "alice", ssrc=1111) as (alice, _),
    ):
        server.rekey("x")
        server.rekey("x")
        ended = peer_of(server, "alice")
        await media_update(alice)
        await alice.ack(LEAVE, {"channel_id": "x"})
        counters = server._node.instruments.counters
        await wait_until(lambda: server._node.now() > ended.older_keys_until + 0.1)
        assert (ended.rekeys, counters.rekeys["demand"]) == (1, 1)


async def test_worn_keys_change(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, voice(server, "alice") as (alice, _):
        NodeMediaEvents(server._node).keys_worn(peer_of(server, "alice"))
        assert (await media_update(alice))["cause"] == "worn"


async def test_whoever_moves_gets_new_keys_at_once_connected_or_not(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        voice(server, "alice") as (alice, _),
        voice(server, "bob") as (bob, _),
    ):
        events, peers = NodeMediaEvents(server._node), [peer_of(server, "alice"), peer_of(server, "bob")]
        keys = [(peer.client_key, peer.server_key) for peer in peers]
        session_id = await park(server, bob)
        events.moved(peers)
        update = await media_update(alice)
        assert (update["cause"], base64.b64decode(update["media"]["client_key"])) == ("moved", peers[0].client_key)
        for peer, before in zip(peers, keys, strict=True):
            assert not {peer.client_key, peer.server_key} & set(before)
        async with connected(server) as again:
            await resumed(again, session_id)
            assert (await media_update(again))["cause"] == "resumed"


async def test_keys_are_not_told_where_others_may_listen(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        voice(server, "alice") as (alice, _),
        voice(server, "bob") as (bob, _),
    ):
        session = server._node.users.get(alice.ready["session_id"])
        assert session is not None
        assert session.outlet is not None
        session.outlet.is_confidential = False  # type: ignore[misc]  # as after a RESUME without TLS
        peer = peer_of(server, "alice")
        key = peer.client_key
        assert server.rekey("x", "alice") == 1
        await alice.expect(CHANNEL_EVENT)
        await alice.expect_silence()
        assert peer.client_key == key
        # Who relays for it is gone: it cannot go on, and is told so.
        NodeMediaEvents(server._node).moved([peer, peer_of(server, "bob")])
        assert await alice.expect(MEDIA_UPDATE) == {"channel_id": "x", "cause": "moved"}
        ended = await alice.expect(CHANNEL_EVENT)
        assert (ended["event"], ended["cause"]) == ("voice_leave", "forbidden")
        assert peer.is_ended
        assert (await media_update(bob))["media"]["ssrc"] == peer_of(server, "bob").ssrc


# --- whoever has left -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["leave", "rejoin", "kick", "takeover"])
async def test_the_keys_of_who_left_open_nothing_that_comes_later(way: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        voice(server, "alice", ssrc=1111) as (alice, talker),
        voice(server, "bob", state_address=True) as (_, listener),
        voice(server, "eve", state_address=True) as (eve, gone),
        identified(server, "eve") as eve_too,
    ):
        await talker.phone.talk(1, b"for all")
        assert (await gone.phone.hear())[2] == b"for all"
        await listener.phone.hear()
        match way:
            case "leave":
                await eve.ack(LEAVE, {"channel_id": "x"})
            case "rejoin":
                await eve.ack(JOIN, {"channel_id": "x", "media": {}})
            case "takeover":
                await eve_too.ack(JOIN, {"channel_id": "x", "media": {}})
            case "kick":
                server.revoke(user_id="eve", is_kicked=True)
        later = []
        for number in range(2, 12):
            await talker.phone.talk(number, b"not for eve")
            while classify(packet := await listener.phone.receive()) is Kind.RTCP:
                pass  # the BYE of who left, say
            later.append(packet)
        for packet in later:
            with pytest.raises(Error):
                gone.phone.receiver.unprotect(packet)
        # Nor is what eve says under them heard by anybody.
        accepted = server.statistics()["media"]["rtp_accepted"]
        await gone.phone.talk(1, b"from beyond")
        await wait_until(
            lambda: dropped(server).get("unknown_ssrc", 0) + dropped(server).get("authentication", 0) == 1
        )
        assert server.statistics()["media"]["rtp_accepted"] == accepted
        await alice.say("x", "still here")
