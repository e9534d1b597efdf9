"""What no honest client sends, on real sockets of a real server: it is refused, and costs nobody else anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

import livechat
from tests.support.api import calling
from tests.support.http import DEADLINE_S, exchange, split_responses
from tests.support.server import SECRET, running_server, wait_until

AS_ALICE = f"Host: x\r\nAuthorization: Bearer {SECRET}\r\nX-User-Id: alice\r\n".encode()
HELLO = b'{"channel_id": "made"}'
POST = b"POST /api/v1/channels HTTP/1.1\r\n" + AS_ALICE
GET = b"GET /api/v1/channels HTTP/1.1\r\n" + AS_ALICE
SMUGGLED = GET + b"\r\n"


async def refused(server: livechat.Server, data: bytes, *, eof: bool = True) -> list[int]:
    """Send bytes; return the statuses of what comes back. The server goes on, and logs no failure of its own."""
    with capture_logs() as logs:
        responses = split_responses(await exchange(server.addresses.tcp[0], data, eof=eof))
        async with calling(server) as alice:
            assert (await alice.get("/users/me")).status_code == 200
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    return [response.status for response in responses]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", id="two lengths"),
        pytest.param(POST + b"Content-Length: 5, 6\r\n\r\nabcdef", id="a list of lengths"),
        pytest.param(POST + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(POST + b"Content-Length: 0x10\r\n\r\n", id="a hexadecimal length"),
        pytest.param(POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", id="an endless length"),
        pytest.param(POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", id="chunked twice"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="another coding"),
        pytest.param(POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", id="a space before the colon"),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffffff\r\n", id="an endless chunk"
        ),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", id="a negative chunk"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", id="a chunk of 0x5"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n", id="a chunk without an end"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 50_000, id="an endless extension"),
        pytest.param(POST + b"X: a\0b\r\n\r\n", id="NUL in a header"),
        pytest.param(POST + b"X: a\rb\r\n\r\n", id="CR in a header"),
        pytest.param(POST + b"X(y): a\r\n\r\n", id="no header name"),
        pytest.param(POST + b"Host: y\r\n\r\n", id="two hosts"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", id="two spaces"),
        pytest.param(b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", id="a control character in the target"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", id="another version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"\0" * 1000 + b"\r\n\r\n", id="zeros"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5000 + b"\r\n", id="endless headers"),
    ],
)
async def test_what_two_servers_could_read_differently_is_refused_and_ends_the_connection(
    request_bytes: bytes, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server:
        (status,) = await refused(server, request_bytes + SMUGGLED)
        assert 400 <= status < 600
        assert status != 500


async def test_a_length_beside_chunks_does_not_let_a_second_request_in(tmp_path: Path) -> None:
    both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with running_server(tmp_path) as server:
        body = b"%x\r\n" % len(HELLO) + HELLO + b"\r\n0\r\n\r\n"
        # Chunks would win (RFC 9112, section 6.3), but a proxy that got it wrong is to be told.
        assert await refused(server, POST + both + body) == [400]


async def test_garbage_after_a_good_request_costs_only_itself(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert await refused(server, SMUGGLED + b"\x16\x03\x01 garbage\r\n\r\n" + SMUGGLED) == [200, 400]
        good = POST + b"Content-Length: %d\r\n\r\n" % len(HELLO) + HELLO
        assert await refused(server, good + b"garbage\r\n\r\n") == [201, 400]


async def test_a_body_where_none_is_read_is_no_request(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        smuggling = GET + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
        assert await refused(server, smuggling) == [200]


@pytest.mark.parametrize("target", ["http://x/healthz", "HTTPS://x:80/healthz?a=b", "/healthz", "//healthz"])
async def test_a_whole_url_means_its_path(target: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        statuses = await refused(server, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert statuses == ([404] if target.startswith("//") else [200])


@pytest.mark.parametrize(
    "line", ["OPTIONS * ", "CONNECT x:443 ", "GET x ", "GET ?a ", "TRACE / ", "get /healthz "]
)
async def test_targets_and_methods_that_mean_nothing_here_are_refused(line: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        (status,) = await refused(server, line.encode() + b"HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status in (400, 404, 405)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            b"GET /api/v1/channels HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", id="elsewhere"
        ),
        pytest.param(
            b"GET /api/v1/channels HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", id="h2c"
        ),
        pytest.param(b"GET /api/v1/channels HTTP/1.1\r\nConnection: Upgrade\r\n", id="to nothing"),
    ],
)
async def test_an_upgrade_where_there_is_none_is_a_request_without_it(head: bytes, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert await refused(server, head + AS_ALICE + b"\r\n") == [200]


async def test_an_upgrade_that_is_pipelined_behind_a_request_is_none(tmp_path: Path) -> None:
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with running_server(tmp_path) as server:
        assert await refused(server, SMUGGLED + upgrade) == [200, 426]


async def test_clients_that_trickle_keep_nobody_waiting_and_are_cut(tmp_path: Path) -> None:
    gateway = {"head_timeout_ms": 200, "http_idle_ms": 200}
    async with running_server(tmp_path, gateway=gateway) as server, trio.open_nursery() as nursery:
        address = server.addresses.tcp[0]

        async def trickle(data: bytes) -> None:
            with trio.fail_after(DEADLINE_S):
                async with await trio.open_tcp_stream(*address) as stream:
                    await stream.send_all(data)
                    while await stream.receive_some(4096):
                        pass

        for _ in range(50):
            nursery.start_soon(trickle, GET[:-10])
            nursery.start_soon(trickle, POST + b"Content-Length: 100\r\n\r\n{")
            nursery.start_soon(trickle, SMUGGLED)
        async with calling(server) as alice:
            assert (await alice.get("/users/me")).status_code == 200
        await wait_until(lambda: not server._front.http_scopes)
