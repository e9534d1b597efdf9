"""Frames as RFC 6455, section 5, has them: Autobahn's families 1 to 5, masks and lengths."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.support.conformance import (
    CONTINUATION,
    FIN,
    PONG,
    Case,
    binary,
    check_all,
    echoed,
    echoing,
    ping,
    refused,
    text,
)
from tests.support.raw import BINARY, CLOSE, PING, TEXT, masked

LAST = FIN | CONTINUATION
HELLO = (TEXT, b"hello")


# --- 1: framing ----------------------------------------------------------------------------------------

SIZES = (0, 1, 125, 126, 127, 128, 65_535, 65_536)


async def test_every_size_is_echoed(tmp_path: Path) -> None:
    async with echoing(tmp_path) as server:
        await check_all(
            server,
            [
                *(echoed(f"1.1 {size}", text(b"*" * size), answered=[(TEXT, b"*" * size)]) for size in SIZES),
                *(
                    echoed(f"1.2 {size}", binary(b"\xfe" * size), answered=[(BINARY, b"\xfe" * size)])
                    for size in SIZES
                ),
            ],
        )


# --- 2: pings and pongs --------------------------------------------------------------------------------


async def test_pings_are_answered_and_pongs_are_not(tmp_path: Path) -> None:
    many = [b"payload-%d" % number for number in range(10)]
    pongs = [(PONG, payload) for payload in many]
    cases = [
        *(
            echoed(f"2.x {len(payload)}", ping(payload), answered=[(PONG, payload)])
            for payload in (b"", b"hello", bytes((0, 255, 254, 253, 252, 251, 0, 255)), b"\xfe" * 125)
        ),
        refused("2.5", ping(b"\xfe" * 126)),
        echoed("2.7", masked(PONG, b""), answered=[]),
        echoed("2.8", masked(PONG, b"unsolicited"), answered=[]),
        echoed("2.9", masked(PONG, b"unsolicited"), ping(b"mine"), answered=[(PONG, b"mine")]),
        echoed("2.10", *map(ping, many), answered=pongs),
        refused("pong of 126", masked(PONG, bytes(126))),
        refused("2.5 after one that is good", ping(b"one"), ping(bytes(65_536)), answered=[(PONG, b"one")]),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


# --- 3 and 4: reserved bits and opcodes ----------------------------------------------------------------


async def test_reserved_bits_end_the_connection(tmp_path: Path) -> None:
    cases: list[Case] = []
    for rsv in range(1, 8):
        bits = rsv << 4
        cases += [
            refused(f"3 rsv {rsv}, text", masked(TEXT | bits, b"hello")),
            refused(f"3 rsv {rsv}, binary", masked(BINARY | bits, b"hello")),
            refused(f"3 rsv {rsv}, ping", masked(PING | bits, b"")),
            refused(f"3 rsv {rsv}, pong", masked(PONG | bits, b"")),
            refused(f"3 rsv {rsv}, close", masked(CLOSE | bits, b"\x03\xe8")),
            refused(
                f"3 rsv {rsv}, after text", text(b"hello"), masked(TEXT | bits, b"x"), ping(b""), answered=[HELLO]
            ),
            refused(f"3 rsv {rsv}, fragment", masked(0x01, b"a"), masked(LAST | bits, b"b")),
        ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_reserved_opcodes_end_the_connection(tmp_path: Path) -> None:
    cases: list[Case] = []
    for opcode in (*range(3, 8), *range(0xB, 0x10)):
        for payload in (b"", b"reserved opcode payload"):
            frame = masked(FIN | opcode, payload)
            cases += [
                refused(f"4 {opcode} {len(payload)}", frame),
                refused(f"4 {opcode} {len(payload)} between", text(b"hello"), frame, ping(b""), answered=[HELLO]),
            ]
        cases.append(refused(f"4 {opcode} in a message", masked(0x01, b"a"), masked(FIN | opcode, b"")))
        cases.append(refused(f"4 {opcode} in fragments", masked(opcode, b"a")))
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


# --- 5: fragments --------------------------------------------------------------------------------------


async def test_fragments_are_joined_with_control_frames_between_them(tmp_path: Path) -> None:
    one, two = masked(0x01, b"frag"), masked(LAST, b"ments")
    whole = (TEXT, b"fragments")
    cases = [
        echoed("5.3", one, two, answered=[whole]),
        echoed("5.6", one, ping(b"between"), two, answered=[(PONG, b"between"), whole]),
        echoed("pong between", one, masked(PONG, b"between"), two, answered=[whole]),
        echoed("binary", masked(0x02, b"\xff"), masked(LAST, b"\xfe"), answered=[(BINARY, b"\xff\xfe")]),
        echoed(
            "5.19",
            one,
            masked(CONTINUATION, b"m"),
            ping(b"1"),
            masked(CONTINUATION, b"e"),
            masked(CONTINUATION, b""),
            ping(b"2"),
            masked(LAST, b"nts"),
            answered=[(PONG, b"1"), (PONG, b"2"), whole],
        ),
        echoed("6.1.2", masked(0x01, b""), masked(CONTINUATION, b""), masked(LAST, b""), answered=[(TEXT, b"")]),
        echoed("6.1.3", masked(0x01, b""), masked(CONTINUATION, b"x"), masked(LAST, b""), answered=[(TEXT, b"x")]),
        echoed("two messages", one, two, one, two, answered=[whole, whole]),
        echoed(
            "256 fragments",
            masked(0x02, b"0"),
            *[masked(0, b"1")] * 254,
            two,
            answered=[(BINARY, b"0" + b"1" * 254 + b"ments")],
        ),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_what_is_out_of_place_among_fragments_ends_the_connection(tmp_path: Path) -> None:
    one, two = masked(0x01, b"frag"), masked(LAST, b"ments")
    whole = (TEXT, b"fragments")
    cases = [
        refused("5.1", masked(0x09, b"frag"), two),
        refused("5.2", masked(0x0A, b"frag"), two),
        refused("close in fragments", masked(0x08, b"\x03\xe8"), masked(LAST, b"")),
        refused("5.9", masked(LAST, b"nothing before"), text(b"hello")),
        refused("5.11", masked(CONTINUATION, b"nothing before"), text(b"hello")),
        refused("5.12", masked(CONTINUATION, b""), two),
        refused("5.15", one, two, masked(CONTINUATION, b"frag"), one, two, answered=[whole]),
        refused("after a message", text(b"hello"), two, answered=[HELLO]),
        refused("5.18", one, masked(TEXT, b"ments")),
        refused("binary within", one, masked(BINARY, b"ments")),
        refused("another begins", one, one, two),
        refused("another begins, empty", one, masked(TEXT, b""), two),
        refused("ping of 126 within", one, ping(bytes(126)), two),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


# --- masks and lengths ---------------------------------------------------------------------------------


async def test_a_frame_without_a_mask_ends_the_connection(tmp_path: Path) -> None:
    cases = [
        *(
            refused(f"unmasked {first:#x} {size}", masked(first, bytes(size), mask=False), answered=[])
            for first in (TEXT, BINARY, PING, PONG, CLOSE, 0x01)
            for size in (0, 2, 125, *(() if first & 8 else (126, 65_536)))
        ),
        refused("unmasked after masked", text(b"hello"), masked(TEXT, b"hello", mask=False), answered=[HELLO]),
        refused("unmasked within", masked(0x01, b"frag"), masked(LAST, b"ments", mask=False)),
        echoed("a mask of zeros", b"\x81\x85\0\0\0\0hello", answered=[HELLO]),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


def with_length(first: int, size: int, form: str) -> bytes:
    """Build the head of a masked frame, its length in a form that may be too long for it, and a payload."""
    short = {"!H": 126, "!Q": 127}[form]
    return bytes((first, 0x80 | short)) + struct.pack(form, size) + bytes(4 + min(size, 70_000))


async def test_a_length_in_more_octets_than_it_takes_ends_the_connection(tmp_path: Path) -> None:
    """ "The minimal number of bytes MUST be used to encode the length" (RFC 6455, section 5.2)."""
    cases = [
        *(refused(f"16 bits, {size}", with_length(BINARY, size, "!H")) for size in (0, 1, 125)),
        *(refused(f"64 bits, {size}", with_length(BINARY, size, "!Q")) for size in (0, 125, 126, 65_535)),
        refused("64 bits, the highest set", with_length(BINARY, 1 << 63, "!Q")),
        refused("64 bits, all set", with_length(BINARY, (1 << 64) - 1, "!Q")),
        refused("a ping of 16 bits", with_length(PING, 5, "!H")),
        refused("a ping of 64 bits", with_length(PING, 5, "!Q")),
        *(
            echoed(f"as it must be, {size}", with_length(BINARY, size, form), answered=[(BINARY, bytes(size))])
            for size, form in ((126, "!H"), (65_535, "!H"), (65_536, "!Q"))
        ),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)
