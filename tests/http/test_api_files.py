"""Files over HTTP, by a real client: taken in, given out in parts, refused to whom they are not for."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

import livechat
from livechat.files.settings import FileSettings
from tests.integration.test_tls import authority, certificate_files, client_context
from tests.support.api import calling, is_problem
from tests.support.client import DELETE, LEAVE
from tests.support.files import PNG, MemoryBlobStore, blobs_in, file_room, path_of
from tests.support.server import running_server

__all__ = ["authority"]
TEXT = {"content-type": "text/plain"}
IN_X = {"channel_id": "x"}


# --- taking in --------------------------------------------------------------------------------------------


async def test_a_file_is_uploaded_and_downloaded(tmp_path: Path) -> None:
    data = PNG + bytes(range(256)) * 2000
    async with file_room(tmp_path) as room:
        headers = {
            "content-type": "image/png",
            "content-disposition": "attachment; filename*=UTF-8''%EC%82%AC.png",
        }
        made = await room.http.post("/files", params=IN_X, content=data, headers=headers)
        told = made.json()
        assert made.status_code == 201
        assert made.headers["location"] == told["url"] == f"/api/v1/files/{told['file_id']}"
        assert re.fullmatch("file_[0-9a-f]{40}", told["file_id"])
        assert set(told) == {"file_id", "url", "name", "bytes", "mime", "sha256", "created_at"}
        assert (told["name"], told["bytes"], told["mime"]) == ("사.png", len(data), "image/png")
        assert told["sha256"] == sha256(data).hexdigest()
        got = await room.http.get(path_of(told))
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-type"] == "image/png"
        assert got.headers["etag"] == f'"{told["sha256"]}"'
        assert got.headers["accept-ranges"] == "bytes"
        assert (
            got.headers["content-disposition"] == "inline; filename=\"file.png\"; filename*=UTF-8''%EC%82%AC.png"
        )
        assert got.headers["cache-control"] == "private, no-cache"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["content-security-policy"].endswith("sandbox")


async def test_a_form_is_uploaded_as_browsers_send_it(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        made = await room.http.post(
            "/files",
            params=IN_X,
            data={"note": "hi"},
            files={"file": ("b c.txt", b"content" * 50_000, "text/plain")},
        )
        assert made.status_code == 201, made.text
        assert (made.json()["name"], made.json()["mime"]) == ("b c.txt", "text/plain")
        assert (await room.http.get(path_of(made.json()))).content == b"content" * 50_000


async def test_a_body_of_unknown_length_is_taken(tmp_path: Path) -> None:
    async def parts() -> Any:
        for _ in range(10):
            yield b"x" * 10_000

    async with file_room(tmp_path) as room:
        made = await room.http.post("/files", params=IN_X, content=parts(), headers=TEXT)
        assert (made.status_code, made.json()["bytes"]) == (201, 100_000)
        assert made.json()["name"] == "file"


async def test_over_tls_as_well(authority: Any, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    settings: dict[str, Any] = dict(certificate_files(authority, tmp_path))
    async with file_room(tmp_path, tls=client_context(authority), **settings) as room:
        told = await room.upload(data, mime="application/octet-stream")
        assert (await room.http.get(path_of(told))).content == data
        part = await room.http.get(path_of(told), headers={"range": "bytes=-1000"})
        assert (part.status_code, part.content) == (206, data[-1000:])


@pytest.mark.parametrize(
    ("params", "headers", "status", "code", "detail"),
    [
        ({}, TEXT, 422, 1004, "channel_id"),
        ({"channel_id": "no such id!"}, TEXT, 422, 1004, "channel_id"),
        ({"channel_id": "x", "name": ""}, TEXT, 422, 1004, "name"),
        ({"channel_id": "nowhere"}, TEXT, 404, 2000, "no channel"),
        (IN_X, {"content-type": "text/html"}, 415, 1004, "content-type: text/html is not taken"),
        (IN_X, {"content-type": "nonsense"}, 415, 1004, "content-type: expected a media type"),
        (IN_X, {"content-type": "image/png"}, 415, 1004, "content-type: the file does not begin like image/png"),
        (IN_X, {"content-type": "image/svg+xml"}, 415, 1004, "content-type: image/svg+xml is not taken"),
        (IN_X, {"content-type": "multipart/form-data"}, 422, 1004, "content-type: expected a boundary"),
        (IN_X, {"content-type": "multipart/form-data; boundary=x"}, 422, 1004, "body: malformed form"),
        (IN_X, {"content-type": "multipart/mixed; boundary=x"}, 422, 1004, "content-type: expected multipart"),
    ],
)
async def test_an_upload_that_is_not_as_it_must_be_is_refused(
    tmp_path: Path, params: dict[str, str], headers: dict[str, str], status: int, code: int, detail: str
) -> None:
    async with file_room(tmp_path) as room:
        refused = await room.http.post("/files", params=params, content=b"<script>", headers=headers)
        assert is_problem(refused, status, code, detail)
        assert blobs_in(room.folder) == {}


async def test_only_members_upload(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        assert is_problem(await room.carols.post("/files", params=IN_X, content=b"x", headers=TEXT), 403, 2004)
        async with calling(room.server, token=None) as nobody:
            assert is_problem(await nobody.post("/files", params=IN_X, content=b"x", headers=TEXT), 401, 1000)
        assert blobs_in(room.folder) == {}


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        assert is_problem(
            await room.http.post("/files", params=IN_X, headers=TEXT), 422, 1004, "file: expected some"
        )


async def test_too_large_is_refused_before_and_while_it_comes(tmp_path: Path) -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * 1000

    async with file_room(tmp_path, files=FileSettings(file_bytes=10_000)) as room:
        for content in (b"x" * 10_001, parts()):
            refused = await room.http.post("/files", params=IN_X, content=content, headers=TEXT)
            assert is_problem(refused, 413, 1005, "file: expected at most 10000 bytes")
        form = {"file": ("a", b"x" * 10_001, "text/plain")}
        assert is_problem(await room.http.post("/files", params=IN_X, files=form), 413, 1005)
        assert blobs_in(room.folder) == {}
        assert (await room.upload(b"x" * 10_000))["bytes"] == 10_000
        form = {"file": ("a", b"x" * 10_000, "text/plain")}
        assert (await room.http.post("/files", params=IN_X, files=form)).status_code == 201


async def test_quotas_are_kept(tmp_path: Path) -> None:
    async with file_room(tmp_path, files=FileSettings(user_bytes=10_000, total_bytes=15_000)) as room:
        await room.upload(b"x" * 8_000)
        refused = await room.http.post("/files", params=IN_X, content=b"x" * 3_000, headers=TEXT)
        assert is_problem(refused, 413, 1005, "file: all files of a user may have 10000 bytes")
        refused = await room.bobs.post("/files", params=IN_X, content=b"x" * 8_000, headers=TEXT)
        assert is_problem(refused, 503, 9001, "file: there is no room")


async def test_a_name_cannot_leave_its_folder_nor_deceive(tmp_path: Path) -> None:
    names = {
        "../../../etc/passwd": "passwd",
        "..\\..\\boot.ini": "boot.ini",
        "/etc/cron.d/x": "x",
        "a\u202etxt.exe": "atxt.exe",
        "a\r\nset-cookie: x": "aset-cookie: x",
        "..": "file",
        "~/.ssh/id": "id",
    }
    async with file_room(tmp_path) as room:
        for name, kept in names.items():
            told = await room.upload(name=name)
            assert told["name"] == kept
            got = await room.http.get(path_of(told))
            assert "set-cookie" not in got.headers
            assert kept.encode("ascii").decode() in got.headers["content-disposition"]
        assert all(re.fullmatch("[0-9a-f]{2}/[0-9a-f]{38}", path) for path in blobs_in(room.folder))
        assert len(blobs_in(room.folder)) == len(names)


async def test_the_content_filter_is_asked_for_the_name(tmp_path: Path) -> None:
    content_filter = livechat.WordFilter(["badword"], action="mask")
    async with file_room(tmp_path, open_with={"content_filter": content_filter}) as room:
        params = {"channel_id": "x", "name": "my badword.txt"}
        refused = await room.http.post("/files", params=params, content=b"x", headers=TEXT)
        assert is_problem(refused, 422, 3004)
        assert (await room.upload(name="good.txt"))["name"] == "good.txt"


async def test_uploads_can_be_switched_off(tmp_path: Path) -> None:
    async with file_room(tmp_path, files=FileSettings(uploads=False)) as room:
        refused = await room.http.post("/files", params=IN_X, content=b"x", headers=TEXT)
        assert is_problem(refused, 403, 1007, "file: this server takes no files")


async def test_a_disk_that_fails_is_said_and_nothing_stays(tmp_path: Path) -> None:
    blobs = MemoryBlobStore()
    async with file_room(tmp_path, open_with={"blobs": blobs}) as room:
        for call in ("create", "write", "finish"):
            blobs.failing = {call}
            refused = await room.http.post("/files", params=IN_X, content=b"x", headers=TEXT)
            assert is_problem(refused, 503, 3005, "file: it cannot be kept")
            assert blobs.blobs == {}
        blobs.failing = set()
        told = await room.upload()
        blobs.failing = {"read"}
        assert is_problem(await room.http.get(path_of(told)), 503, 9003, "file: it cannot be read")
        blobs.failing = set()
        assert (await room.http.get(path_of(told))).content == b"hello"
        assert not room.folder.exists(), "the bytes are where the embedder keeps them"


# --- giving out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specifier", "status", "content", "content_range"),
    [
        ("bytes=0-4", 206, b"01234", "bytes 0-4/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=0-", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=4-2", 200, b"0123456789", None),
        ("pages=1-2", 200, b"0123456789", None),
    ],
)
async def test_a_range_is_answered_with_that_part(
    tmp_path: Path, specifier: str, status: int, content: bytes, content_range: str | None
) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(b"0123456789")
        got = await room.http.get(path_of(told), headers={"range": specifier})
        assert (got.status_code, got.content) == (status, content)
        assert got.headers.get("content-range") == content_range
        assert got.headers["content-length"] == str(len(content))


async def test_a_range_that_is_not_there_is_said_with_the_size(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(b"0123456789")
        for specifier in ("bytes=10-", "bytes=-0"):
            got = await room.http.get(path_of(told), headers={"range": specifier})
            assert is_problem(got, 416, 1004, "range: the file has 10 bytes")
            assert got.headers["content-range"] == "bytes */10"


async def test_conditions_are_kept(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(b"0123456789")
        tag = f'"{told["sha256"]}"'

        async def get(**headers: str) -> httpx.Response:
            return await room.http.get(
                path_of(told), headers={name.replace("_", "-"): value for name, value in headers.items()}
            )

        known = await get(if_none_match=tag, range="bytes=0-1")
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
        assert (await get(if_none_match='"other"')).status_code == 200
        assert is_problem(await get(if_match='"other"'), 412, 1004, "if-match")
        assert (await get(if_match=tag)).status_code == 200
        assert (await get(if_range=tag, range="bytes=0-1")).content == b"01"
        assert (await get(if_range='"other"', range="bytes=0-1")).content == b"0123456789"
        assert (await get(if_range="Wed, 21 Oct 2015 07:28:00 GMT", range="bytes=0-1")).status_code == 200


async def test_head_says_what_get_would(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(b"0123456789")
        got, head = (
            await room.http.get(path_of(told)),
            await room.http.head(path_of(told), headers={"range": "bytes=0-1"}),
        )
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
        assert (await room.carols.head(path_of(told))).status_code == 404
        assert (await room.http.head(path_of(told), headers={"if-none-match": "*"})).status_code == 304


async def test_what_a_browser_could_run_is_only_saved(tmp_path: Path) -> None:
    async with file_room(tmp_path, files=FileSettings(types=("*/*",))) as room:
        for mime in ("text/html", "image/svg+xml", "text/xml", "application/pdf", "text/plain"):
            told = await room.upload(b"<svg onload='alert(1)'/>", "page.html", mime)
            got = await room.http.get(path_of(told))
            assert got.headers["content-disposition"] == 'attachment; filename="page.html"'
            assert got.headers["content-type"] == mime
            assert got.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in got.headers["content-security-policy"]


async def test_files_are_for_the_members_of_their_channel_once_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()

        async def statuses() -> list[int]:
            return [(await each.get(path_of(told))).status_code for each in (room.http, room.bobs, room.carols)]

        assert await statuses() == [200, 404, 404]
        await room.attach(told["url"])
        assert await statuses() == [200, 200, 404]
        await room.bob.ack(LEAVE, {"channel_id": "x"})
        assert await statuses() == [200, 404, 404]
        unknown = await room.http.get("/files/file_" + "0" * 40)
        hidden = await room.carols.get(path_of(told))
        assert is_problem(unknown, 404, 6000)
        assert unknown.json() == hidden.json(), "who may not have it is not to know that it is there"
        async with calling(room.server, token=None) as nobody:
            assert is_problem(await nobody.get(path_of(told)), 401, 1000)
        await room.alice.ack(DELETE, {"channel_id": "x"})
        assert await statuses() == [404, 404, 404]


@pytest.mark.parametrize(
    "name", ["x", "..", "%2e%2e%2fsecret", "file_" + "0" * 39, "file_" + "0" * 40 + "%00", "x" * 200]
)
async def test_what_is_no_file_is_not_found(tmp_path: Path, name: str) -> None:
    async with file_room(tmp_path) as room:
        await room.upload()
        assert (await room.http.get(f"/files/{name}")).status_code in (404, 405, 422)


async def test_the_scope_admin_may_have_and_remove_all(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        await room.attach(told["url"])
        admin = room.server.mint_token("root", ["admin"]).token
        async with calling(room.server, None, token=admin) as root:
            assert (await root.get(path_of(told))).content == b"hello"
            assert (await root.delete(path_of(told))).status_code == 204
            assert is_problem(await root.delete(path_of(told)), 404, 6000)
        assert is_problem(await room.http.get(path_of(told)), 404, 6000)
        assert blobs_in(room.folder) == {}


async def test_a_token_for_other_channels_is_not_for_these_files(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        narrow = room.server.mint_token("alice", channels=["other*"]).token
        async with calling(room.server, None, token=narrow) as client:
            assert is_problem(await client.get(path_of(told)), 404, 6000)
            refused = await client.post("/files", params=IN_X, content=b"x", headers=TEXT)
            assert is_problem(refused, 403, 1007, "channel_id")


async def test_its_uploader_removes_a_file_until_it_is_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        first, second = await room.upload(), await room.upload()
        assert is_problem(await room.bobs.delete(path_of(first)), 404, 6000)
        assert (await room.http.delete(path_of(first))).status_code == 204
        assert is_problem(await room.http.get(path_of(first)), 404, 6000)
        await room.attach(second["url"])
        assert is_problem(await room.http.delete(path_of(second)), 403, 1007, "file: a message refers to it")
        assert is_problem(await room.bobs.delete(path_of(second)), 403, 1007, "file: only its uploader")
        assert len(blobs_in(room.folder)) == 1


async def test_files_outlive_the_server(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(b"still there")
        await room.attach(told["url"])
    async with running_server(tmp_path) as server, calling(server, "bob") as http:
        assert (await http.get(path_of(told))).content == b"still there"


async def test_files_of_a_store_in_memory_go_with_the_server(tmp_path: Path) -> None:
    memory = livechat.StoreSettings(url="memory:")
    async with file_room(tmp_path, store=memory) as room:
        assert (await room.http.get(path_of(await room.upload()))).content == b"hello"
        assert not room.folder.exists()


async def test_the_server_counts_files(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        await room.http.get(path_of(await room.upload()))
        counted = room.server.statistics()["files"]
        assert counted == {"uploading": 0, "taken": 1, "bytes_taken": 5, "bytes_given": 5, "removed": 0}
