"""Connections that no honest client makes: half-closed, slow, silent, cut, and very many; plain and over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from livechat.protocol.opcodes import CloseCode
from tests.support.hostile import (
    CREDENTIALS,
    GET,
    POST,
    UPGRADE,
    Stream,
    attacked,
    end,
    rest,
    send_as_far_as_taken,
)
from tests.support.http import split_responses
from tests.support.raw import CLOSE, TEXT, masked
from tests.support.server import DEADLINE_S

BOTH = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
QUICK = {"head_timeout_ms": 300, "http_idle_ms": 300, "identify_timeout_ms": 300, "close_timeout_ms": 200}
"""Deadlines that tests wait for."""
BODY = f"{POST}Content-Length: 16\r\n\r\n".encode()
WS = f"GET /ws HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n".encode()


# --- half-closed ---------------------------------------------------------------------------------------


@BOTH
async def test_who_ends_its_side_after_a_whole_request_gets_the_answer(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for requests in (GET, GET * 5, BODY + b'{"content":"hi"}'):
            responses = await target.responses(requests, eof=True)
            assert {response.status for response in responses} <= {200, 404}
            assert len(responses) == max(requests.count(GET), 1)


@BOTH
async def test_who_ends_its_side_within_a_request_is_refused(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for part in (GET[:3], GET[:-2], WS[:40], WS[:-1], BODY, BODY + b"{", BODY[:-40]):
            statuses = [response.status for response in await target.responses(part, eof=True)]
            # TLS that is ended without its own goodbye is over for both sides: there is nobody to tell.
            assert statuses == ([] if tls else [400]), part
        assert await target.exchange(b"", eof=True) == b""


@BOTH
async def test_a_websocket_whose_client_ends_its_side_ends(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for said in (b"", masked(TEXT, b'{"op":1}'), masked(TEXT, b'{"op":1}')[:4]):
            answer = await target.exchange(WS + said, eof=True)
            assert answer.startswith(b"HTTP/1.1 101")


@BOTH
@pytest.mark.parametrize("said", [b"", GET[:10], WS[:60], WS, BODY, GET * 50], ids=len)
async def test_who_vanishes_leaves_nothing_behind(tls: bool, said: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        for _ in range(5):
            stream = await target.connect()
            await send_as_far_as_taken(stream, said)
            await trio.aclose_forcefully(stream)


# --- slow ----------------------------------------------------------------------------------------------


async def answer_to(stream: Stream, said: bytes) -> bytes:
    """Say something and then nothing; return what comes up to the end."""
    with trio.fail_after(DEADLINE_S):
        await stream.send_all(said)
        answer = await rest(stream)
    await trio.aclose_forcefully(stream)
    return answer


@BOTH
@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        GET[:-1],
        WS[:-2],
        BODY,
        BODY + b'{"content":"hi"',
        BODY.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked") + b"5\r\n{",
        GET + GET[:5],
    ],
    ids=["a byte", "a head", "an upgrade", "no body", "part of a body", "part of a chunk", "the second head"],
)
async def test_a_request_that_does_not_come_whole_in_time_gets_408(
    tls: bool, begun: bytes, tmp_path: Path
) -> None:
    async with attacked(tmp_path, tls=tls, gateway=QUICK) as target:
        *before, last = split_responses(await answer_to(await target.connect(), begun))
        assert (last.status, last.headers["connection"]) == (408, "close")
        assert [response.status for response in before] == [200] * begun.count(GET)


@BOTH
@pytest.mark.parametrize("said", [b"", GET], ids=["nothing", "one request"])
async def test_who_asks_nothing_more_is_left_without_a_word(tls: bool, said: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls, gateway=QUICK) as target:
        responses = split_responses(await answer_to(await target.connect(), said))
        assert [response.status for response in responses] == [200] * len(said[:1])


@BOTH
@pytest.mark.parametrize("begun", [GET[:-2], BODY.replace(b": 16", b": 16000")], ids=["head", "body"])
async def test_a_drip_of_bytes_does_not_put_the_deadline_off(tls: bool, begun: bytes, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls, gateway=QUICK) as target:
        stream = await target.connect()
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_drip, stream, begun)
                answer = await rest(stream)
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)
        # Bytes may be under way as the server ends, which takes the answer along.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


async def _drip(stream: Stream, begun: bytes) -> None:
    """Go on with a request forever, a byte now and then: it never ends by itself."""
    try:
        await stream.send_all(begun)
        while True:
            await trio.sleep(0.01)
            await stream.send_all(b" ")
    except trio.BrokenResourceError:
        pass


@BOTH
async def test_a_websocket_that_says_nothing_is_closed(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls, gateway=QUICK) as target:
        answer = await answer_to(await target.connect(), WS + masked(TEXT, b'{"op":3,"d"')[:5])
        assert answer.startswith(b"HTTP/1.1 101")
        assert bytes((CLOSE,)) + answer.rpartition(bytes((CLOSE,)))[2] in answer
        assert int(CloseCode.IDENTIFY_TIMEOUT).to_bytes(2, "big") in answer


async def test_a_tls_handshake_that_stops_halfway_is_cut(tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=True, gateway=QUICK) as target:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16", GET):
            stream = await trio.open_tcp_stream(*target.server.addresses.tcp[0])
            assert b"HTTP" not in await answer_to(stream, said)


@BOTH
async def test_who_does_not_read_is_not_waited_for_by_others(tls: bool, tmp_path: Path) -> None:
    """Answers of a megabyte and more wait for a client that asked for them and reads none."""
    many = b"GET /api/v1/protocol.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    async with attacked(tmp_path, tls=tls) as target:
        deaf = await target.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_as_far_as_taken, deaf, many)
            for _ in range(20):
                (response,) = await target.responses(GET, eof=True)
                assert response.status == 200
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(deaf)


# --- many ----------------------------------------------------------------------------------------------


@BOTH
async def test_silent_connections_do_not_keep_others_out(tls: bool, tmp_path: Path) -> None:
    """More of them than the server takes at a time; each has to make room within its deadline."""
    async with attacked(tmp_path, tls=tls, gateway={**QUICK, "connections_max": 10}) as target:
        address = target.server.addresses.tcp[0]
        silent = [await trio.open_tcp_stream(*address) for _ in range(50)]
        (response,) = await target.responses(GET, eof=True)
        assert response.status == 200
        assert target.server.statistics()["gateway"]["connections_accepted"] > 50
        for stream in silent:
            await trio.aclose_forcefully(stream)


@BOTH
async def test_many_at_once_are_all_served(tls: bool, tmp_path: Path) -> None:
    async with attacked(tmp_path, tls=tls) as target:
        served: list[int] = []

        async def ask(number: int) -> None:
            if number % 3:
                served.extend(each.status for each in await target.responses(GET * 2, eof=True))
            else:
                served.append(await target.upgrades(WS))

        async with trio.open_nursery() as nursery:
            for number in range(120):
                nursery.start_soon(ask, number)
    assert (served.count(200), served.count(101)) == (160, 40)


@BOTH
async def test_one_connection_may_ask_much_and_is_answered_in_order(tls: bool, tmp_path: Path) -> None:
    asked = b"".join(
        f"GET /api/v1/channels/c{number}/members HTTP/1.1\r\nHost: x\r\n{CREDENTIALS}\r\n".encode()
        for number in range(200)
    )
    async with attacked(tmp_path, tls=tls) as target:
        stream = await target.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say_all, stream, asked)
            with trio.fail_after(DEADLINE_S):
                responses = split_responses(await rest(stream))
        await trio.aclose_forcefully(stream)
    assert [response.status for response in responses] == [404] * 200


async def _say_all(stream: Stream, asked: bytes) -> None:
    await stream.send_all(asked)
    await end(stream)
