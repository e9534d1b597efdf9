"""A worker's side, in this process: what it does with what it is told, and what it tells."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import structlog
import trio
import trio.testing

from livechat.hub.peer import ChannelRules, MediaPeer
from livechat.media import udp
from livechat.media.settings import DEFAULT_SPEAKING, MediaSettings
from livechat.media.workers.child import LOG_LINES_MAX, Outbox, Worker
from livechat.media.workers.messages import (
    Begin,
    Close,
    FrameReader,
    Go,
    KeysWorn,
    LogLine,
    Message,
    Open,
    PeerFacts,
    PeerReport,
    Ready,
    Report,
    Speaking,
    Stop,
    serialize,
)
from livechat.protocol.types import Address, Ssrc, UserId
from livechat.srtp.context import SrtpSender
from tests.media.workers.test_messages import make_peer
from tests.support.voice import libsrtp_receiver, rtp_packet

DEADLINE_S = 10.0
BEGIN = Begin(MediaSettings(worker_timeout_ms=80), DEFAULT_SPEAKING)
"""Reports come every 20 ms."""


class Gateway:
    """The other end of the pipe."""

    def __init__(self, pipe: socket.socket, media: Address) -> None:
        self.pipe = trio.SocketStream(trio.socket.from_stdlib_socket(pipe))
        self.media = media
        self._reader = FrameReader()
        self._heard: list[Message] = []

    async def tell(self, *messages: Message) -> None:
        await self.pipe.send_all(b"".join(map(serialize, messages)))

    async def hear(self) -> Message:
        while not self._heard:
            self._heard += self._reader.feed(await self.pipe.receive_some(65_536))
        return self._heard.pop(0)

    async def report_on(self, peer: MediaPeer) -> PeerReport:
        """Wait until a report tells of a peer."""
        while True:
            message = await self.hear()
            if isinstance(message, Report):
                for told in message.peers:
                    if told.peer_id == peer.peer_id:
                        return told


@asynccontextmanager
async def working() -> AsyncGenerator[tuple[Gateway, trio.Event]]:
    """Run a worker; the event says that it has ended by itself."""
    ours, theirs = socket.socketpair()
    ended = trio.Event()
    with theirs, udp.open_media_socket("127.0.0.1", 0) as media, trio.fail_after(DEADLINE_S):
        gateway = Gateway(ours, media.getsockname())

        async def run() -> None:
            await Worker(theirs, media).run()
            ended.set()

        async with gateway.pipe, trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield gateway, ended
            nursery.cancel_scope.cancel()


def opening(peer: MediaPeer) -> Open:
    return Open(PeerFacts.of(peer, trio.current_time()), ChannelRules())


async def test_nothing_is_relayed_before_all_is_told() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        async with working() as (gateway, _):
            talker = make_peer(peer_id=1, address=None, keys_taken=False, joined_at=trio.current_time())
            listener = make_peer(
                peer_id=2,
                user_id=UserId("bob"),
                ssrc=Ssrc(5),
                egress_ssrc=Ssrc(6),
                address=client.getsockname(),
                joined_at=trio.current_time(),
            )
            sender = SrtpSender(talker.profile, talker.client_key)
            client.sendto(sender.protect(rtp_packet(1, talker.ssrc, b"early")), gateway.media)
            await gateway.tell(BEGIN)
            assert isinstance(await gateway.hear(), Report)
            await gateway.tell(opening(talker), opening(listener), Go())
            await trio.lowlevel.wait_readable(client)
            heard = libsrtp_receiver(listener.profile, listener.server_key).unprotect(client.recv(2048))
            assert heard[12:] == b"early"
            report = await gateway.report_on(talker)
            while report.packets_received == talker.packets_received:
                report = await gateway.report_on(talker)
            report.tell(talker, trio.current_time())
            assert talker.address == client.getsockname()
            assert talker.keys_taken


async def test_who_kept_its_rollover_count_is_heard_after_a_restart() -> None:
    async with working() as (gateway, _):
        peer = make_peer(sent_up_to=(3 << 16) + 65_530, rekeys=1, keys_taken=False, joined_at=trio.current_time())
        before = peer.packets_received
        await gateway.tell(BEGIN, opening(peer), Go())
        sender = SrtpSender(peer.profile, peer.client_key, rollover=4)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            for sequence in (2, 3):
                client.sendto(sender.protect(rtp_packet(sequence, peer.ssrc)), gateway.media)
            while peer.packets_received < before + 2:
                (await gateway.report_on(peer)).tell(peer, trio.current_time())
        assert peer.sent_up_to == (4 << 16) + 3
        assert peer.packets_rejected == make_peer().packets_rejected


async def test_what_has_not_changed_is_told_once() -> None:
    async with working() as (gateway, _):
        await gateway.tell(BEGIN, opening(make_peer(joined_at=trio.current_time())), Go())
        told = list[int]()
        while len(told) < 5:
            message = await gateway.hear()
            if isinstance(message, Report):
                told.append(len(message.peers))
        assert sum(told) == 1
        await gateway.tell(Close(7, farewell=False), opening(make_peer(joined_at=trio.current_time())))
        await gateway.report_on(make_peer())


async def test_it_says_that_it_relays_and_stops_when_told() -> None:
    async with working() as (gateway, ended):
        await gateway.tell(BEGIN, Go())
        while await gateway.hear() != Ready():
            pass
        await gateway.tell(Stop())
        await ended.wait()


async def test_it_ends_with_its_pipe() -> None:
    async with working() as (gateway, ended):
        await gateway.tell(BEGIN, Go())
        await gateway.pipe.aclose()
        await ended.wait()


async def test_edges_are_told_at_once_the_newest_of_each_and_nothing_of_who_is_gone() -> None:
    outbox, peer, gone = Outbox(), make_peer(), make_peer(peer_id=8)
    outbox.speaking(peer, True, -20)
    outbox.speaking(gone, True, -20)
    outbox.keys_worn(gone)
    outbox.keys_worn(peer)
    outbox.keys_worn(peer)
    outbox.speaking(peer, False, -90)
    outbox.forget(8)
    with trio.fail_after(DEADLINE_S):
        await outbox.wait()
    assert outbox.take() == [Speaking(7, speaking=False, level_db=-90), KeysWorn(7)]
    assert outbox.take() == []
    with trio.move_on_after(0.01) as scope:
        await outbox.wait()
    assert scope.cancelled_caught


async def test_nobody_moves_peers_but_the_gateway() -> None:
    with pytest.raises(AssertionError):
        Outbox().moved([])


async def test_lines_of_its_log_are_the_gateway_s_to_write() -> None:
    before = structlog.get_config()
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs, udp.open_media_socket("127.0.0.1", 0) as media:
            worker = Worker(theirs, media)
            worker.configure_log()
            log = structlog.get_logger()
            try:
                raise ZeroDivisionError("a bug")
            except ZeroDivisionError:
                log.exception("datagram_failed", bytes=12)
            for _ in range(2 * LOG_LINES_MAX):
                log.info("again")
            told = worker._outbox.take()
    finally:
        structlog.configure(**before)
    first = told[0]
    assert isinstance(first, LogLine)
    assert (first.level, first.event, first.fields["bytes"]) == ("error", "datagram_failed", "12")
    assert "ZeroDivisionError: a bug" in first.fields["exception"]
    assert len(told) == LOG_LINES_MAX
