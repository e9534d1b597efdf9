from __future__ import annotations

import errno
import itertools
import random
import socket
from collections.abc import Iterator
from functools import partial

import pytest
import structlog
import trio
import trio.testing

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import MediaPeer
from livechat.media import udp
from livechat.media.relay import Relay
from livechat.media.sent import find_sent
from livechat.protocol.types import Address, ChannelId, SessionId, UserId
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed
from tests.support.voice import libsrtp_receiver, rtp_packet

PROFILE = SrtpProfile.AES_CM_128_HMAC_SHA1_80
DEADLINE_S = 10.0
"""For what takes no time on the loopback; never reached unless something is broken."""


@pytest.fixture
def media_socket() -> Iterator[socket.socket]:
    with udp.open_media_socket("127.0.0.1", 0) as sock:
        yield sock


@pytest.fixture
def client_socket() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(DEADLINE_S)
        yield sock


@pytest.fixture
def hub() -> MediaPeerHub:
    return MediaPeerHub(random.Random(1).randbytes)


def join(hub: MediaPeerHub, relay: Relay, user: str, address: Address | None = None) -> MediaPeer:
    peer = hub.add(ChannelId("room"), UserId(user), SessionId(user), profile=PROFILE, now=0.0, address=address)
    relay.add_peer(peer)
    return peer


async def wait_until_received(relay: Relay, count: int) -> None:
    with trio.fail_after(DEADLINE_S):
        while relay.counters.received < count:
            await trio.testing.wait_all_tasks_blocked()


async def test_voice_goes_from_socket_to_socket(
    hub: MediaPeerHub, media_socket: socket.socket, client_socket: socket.socket, nursery: trio.Nursery
) -> None:
    relay = Relay()
    address = await nursery.start(udp.run, media_socket, relay)
    assert address == media_socket.getsockname()
    ann = join(hub, relay, "ann")
    bob = join(hub, relay, "bob", client_socket.getsockname())
    sender = SrtpSender(PROFILE, ann.client_key)
    receiver = libsrtp_receiver(PROFILE, bob.server_key)
    for sequence in range(100):
        client_socket.sendto(sender.protect(rtp_packet(sequence, ann.ssrc, b"%d" % sequence)), address)
    await wait_until_received(relay, 100)
    heard = [receiver.unprotect(client_socket.recv(2048))[12:] for _ in range(100)]
    assert heard == [b"%d" % sequence for sequence in range(100)]
    assert ann.address == client_socket.getsockname()
    assert ann.last_seen == pytest.approx(trio.current_time(), abs=DEADLINE_S)


async def test_a_goodbye_is_sent_at_once(
    hub: MediaPeerHub, media_socket: socket.socket, client_socket: socket.socket
) -> None:
    relay = Relay()
    ann = join(hub, relay, "ann")
    bob = join(hub, relay, "bob", client_socket.getsockname())
    # It was heard once: who never was says no goodbye.
    relay.datagram(SrtpSender(PROFILE, ann.client_key).protect(rtp_packet(1, ann.ssrc)), ("192.0.2.1", 1), 0.0, [])
    udp.send_now(media_socket, relay, relay.remove_peer(ann))
    goodbye = libsrtp_receiver(PROFILE, bob.server_key).unprotect_rtcp(client_socket.recv(2048))
    assert goodbye.endswith(bytes.fromhex("81cb0001") + ann.egress_ssrc.to_bytes(4, "big"))


async def test_a_datagram_longer_than_the_buffer_is_dropped_not_cut_off(
    hub: MediaPeerHub, media_socket: socket.socket, client_socket: socket.socket, nursery: trio.Nursery
) -> None:
    relay = Relay()
    address = await nursery.start(udp.run, media_socket, relay)
    ann = join(hub, relay, "ann")
    sender = SrtpSender(PROFILE, ann.client_key)
    fits = udp.DATAGRAM_BYTES_MAX - 12 - PROFILE.rtp_tag_bytes
    client_socket.sendto(sender.protect(rtp_packet(1, ann.ssrc, bytes(fits))), address)
    client_socket.sendto(sender.protect(rtp_packet(2, ann.ssrc, bytes(fits + 1))), address)
    await wait_until_received(relay, 2)
    assert relay.counters.too_long == 1
    assert relay.counters.rtp_accepted == 1


async def test_a_failing_datagram_is_counted_and_logged_once_a_minute_and_ends_nothing(
    hub: MediaPeerHub, media_socket: socket.socket, client_socket: socket.socket, nursery: trio.Nursery
) -> None:
    def broken(below: int) -> int:
        raise RuntimeError("no randomness today")

    clock = [100.0]
    relay = Relay(randbelow=broken)
    ann = join(hub, relay, "ann")
    join(hub, relay, "bob", client_socket.getsockname())
    sender = SrtpSender(PROFILE, ann.client_key)
    address = await nursery.start(lambda **kw: udp.run(media_socket, relay, now=lambda: clock[0], **kw))
    with structlog.testing.capture_logs() as logs:
        for received, at in enumerate((100.0, 159.0, 160.0), start=1):
            clock[0] = at
            client_socket.sendto(sender.protect(rtp_packet(received, ann.ssrc)), address)
            await wait_until_received(relay, received)
    assert relay.counters.internal == 3
    assert [(each["event"], each["internal"]) for each in logs] == [("datagram_failed", 1), ("datagram_failed", 3)]


class Unwilling(socket.socket):
    """A socket that fails as a system may: by destination, and once on receiving."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.sent: list[bytes] = []
        self.incoming: list[bytes | OSError] = []

    def sendto(self, data: bytes, address: Address) -> int:  # type: ignore[override]
        if address == ("192.0.2.1", 1):
            raise BlockingIOError
        if address == ("192.0.2.1", 2):
            raise PermissionError
        self.sent.append(data)
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, Address]:  # type: ignore[override]
        if not self.incoming:
            raise BlockingIOError
        event = self.incoming.pop(0)
        if isinstance(event, OSError):
            raise event
        return event, ("192.0.2.1", 9)


def test_no_destination_stops_the_others(hub: MediaPeerHub) -> None:
    relay = Relay()
    with Unwilling() as sock:
        udp.send_now(sock, relay, [(bytes([port]), ("192.0.2.1", port)) for port in (1, 2, 3, 1, 4)])
        assert sock.sent == [b"\x03", b"\x04"]
    assert relay.counters.would_block == 2
    assert relay.counters.send_error == 1


def test_a_refusal_reported_on_receiving_does_not_hide_what_follows(hub: MediaPeerHub) -> None:
    relay = Relay()
    with Unwilling() as sock:
        sock.incoming = [ConnectionRefusedError(), b"\x00stun"]
        assert udp._Shell(sock, relay, lambda: 0.0).turn() is False
    assert relay.counters.stun == 1
    assert relay.counters.send_error == 1


def test_a_passing_failure_to_receive_ends_the_turn_and_is_counted(hub: MediaPeerHub) -> None:
    relay = Relay()
    with Unwilling() as sock:
        sock.incoming = [OSError(errno.ENOBUFS, "no buffer space available"), b"\x00"]
        shell = udp._Shell(sock, relay, lambda: 0.0)
        assert shell.turn() is False
        assert relay.counters.receive_error == 1
        shell.turn()
    assert relay.counters.stun == 1


def test_a_turn_is_bounded_by_what_it_makes_and_by_what_it_takes(hub: MediaPeerHub) -> None:
    relay = Relay()
    ann = join(hub, relay, "ann")
    for port in range(50):
        join(hub, relay, f"listener{port}", ("192.0.2.1", 100 + port))
    sender = SrtpSender(PROFILE, ann.client_key)
    with Unwilling() as sock:
        shell = udp._Shell(sock, relay, lambda: 0.0)
        sock.incoming = [sender.protect(rtp_packet(sequence, ann.ssrc)) for sequence in range(8)]
        assert shell.turn() is True
        assert len(sock.sent) == 300
        assert shell.turn() is False
        assert len(sock.sent) == 400
        sock.incoming = [b"\x00"] * (udp.BATCH_DATAGRAMS_MAX + 1)
        assert shell.turn() is True
        assert len(sock.incoming) == 1
        # What makes nothing takes time as well.
        clock = itertools.count(step=udp.TURN_S / 2)
        sock.incoming = [b"\x00"] * 10
        assert udp._Shell(sock, relay, lambda: next(clock)).turn() is True
        assert len(sock.incoming) == 8


def test_what_one_packet_makes_for_a_thousand_is_sent_in_pieces(hub: MediaPeerHub) -> None:
    relay = Relay()
    ann = join(hub, relay, "ann")
    listeners = [join(hub, relay, f"listener{port}", ("192.0.2.1", 100 + port)) for port in range(1000)]
    sender = SrtpSender(PROFILE, ann.client_key)
    with Unwilling() as sock:
        shell = udp._Shell(sock, relay, lambda: 0.0)
        sock.incoming = [sender.protect(rtp_packet(1, ann.ssrc)), b"\x00stun"]
        progress = []
        while shell.turn():
            progress.append(len(sock.sent))
        assert progress == [500, 1000]
        assert len(sock.sent) == len(set(sock.sent)) == 1000
    # The rest of the packet came before the next datagram, and it is kept as a whole.
    assert relay.counters.stun == 1
    node = relay._nodes[ann.peer_id]
    assert all(find_sent(node.sent, 1, listener.peer_id) in sock.sent for listener in listeners)


class Timed(Relay):
    """A relay with something to send at set times, that fails at one of them."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self.address = address
        self.calls: list[float] = []
        self.peers = 1

    @property
    def is_empty(self) -> bool:
        return not self.peers

    def run_due(self, now: float, out: Sealed) -> float | None:
        self.calls.append(now)
        if len(self.calls) == 2:
            raise RuntimeError("a bug")
        out += [(b"%d" % len(self.calls), self.address)]
        return now + 0.005 if len(self.calls) == 1 else None


async def test_what_is_due_is_done_and_a_failure_ends_nothing(
    media_socket: socket.socket, client_socket: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    relay = Timed(client_socket.getsockname())
    start = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(udp._Shell(media_socket, relay, trio.current_time).keep_time)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    # When the relay said so, then as often as it is asked at least.
    assert [round(at - start, 3) for at in relay.calls[:4]] == [0.0, 0.005, 0.025, 0.045]
    assert [client_socket.recv(64) for _ in range(3)] == [b"1", b"3", b"4"]
    assert relay.counters.internal == 1
    assert [each["event"] for each in logs] == ["relay_timer_failed"]


async def test_a_relay_without_peers_is_asked_rarely(
    media_socket: socket.socket, client_socket: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    relay = Timed(client_socket.getsockname())
    relay.peers = 0
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(udp._Shell(media_socket, relay, trio.current_time).keep_time)
        await trio.sleep(0.4)
        relay.peers = 1
        await trio.sleep(0.15)
        nursery.cancel_scope.cancel()
    assert [round(at - start, 3) for at in relay.calls[:5]] == [0.0, 0.005, 0.255, 0.505, 0.525]


async def test_a_running_relay_does_what_is_due(media_socket: socket.socket, client_socket: socket.socket) -> None:
    relay = Timed(client_socket.getsockname())
    async with trio.open_nursery() as nursery:
        await nursery.start(udp.run, media_socket, relay)
        assert await trio.to_thread.run_sync(client_socket.recv, 64) == b"1"
        nursery.cancel_scope.cancel()


async def test_a_flood_leaves_other_tasks_their_turn(hub: MediaPeerHub) -> None:
    relay = Relay()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with Unwilling() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.incoming = [b"\x00"] * (20 * udp.BATCH_DATAGRAMS_MAX)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            nursery.start_soon(udp.run, sock, relay)
            while sock.incoming:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    # About one turn of the other task for each of the relay's; the first and last may fall away.
    assert turns >= 15
    assert relay.counters.stun == 20 * udp.BATCH_DATAGRAMS_MAX


async def test_between_turns_it_gives_way_for_as_long_as_it_has_worked_and_no_longer(hub: MediaPeerHub) -> None:
    relay = Relay()
    clock = 0.0
    offered: list[float] = []

    def now() -> float:
        nonlocal clock
        clock += 0.0001  # a turn looks at it for each datagram
        return clock

    async def give_way(most_s: float) -> None:
        nonlocal clock
        offered.append(most_s)
        clock += most_s if len(offered) == 8 else 0.0
        await trio.lowlevel.checkpoint()

    with Unwilling() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.incoming = [b"\x00"] * 150
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(udp.run, sock, relay, now=now, give_way=give_way))
            await wait_until_received(relay, 150)
            nursery.cancel_scope.cancel()
    # What is not used is kept, up to a bound; what is used is gone.
    assert offered[:7] == sorted(offered[:7])
    assert max(offered) == offered[7] == udp.GIVE_WAY_S
    assert offered[8] < offered[7] / 2


async def test_cancelling_leaves_the_socket_to_its_owner(hub: MediaPeerHub, media_socket: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(udp.run, media_socket, Relay())
        nursery.cancel_scope.cancel()
    assert media_socket.fileno() >= 0


def test_the_socket_is_non_blocking_and_of_the_hosts_family() -> None:
    with udp.open_media_socket("127.0.0.1", 0) as sock:
        assert sock.family == socket.AF_INET
        assert sock.getblocking() is False
        assert sock.getsockname()[1] > 0
    try:
        with udp.open_media_socket("::1", 0) as sock:
            assert sock.family == socket.AF_INET6
    except OSError:
        pytest.skip("no IPv6 on this machine")


def test_an_address_that_cannot_be_bound_is_the_callers_to_report() -> None:
    with udp.open_media_socket("127.0.0.1", 0) as sock, pytest.raises(OSError, match="in use"):
        udp.open_media_socket("127.0.0.1", sock.getsockname()[1])
