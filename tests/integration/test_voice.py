"""Voice over a real UDP socket between libsrtp peers that joined over the gateway."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from pylibsrtp import Session

import livechat
from livechat.rtp import extensions, rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import header_length_untrusted
from livechat.srtp.profile import SrtpProfile
from tests.support.client import CHANNEL_EVENT, CREATE, INFO, JOIN, LEAVE, Client, identified
from tests.support.server import DEADLINE_S, counted, make_config, running_server, wait_until
from tests.support.voice import libsrtp_receiver, libsrtp_sender, rtp_packet, sender_report

PROFILES = [profile.value for profile in SrtpProfile]


class Phone:
    """A UDP socket with the keys of one CHANNEL_JOIN, on libsrtp."""

    def __init__(self, socket: trio.socket.SocketType, media: dict[str, Any]) -> None:
        self.socket = socket
        self.ssrc: int = media["ssrc"]
        self.server = (media["host"], media["port"])
        profile = SrtpProfile(media["profile"])
        self.sender: Session = libsrtp_sender(profile, base64.b64decode(media["client_key"]))
        self.receiver: Session = libsrtp_receiver(profile, base64.b64decode(media["server_key"]))

    async def talk(self, sequence: int, payload: bytes = b"speech", *, level: int | None = None) -> bytes:
        """Send one packet, with an audio level or without; return it as it went."""
        extension = None if level is None else extensions.serialize([(1, bytes([level]))])
        packet = self.sender.protect(rtp_packet(sequence, self.ssrc, payload, extension=extension))
        await self.socket.sendto(packet, self.server)
        return packet

    async def keep_alive(self) -> None:
        """Send an RTCP RR, as a listener does; the server learns our address from it."""
        report = rtcp.serialize_compound((rtcp.ReceiverReport(self.ssrc),))
        await self.socket.sendto(self.sender.protect_rtcp(report), self.server)

    async def receive(self) -> bytes:
        """Return the next datagram."""
        with trio.fail_after(DEADLINE_S):
            datagram: bytes = (await self.socket.recvfrom(2048))[0]
            return datagram

    async def hear(self) -> tuple[int, int, bytes]:
        """Return the next SRTP packet, unprotected: (ssrc, sequence number, payload)."""
        while classify(packet := await self.receive()) is Kind.RTCP:
            self.receiver.unprotect_rtcp(packet)
        plain = self.receiver.unprotect(packet)
        length = header_length_untrusted(plain)
        return int.from_bytes(plain[8:12], "big"), int.from_bytes(plain[2:4], "big"), plain[length:]


@asynccontextmanager
async def phone_of(
    client: Client, channel_id: str, *, state_address: bool = False, **fields: Any
) -> AsyncGenerator[Phone]:
    """Join with voice and open a phone."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        media: dict[str, Any] = fields.pop("media", {})
        if state_address:
            media = {**media, "address": {"host": "127.0.0.1", "port": socket.getsockname()[1]}}
        if media:
            fields["media"] = media
        joined = await client.ack(JOIN, {"channel_id": channel_id, **fields})
        yield Phone(socket, joined["media"])


@asynccontextmanager
async def talker_and_listener(
    server: livechat.Server, profile: str
) -> AsyncGenerator[tuple[Client, Client, Phone, Phone]]:
    """Alice talks in `x`, Bob has stated where he listens."""
    media = {"profiles": ["NONE_SUCH", profile]}
    async with identified(server, "alice") as alice, identified(server, "bob") as bob:
        await alice.ack(CREATE, {"channel_id": "x"})
        async with (
            phone_of(alice, "x", ssrc=1111, media=media) as talker,
            phone_of(bob, "x", media=media, state_address=True) as listener,
        ):
            await alice.expect(CHANNEL_EVENT)
            yield alice, bob, talker, listener


def dropped(server: livechat.Server) -> dict[str, float]:
    """Return the relay's counters that are not zero."""
    return {name: count for name, count in server.statistics()["media"].items() if count}


@pytest.mark.parametrize("profile", PROFILES)
async def test_libsrtp_peers_hear_each_other(profile: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, profile) as (_, _, talker, listener),
    ):
        payloads = [os.urandom(20 + index) for index in range(50)]
        first = None
        for index, payload in enumerate(payloads):
            await talker.talk(65_500 + index, payload)
            ssrc, sequence, heard = await listener.hear()
            first = sequence if first is None else first
            assert (ssrc, heard) == (1111, payload)
            assert sequence == first + index
            assert 1000 <= first < 2**15
        # And back: who listened so far may talk as well.
        await listener.talk(1, b"answer")
        assert (await talker.hear())[2] == b"answer"


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_late_joiner_decrypts_from_its_first_packet_after_a_wrap(profile: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, profile) as (_, _, talker, listener),
    ):
        for sequence in range(40_000, 40_000 + 70_000, 700):
            await talker.talk(sequence)
            await listener.hear()
        async with (
            identified(server, "carol") as carol,
            phone_of(carol, "x", media={"profiles": [profile]}) as late,
        ):
            await late.keep_alive()
            await wait_until(lambda: server.statistics()["media"]["keepalive"] == 1)
            await talker.talk(40_000 + 70_000, b"for all")
            assert (await late.hear())[2] == b"for all"
            assert (await listener.hear())[2] == b"for all"


async def test_a_forgery_or_replay_from_elsewhere_moves_nothing(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]) as (_, _, talker, listener),
    ):
        old = await talker.talk(1)
        await listener.hear()
        await talker.talk(3)
        await listener.hear()
        held_back = talker.sender.protect(rtp_packet(2, 1111))
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as thief:
            await thief.bind(("127.0.0.1", 0))
            forged = rtp_packet(4, 1111, b"forged") + bytes(10)
            for datagram in (old, forged, b"", b"\x80", os.urandom(100), bytes(20) + b"\x00", forged[:11]):
                await thief.sendto(datagram, talker.server)
            # Authentic, but older than what was heard: it is relayed, yet says nothing of where the talker is.
            await thief.sendto(held_back, talker.server)
            assert (await listener.hear())[1] >= 1000
            await listener.talk(1, b"to the talker")
            assert (await talker.hear())[2] == b"to the talker"
        await wait_until(lambda: dropped(server).get("replay") == 1)
        counters = dropped(server)
        assert counters["authentication"] == 1
        assert counters["peers"] == 2


async def test_a_talker_that_moved_is_followed_with_its_next_packet(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[2]) as (_, _, talker, listener),
    ):
        await talker.talk(1)
        await listener.hear()
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as elsewhere:
            await elsewhere.bind(("127.0.0.1", 0))
            talker.socket = elsewhere
            await talker.talk(2)
            await listener.hear()
            await listener.talk(7, b"found you")
            assert (await talker.hear())[2] == b"found you"


async def test_reports_and_goodbyes_are_relayed(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]) as (alice, bob, talker, listener),
    ):
        report = rtcp.serialize_compound((sender_report(1111),))
        await talker.socket.sendto(talker.sender.protect_rtcp(report), talker.server)
        heard = rtcp.parse_compound_untrusted(listener.receiver.unprotect_rtcp(await listener.receive()))
        assert isinstance(heard[0], rtcp.SenderReport)
        assert heard[0].ssrc == 1111
        await alice.ack(LEAVE, {"channel_id": "x"})
        assert (await bob.expect(CHANNEL_EVENT))["member"] == {"user_id": "alice", "ssrc": 1111}
        heard = rtcp.parse_compound_untrusted(listener.receiver.unprotect_rtcp(await listener.receive()))
        assert isinstance(heard[-1], rtcp.Goodbye)
        await talker.talk(9)
        await wait_until(lambda: server.statistics()["media"]["unknown_ssrc"] == 1)


async def test_a_newer_session_takes_voice_over(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]) as (alice, bob, talker, listener),
        identified(server, "alice") as alice_too,
        phone_of(alice_too, "x", ssrc=1111) as phone,
    ):
        # The client's own ssrc is kept for sending; what others hear was never used under their keys.
        assert phone.ssrc == 1111
        gone = {"event": "voice_leave", "channel_id": "x", "cause": "moved"}
        gone["member"] = {"user_id": "alice", "ssrc": 1111}  # type: ignore[assignment]
        assert await bob.expect(CHANNEL_EVENT) == gone
        assert await alice.expect(CHANNEL_EVENT) == gone
        came = await bob.expect(CHANNEL_EVENT)
        assert came["event"] == "voice_join"
        assert came["member"]["ssrc"] != 1111
        await phone.talk(1, b"from the new one")
        ssrc, _, payload = await listener.hear()
        assert (ssrc, payload) == (came["member"]["ssrc"], b"from the new one")
        await talker.talk(5)
        await wait_until(lambda: dropped(server).get("authentication") == 1)
        assert (await bob.ack(INFO, {"channel_id": "x"}))["peers"] == [
            {"user_id": "bob", "ssrc": listener.ssrc},
            {"user_id": "alice", "ssrc": came["member"]["ssrc"]},
        ]


async def test_an_ssrc_in_use_is_replaced_unless_the_client_insists(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]),
        identified(server, "carol") as carol,
    ):
        tracks = [{"kind": "audio", "ssrc": 1111}]
        assert (await carol.refused(JOIN, {"channel_id": "x", "tracks": tracks}))["code"] == 2006
        assert (await carol.ack(INFO, {"channel_id": "x"}))["member_count"] == 2
        media = (await carol.ack(JOIN, {"channel_id": "x", "ssrc": 1111}))["media"]
        assert media["ssrc"] != 1111


async def test_a_silent_peer_ends_and_the_channel_is_told(tmp_path: Path) -> None:
    media = livechat.MediaSettings(peer_timeout_ms=300)
    async with (
        running_server(tmp_path, media=media) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        async with phone_of(alice, "x", ssrc=5), phone_of(bob, "x", state_address=True):
            assert (await alice.expect(CHANNEL_EVENT))["event"] == "join"
            for client in (alice, bob):
                ended = await client.expect(CHANNEL_EVENT)
                assert (ended["event"], ended["cause"]) == ("voice_leave", "timeout")
                assert ended["member"] == {"user_id": "alice", "ssrc": 5}
            # Bob stated his address and never sent: he listens as long as his session lives.
            assert counted(server)["peers"] == 1
            assert (await alice.ack(INFO, {"channel_id": "x"}))["member_count"] == 2


@pytest.mark.parametrize(
    "media",
    [
        {"profiles": ["NULL_HMAC_SHA1_80"]},
        {"address": {"host": "192.0.2.1", "port": 5000}},
    ],
    ids=["no common profile", "foreign address"],
)
async def test_what_cannot_be_is_refused_before_anything_is_joined(media: dict[str, Any], tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        for extra in ({"media": media}, {"sdp_offer": "v=0"}):
            assert (await alice.refused(JOIN, {"channel_id": "x", **extra}))["code"] == 2007
        assert (await alice.ack(INFO, {"channel_id": "x"}))["member_count"] == 0


@pytest.mark.parametrize(("scheme", "allowed"), [("http", False), ("https", True)])
async def test_keys_are_not_told_in_the_clear(scheme: str, allowed: bool, tmp_path: Path) -> None:
    # The proxy that we trust says that the client is far away, and how it came.
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": scheme}
    gateway = {"trusted_proxies": ("127.0.0.1",)}
    async with (
        running_server(tmp_path, gateway=gateway) as server,
        identified(server, "alice", headers=headers) as alice,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        join = {"channel_id": "x", "media": {"address": {"host": "203.0.113.9", "port": 9}}}
        if allowed:
            await alice.ack(JOIN, join)
        else:
            assert (await alice.refused(JOIN, join))["code"] == 2007


async def test_clients_are_told_where_media_goes(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, advertise_host="voice.example") as server,
        identified(server, "alice") as alice,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        media = (await alice.ack(JOIN, {"channel_id": "x", "ssrc": 1}))["media"]
        assert (media["host"], media["port"]) == ("voice.example", server.addresses.udp[1])
        assert (media["profile"], media["rtcp_mux"]) == ("AES_CM_128_HMAC_SHA1_80", True)
        assert len(base64.b64decode(media["client_key"])) == len(base64.b64decode(media["server_key"])) == 30
        assert media["client_key"] != media["server_key"]


async def test_on_every_address_ipv4_peers_hear_each_other_too(tmp_path: Path) -> None:
    config = attrs.evolve(make_config(tmp_path), host="::", secret="correct horse battery staple")
    async with livechat.open_server(config) as server:
        url = f"ws://127.0.0.1:{server.addresses.tcp[0][1]}/ws"
        async with (
            identified(url, "alice", token="correct horse battery staple") as alice,
            identified(url, "bob", token="correct horse battery staple") as bob,
        ):
            await alice.ack(CREATE, {"channel_id": "x"})
            async with phone_of(alice, "x", ssrc=1) as talker, phone_of(bob, "x", state_address=True) as listener:
                assert talker.server == ("127.0.0.1", server.addresses.udp[1])
                await talker.talk(1, b"over IPv4")
                assert (await listener.hear())[2] == b"over IPv4"
                await listener.talk(1, b"and back")
                assert (await talker.hear())[2] == b"and back"


async def test_an_address_that_the_media_socket_cannot_reach_is_refused(tmp_path: Path) -> None:
    headers = {"X-Forwarded-For": "2001:db8::1", "X-Forwarded-Proto": "https"}
    gateway = {"trusted_proxies": ("127.0.0.1",)}
    async with (
        running_server(tmp_path, gateway=gateway) as server,
        identified(server, "alice", headers=headers) as alice,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        join = {"channel_id": "x", "media": {"address": {"host": "2001:db8::1", "port": 9}}}
        assert (await alice.refused(JOIN, join))["code"] == 2007
