"""Requests that no honest client sends, to a real server, plain and over TLS.

Each is refused with the right status, nothing is logged as an error, and the server goes on.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.hostile import CREDENTIALS, GET, POST, UPGRADE, attacked

BOTH = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
HEAD = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"
WS = "GET /ws HTTP/1.1\r\nHost: x\r\n"


def raw(text: str) -> bytes:
    return text.encode("latin-1")


# --- heads ---------------------------------------------------------------------------------------------

REQUEST_LINES = {
    "no http": ("hello\r\n\r\n", 400),
    "http/0.9": ("GET /healthz\r\n\r\n", 400),
    "no minor version": ("GET /healthz HTTP/1\r\nHost: x\r\n\r\n", 400),
    "small letters": ("GET /healthz http/1.1\r\nHost: x\r\n\r\n", 400),
    "http/2": ("GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "preface of http/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a later http/1": ("GET /healthz HTTP/1.2\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    "two spaces": ("GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "tabs": ("GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "nothing but lines": ("\r\n\r\n\r\n\r\n", 400),
    "NUL": ("GET /heal\0thz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "NUL, encoded": ("GET /heal%00thz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "no ASCII": ("GET /h\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 200 + "\r\n\r\n", 400),
    "unknown method": ("BREW /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    "TRACE": ("TRACE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
}
TARGETS = {
    "absolute": ("GET http://elsewhere.example/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    "absolute, https, query": ("GET HTTPS://x/healthz?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    "absolute, no path": ("GET http://x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "absolute, query only": ("GET http://x?/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "absolute, no http": ("GET ftp://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "absolute, broken": ("GET http://[::1/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    "authority": ("GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CONNECT": ("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 400),
    "asterisk": ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "OPTIONS of all": ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "relative": ("GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two slashes": ("GET //healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "dots": ("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    "dots, encoded": ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
}
HEADERS = {
    "no colon": (HEAD + "nothing\r\n\r\n", 400),
    "no name": (HEAD + ": b\r\n\r\n", 400),
    "space before the colon": (HEAD + "A : b\r\n\r\n", 400),
    "NUL in a value": (HEAD + "A: b\0c\r\n\r\n", 400),
    "NUL in a name": (HEAD + "A\0: b\r\n\r\n", 400),
    "carriage return in a value": (HEAD + "A: b\rc\r\n\r\n", 400),
    "no ASCII in a name": (HEAD + "\xe9: b\r\n\r\n", 400),
    "no ASCII in a value": (HEAD + "A: \xff\xfe\r\nConnection: close\r\n\r\n", 200),
    "no host": ("GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + "Host: y\r\n\r\n", 400),
    "lines without carriage return": ("GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n", 200),
    "too long": (HEAD + "A: " + "b" * 20_000 + "\r\n\r\n", 431),
    "too long without an end": (HEAD + "A: " + "b" * 200_000, 431),
    "too many": (HEAD + "A: b\r\n" * 5_000 + "\r\n", 431),
    "target too long": ("GET /" + "a" * 200_000, 431),
    "name too long": (HEAD + "A" * 200_000, 431),
    "unknown expectation": (HEAD + "Expect: miracles\r\nConnection: close\r\n\r\n", 200),
}


@BOTH
@pytest.mark.parametrize("table", [REQUEST_LINES, TARGETS, HEADERS], ids=["lines", "targets", "headers"])
async def test_a_head_is_answered_by_the_right_status(
    tls: bool, table: dict[str, tuple[str, int]], tmp_path: Path
) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for name, (text, expected) in table.items():
            (response,) = await target.responses(raw(text))
            assert (response.status, response.headers["connection"]) == (expected, "close"), name


# --- where a body ends ---------------------------------------------------------------------------------

SMUGGLED = "GET /healthz?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FRAMING = {
    "length and chunks": (POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and length": (POST + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    "chunks in http/1.0": (POST.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
    "list of lengths": (POST + "Content-Length: 2, 3\r\n\r\n{}", 400),
    "length with a sign": (POST + "Content-Length: +2\r\n\r\n{}", 400),
    "length below zero": (POST + "Content-Length: -2\r\n\r\n{}", 400),
    "length in hex": (POST + "Content-Length: 0x2\r\n\r\n{}", 400),
    "length with an underscore": (POST + "Content-Length: 1_0\r\n\r\n{}", 400),
    "length in other digits": (POST + "Content-Length: \xb2\r\n\r\n{}", 400),
    "length beyond all": (POST + "Content-Length: " + "9" * 5_000 + "\r\n\r\n{}", 400),
    "large length": (POST + "Content-Length: " + "9" * 20 + "\r\n\r\n", 413),
    "chunks twice": (POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    "unknown coding": (POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "identity": (POST + "Transfer-Encoding: identity\r\n\r\n", 501),
    "coding with a control character": (POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "coding by another space": (POST + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk of no number": (CHUNKED + "zz\r\n{}\r\n0\r\n\r\n", 400),
    "chunk below zero": (CHUNKED + "-2\r\n{}\r\n0\r\n\r\n", 400),
    "chunk with a prefix": (CHUNKED + "0x2\r\n{}\r\n0\r\n\r\n", 400),
    "chunk beyond all": (CHUNKED + "f" * 21 + "\r\n{}\r\n0\r\n\r\n", 400),
    "chunk longer than it says": (CHUNKED + "2\r\n{}xx0\r\n\r\n", 400),
    "trailer that is none": (CHUNKED + "2\r\n{}\r\n0\r\nnothing\r\n\r\n", 400),
    "chunk line without an end": (CHUNKED + "2;" + "x" * 200_000, 431),
    "trailers without an end": (CHUNKED + "0\r\nA: " + "x" * 200_000, 431),
    "more than may be": (CHUNKED + ("4000\r\n" + "x" * 0x4000 + "\r\n") * 10, 413),
}


@BOTH
async def test_a_body_whose_end_is_in_doubt_is_refused_and_nothing_after_it_is_served(
    tls: bool, tmp_path: Path
) -> None:
    async with attacked(tmp_path, tls=tls, gateway={"http_body_bytes": 0x20000}) as target:
        for name, (text, expected) in FRAMING.items():
            responses = await target.responses(raw(text + SMUGGLED))
            assert [response.status for response in responses] == [expected], name
            assert responses[0].headers["connection"] == "close", name


@BOTH
async def test_chunks_as_they_may_be_written_are_read(tls: bool, tmp_path: Path) -> None:
    body = '{"content":"hi"}'
    ways = (
        f"{POST}Transfer-Encoding: CHUNKED\r\n\r\n{len(body):X}\r\n{body}\r\n0\r\n\r\n",
        f"{CHUNKED}{len(body):x};name=value\r\n{body}\r\n0\r\nA: b\r\n\r\n",
        CHUNKED + "".join(f"1\r\n{each}\r\n" for each in body) + "0\r\n\r\n",
        f"{CHUNKED}{len(body):016x}\r\n{body}\r\n0\r\n\r\n",
        f"{POST}Content-Length: {len(body)}, {len(body)}\r\n\r\n{body}",
    )
    async with attacked(tmp_path, tls=tls) as target:
        responses = await target.responses(raw("".join(ways)) + GET, eof=True)
    # Read, understood, and no such channel.
    assert [response.status for response in responses] == [404] * len(ways) + [200]


@BOTH
@pytest.mark.parametrize("garbage", [b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", raw(POST) + b"A\r\n\r\n"])
async def test_garbage_behind_good_requests_costs_only_itself(tls: bool, garbage: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        responses = await target.responses(GET * 20 + garbage + GET)
    assert [response.status for response in responses] == [200] * 20 + [400]


@BOTH
async def test_bodies_that_are_no_requests_are_problems_of_their_own(tls: bool, tmp_path: Path) -> None:
    deep = "[" * 60_000
    bodies = {"": 422, "\0": 422, '"\xff': 422, "[]": 422, "{": 422, deep: 422, '{"content":1}': 422, "NaN": 422}
    async with attacked(tmp_path, tls=tls) as target:
        for body, expected in bodies.items():
            data = raw(f"{POST}Content-Length: {len(body)}\r\n\r\n{body}")
            (response,) = await target.responses(data, eof=True)
            assert response.status == expected, body[:10]
            assert response.headers["content-type"] == "application/problem+json"


# --- upgrades ------------------------------------------------------------------------------------------

TAKEN = {
    "as browsers ask": WS + UPGRADE + "\r\n",
    "absolute": "GET http://x/ws HTTP/1.1\r\nHost: x\r\n" + UPGRADE + "\r\n",
    "names in small letters": WS.replace("Host", "host") + UPGRADE.replace("Upgrade:", "upgrade:") + "\r\n",
    "in capitals": WS + UPGRADE.replace("Upgrade: websocket", "UPGRADE: WEBSOCKET") + "\r\n",
    "connection is a list": WS + UPGRADE.replace("Connection: ", "Connection: keep-alive, ") + "\r\n",
    "two connections": WS + "Connection: keep-alive\r\n" + UPGRADE + "\r\n",
    "length of nothing": WS + "Content-Length: 0\r\n" + UPGRADE + "\r\n",
    "unknown extension": WS + "Sec-WebSocket-Extensions: x-warp\r\n" + UPGRADE + "\r\n",
    "unknown subprotocol": WS + "Sec-WebSocket-Protocol: x-warp\r\n" + UPGRADE + "\r\n",
}
PLAIN = (404, 405, 426)
REFUSED = {
    "http/1.0": (WS.replace("1.1", "1.0") + UPGRADE + "\r\n", 400),
    "http/2": (WS.replace("1.1", "2.0") + UPGRADE + "\r\n", 400),
    "no host": (WS.replace("Host: x\r\n", "") + UPGRADE + "\r\n", 400),
    "two hosts": (WS + "Host: y\r\n" + UPGRADE + "\r\n", 400),
    "body": (WS + "Content-Length: 4\r\n" + UPGRADE + "\r\nbody", 400),
    "two lengths": (WS + "Content-Length: 0\r\nContent-Length: 4\r\n" + UPGRADE + "\r\nbody", 400),
    "chunks": (WS + "Transfer-Encoding: chunked\r\n" + UPGRADE + "\r\n0\r\n\r\n", 400),
    "another version": (WS + UPGRADE.replace("13", "12") + "\r\n", 426),
    "two versions": (WS + "Sec-WebSocket-Version: 8\r\n" + UPGRADE + "\r\n", 400),
    "two keys": (WS + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + UPGRADE + "\r\n", 400),
    "short key": (WS + UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl") + "\r\n", 400),
    "no connection": (WS + UPGRADE.replace("Connection: Upgrade\r\n", "") + "\r\n", 400),
    "connection of another name": (WS + UPGRADE.replace("Connection: Upgrade", "Connection: close") + "\r\n", 400),
    "another upgrade": (WS + UPGRADE.replace("websocket", "h2c") + "\r\n", 426),
    "by POST": (WS.replace("GET", "POST") + UPGRADE + "\r\n", 405),
    "in small letters": (WS.replace("GET", "get") + UPGRADE + "\r\n", 405),
    "another path": (WS.replace("/ws", "/ws/") + UPGRADE + "\r\n", 404),
    "folded header": (WS + "A: b\r\n Content-Length: 5\r\n" + UPGRADE + "\r\n", 400),
    "line in a header": (WS + "A: b\nContent-Length: 5\r\n" + UPGRADE + "\r\n", 400),
    "carriage return in a header": (WS + "A: b\rc\r\n" + UPGRADE + "\r\n", 400),
    "NUL in a header": (WS + "A: \0\r\n" + UPGRADE + "\r\n", 400),
    "NUL in the target": (WS.replace("/ws", "/ws?\0") + UPGRADE + "\r\n", 400),
    "no ASCII in the target": (WS.replace("/ws", "/ws?\xe9") + UPGRADE + "\r\n", 400),
    "no ASCII in a header": (WS + "A: \xe9\r\n" + UPGRADE + "\r\n", 400),
    "space before the colon": (WS + "A : b\r\n" + UPGRADE + "\r\n", 400),
    "too long": (WS + "A: " + "b" * 20_000 + "\r\n" + UPGRADE + "\r\n", 431),
    "bad token": (WS.replace("/ws", "/ws?token=bad&user_id=a") + UPGRADE + "\r\n", 401),
    "no token but credentials": (WS.replace("/ws", "/ws?token=") + CREDENTIALS + UPGRADE + "\r\n", 401),
}


@BOTH
async def test_an_upgrade_is_taken_however_it_may_be_written(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for name, text in TAKEN.items():
            assert await target.upgrades(raw(text)) == 101, name


@BOTH
async def test_an_upgrade_that_is_none_is_refused_and_nothing_after_it_is_served(
    tls: bool, tmp_path: Path
) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for name, (text, expected) in REFUSED.items():
            answer = await target.exchange(raw(text + SMUGGLED), eof=True)
            assert answer.startswith(b"HTTP/1.1 %d" % expected), name
            # But where it was a request like any other.
            assert expected in PLAIN or len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1, name


async def test_who_asks_for_another_version_is_told_which_one_is_spoken(tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=False) as target:
        answer = await target.exchange(raw(WS + UPGRADE.replace("13", "7") + "\r\n"))
    assert b"\r\nsec-websocket-version: 13\r\n" in answer.lower()
