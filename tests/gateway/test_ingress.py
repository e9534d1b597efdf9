from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.ingress import FRAGMENTS_MAX, FRAMES_AT_ONCE
from tests.support.egress import MESSAGE_BYTES_MAX, Egress, frame
from tests.support.raw import masked
from tests.support.transport import ScriptedTransport

# --- in ----------------------------------------------------------------------------------------------------


HEAD = b"GET /ws HTTP/1.1\r\n\r\n"


async def test_what_was_read_already_is_read_again_first() -> None:
    egress = Egress(ScriptedTransport(), received=HEAD)
    egress.transport.feed(b"later")
    assert await egress.stream.receive_some() == HEAD
    await egress.stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert await egress.stream.receive_some(65536) == b"later"


async def test_frames_sent_along_with_the_head_wait_for_the_answer_to_the_handshake(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(), received=HEAD + masked(0x81, b"early"))
    egress.transport.feed(b"later")
    received: list[bytes] = []

    async def read() -> None:
        while len(received) < 3:
            received.append(await egress.stream.receive_some())

    nursery.start_soon(read)
    await wait_all_tasks_blocked()
    assert received == [HEAD]
    await egress.stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    await wait_all_tasks_blocked()
    assert (received[0], len(received[1]), received[2]) == (HEAD, 2 + 4 + 5, b"later")


async def test_only_complete_frames_are_signs_of_life() -> None:
    first, second = masked(0x81, b"hello"), masked(0x82, b"x" * 300)
    egress = Egress(ScriptedTransport(), received=HEAD + first[:4])
    chunks = [first[4:-1], first[-1:], second[:100], second[100:-1], second[-1:] + first, b""]
    egress.transport.feed(*chunks)
    await egress.stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert [await egress.stream.receive_some() for _ in range(2)] == [HEAD, first[:4]]
    signs = []
    for chunk in chunks:
        assert await egress.stream.receive_some() == chunk
        signs.append(egress.signs_of_life)
    assert signs == [0, 1, 1, 1, 2, 2]


async def test_frames_are_given_in_small_portions() -> None:
    """trio-websocket handles a pong without a checkpoint: thousands at once would stall everybody."""
    pong = masked(0x8A, b"")
    egress = Egress(ScriptedTransport())
    await egress.upgrade()
    egress.transport.feed(pong * 1000)
    portions = [await egress.stream.receive_some()]
    while len(b"".join(portions)) < 1000 * len(pong):
        portions.append(await egress.stream.receive_some())
    assert {len(portion) // len(pong) for portion in portions[:-1]} == {FRAMES_AT_ONCE}


async def test_a_message_is_too_large_as_soon_as_it_says_so() -> None:
    egress = Egress(ScriptedTransport())
    await egress.upgrade()
    fits = masked(0x82, bytes(MESSAGE_BYTES_MAX))
    in_fragments = masked(0x02, bytes(MESSAGE_BYTES_MAX)) + masked(0x89, b"ping")
    egress.transport.feed(fits + in_fragments, masked(0x80, b"x")[:6])
    await egress.stream.receive_some()
    assert egress.violations == []
    await egress.stream.receive_some()
    assert egress.violations == [1009]


async def test_a_message_must_not_come_in_too_many_fragments() -> None:
    egress = Egress(ScriptedTransport())
    await egress.upgrade()
    stream = masked(0x02, b"") + masked(0x00, b"") * FRAGMENTS_MAX
    egress.transport.feed(stream)
    taken = 0
    while taken < len(stream):
        taken += len(await egress.stream.receive_some())
    assert egress.violations[0] == 4503


async def test_a_connection_that_breaks_under_the_reader_is_a_broken_stream() -> None:
    egress = Egress(ScriptedTransport())
    egress.transport.fail()
    await egress.upgrade()
    with pytest.raises(trio.BrokenResourceError):
        await egress.stream.receive_some()
    assert egress.queue.broken


async def test_closing_by_trio_websocket_leaves_the_queue_to_be_sent() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    await egress.stream.aclose()
    egress.transport.open()
    egress.transport.feed(b"")
    await egress.queue.finish()
    assert egress.payloads == [b"1"]


async def test_to_trio_websocket_sending_never_blocks() -> None:
    egress = Egress(ScriptedTransport(0))
    for send in (egress.stream.wait_send_all_might_not_block, partial(egress.stream.send_all, b"")):
        await send()
    await egress.stream.send_all(bytearray(frame(1)))
    await egress.stream.send_all(memoryview(frame(2)))
    assert egress.queue.queued_frames == 2
