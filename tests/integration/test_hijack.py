"""Who has no keys gets no voice, moves nobody and is not answered: over the real socket, with libsrtp peers."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import livechat
from livechat.rtp import rtcp
from livechat.srtp.profile import SrtpProfile
from tests.integration.test_voice import Phone, phone_of, talker_and_listener
from tests.support.client import CREATE, JOIN, identified
from tests.support.server import running_server, wait_until
from tests.support.voice import rtp_packet, sender_report

PROFILES = [profile.value for profile in SrtpProfile]
each_profile = pytest.mark.parametrize("profile", PROFILES)
FLOOD = 4000
BURST = 100
"""Datagrams between two looks at what has arrived: fewer than a socket's buffer holds."""
BINDING_REQUEST = bytes.fromhex("000100002112a442") + bytes(12)
CLIENT_HELLO = bytes.fromhex("16feff0000000000000000") + (200).to_bytes(2, "big") + bytes(200)


class Thief:
    """A socket without keys."""

    def __init__(self, sock: socket.socket, server: livechat.Server, target: tuple[str, int]) -> None:
        self._socket = sock
        self._server = server
        self._target = target

    async def send(self, *datagrams: bytes) -> None:
        """Send datagrams, and wait until the relay has taken them all."""
        for start in range(0, len(datagrams), BURST):
            burst = datagrams[start : start + BURST]
            expected = self._received() + len(burst)
            for datagram in burst:
                self._socket.sendto(datagram, self._target)
            await wait_until(lambda least=expected: self._received() >= least)

    def _received(self) -> float:
        return self._server.statistics()["media"]["received"]

    def assert_nothing_came(self) -> None:
        """Assert that no byte was sent to it up to now."""
        with pytest.raises(BlockingIOError):
            self._socket.recvfrom(2048)


@asynccontextmanager
async def thief_at(server: livechat.Server, phone: Phone) -> AsyncGenerator[Thief]:
    """Open a socket that knows where the server is; at the end nothing must have come to it."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        thief = Thief(sock, server, phone.server)
        yield thief
        thief.assert_nothing_came()


@asynccontextmanager
async def moved(phone: Phone) -> AsyncGenerator[None]:
    """Have a phone send from another port while the block runs, as after a NAT's rebinding."""
    before = phone.socket
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as phone.socket:
        await phone.socket.bind(("127.0.0.1", 0))
        yield
    phone.socket = before


async def assert_heard(one: Phone, sequence: int, other: Phone) -> None:
    """Assert that `one` is heard by `other` now."""
    payload = os.urandom(20)
    await one.talk(sequence, payload)
    assert (await other.hear())[2] == payload


@each_profile
async def test_who_speaks_without_a_key_is_not_heard_and_hears_nothing(profile: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, profile) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        await assert_heard(talker, 1, listener)
        await assert_heard(listener, 1, talker)
        for phone in (talker, listener):
            for number in range(2, 40):
                # As if it were the next packet: in the clear, with a tag of zeros, and of noise.
                plain = rtp_packet(number, phone.ssrc, b"bleed")
                await thief.send(plain, plain + bytes(16), plain + os.urandom(16))
        thief.assert_nothing_came()
        await assert_heard(talker, 50, listener)
        await assert_heard(listener, 50, talker)


@each_profile
async def test_what_was_sent_before_moves_nobody_from_elsewhere(profile: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, profile) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        captured = [await talker.talk(number) for number in range(1, 30)]
        for _ in captured:
            captured.append(await listener.receive())
            if len(captured) == 58:
                break
        report = listener.sender.protect_rtcp(rtcp.serialize(rtcp.ReceiverReport(listener.ssrc)))
        await listener.socket.sendto(report, listener.server)
        await wait_until(lambda: server.statistics()["media"]["rtcp_accepted"] == 1)
        await thief.send(*captured, report)
        counters = server.statistics()["media"]
        assert counters["replay"] + counters["authentication"] + counters["unknown_ssrc"] >= len(captured)
        await assert_heard(talker, 100, listener)
        await assert_heard(listener, 1, talker)


@each_profile
async def test_a_rebinding_is_followed_with_the_first_authentic_packet_and_back(
    profile: str, tmp_path: Path
) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, profile) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        await assert_heard(talker, 1, listener)
        await assert_heard(listener, 1, talker)
        async with moved(talker):
            held_back = talker.sender.protect(rtp_packet(2, talker.ssrc))
            await assert_heard(talker, 3, listener)
            await assert_heard(listener, 2, talker)
            # What comes late from where it was before does not take it back ...
            await thief.send(held_back)
            await listener.receive()
            await assert_heard(listener, 3, talker)
        # ... but what is new does.
        await assert_heard(talker, 4, listener)
        await assert_heard(listener, 4, talker)


async def test_a_listener_is_followed_by_its_reports_but_not_by_old_or_forged_ones(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        accepted = 0

        async def keep_alive() -> bytes:
            nonlocal accepted
            accepted += 1
            plain = rtcp.serialize(rtcp.ReceiverReport(listener.ssrc))
            packet = listener.sender.protect_rtcp(plain)
            await listener.socket.sendto(packet, listener.server)
            await wait_until(lambda: server.statistics()["media"]["rtcp_accepted"] == accepted)
            return packet

        old = await keep_alive()
        async with moved(listener):
            await keep_alive()
            forged = rtcp.serialize(rtcp.ReceiverReport(listener.ssrc)) + os.urandom(20)
            await thief.send(old, forged, rtcp.serialize(sender_report(listener.ssrc)))
            await assert_heard(talker, 1, listener)
        await keep_alive()
        await assert_heard(talker, 2, listener)


async def test_a_talker_is_not_moved_by_reports(tmp_path: Path) -> None:
    """SRTCP has indexes of its own: one that was held back would be as good as new."""
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[0]) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        await assert_heard(talker, 1, listener)
        held_back = talker.sender.protect_rtcp(rtcp.serialize(rtcp.ReceiverReport(talker.ssrc)))
        await thief.send(held_back)
        await wait_until(lambda: server.statistics()["media"]["rtcp_accepted"] == 1)
        await assert_heard(listener, 1, talker)


async def test_media_goes_nowhere_until_an_address_is_proved(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        async with phone_of(alice, "x", ssrc=1) as talker, thief_at(server, talker) as thief:
            joined = await bob.ack(JOIN, {"channel_id": "x", "ssrc": 2})
            # Bob's ssrc is known to all; with it alone the voice cannot be drawn anywhere.
            await thief.send(rtp_packet(1, joined["media"]["ssrc"]) + bytes(10), BINDING_REQUEST)
            for number in range(1, 10):
                await talker.talk(number)
            await wait_until(lambda: server.statistics()["media"]["rtp_accepted"] == 9)
            counters = server.statistics()["media"]
            assert (counters["rtp_forwarded"], counters["no_address"]) == (0, 9)


async def test_a_flood_is_not_answered_and_voice_goes_on(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with (
        running_server(tmp_path) as server,
        talker_and_listener(server, PROFILES[2]) as (_, _, talker, listener),
        thief_at(server, talker) as thief,
    ):
        await assert_heard(talker, 1, listener)
        known = [phone.ssrc.to_bytes(4, "big") for phone in (talker, listener)]
        kinds = (
            lambda: b"\x80\x6f" + rng.randbytes(6) + rng.randbytes(30),
            lambda: b"\x80\x6f" + rng.randbytes(6) + rng.choice(known) + rng.randbytes(30),
            lambda: b"\x80\xc8\x00\x06" + rng.choice(known) + rng.randbytes(38),
            lambda: BINDING_REQUEST,
            lambda: CLIENT_HELLO,
            lambda: rng.randbytes(rng.randrange(60)),
            lambda: b"\x80\x6f" + rng.randbytes(2047),
        )
        before = server.statistics()["media"]
        await thief.send(*(rng.choice(kinds)() for _ in range(FLOOD)))
        after = server.statistics()["media"]
        thief.assert_nothing_came()
        for name in ("rtp_accepted", "rtp_forwarded", "rtcp_accepted", "peers", "internal"):
            assert after[name] == before[name], name
        assert after["received"] - before["received"] >= FLOOD
        await assert_heard(talker, 2, listener)
        await assert_heard(listener, 1, talker)
