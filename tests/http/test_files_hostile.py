"""Uploads and downloads by clients that lie, stop halfway or go away: nothing of them stays."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import livechat
from livechat.files.settings import FileSettings
from livechat.http import host as http_host
from tests.support.api import calling, is_problem
from tests.support.client import CREATE, JOIN, identified
from tests.support.files import blobs_in, file_room, path_of
from tests.support.http import exchange, split_responses
from tests.support.process import serving
from tests.support.server import DEADLINE_S, SECRET, running_server, wait_until

TOKEN = f"Host: x\r\nAuthorization: Bearer {SECRET}\r\nX-User-Id: alice\r\n"


def upload_head(*fields: str, channel_id: str = "x", mime: str = "text/plain") -> bytes:
    lines = "".join(f"{field}\r\n" for field in (f"Content-Type: {mime}", *fields))
    return f"POST /api/v1/files?channel_id={channel_id} HTTP/1.1\r\n{TOKEN}{lines}\r\n".encode()


HALF = upload_head("Content-Length: 1000000") + b"x" * 500_000


def is_half_there(folder: Path) -> bool:
    """Tell whether the server has begun to keep what came."""
    return sum(map(len, blobs_in(folder).values())) >= 262_144


@asynccontextmanager
async def half_uploaded(server: livechat.Server, folder: Path) -> AsyncGenerator[trio.SocketStream]:
    """Send half a file; the server waits for the rest when the block is entered."""
    async with await trio.open_tcp_stream(*server.addresses.tcp[0]) as stream:
        await stream.send_all(HALF)
        await wait_until(lambda: is_half_there(folder))
        yield stream


async def is_left_clean(server: livechat.Server, folder: Path) -> None:
    await wait_until(lambda: blobs_in(folder) == {} and server.statistics()["files"]["uploading"] == 0)
    assert server.statistics()["files"]["taken"] == 0


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        async with half_uploaded(room.server, room.folder):
            pass
        await is_left_clean(room.server, room.folder)


async def test_a_client_that_half_closes_too_early_leaves_nothing_and_is_told(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        async with half_uploaded(room.server, room.folder) as stream:
            await stream.send_eof()
            with trio.fail_after(DEADLINE_S):
                received = b"".join([part async for part in stream])
        (response,) = split_responses(received)
        assert response.status == 400
        await is_left_clean(room.server, room.folder)


async def test_a_client_that_half_closes_after_the_file_gets_its_answer(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        raw = await exchange(room.server.addresses.tcp[0], upload_head("Content-Length: 5") + b"hello")
        (response,) = split_responses(raw)
        assert response.status == 201


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(upload_head("Content-Length: 10") + b"short", 400, id="shorter than said"),
        pytest.param(upload_head("Content-Length: -5") + b"x", 400, id="negative"),
        pytest.param(upload_head("Content-Length: 1x") + b"x", 400, id="no number"),
        pytest.param(upload_head("Content-Length: 5", "Content-Length: 6") + b"hello", 400, id="two lengths"),
        pytest.param(upload_head("Transfer-Encoding: chunked") + b"zz\r\n", 400, id="bad chunk"),
        pytest.param(upload_head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n", 400, id="no last chunk"),
        pytest.param(upload_head("Transfer-Encoding: gzip") + b"x", 501, id="unknown coding"),
        pytest.param(upload_head("Content-Length: 99999999999") + b"x", 413, id="far too long"),
        pytest.param(upload_head("Content-Length: " + "9" * 25) + b"x", 400, id="no number of bytes"),
    ],
)
async def test_a_wrong_length_is_refused_and_leaves_nothing(tmp_path: Path, data: bytes, status: int) -> None:
    async with file_room(tmp_path) as room:
        (response,) = split_responses(await exchange(room.server.addresses.tcp[0], data))
        assert response.status == status
        await is_left_clean(room.server, room.folder)


async def test_what_comes_beyond_the_stated_length_is_not_of_the_file(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        data = upload_head("Content-Length: 5") + b"helloGARBAGE\r\n\r\n"
        made, garbage = split_responses(await exchange(room.server.addresses.tcp[0], data))
        assert (made.status, garbage.status) == (201, 400)
        assert list(blobs_in(room.folder).values()) == [b"hello"]


@pytest.mark.parametrize(
    ("size", "mime", "channel_id", "status"),
    [
        (99_999_999_999, "text/plain", "x", 413),
        (50, "text/html", "x", 415),
        (50, "text/plain", "nowhere", 404),
    ],
)
async def test_who_asks_before_sending_is_refused_without_the_body(
    tmp_path: Path, size: int, mime: str, channel_id: str, status: int
) -> None:
    """100 Continue would only have the client send what nobody wants."""
    async with file_room(tmp_path) as room:
        fields = ("Expect: 100-continue", f"Content-Length: {size}")
        raw = await exchange(room.server.addresses.tcp[0], upload_head(*fields, mime=mime, channel_id=channel_id))
        (response,) = split_responses(raw)
        assert response.status == status


async def test_who_asks_before_sending_and_may_is_told_to_go_on(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        data = upload_head("Expect: 100-continue", "Content-Length: 5") + b"hello"
        responses = split_responses(await exchange(room.server.addresses.tcp[0], data))
        assert responses[-1].status == 201


async def test_an_upload_byte_by_byte_is_an_upload(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        async with await trio.open_tcp_stream(*room.server.addresses.tcp[0]) as stream:
            for byte in upload_head("Content-Length: 30", "Connection: close"):
                await stream.send_all(bytes([byte]))
            for _ in range(30):
                await stream.send_all(b"x")
            with trio.fail_after(DEADLINE_S):
                (response,) = split_responses(b"".join([part async for part in stream]))
        assert response.status == 201
        assert list(blobs_in(room.folder).values()) == [b"x" * 30]


async def test_an_upload_that_stops_is_cut_and_leaves_nothing(tmp_path: Path) -> None:
    async with file_room(tmp_path, gateway={"http_idle_ms": 50}) as room:
        async with await trio.open_tcp_stream(*room.server.addresses.tcp[0]) as stream:
            await stream.send_all(upload_head("Content-Length: 10") + b"x")
            with trio.fail_after(DEADLINE_S):
                answer = b"".join([part async for part in stream])
        assert answer.startswith(b"HTTP/1.1 408 ")
        await is_left_clean(room.server, room.folder)


async def test_uploads_of_one_user_do_not_take_all_places(tmp_path: Path) -> None:
    async with file_room(tmp_path, files=FileSettings(uploads_per_user=1)) as room:
        async with half_uploaded(room.server, room.folder):
            refused = await room.http.post("/files", params={"channel_id": "x"}, content=b"x")
            assert is_problem(refused, 503, 9001, "file: expected at most 1 uploads at a time")
            assert (await room.bobs.post("/files", params={"channel_id": "x"}, content=b"x")).status_code == 201
        await wait_until(lambda: room.server.statistics()["files"]["uploading"] == 0)
        assert (await room.http.post("/files", params={"channel_id": "x"}, content=b"x")).status_code == 201


async def test_a_server_that_stops_leaves_nothing_of_what_was_coming(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x"})
        stream = await trio.open_tcp_stream(*server.addresses.tcp[0])
        await stream.send_all(HALF)
        await wait_until(lambda: is_half_there(folder))
    assert blobs_in(folder) == {}
    await stream.aclose()


async def test_a_killed_server_leaves_nothing_once_it_is_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    async with serving(tmp_path, env={"LIVECHAT_SECRET": SECRET}) as process:
        async with identified(process.url, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x"})
        port = int(process.url.rpartition(":")[2].partition("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(HALF)
            await wait_until(lambda: is_half_there(folder))
            process.send(signal.SIGKILL)
            await process.ended()
    assert len(blobs_in(folder)) == 1
    async with running_server(tmp_path):
        await wait_until(lambda: blobs_in(folder) == {})


async def test_a_download_that_stalls_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_host, "SEND_TIMEOUT_S", 0.05)
    async with file_room(tmp_path) as room:
        told = await room.upload(bytes(20_000_000), mime="application/octet-stream")
        others = len(room.server._front.http_scopes)
        async with await trio.open_tcp_stream(*room.server.addresses.tcp[0]) as stream:
            await stream.send_all(f"GET {told['url']} HTTP/1.1\r\n{TOKEN}\r\n".encode())
            await wait_until(lambda: room.server.statistics()["files"]["bytes_given"] > 0)
            # Reading nothing, it is cut; what was on its way by then can still be read.
            await wait_until(lambda: len(room.server._front.http_scopes) == others)
            with trio.fail_after(DEADLINE_S):
                received = b""
                try:
                    while data := await stream.receive_some(65_536):
                        received += data
                except trio.BrokenResourceError:
                    pass
        assert len(received) < 20_000_000
        assert (await room.http.get(path_of(told))).status_code == 200


async def test_who_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(bytes(20_000_000), mime="application/octet-stream")
        async with await trio.open_tcp_stream(*room.server.addresses.tcp[0]) as stream:
            await stream.send_all(f"GET {told['url']} HTTP/1.1\r\n{TOKEN}\r\n".encode())
            await wait_until(lambda: room.server.statistics()["files"]["bytes_given"] > 0)
            async with calling(room.server, "alice") as http:
                assert len((await http.get(path_of(told))).content) == 20_000_000
            await room.alice.say("x", "hello")
