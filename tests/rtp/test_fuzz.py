"""Every parser of the room against bytes of all kinds: it returns, or raises ProtocolError, and no more."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import livechat.rtp
from livechat.error import ProtocolError
from livechat.rtp import demux, extensions, feedback, packet, rtcp
from tests.support.mutation import mutated

PARSERS: dict[str, Callable[[bytes], object]] = {
    "packet.header_length_untrusted": lambda data: [
        packet.header_length_untrusted(data, n) for n in (0, 4, 10, 16)
    ],
    "packet.parse_untrusted": packet.parse_untrusted,
    "extensions.parse_untrusted": extensions.parse_untrusted,
    "extensions.find_untrusted": lambda data: [extensions.find_untrusted(data, n) for n in (1, 14, 15, 200)],
    "extensions.audio_level_untrusted": lambda data: [
        extensions.audio_level_untrusted(data, n) for n in (1, 14, 200)
    ],
    "rtcp.parse_compound_untrusted": rtcp.parse_compound_untrusted,
    "rtcp.split_untrusted": lambda data: list(rtcp.split_untrusted(data)),
    "rtcp.parse_raw_untrusted": lambda data: [rtcp.parse_raw_untrusted(raw) for raw in rtcp.split_untrusted(data)],
    "rtcp.require_untrusted": lambda data: rtcp.require_untrusted(data, 8, "field"),
    "feedback.parse_datagram_untrusted": feedback.parse_datagram_untrusted,
    "feedback.parse_raw_untrusted": lambda data: [
        feedback.parse_raw_untrusted(raw) for raw in rtcp.split_untrusted(data)
    ],
}


def _extension(profile: int, data: bytes) -> bytes:
    header = packet.RtpHeader(1, 2, 3, csrcs=(4,), extension=(profile, data))
    return header.serialize() + b"payload"


def _control(packet_type: int, count: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 128 | count, packet_type, len(body) // 4) + body


REPORT = rtcp.ReportBlock(9, 1, -3, 70_000, 5, 6, 7)
SEEDS = (
    packet.RtpHeader(1, 2, 3, marker=True).serialize() + b"payload",
    packet.RtpHeader(1, 2, 3, padding=True, csrcs=(1, 2, 3)).serialize() + b"payload\x02",
    _extension(0xBEDE, b"\x10\x7f\x22\x01\x02\x03\x00\xf0"),
    _extension(0x1000, b"\x01\x01\x7f\x00\x05\x00\xff\x01\x02\x00\x00\x00"),
    rtcp.serialize_compound(
        (
            rtcp.SenderReport(1, 2, 3, 4, 5, (REPORT, REPORT)),
            rtcp.SourceDescription((rtcp.SdesChunk(1, ((rtcp.SDES_CNAME, b"name"),)),)),
            rtcp.Goodbye((1, 2), b"gone"),
        )
    ),
    rtcp.serialize(rtcp.ReceiverReport(1, (REPORT,))),
    _control(205, 1, struct.pack(">IIHHHH", 1, 2, 100, 0xFFFF, 200, 1)),
    _control(205, 15, struct.pack(">IIHHI", 1, 2, 100, 7, 1 << 8) + b"\x20\x07\x01\x02\x03\x04\x05\x06"),
    _control(206, 1, struct.pack(">II", 1, 2)),
    _control(206, 4, struct.pack(">IIII", 1, 0, 2, 5 << 24)),
    _control(206, 15, struct.pack(">II4sII", 1, 0, b"REMB", 1 << 24 | 3 << 18 | 1000, 2)),
)


def parsers() -> set[str]:
    """Return the names of all public parsers of the room."""
    modules = [module.name for module in pkgutil.iter_modules(livechat.rtp.__path__)]
    return {
        f"{name}.{function}"
        for name in modules
        for function, value in vars(importlib.import_module(f"livechat.rtp.{name}")).items()
        if function.endswith("_untrusted")
        and not function.startswith("_")
        and inspect.isfunction(value)
        and value.__module__ == f"livechat.rtp.{name}"
    }


def test_every_parser_is_tried() -> None:
    assert set(PARSERS) == parsers()


def parse(name: str, data: bytes) -> object:
    """Parse; return what came, or why it was refused."""
    try:
        return PARSERS[name](data)
    except ProtocolError as exc:
        return exc.reason


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(data=st.binary(max_size=200) | st.sampled_from(SEEDS).flatmap(mutated))
@example(data=b"")
def test_no_bytes_do_more_than_be_refused(name: str, data: bytes) -> None:
    # What is parsed twice is the same twice: no parser keeps anything.
    assert parse(name, data) == parse(name, data)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_no_length_does_more_than_be_refused(name: str) -> None:
    for seed in SEEDS:
        for length in range(len(seed) + 1):
            parse(name, seed[:length])
        parse(name, seed + bytes(65_000))


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_the_seeds_are_good(seed: bytes) -> None:
    """What is mutated has to begin as something that some parser takes to its end."""
    is_control = demux.classify(seed) is demux.Kind.RTCP
    assert PARSERS["feedback.parse_datagram_untrusted" if is_control else "packet.parse_untrusted"](seed)


@given(st.binary(max_size=40))
def test_everything_is_of_some_kind(data: bytes) -> None:
    assert demux.classify(data) in demux.Kind
