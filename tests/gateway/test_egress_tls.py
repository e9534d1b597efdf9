"""What TLS has taken and the socket has not: which events the queue names, and how much there may be of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.transport import ANSWER_BYTES_MAX, RECORD_BYTES, TlsTransport, UnreadAnswers
from livechat.protocol.types import ChannelId
from tests.support.egress import Egress, frame
from tests.support.key_updates import KeyUpdates
from tests.support.memory_tls import Peer, tls_pair
from tests.support.sockets import trusting_context
from tests.support.transport import UNLIMITED, ScriptedTransport, split_frames

LOBBY = ChannelId("lobby")


async def tls_egress(room: int = 0) -> tuple[Egress, Peer]:
    socket = ScriptedTransport(room)
    transport, peer = await tls_pair(socket)
    return Egress(socket, over=transport), peer


def push(egress: Egress, *seqs: int, size: int = 0) -> None:
    frames = [frame(seq, size) for seq in seqs]
    if len(seqs) == 1:
        egress.queue.push(frames[0], (LOBBY, seqs[0]))
    else:
        egress.queue.push_all(b"".join(frames), frames, [(LOBBY, seq) for seq in seqs])


def named(egress: Egress) -> list[Any]:
    return [mark[1] for mark in egress.queue.cut() if isinstance(mark, tuple)]


async def test_what_tls_has_taken_and_the_socket_has_not_is_named_and_not_sent_any_more() -> None:
    egress, peer = await tls_egress()
    push(egress, 1, 2)
    push(egress, 3)
    assert named(egress) == [1, 2, 3]
    assert "abort" in egress.transport.log
    assert peer.received() == b""
    assert egress.queue.held_bytes == 0
    assert egress.counters.drops["durable", "connection_closed"] == 3


async def test_once_its_ciphertext_has_left_it_counts_as_sent(nursery: trio.Nursery) -> None:
    egress, peer = await tls_egress()
    egress.write_in(nursery)
    push(egress, 1, 2)
    egress.transport.open(1000)
    await wait_all_tasks_blocked()
    push(egress, 3)
    assert len(split_frames(peer.received())) == 3
    assert named(egress) == []
    assert egress.transport.log == []


async def test_of_a_record_of_which_a_byte_is_missing_nothing_counts_as_sent() -> None:
    egress, peer = await tls_egress()
    egress.transport.room = 10
    push(egress, 1)
    egress.transport.room = egress.queue.held_bytes - 1
    push(egress, 2)
    assert peer.received() == b""
    assert named(egress) == [1, 2]


@pytest.mark.parametrize("records", [1, 2, 3])
async def test_of_many_frames_those_count_as_sent_whose_last_record_has_left(records: int) -> None:
    egress, peer = await tls_egress()
    size = 5000 - len(frame(0))
    egress.transport.room = records * (RECORD_BYTES + 100)
    push(egress, *range(10, 22), size=size - 1)
    there = len(peer.received()) // len(frame(10, size - 1))
    assert there == records * RECORD_BYTES // len(frame(10, size - 1))
    assert named(egress) == list(range(10 + there, 22))


async def test_of_what_the_writer_sends_that_is_named_which_was_taken_last(nursery: trio.Nursery) -> None:
    egress, peer = await tls_egress()
    egress.write_in(nursery)
    for seq in range(5):
        push(egress, seq)
    await wait_all_tasks_blocked()
    # The first one's ciphertext goes, then all others are taken in one piece, of which a part goes.
    egress.transport.open(egress.queue.held_bytes)
    await wait_all_tasks_blocked()
    assert len(split_frames(peer.received())) == 1
    assert named(egress) == [1, 2, 3, 4]


async def test_what_a_broken_connection_had_taken_is_named_once() -> None:
    egress, _ = await tls_egress()
    push(egress, 1)
    egress.transport.fail()
    await egress.queue.write_loop()
    assert egress.queue.broken
    push(egress, 2)
    assert sorted(named(egress)) == [1, 2]
    egress.queue.abort()
    assert sorted(named(egress)) == [1, 2]


async def test_a_send_that_fails_ends_the_writer_that_waits_for_room(nursery: trio.Nursery) -> None:
    egress, _ = await tls_egress()
    egress.write_in(nursery)
    push(egress, 1)
    await wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 1
    # The system has not woken it.
    egress.transport.fail(silently=True)
    push(egress, 2)
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert sorted(named(egress)) == [1, 2]


async def updating_pair(tmp_path: Path, room: int) -> tuple[ScriptedTransport, TlsTransport, KeyUpdates]:
    """Return a connection whose client is to send key updates and nothing else."""
    context = trusting_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.keylog_filename = str(tmp_path / "keys")
    socket = ScriptedTransport(room)
    transport, _ = await tls_pair(socket, context)
    return socket, transport, KeyUpdates(tmp_path / "keys")


async def test_key_updates_are_answered_as_long_as_the_answers_are_read(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    socket, transport, updates = await updating_pair(tmp_path, UNLIMITED)
    nursery.start_soon(transport.receive)
    before = len(socket.sent)
    for _ in range(1000):
        socket.feed(updates.next())
        await wait_all_tasks_blocked()
    assert len(socket.sent) - before > 1000 * 20
    assert transport.unsent_bytes == 0
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_behind", [False, True], ids=["idle", "behind"])
async def test_who_asks_for_answers_and_reads_none_is_a_slow_consumer(tmp_path: Path, is_behind: bool) -> None:
    socket, transport, updates = await updating_pair(tmp_path, 0)
    egress = Egress(socket, over=transport)
    if is_behind:
        # What it has not read of the data is bounded by the queue; it does not count here.
        egress.queue.push(frame(1, 3 * ANSWER_BYTES_MAX))
    await egress.upgrade()
    held_bytes = transport.unsent_bytes
    # It may be sent to meanwhile.
    egress.queue.push(frame(2))
    for _ in range(ANSWER_BYTES_MAX // 20):
        socket.feed(updates.next())
        egress.queue.push(frame(3))
    with trio.fail_after(10):
        assert await egress.stream.receive_some() == b""
    assert egress.violations == [4001]
    assert not egress.queue.broken
    assert transport.unsent_bytes <= held_bytes + ANSWER_BYTES_MAX + 100
    with pytest.raises(UnreadAnswers):
        await transport.receive()
