"""Many datagrams go and come in one call, whole, in order, with the time at which the system took them in."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from benchmarks.support.media_drain import port_drops, socket_drops
from benchmarks.support.mmsg import SO_TIMESTAMPNS, Inbox, Outbox


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sender.connect(receiver.getsockname())
        yield sender, receiver


def test_datagrams_arrive_as_they_were_laid_out(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    datagrams = [bytes([number]) * 20 for number in range(10)]
    outbox, inbox = Outbox(20, 10), Inbox(16, 32)
    outbox.load(datagrams)
    assert outbox.send(sender.fileno(), 0, 4) == 4
    assert outbox.send(sender.fileno(), 4, 6) == 6
    assert inbox.receive(receiver.fileno()) == 10
    assert [inbox.datagram(place) for place in range(10)] == datagrams
    assert inbox.count_of_length(10, 20) == 10
    assert inbox.receive(receiver.fileno()) == 0


def test_a_new_load_takes_the_place_of_the_old(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    outbox, inbox = Outbox(4, 3), Inbox(4, 8)
    outbox.load([b"old0", b"old1", b"old2"])
    outbox.load([b"new0"])
    assert outbox.send(sender.fileno(), 0, 2) == 2
    assert inbox.receive(receiver.fileno()) == 2
    assert [inbox.datagram(0), inbox.datagram(1)] == [b"new0", b"old1"]


def test_lengths_tell_datagrams_apart_and_long_ones_are_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    inbox = Inbox(8, 16)
    for length in (4, 10, 10, 16, 40, 0):
        sender.send(bytes(length))
    assert inbox.receive(receiver.fileno()) == 6
    assert [inbox.length(place) for place in range(6)] == [4, 10, 10, 16, 16, 0]
    assert inbox.count_of_length(6, 10) == 2


def test_no_more_than_its_slots_are_taken_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    inbox = Inbox(2, 8)
    for number in range(3):
        sender.send(bytes([number]))
    assert inbox.receive(receiver.fileno()) == 2
    assert inbox.receive(receiver.fileno()) == 1
    assert inbox.datagram(0) == b"\2"


def test_each_datagram_has_its_time_again_and_again(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    inbox = Inbox(8, 8, timed=True)
    for _ in range(3):
        before = time.time_ns()
        sender.send(b"one")
        sender.send(b"two")
        after = time.time_ns()
        assert inbox.receive(receiver.fileno()) == 2
        assert before <= inbox.arrived_ns(0) <= inbox.arrived_ns(1) <= after
        inbox.renew(2)


def test_errors_are_raised(pair: tuple[socket.socket, socket.socket]) -> None:
    outbox, inbox = Outbox(4, 1), Inbox(1, 8)
    outbox.load([b"data"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        outbox.send(-1, 0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        inbox.receive(-1)


def test_a_full_socket_tells_what_it_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    assert socket_drops(receiver) == 0
    for _ in range(200):
        sender.send(bytes(1000))
    lost = socket_drops(receiver)
    inbox = Inbox(256, 1000)
    assert lost > 0
    assert lost + inbox.receive(receiver.fileno()) == 200


UDP_TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 1234: 0100007F:2710 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 17
 1235: 00000000:2710 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 3
 1236: 0100007F:2711 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0000000000000000 5
"""


def test_what_a_port_lost_is_read_from_the_systems_table() -> None:
    assert port_drops(UDP_TABLE, 10_000) == 20
    assert port_drops(UDP_TABLE, 10_001) == 5
    assert port_drops(UDP_TABLE, 10_002) == 0
