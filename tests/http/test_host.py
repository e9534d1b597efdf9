from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from livechat.gateway.head import HEAD_BYTES_MAX
from livechat.http.host import DRAIN_BYTES_MAX
from tests.support.http import DEADLINE_S, exchange, read_response, serving, split_responses
from tests.support.server import running_server, wait_until


async def respond(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the method, the path and the body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            await respond(send, f"{scope['method']} {scope['path']} ".encode() + body)
            return


async def deaf(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without reading the body."""
    await respond(send, b"did not listen")


async def describe(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the scope."""
    plain = {key: value.decode() if isinstance(value, bytes) else value for key, value in scope.items()}
    plain["extensions"] = list(scope["extensions"])
    plain["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    await respond(send, json.dumps(plain).encode())


GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_GET = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(body: bytes, *headers: str, path: str = "/p") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# --- the server's own application --------------------------------------------------------------------------


async def test_the_server_answers_plain_http_on_its_websocket_port(tmp_path: Path) -> None:
    requests = {
        b"GET /healthz HTTP/1.1": 200,
        b"GET /healthz?x=y HTTP/1.1": 200,
        b"GET / HTTP/1.1": 404,
        b"GET /nothing/here HTTP/1.1": 404,
        b"POST /healthz HTTP/1.1": 405,
        b"DELETE /healthz HTTP/1.1": 405,
        b"GET /ws HTTP/1.1": 426,
        b"POST /ws HTTP/1.1": 405,
    }
    async with running_server(tmp_path) as server:
        for line, status in requests.items():
            raw = await exchange(server.addresses.tcp[0], line + b"\r\nHost: x\r\n\r\n")
            (response,) = split_responses(raw)
            assert response.status == status, line
            if status == 426:
                assert response.headers["upgrade"] == "websocket"
        (health,) = split_responses(await exchange(server.addresses.tcp[0], GET.replace(b"/a", b"/healthz")))
        assert json.loads(health.body)["status"] == "ok"
        assert json.loads(health.body)["node_id"] == server.node_id


async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        raw = await exchange(server.addresses.tcp[0], b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        (response,) = split_responses(raw, bodies=False)
        assert (response.status, int(response.headers["content-length"]) > 0) == (200, True)


UPGRADE = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(UPGRADE + "Sec-WebSocket-Version: 13\r\n\r\n", 400, id="no key"),
        pytest.param(UPGRADE + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400, id="no version"),
        pytest.param(UPGRADE + "Sec-WebSocket-Key : x\r\n\r\n", 400, id="no header"),
        pytest.param(UPGRADE.replace("Host: x\r\n", "") + "\r\n", 400, id="no host"),
        pytest.param(UPGRADE.replace("Connection: Upgrade\r\n", "") + "\r\n", 400, id="no connection"),
        pytest.param(UPGRADE + "X: " + "x" * 100_000, 431, id="too long"),
        pytest.param(UPGRADE + "X-Cut", 400, id="cut short"),
    ],
)
async def test_a_bad_upgrade_is_refused_and_its_connection_ends(tmp_path: Path, head: str, status: int) -> None:
    async with running_server(tmp_path) as server:
        with trio.move_on_after(DEADLINE_S / 10) as patience:
            raw = await exchange(server.addresses.tcp[0], head.encode(), eof="Cut" in head)
            assert raw.startswith(b"HTTP/1.1 %d" % status)
        assert not patience.cancelled_caught, "the client was left waiting"
        await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)


# --- requests, one after the other -------------------------------------------------------------------------


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with serving(echo) as address, await trio.open_tcp_stream(*address) as stream:
        for number in range(5):
            await stream.send_all(post(b"%d" % number))
            response = await read_response(stream)
            assert response.body == b"POST /p %d" % number
            assert "connection" not in response.headers


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as address:
        raw = await exchange(address, GET * 20 + post(b"body") + LAST_GET, eof=False)
    bodies = [response.body for response in split_responses(raw)]
    assert bodies == [b"GET /a "] * 20 + [b"POST /p body", b"GET /last "]


async def test_a_half_closed_client_gets_its_answer() -> None:
    async with serving(echo) as address:
        (response,) = split_responses(await exchange(address, post(b"bye")))
    assert response.body == b"POST /p bye"


async def test_http_1_0_gets_one_answer_and_the_end() -> None:
    async with serving(echo) as address:
        (response,) = split_responses(await exchange(address, b"GET /old HTTP/1.0\r\n\r\n", eof=False))
    assert (response.status, response.body) == (200, b"GET /old ")


async def test_who_asks_to_close_gets_the_end() -> None:
    async with serving(echo) as address:
        (response,) = split_responses(await exchange(address, LAST_GET, eof=False))
    assert response.headers["connection"] == "close"


async def test_a_request_may_come_in_pieces() -> None:
    async with serving(echo) as address, await trio.open_tcp_stream(*address) as stream:
        for byte in post(b"drip"):
            await stream.send_all(bytes((byte,)))
        assert (await read_response(stream)).body == b"POST /p drip"


async def test_a_chunked_body_is_read() -> None:
    request = (
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )
    async with serving(echo) as address:
        (response,) = split_responses(await exchange(address, request))
    assert response.body == b"POST /c abcde"


async def test_a_response_of_unknown_length_is_chunked() -> None:
    async def stream(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for part in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    async with serving(stream) as address:
        first, second = split_responses(await exchange(address, GET + GET))
    assert (first.headers["transfer-encoding"], first.body, second.body) == ("chunked", b"onetwo", b"onetwo")


async def test_the_application_is_told_what_was_asked() -> None:
    async with serving(describe) as address:
        raw = await exchange(
            address, b"GET /a%20b/%C3%A9?c=%20d HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\n\r\n"
        )
    scope = json.loads(split_responses(raw)[0].body)
    assert (scope["type"], scope["method"], scope["scheme"], scope["http_version"]) == (
        "http",
        "GET",
        "http",
        "1.1",
    )
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/é", "/a%20b/%C3%A9", "c=%20d")
    assert scope["headers"] == [["host", "x"], ["x-one", "1"], ["x-one", "2"]]
    assert (scope["client"][0], scope["server"][0]) == ("127.0.0.1", "127.0.0.1")


# --- bodies ------------------------------------------------------------------------------------------------


async def test_who_expects_100_continue_gets_it_once_the_body_is_wanted() -> None:
    async with serving(echo) as address, await trio.open_tcp_stream(*address) as stream:
        head, _, body = post(b"waited", "Expect: 100-continue").partition(b"\r\n\r\n")
        await stream.send_all(head + b"\r\n\r\n")
        assert (await read_response(stream)).status == 100
        await stream.send_all(body)
        assert (await read_response(stream)).body == b"POST /p waited"


async def test_who_expects_100_continue_is_answered_without_it_if_the_body_is_not_wanted() -> None:
    async with serving(deaf) as address:
        head = post(b"waited", "Expect: 100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        (response,) = split_responses(await exchange(address, head))
    assert (response.status, response.body) == (200, b"did not listen")


async def test_a_body_that_the_application_did_not_read_is_skipped() -> None:
    async with serving(deaf) as address:
        raw = await exchange(address, post(b"x" * (DRAIN_BYTES_MAX // 2)) * 3 + LAST_GET, eof=False)
    assert [response.status for response in split_responses(raw)] == [200] * 4


async def test_a_body_too_long_to_be_skipped_ends_the_connection_after_the_answer() -> None:
    async with serving(deaf) as address:
        raw = await exchange(address, post(b"x" * 10 * DRAIN_BYTES_MAX) + GET, eof=False)
    assert [response.status for response in split_responses(raw)] == [200]


@pytest.mark.parametrize("size", [1001, 5000, 500_000])
async def test_a_body_past_the_limit_is_refused_and_the_client_learns_it(size: int) -> None:
    async with serving(echo, body_bytes=1000) as address:
        (response,) = split_responses(await exchange(address, post(b"x" * size), eof=False))
        assert (response.status, response.headers["connection"]) == (413, "close")
        (fits,) = split_responses(await exchange(address, post(b"x" * 1000)))
        assert fits.status == 200


async def test_a_chunked_body_past_the_limit_is_refused() -> None:
    chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
    async with serving(echo, body_bytes=1000) as address:
        (response,) = split_responses(await exchange(address, CHUNKED + chunk * 11, eof=False))
        assert response.status == 413
        (response,) = split_responses(await exchange(address, CHUNKED + chunk * 10 + b"0\r\n\r\n"))
        assert response.status == 200


async def test_each_request_has_its_own_limit() -> None:
    async with serving(echo, body_bytes=1000) as address:
        raw = await exchange(address, post(b"x" * 900) * 5)
    assert [response.status for response in split_responses(raw)] == [200] * 5


async def test_a_framework_that_answers_errors_itself_does_not_hide_the_refusal() -> None:
    async def count(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    application = Starlette(routes=[Route("/p", count, methods=["POST"])])
    bad_chunk = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    with capture_logs() as logs:
        async with serving(application, body_bytes=1000) as address:
            for request, status in ((post(b"x" * 2000), 413), (bad_chunk, 400), (post(b"x"), 200)):
                (response,) = split_responses(await exchange(address, request))
                assert response.status == status
    assert logs == []


# --- what is no HTTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nshort", 400),
        (b"GET / HT", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, 400),
        (b"GET /" + b"a" * HEAD_BYTES_MAX * 6, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * HEAD_BYTES_MAX * 6, 431),
        (GET + b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES_MAX * 6, 431),
        (GET + b"no http\r\n\r\n", 400),
    ],
)
async def test_what_is_no_http_is_refused_and_ends_the_connection(request_bytes: bytes, status: int) -> None:
    async with serving(echo) as address:
        responses = split_responses(await exchange(address, request_bytes))
        assert responses[-1].status == status
        assert responses[-1].headers["connection"] == "close"
        assert [response.status for response in responses[:-1]] == [200] * request_bytes.count(GET)
        assert split_responses(await exchange(address, GET))[0].status == 200


async def test_who_says_nothing_gets_nothing() -> None:
    async with serving(echo) as address:
        assert await exchange(address, b"") == b""


async def test_a_client_that_waits_too_long_between_requests_or_within_one_is_cut() -> None:
    async with serving(echo, idle_s=0.01) as address:
        (response,) = split_responses(await exchange(address, GET, eof=False))
        assert response.status == 200
        for begun in (post(b"never whole")[:-5], GET[:-2], CHUNKED + b"5\r\nab"):
            first, second = split_responses(await exchange(address, GET + begun, eof=False))
            assert (first.status, second.status, second.headers["connection"]) == (200, 408, "close")


# --- applications that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [RuntimeError("broken"), FileNotFoundError(2, "no such file"), TimeoutError()])
async def test_an_application_that_raises_costs_its_own_response_only(fault: Exception) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/broken":
            raise fault
        await echo(scope, receive, send)

    async with serving(fails) as address:
        with capture_logs() as logs:
            (response,) = split_responses(
                await exchange(address, GET.replace(b"/a", b"/broken?t=secret"), eof=False)
            )
        assert (response.status, response.headers["connection"]) == (500, "close")
        assert [(entry["event"], entry["path"]) for entry in logs] == [("http application failed", "/broken")]
        assert split_responses(await exchange(address, GET))[0].status == 200


async def test_an_application_that_gives_no_response_is_a_500() -> None:
    async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
        pass

    async with serving(silent) as address:
        with capture_logs() as logs:
            (response,) = split_responses(await exchange(address, GET, eof=False))
    assert (response.status, len(logs)) == (500, 1)


async def test_a_response_that_breaks_off_is_not_made_to_look_whole() -> None:
    async def breaks_off(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise RuntimeError("broken")

    async with serving(breaks_off) as address:
        with capture_logs() as logs:
            raw = await exchange(address, GET + GET, eof=False)
    assert raw.count(b"HTTP/1.1") == 1
    assert raw.endswith(b"\r\n\r\nabc")
    assert len(logs) == 1


async def test_an_application_that_breaks_the_rules_of_http_costs_its_own_connection_only() -> None:
    async def overruns(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"abc"})

    async with serving(overruns) as address:
        with capture_logs() as logs:
            raw = await exchange(address, GET, eof=False)
    assert raw.endswith(b"\r\n\r\n")
    assert len(logs) == 1


async def test_a_client_that_leaves_early_harms_nobody() -> None:
    async with serving(echo) as address:
        with capture_logs() as logs:
            for cut in (1, 30, 60):
                stream = await trio.open_tcp_stream(*address)
                await stream.send_all(post(b"x" * 50)[:cut])
                await stream.aclose()
            assert split_responses(await exchange(address, GET))[0].status == 200
    assert logs == []
