from __future__ import annotations

import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.protocol.codec import JSON, MSGPACK
from livechat.protocol.deflate import (
    AGREED,
    DEFLATED,
    DEFLATED_BYTES_MIN,
    Inflater,
    deflate_frame,
    negotiate_untrusted,
)
from livechat.protocol.events import Notification
from livechat.protocol.frames import serialize_frame
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.outgoing import Outgoing
from tests.support.raw import masked
from tests.support.transport import split_frames

LIMIT = 10_000


def deflated(payload: bytes) -> bytes:
    """Deflate a message as a client does."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def in_frames(opcode: int, body: bytes, cuts: list[int], between: bytes = b"") -> bytes:
    """Build one compressed message in fragments, with other frames between them."""
    points = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    parts = [body[start:end] for start, end in pairwise(points)]
    frames = []
    for index, part in enumerate(parts):
        fin = 0x80 if index == len(parts) - 1 else 0
        frames.append(masked(fin | (opcode | 0x40 if index == 0 else 0), part))
    return between.join(frames)


# --- what is agreed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        (["x-webkit-deflate-frame"], None),
        (["permessage-deflate"], AGREED),
        (["permessage-deflate; client_max_window_bits"], AGREED),
        (["permessage-deflate;client_max_window_bits=8 ; server_no_context_takeover"], AGREED),
        (['permessage-deflate; client_max_window_bits="10"'], AGREED),
        (["permessage-deflate; client_no_context_takeover"], AGREED),
        (["permessage-deflate; server_max_window_bits=15"], f"{AGREED}; server_max_window_bits=15"),
        (["permessage-deflate; server_max_window_bits=10"], None),
        (["permessage-deflate; server_max_window_bits=10", "permessage-deflate"], AGREED),
        (["permessage-deflate; server_max_window_bits"], None),
        (["permessage-deflate; client_max_window_bits=7"], None),
        (["permessage-deflate; client_max_window_bits=16"], None),
        (["permessage-deflate; client_max_window_bits=015"], None),
        (["permessage-deflate; server_no_context_takeover=1"], None),
        (["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (["permessage-deflate; unheard_of"], None),
        (["permessage-deflate; "], None),
        (["permessage-bzip2", "permessage-deflate"], AGREED),
    ],
)
def test_the_first_offer_that_can_be_met_is_agreed_on(offers: list[str], answer: str | None) -> None:
    assert negotiate_untrusted(offers) == answer


# --- out -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=70_000) | st.integers(0, 70_000).map(bytes), st.booleans())
def test_a_deflated_frame_is_the_same_message_and_never_larger(payload: bytes, binary: bool) -> None:
    frame = serialize_frame(payload, binary=binary)
    sent = deflate_frame(frame)
    assert len(sent) <= len(frame)
    ((first, body),) = split_frames(sent, compressed=True)
    assert first & ~0x40 == frame[0]
    assert _inflated(first, body) == payload
    assert len(payload) >= DEFLATED_BYTES_MIN or sent == frame


def _inflated(first: int, body: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(body + b"\0\0\xff\xff") if first & 0x40 else body


def test_a_packet_is_deflated_once_for_all() -> None:
    packet = Outgoing(Op.NOTIFICATION, Notification("invite", preview="again " * 100))
    for codec in (JSON, MSGPACK):
        frame = packet.frame(DEFLATED[codec.name])
        assert frame is packet.frame(DEFLATED[codec.name])
        assert len(frame) < len(packet.frame(codec))
        ((first, body),) = split_frames(frame, compressed=True)
        assert _inflated(first, body) == packet.frame(codec)[-len(_inflated(first, body)) :]
    assert (
        json.loads(_inflated(0xC1, split_frames(packet.frame(DEFLATED["json"]), compressed=True)[0][1]))["op"]
        == Op.NOTIFICATION
    )


# --- in ------------------------------------------------------------------------------------------------

MESSAGES = st.lists(
    st.tuples(
        st.sampled_from((1, 2)),
        st.binary(max_size=300) | st.integers(0, LIMIT).map(bytes),
        st.booleans(),
        st.lists(st.integers(0, 1000), max_size=3),
    ),
    max_size=5,
)


@given(MESSAGES, st.lists(st.integers(1, 50), max_size=30))
def test_compressed_messages_become_plain_ones_in_any_pieces(
    messages: list[tuple[int, bytes, bool, list[int]]], steps: list[int]
) -> None:
    stream, expected = b"", []
    for opcode, payload, is_compressed, cuts in messages:
        if is_compressed:
            stream += in_frames(opcode, deflated(payload), cuts, masked(0x89, b"ping"))
            expected += [(0x89, b"ping")] * len(cuts)
        else:
            stream += masked(0x80 | opcode, payload)
        expected.append((0x80 | opcode, payload))
    inflater = Inflater(LIMIT)
    out, position = b"", 0
    for step in (*steps, len(stream)):
        out += inflater.feed(stream[position : position + step])
        while inflater.has_more:
            out += inflater.feed(b"")
        position += step
    assert inflater.violation is None
    assert [(first, payload) for first, payload in unmasked(out)] == expected


def unmasked(data: bytes) -> list[tuple[int, bytes]]:
    """Split a client's frames."""
    frames = []
    while data:
        short, start = data[1] & 0x7F, 2
        assert data[1] & 0x80
        size = short
        if short > 125:
            start = 4 if short == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        key, body = data[start : start + 4], data[start + 4 : start + 4 + size]
        frames.append((data[0], bytes(octet ^ key[index & 3] for index, octet in enumerate(body))))
        data = data[start + 4 + size :]
    return frames


@given(st.binary(max_size=500))
def test_whatever_comes_goes_on_or_ends_the_stream(data: bytes) -> None:
    inflater = Inflater(100)
    inflater.feed(data)
    assert inflater.violation in (None, 1002, 1007, 1009)


ONE = masked(0x41, deflated(b"a" * 400)[:3])


@pytest.mark.parametrize(
    ("data", "violation"),
    [
        (masked(0xC2, deflated(bytes(LIMIT + 1))), CloseCode.MESSAGE_TOO_BIG),
        (masked(0xC2, deflated(bytes(50_000_000))[:LIMIT]), CloseCode.MESSAGE_TOO_BIG),
        (masked(0xC2, bytes(LIMIT + 1)), CloseCode.MESSAGE_TOO_BIG),
        (masked(0xC2, b"\xff" * 20), CloseCode.INVALID_TEXT),
        (ONE + masked(0x81, b"x"), CloseCode.PROTOCOL_VIOLATION),
        (ONE + masked(0xC1, b"x"), CloseCode.PROTOCOL_VIOLATION),
        (ONE + masked(0xC0, b"x"), CloseCode.PROTOCOL_VIOLATION),
        (masked(0x01, b"x") + masked(0xC1, b"x"), CloseCode.PROTOCOL_VIOLATION),
        (masked(0xC0, b"x"), CloseCode.PROTOCOL_VIOLATION),
        (bytes((0xC1, 0xFE, 0, 5)) + bytes(9), CloseCode.PROTOCOL_VIOLATION),
        (ONE + masked(0x00, b"") * 5000, CloseCode.PROTOCOL_ABUSE),
    ],
    ids=range(11),
)
def test_what_can_not_be_a_compressed_message_ends_the_stream(data: bytes, violation: CloseCode) -> None:
    inflater = Inflater(LIMIT)
    inflater.feed(data)
    assert inflater.violation == violation
    assert inflater.feed(masked(0x81, b"more")) == b""


@pytest.mark.parametrize("first", [0xC9, 0xC8, 0xA1, 0xF1, 0x91, 0xC3, 0x83])
def test_what_wsproto_refuses_goes_on_to_it(first: int) -> None:
    frame = masked(first, b"hello")
    assert Inflater(LIMIT).feed(frame) == frame


def test_a_read_that_grows_is_inflated_a_message_at_a_time() -> None:
    inflater = Inflater(LIMIT)
    data = masked(0xC1, deflated(b"a" * LIMIT)) * 50
    parts = [inflater.feed(data)]
    while inflater.has_more:
        parts.append(inflater.feed(b""))
    assert max(map(len, parts)) < 3 * LIMIT
    assert inflater.violation is None
    assert inflater.frames == 50


def test_what_follows_the_last_block_is_not_kept() -> None:
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = last.compress(b"hello") + last.flush()
    inflater = Inflater(LIMIT)
    came = inflater.feed(masked(0x41, body) + masked(0x00, b"x" * 1000) + masked(0x80, b"y" * 1000))
    assert came.endswith(b"hello")
    inflater.feed(masked(0x41, body))
    for _ in range(LIMIT // 1000 + 1):
        inflater.feed(masked(0x00, b"x" * 1000))
    assert inflater.violation is CloseCode.MESSAGE_TOO_BIG


def test_endless_empty_blocks_end_the_stream() -> None:
    inflater = Inflater(LIMIT)
    inflater.feed(masked(0x41, b""))
    for _ in range(LIMIT // 500 + 1):
        inflater.feed(masked(0x00, b"\x00\x00\x00\xff\xff" * 100))
    assert inflater.violation is CloseCode.MESSAGE_TOO_BIG
