from __future__ import annotations

import ctypes
import errno
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from livechat.media import sendmmsg, udp
from livechat.media.relay import Relay
from livechat.media.sendmmsg import SLOTS, SendMmsg, open_sendmmsg, pack_address
from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations, Sealed, each_packet

DEADLINE_S = 10.0


def receiver(family: socket.AddressFamily, stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    sock.settimeout(DEADLINE_S)
    return sock


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    host: str = request.param
    return host


@pytest.fixture
def sender(host: str) -> Iterator[socket.socket]:
    with udp.open_media_socket(host, 0) as sock:
        yield sock


def opened(sock: socket.socket) -> SendMmsg:
    mmsg = open_sendmmsg(sock)
    assert mmsg is not None
    return mmsg


def make_turn(addresses: list[Address], host: str, rng: random.Random) -> Sealed:
    """Packets one by one and in bundles, of many lengths, with destinations that are refused in between."""
    refused: Address = (host, 0)
    turn: Sealed = []
    for _ in range(20):
        size = rng.choice((0, 1, 12, 182, 182, 182, 1200, 2000))
        if rng.random() < 0.4:
            turn.append((rng.randbytes(size), rng.choice([*addresses, refused])))
        else:
            to = [rng.choice([*addresses, refused]) for _ in range(rng.randrange(1, 12))]
            turn.append((rng.randbytes(size * len(to)), Destinations(to)))
    return turn


@pytest.mark.parametrize("seed", range(6))
def test_what_arrives_is_what_arrives_one_by_one(host: str, sender: socket.socket, seed: int) -> None:
    relay = Relay()
    with ExitStack() as stack:
        receivers = [receiver(sender.family, stack) for _ in range(4)]
        addresses: list[Address] = [sock.getsockname()[:2] for sock in receivers]
        turn = make_turn(addresses, host, random.Random(seed))
        udp.send_now(sender, relay, turn)
        failures = opened(sender).send(turn)
        expected = [(packet, address) for packet, address in each_packet(turn) if address[1] != 0]
        for sock, address in zip(receivers, addresses, strict=True):
            ours = [packet for packet, to in expected if to == address]
            assert [sock.recv(4096) for _ in ours] == ours
            assert [sock.recvfrom(4096) for _ in ours] == [(packet, sender.getsockname()) for packet in ours]
    assert failures == [errno.EINVAL] * relay.counters.send_error
    assert relay.counters.send_error > 0


def test_a_full_call_and_every_length_in_turn(host: str, sender: socket.socket) -> None:
    mmsg = opened(sender)
    with ExitStack() as stack:
        sock = receiver(sender.family, stack)
        address: Address = sock.getsockname()[:2]
        many = Destinations([address] * SLOTS)
        bundle = random.Random(1).randbytes(SLOTS * 100)
        assert mmsg.send([(bundle, many)]) == []
        assert b"".join(sock.recv(4096) for _ in range(SLOTS)) == bundle
        # Lengths are remembered, and forgotten when there are too many.
        for size in (*range(sendmmsg.SIZES_MAX + 2), 3):
            assert mmsg.send([(bytes([size & 0xFF]) * size, address)]) == []
            assert sock.recv(4096) == bytes([size & 0xFF]) * size


def test_more_than_fits_is_an_error_and_nothing_is_sent(host: str, sender: socket.socket) -> None:
    mmsg = opened(sender)
    with ExitStack() as stack:
        sock = receiver(sender.family, stack)
        address: Address = sock.getsockname()[:2]
        for packet, count in ((b"1", SLOTS + 1), (bytes(2100), SLOTS)):
            with pytest.raises(ValueError, match="at most"):
                mmsg.send([(packet * count, Destinations([address] * count))])
        with pytest.raises(ValueError, match="address"):
            mmsg.send([(b"one", address), (b"two", ("no address", 5))])
        assert mmsg.send([(b"fits", address)]) == []
        assert sock.recv(4096) == b"fits"


def equal_turn(addresses: list[Address], host: str, rng: random.Random) -> Sealed:
    """A burst of a publisher, packets of others in between, all of one length; some destinations are refused."""
    refused: Address = (host, 0)
    burst = Destinations([*addresses, refused])
    others = [Destinations(rng.sample([*addresses, refused], 3)) for _ in range(3)]
    choices: list[Destinations | Address] = [burst, burst, *others, *addresses[:1]]
    turn: Sealed = []
    for _ in range(20):
        to = rng.choice(choices)
        turn.append((rng.randbytes(182 * (len(to) if isinstance(to, Destinations) else 1)), to))
    return turn


def of_the_same(turn: Sealed) -> Sealed:
    """Return what goes to the same destinations as the first."""
    return [item for item in turn if item[1] is turn[0][1]]


@pytest.mark.parametrize("seed", range(6))
def test_messages_that_the_system_cuts_arrive_as_the_packets_one_by_one(
    host: str, sender: socket.socket, seed: int
) -> None:
    mmsg = opened(sender)
    assert mmsg._segments
    relay = Relay()
    rng = random.Random(seed)
    with ExitStack() as stack:
        receivers = [receiver(sender.family, stack) for _ in range(4)]
        addresses: list[Address] = [sock.getsockname()[:2] for sock in receivers]
        turn = equal_turn(addresses, host, rng)
        # Twice, as layouts are remembered; the second time with other bytes.
        for _ in range(2):
            udp.send_now(sender, relay, turn)
            failures = mmsg.send(turn)
            for sock, address in zip(receivers, addresses, strict=True):
                ours = [packet for packet, to in each_packet(turn) if to == address]
                assert [sock.recv(4096) for _ in ours] == ours
                came = [sock.recv(4096) for _ in ours]
                assert sorted(came) == sorted(ours)
                # What one publisher sends keeps its order.
                burst = [packet for packet, to in each_packet(of_the_same(turn)) if to == address]
                assert [packet for packet in came if packet in burst] == burst
            assert failures == [errno.EINVAL] * relay.counters.send_error
            relay.counters.send_error = 0
            turn = [(rng.randbytes(len(data)), to) for data, to in turn]
        # The refused one was no reason to do without.
        assert mmsg._segments
        assert mmsg._layouts


def test_a_burst_is_one_message_for_each_listener(sender: socket.socket) -> None:
    address: Address = sender.getsockname()[:2]
    burst = Destinations([address, (address[0], 9)])
    call = Scripted(2)
    assert SendMmsg(sender, call, segments=True).send([(bytes(364), burst)] * 5) == []
    assert call.asked == [2]
    # Packets of several lengths, or too few for one address, go one by one.
    call = Scripted(4, 2)
    mmsg = SendMmsg(sender, call, segments=True)
    assert mmsg.send([(bytes(364), burst), (bytes(20), burst)]) == []
    assert mmsg.send([(b"one", address), (b"two", (address[0], 9))]) == []
    assert call.asked == [4, 2]


def test_a_refused_message_costs_its_packets(sender: socket.socket) -> None:
    burst = Destinations([sender.getsockname()[:2]])
    call = Scripted(OSError(errno.ECONNREFUSED, ""))
    assert SendMmsg(sender, call, segments=True).send([(b"packet", burst)] * 3) == [errno.ECONNREFUSED] * 3


def test_where_messages_cannot_be_cut_their_packets_are_sent_and_no_more_is_tried(sender: socket.socket) -> None:
    burst = Destinations([sender.getsockname()[:2]])
    call = Scripted(OSError(errno.EIO, ""), 3, 3)
    mmsg = SendMmsg(sender, call, segments=True)
    assert mmsg.send([(b"packet", burst)] * 3) == []
    assert mmsg.send([(b"packet", burst)] * 3) == []
    assert call.asked == [1, 3, 3]


class Scripted:
    """A sendmmsg of which every call has the outcome that was written down: packets sent, or an errno."""

    def __init__(self, *outcomes: int | OSError) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[int] = []

    def __call__(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        self.asked.append(count)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, OSError):
            assert outcome.errno is not None
            ctypes.set_errno(outcome.errno)
            return -1
        return outcome


@pytest.mark.parametrize(
    ("outcomes", "asked", "failures"),
    [
        ([5], [5], []),
        ([2, OSError(errno.EAGAIN, ""), 2], [5, 3, 2], [errno.EAGAIN]),
        ([OSError(errno.EINTR, ""), 5], [5, 5], []),
        (
            [OSError(errno.EPERM, ""), 3, OSError(errno.ECONNREFUSED, "")],
            [5, 4, 1],
            [errno.EPERM, errno.ECONNREFUSED],
        ),
        ([OSError(errno.EAGAIN, "")] * 5, [5, 4, 3, 2, 1], [errno.EAGAIN] * 5),
    ],
)
def test_each_refusal_costs_one_packet(
    sender: socket.socket, outcomes: list[int | OSError], asked: list[int], failures: list[int]
) -> None:
    call = Scripted(*outcomes)
    packets = [(b"packet", sender.getsockname()[:2])] * 5
    assert SendMmsg(sender, call).send(list(packets)) == failures
    assert call.asked == asked
    assert call.outcomes == []


def test_a_turn_counts_what_would_block_and_what_is_refused(sender: socket.socket) -> None:
    relay = Relay()
    call = Scripted(3, OSError(errno.EAGAIN, ""), 1, OSError(errno.EPERM, ""), 6)
    shell = udp._Shell(sender, relay, lambda: 0.0, SendMmsg(sender, call))
    packets: Sealed = [(b"packet", sender.getsockname()[:2])] * 12
    assert shell._send(packets, 0) == 12
    assert (relay.counters.would_block, relay.counters.send_error) == (1, 1)


def test_an_address_that_fits_no_socket_costs_its_own_packet_only(host: str, sender: socket.socket) -> None:
    relay = Relay()
    with ExitStack() as stack:
        sock = receiver(sender.family, stack)
        address: Address = sock.getsockname()[:2]
        foreign: Address = ("::1" if host == "127.0.0.1" else "127.0.0.1", 9)
        shell = udp._Shell(sender, relay, lambda: 0.0, opened(sender))
        packets: Sealed = [(b"%d" % number, foreign if number == 4 else address) for number in range(10)]
        assert shell._send(packets, 0) == 10
        assert [sock.recv(64) for _ in range(9)] == [b"0", b"1", b"2", b"3", b"5", b"6", b"7", b"8", b"9"]
    assert relay.counters.send_error == 1


def test_addresses_are_packed_as_the_kernel_takes_them() -> None:
    assert pack_address(socket.AF_INET, ("192.0.2.1", 0x1234))[2:] == bytes.fromhex("1234c0000201") + bytes(8)
    six = pack_address(socket.AF_INET6, ("2001:db8::1", 0x1234))
    assert six[2:] == bytes.fromhex("1234 00000000 20010db8000000000000000000000001 00000000")
    for family, address in (
        (socket.AF_INET, "::1"),
        (socket.AF_INET6, "127.0.0.1"),
        (socket.AF_INET, "localhost"),
    ):
        with pytest.raises(ValueError, match="expected an address"):
            pack_address(family, (address, 1))


def test_the_addresses_remembered_are_bounded() -> None:
    packed = sendmmsg._Packed(socket.AF_INET)
    for port in range(sendmmsg.ADDRESSES_MAX + 5):
        assert packed["127.0.0.1", port] == pack_address(socket.AF_INET, ("127.0.0.1", port))
    assert len(packed) == 5


def refuses(*arguments: int) -> int:
    ctypes.set_errno(errno.ENOSYS)
    return -1


def sends_one(*arguments: int) -> int:
    return 1


@pytest.mark.parametrize("call", [refuses, sends_one])
def test_a_call_that_does_not_do_what_it_should_is_not_used(call: Callable[..., int]) -> None:
    assert not sendmmsg._works(socket.AF_INET, call, segments=False)
    assert not sendmmsg._works(socket.AF_INET, call, segments=True)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_it_is_tried_on_linux_only(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with udp.open_media_socket("127.0.0.1", 0) as sock:
        assert open_sendmmsg(sock) is None


def test_a_c_library_without_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, name: None, *, use_errno: bool) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", Library)
    with udp.open_media_socket("127.0.0.1", 0) as sock:
        assert open_sendmmsg(sock) is None
