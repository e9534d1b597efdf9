from __future__ import annotations

import pytest
import trio

from livechat.gateway.ingress import FRAGMENTS_MAX, FRAMES_AT_ONCE
from tests.support.egress import MESSAGE_BYTES_MAX, Egress
from tests.support.raw import masked
from tests.support.transport import ScriptedTransport


async def test_frames_sent_along_with_the_head_come_first() -> None:
    early = masked(0x81, b"early")
    egress = Egress(ScriptedTransport(), rest=early)
    egress.transport.feed(b"later")
    assert await egress.ingress.receive() == early
    assert await egress.ingress.receive() == b"later"


async def test_only_complete_frames_are_signs_of_life() -> None:
    first, second = masked(0x81, b"hello"), masked(0x82, b"x" * 300)
    egress = Egress(ScriptedTransport(), rest=first[:4])
    chunks = [first[4:-1], first[-1:], second[:100], second[100:-1], second[-1:] + first, b""]
    egress.transport.feed(*chunks)
    assert await egress.ingress.receive() == first[:4]
    signs = []
    for chunk in chunks:
        assert await egress.ingress.receive() == chunk
        signs.append(egress.signs_of_life)
    assert signs == [0, 1, 1, 1, 2, 2]


async def test_frames_are_given_in_small_portions() -> None:
    """trio-websocket handles a pong without a checkpoint: thousands at once would stall everybody."""
    pong = masked(0x8A, b"")
    egress = Egress(ScriptedTransport())
    egress.transport.feed(pong * 1000)
    portions = [await egress.ingress.receive()]
    while len(b"".join(portions)) < 1000 * len(pong):
        portions.append(await egress.ingress.receive())
    assert {len(portion) // len(pong) for portion in portions[:-1]} == {FRAMES_AT_ONCE}


async def test_a_message_is_too_large_as_soon_as_it_says_so() -> None:
    egress = Egress(ScriptedTransport())
    fits = masked(0x82, bytes(MESSAGE_BYTES_MAX))
    in_fragments = masked(0x02, bytes(MESSAGE_BYTES_MAX)) + masked(0x89, b"ping")
    egress.transport.feed(fits + in_fragments, masked(0x80, b"x")[:6])
    await egress.ingress.receive()
    assert egress.violations == []
    await egress.ingress.receive()
    assert egress.violations == [1009]


async def test_a_message_must_not_come_in_too_many_fragments() -> None:
    egress = Egress(ScriptedTransport())
    stream = masked(0x02, b"") + masked(0x00, b"") * FRAGMENTS_MAX
    egress.transport.feed(stream)
    taken = 0
    while taken < len(stream):
        taken += len(await egress.ingress.receive())
    assert egress.violations[0] == 4503


async def test_a_connection_that_breaks_under_the_reader_is_a_broken_stream() -> None:
    egress = Egress(ScriptedTransport())
    egress.transport.fail()
    with pytest.raises(trio.BrokenResourceError):
        await egress.ingress.receive()
    assert egress.queue.broken
