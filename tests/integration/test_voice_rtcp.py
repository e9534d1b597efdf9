"""RTCP between libsrtp peers over a real server, and what operators see of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

import livechat
from livechat.rtp import feedback, rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.feedback import AnyPacket, FeedbackPacket, Nack, PictureLoss, parse_datagram_untrusted
from livechat.srtp.profile import SrtpProfile
from tests.integration.test_admin_command import Shell, at, in_thread
from tests.integration.test_admin_command import shell as shell
from tests.integration.test_voice import PROFILES, Phone, phone_of
from tests.support.client import CREATE, LEAVE, Client, identified
from tests.support.operate import scrape
from tests.support.server import running_server, wait_until
from tests.support.voice import sender_report

NTP = 0x0123_4567_89AB_CDEF
LAST_SR = 0x4567_89AB
GCM = SrtpProfile.AEAD_AES_128_GCM.value

P = TypeVar("P", bound=AnyPacket)


async def report(phone: Phone, *packets: rtcp.RtcpPacket | FeedbackPacket) -> None:
    """Send RTCP, protected by libsrtp."""
    plain = [
        feedback.serialize(each) if isinstance(each, FeedbackPacket) else rtcp.serialize(each) for each in packets
    ]
    await phone.socket.sendto(phone.sender.protect_rtcp(b"".join(plain)), phone.server)


async def told(phone: Phone, kind: type[P]) -> P:
    """Return the next packet of a kind that the phone is told, passing over others."""
    while True:
        datagram = await phone.receive()
        if classify(datagram) is Kind.RTCP:
            packets = parse_datagram_untrusted(phone.receiver.unprotect_rtcp(datagram))
            found = [packet for packet in packets if isinstance(packet, kind)]
            if found:
                return found[0]


async def block_told(phone: Phone, reporter_ssrc: int) -> rtcp.ReportBlock:
    """Return the next report block that the phone is told by somebody."""
    while True:
        found = await told(phone, rtcp.ReceiverReport)
        if found.ssrc == reporter_ssrc and found.reports:
            return found.reports[0]


async def voice(phone: Phone) -> bytes:
    """Return the next SRTP packet as it came."""
    while True:
        datagram = await phone.receive()
        if classify(datagram) is Kind.RTP:
            return datagram


@asynccontextmanager
async def call(server: livechat.Server, profile: str = GCM) -> AsyncGenerator[tuple[Client, Phone, Phone]]:
    """Alice, whom Bob hears under another ssrc than her own, and Bob, who is heard under his own."""
    media = {"profiles": [profile]}
    async with identified(server, "alice") as alice, identified(server, "bob") as bob:
        await alice.ack(CREATE, {"channel_id": "x"})
        async with phone_of(bob, "x", media=media, state_address=True) as listener:
            async with phone_of(alice, "x", ssrc=1111, media=media):
                await alice.ack(LEAVE, {"channel_id": "x"})
            async with phone_of(alice, "x", ssrc=1111, media=media) as talker:
                yield alice, talker, listener


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_listeners_report_reaches_the_talker_in_the_talkers_terms(profile: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, call(server, profile) as (_, talker, listener):
        for sequence in (65_534, 65_535, 65_536):
            await talker.talk(sequence)
            heard = await voice(listener)
        plain = listener.receiver.unprotect(heard)
        egress, highest = int.from_bytes(plain[8:12], "big"), int.from_bytes(plain[2:4], "big")
        assert egress != talker.ssrc == 1111
        await report(talker, sender_report(1111))
        assert await told(listener, rtcp.SenderReport) == rtcp.SenderReport(egress, NTP, 160, 3, 18)
        block = rtcp.ReportBlock(egress, 25, 1, highest, 33, LAST_SR, 100)
        await report(listener, rtcp.ReceiverReport(listener.ssrc, (block,)))
        assert await block_told(talker, listener.ssrc) == attrs.evolve(block, ssrc=1111, highest_sequence=65_536)


@pytest.mark.parametrize("profile", PROFILES)
async def test_what_a_listener_lost_comes_again_byte_by_byte(profile: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, call(server, profile) as (_, talker, listener):
        for sequence in range(5):
            await talker.talk(sequence, b"packet %d" % sequence)
        arrived = [await voice(listener) for _ in range(5)]
        egress = int.from_bytes(arrived[0][8:12], "big")
        lost = [int.from_bytes(packet[2:4], "big") for packet in arrived[1:4]]
        await report(listener, rtcp.ReceiverReport(listener.ssrc), Nack.of(listener.ssrc, egress, lost))
        again = [await voice(listener) for _ in lost]
        assert again == arrived[1:4]
        # libsrtp takes them late, and once.
        plain = [listener.receiver.unprotect(packet)[12:] for packet in (arrived[0], arrived[4], *again)]
        assert plain == [b"packet 0", b"packet 4", b"packet 1", b"packet 2", b"packet 3"]


async def test_a_talker_is_asked_for_key_frames_at_a_bearable_rate(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, call(server) as (_, talker, listener):
        await talker.talk(1)
        egress = int.from_bytes((await voice(listener))[8:12], "big")
        for _ in range(20):
            await report(listener, PictureLoss(listener.ssrc, egress))
        assert await told(talker, PictureLoss) == PictureLoss(listener.ssrc, 1111)
        # The last of what bob sent; all that the requests caused was sent before it.
        await listener.talk(1, b"the end")
        while classify(await talker.receive()) is not Kind.RTP:
            pass
        numbers = await scrape(server)
        assert numbers("livechat_media_rtcp_total", kind="key_frame_requests") == 20
        forwarded = numbers("livechat_media_rtcp_total", kind="key_frame_requests_forwarded")
        assert numbers("livechat_media_drops_total", reason="key_frame_held_back") == 20 - forwarded
        assert forwarded < 20


async def test_the_server_reports_to_a_talker_and_operators_see_how_it_goes(shell: Shell, tmp_path: Path) -> None:
    media = livechat.MediaSettings(report_interval_ms=200)
    async with running_server(tmp_path, media=media) as server, call(server) as (_, talker, listener):
        await talker.talk(1)
        await talker.talk(4)
        egress = int.from_bytes((await voice(listener))[8:12], "big")
        await report(talker, sender_report(1111))
        await told(listener, rtcp.SenderReport)
        ours = rtcp.ReportBlock(egress, 64, 5, 4000, 80, LAST_SR, 0)
        await report(listener, rtcp.ReceiverReport(listener.ssrc, (ours,)))
        await block_told(talker, listener.ssrc)
        # Whatever was reported on by then: this is new.
        await talker.talk(6)
        theirs = None
        while theirs is None or theirs.highest_sequence != 6:
            found = await told(talker, rtcp.ReceiverReport)
            assert found.ssrc not in (egress, 1111, listener.ssrc)
            theirs = found.reports[0] if found.reports else None
        assert (theirs.ssrc, theirs.cumulative_lost) == (1111, 3)
        shell.where = at(server)
        _, lines, _ = await in_thread(shell.run, "admin", "peers", "--json")
        by_user = {peer["user_id"]: peer["quality"] for peer in map(json.loads, lines.splitlines())}
        assert by_user["alice"]["packets_lost_up"] == 3
        assert 0 < by_user["alice"]["fraction_lost_up"] <= 0.5
        assert by_user["alice"]["jitter_up_ms"] >= 0
        assert "jitter_down_ms" not in by_user["alice"]
        assert (by_user["bob"]["packets_lost_down"], by_user["bob"]["fraction_lost_down"]) == (5, 0.25)
        assert by_user["bob"]["jitter_down_ms"] == 10
        assert by_user["bob"]["rtt_ms"] >= 0
        assert "jitter_up_ms" not in by_user["bob"]
        embedder_sees = server.statistics()["peers"]
        assert embedder_sees[1]["fraction_lost_down"] == 0.25
        assert embedder_sees[3]["packets_lost_up"] == 3
        _, table, _ = await in_thread(shell.run, "admin", "peers")
        header, bob, alice = table.splitlines()
        assert "LOSS UP/DOWN" in header
        assert "- / 25.0%" in bob
        assert "- / 10.0 ms" in bob
        assert "% / -" in alice


async def test_a_worker_speaks_rtcp_as_well(tmp_path: Path) -> None:
    media = livechat.MediaSettings(workers=1, report_interval_ms=200)
    async with running_server(tmp_path, media=media) as server, call(server) as (_, talker, listener):
        await talker.talk(1)
        await talker.talk(4)
        arrived = await voice(listener)
        egress, sequence = int.from_bytes(arrived[8:12], "big"), int.from_bytes(arrived[2:4], "big")
        await voice(listener)
        await report(listener, Nack.of(listener.ssrc, egress, [sequence]))
        assert await voice(listener) == arrived
        block = rtcp.ReportBlock(egress, 64, 5, sequence, 80)
        await report(listener, rtcp.ReceiverReport(listener.ssrc, (block,)))
        translated = attrs.evolve(block, ssrc=1111, highest_sequence=1)
        assert await block_told(talker, listener.ssrc) == translated
        # The gateway is told what the worker finds out.
        await wait_until(lambda: server.statistics()["peers"][3].get("packets_lost_up") == 2)
        await wait_until(lambda: server.statistics()["peers"][1].get("fraction_lost_down") == 0.25)
        await wait_until(lambda: server.statistics()["media"]["retransmitted"] == 1)
