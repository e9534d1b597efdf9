"""The closing handshake of RFC 6455, section 7: Autobahn's family 7, and who ends the TCP connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from livechat.gateway.echo import ECHO_PATH
from tests.support.conformance import Case, check_all, echoing, ping, refused, text
from tests.support.raw import CLOSE, TEXT, close_payload, masked, raw_connected
from tests.support.server import wait_until

VALID = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
HELLO = (TEXT, b"hello")


def close(payload: bytes) -> bytes:
    """Build a client's close frame."""
    return masked(CLOSE, payload)


GOODBYE = close(close_payload(1000))


async def test_a_close_frame_is_answered_with_the_same(tmp_path: Path) -> None:
    cases = [
        Case("7.3.1", close(b""), code=1005),
        *(Case(f"7.7 {code}", close(close_payload(code)), code=code, reason=b"") for code in VALID),
        *(
            Case(f"7.3 {code} {reason!r:.9}", close(close_payload(code) + reason), code=code, reason=reason)
            for code in (1000, 1014, 3000, 4999)
            for reason in (b"Hello World!", "κόσμε".encode(), b"*" * 123)
        ),
        Case("7.1.1", text(b"hello") + GOODBYE, [HELLO], 1000),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_a_close_frame_that_says_what_it_must_not_is_refused(tmp_path: Path) -> None:
    cases = [
        refused("7.3.2", close(b"a")),
        refused("7.3.6", close(close_payload(1000) + b"*" * 124)),
        *(refused(f"7.9 {code}", close(close_payload(code))) for code in INVALID),
        *(refused(f"7.9 {code} and why", close(close_payload(code) + b"why")) for code in INVALID),
        *(
            refused(f"7.5.1 {code} {reason!r}", close(close_payload(code) + reason), code=1007)
            for code in (1000, 1014)
            for reason in (b"\xff", b"\xed\xa0\x80", b"\xce", b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited")
        ),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


async def test_what_follows_a_close_frame_is_ignored(tmp_path: Path) -> None:
    one, two = masked(0x01, b"frag"), masked(0x80, b"ments")
    cases = [
        Case(f"after it, {name}", GOODBYE + more, code=1000)
        for name, more in {
            "7.1.2, the same": GOODBYE,
            "7.1.2, another": close(close_payload(3000)),
            "7.1.3, a ping": ping(b"x"),
            "7.1.4, a message": text(b"hello"),
            "7.1.5, the rest of a message": two,
            "reserved bits": masked(0xF1, b""),
            "no mask": masked(TEXT, b"hello", mask=False),
            "invalid text": text(b"\xff"),
            "much": text(bytes(65_536)) * 4,
            "no frame": b"\xff" * 100,
        }.items()
    ]
    cases += [
        Case("7.1.5", one + GOODBYE + two, code=1000),
        Case("a good one after a bad one", close(b"a") + GOODBYE, code=1002),
        Case("after a violation", masked(0xF1, b"") + text(b"hello") + ping(b""), code=1002),
        Case("7.1.6", text(b"*" * 100_000) + GOODBYE + ping(b""), [(TEXT, b"*" * 100_000)], 1000),
    ]
    async with echoing(tmp_path) as server:
        await check_all(server, cases)


@pytest.mark.parametrize("path", [ECHO_PATH, "/ws"])
@pytest.mark.parametrize(
    "said",
    [GOODBYE, close(b""), close(b"a"), text(b"\xff"), masked(TEXT, b"x", mask=False), masked(0x83, b"")],
    ids=range(6),
)
async def test_the_server_ends_the_tcp_connection_first(path: str, said: bytes, tmp_path: Path) -> None:
    """So its side waits out TIME_WAIT, and not the client's (RFC 6455, section 7.1.1)."""
    async with echoing(tmp_path) as server, raw_connected(server, path=path) as client:
        await client.send(said)
        # To the end of what it sends, while our side of the connection stays open.
        assert await client.closed() is not None
        # Nobody waits for ours for ever.
        await wait_until(lambda: not server._front.echoes and not server._front.connections)
