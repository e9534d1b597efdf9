"""UTF-8 as RFC 6455, section 8.1, wants it: Autobahn's family 6, valid echoed, invalid refused at once (1007)."""

from __future__ import annotations

from pathlib import Path

import livechat
from livechat.gateway.echo import ECHO_PATH
from tests.support.conformance import CONTINUATION, FIN, Case, check_all, echoed, echoing, ping, refused, text
from tests.support.raw import TEXT, masked, raw_connected

LAST = FIN | CONTINUATION
KOSME = "κόσμε".encode()
VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    KOSME,
    *(
        chr(point).encode()
        for point in (
            *(0x00, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xCFFF, 0xD000, 0xD7FF, 0xE000),
            *(0xFFFD, 0xFFFE, 0xFFFF, 0xFDD0, 0xFEFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000, 0x10FFFF),
            # Those that are no characters are valid all the same.
            *(plane << 16 | last for plane in range(1, 17) for last in (0xFFFE, 0xFFFF)),
        )
    ),
]
INVALID = [
    # octets that begin nothing, and those that begin nothing any more (RFC 3629, section 3)
    *(bytes((octet,)) for octet in (0x80, 0xBF, 0xC0, 0xC1, *range(0xF5, 0x100))),
    b"\x80\xbf" * 3,
    # in more octets than it takes
    *(b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\xaf", b"\xe0\x9f\xbf", b"\xf0\x80\x80\xaf", b"\xf0\x8f\xbf\xbf"),
    *(b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"),
    # halves of surrogates, alone and in pairs
    *(b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbf\xbf"),
    *(b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"),
    # past the last code point
    *(b"\xf4\x90\x80\x80", b"\xf4\xbf\xbf\xbf", b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf"),
    # what follows does not go on with it
    *(b"\xc3(", b"\xe2(\xa1", b"\xe2\x82(", b"\xf0(\x8c\xbc", b"\xf0\x90(\xbc", b"\xf0\x90\x8c("),
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",
]
HOPELESS = [
    b"\x80",
    b"\xc0",
    b"\xff",
    b"\xc3(",
    b"\xe0\x9f",
    b"\xe2(",
    b"\xe2\x82(",
    b"\xf0\x8f",
    b"\xf0\x90(",
    b"\xf4\x90",
]
"""Up to the first octet after which nothing can be valid. (Half a surrogate Python knows by its third octet.)"""
CUT_SHORT = [b"\xc2", b"\xdf", b"\xe0\xa0", b"\xe1\x80", b"\xed\x9f", b"\xf0\x90\x80", b"\xf4\x8f\xbf", KOSME[:-1]]
"""What could go on, and does not."""


async def test_valid_text_is_echoed_whole_and_in_any_pieces(tmp_path: Path) -> None:
    cases: list[Case] = []
    for payload in VALID:
        answered = [(TEXT, payload)]
        cases += [
            echoed(f"6.2.1 {payload!r}", text(payload), answered=answered),
            echoed(f"6.2.3 {payload!r}", *octets(payload, ends=True), answered=answered),
        ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_invalid_text_is_refused_whole_and_in_any_pieces(tmp_path: Path) -> None:
    cases: list[Case] = []
    for payload in (*INVALID, *CUT_SHORT):
        cases += [
            refused(f"6.3.1 {payload!r}", text(payload), code=1007),
            refused(f"6.3.2 {payload!r}", *octets(payload, ends=True), code=1007),
            refused(
                f"after good {payload!r}", text(b"a"), text(b"a" + payload), code=1007, answered=[(TEXT, b"a")]
            ),
        ]
    cases.append(
        echoed("one message does not go on with the other", text(KOSME), text(KOSME), answered=[(TEXT, KOSME)] * 2)
    )
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_binary_may_be_anything(tmp_path: Path) -> None:
    cases = [
        echoed(f"{payload!r}", masked(0x82, payload), answered=[(0x82, payload)])
        for payload in (*INVALID, *CUT_SHORT)
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_text_is_refused_before_the_frame_or_the_message_has_ended(tmp_path: Path) -> None:
    """Autobahn's 6.4: "fail fast", once the octets have come after which nothing could be valid."""
    async with echoing(tmp_path) as server:
        for payload in (*INVALID, *HOPELESS):
            bad = KOSME + payload
            await ends_early(server, masked(0x01, KOSME) + masked(CONTINUATION, payload))  # 6.4.1
            await ends_early(server, b"".join(octets(bad, ends=False)))  # 6.4.2
            for size in (len(bad) + 20, 200, 70_000):
                frame = masked(TEXT, bad + b"x" * (size - len(bad)))
                rest = size - len(bad)
                await ends_early(server, frame[: len(frame) - rest])  # 6.4.3


async def test_text_that_may_yet_be_valid_is_waited_for(tmp_path: Path) -> None:
    async with echoing(tmp_path) as server:
        for payload in CUT_SHORT:
            async with raw_connected(server, path=ECHO_PATH) as client:
                await client.send(masked(0x01, payload) + ping(b"still there"))
                assert await client.frame() == (0x8A, b"still there")


def octets(payload: bytes, *, ends: bool) -> list[bytes]:
    """Build a text message in frames of one octet each."""
    frames = [
        masked((CONTINUATION if index else 0x01), payload[index : index + 1]) for index in range(len(payload))
    ]
    return [*frames, masked(LAST, b"")] if ends else frames


async def ends_early(server: livechat.Server, said: bytes) -> None:
    """Check that the server closes (1007), and ends the connection, though the client has more to say."""
    for path in (ECHO_PATH, "/ws"):
        async with raw_connected(server, path=path) as client:
            await client.send(said)
            assert await client.closed() == 1007, (path, said)
