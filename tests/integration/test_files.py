"""Messages that refer to files: what the server knows of a file counts, not what the message says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from livechat.files.settings import FileSettings
from tests.support.api import calling
from tests.support.client import CREATE, DELETE, HISTORY, JOIN, LEAVE, MESSAGE, MESSAGE_EVENT
from tests.support.files import PNG, FileRoom, blobs_in, claimed, file_room, path_of
from tests.support.server import running_server, wait_until


def stored(told: dict[str, Any]) -> dict[str, Any]:
    """Return the attachment as others see it."""
    return {name: told[name] for name in ("url", "name", "bytes", "mime")}


async def refused(room: FileRoom, url: str, code: int, reason: str, **fields: Any) -> None:
    """Assert that Alice's message is refused, and that nobody hears of it."""
    message = {"channel_id": "x", "content": "look", "attachment": claimed(url), **fields}
    refusal = await room.alice.refused(MESSAGE, message, id=1)
    assert (refusal["code"], refusal["reason"].startswith("attachment.url: ")) == (code, True), refusal
    assert reason in refusal["reason"]
    await room.bob.expect_silence()


async def test_a_message_tells_what_the_server_knows_of_the_file(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(PNG, "사진.png", "image/png")
        await room.attach(told["url"])
        event = await room.bob.expect(MESSAGE_EVENT)
        assert event["attachment"] == stored(told)
        page = await room.bob.ack(HISTORY, {"channel_id": "x"}, id=1)
        assert page["messages"][-1]["attachment"] == stored(told)


@pytest.mark.parametrize("scheme", ["http", "HTTP", "https"])
@pytest.mark.parametrize("host", ["bound", "localhost", "chat.example.org"])
async def test_by_its_absolute_url_it_is_the_same_file(tmp_path: Path, scheme: str, host: str) -> None:
    async with file_room(tmp_path) as room:
        address, port = room.server.addresses.tcp[0]
        origin = {"bound": f"{address}:{port}", "localhost": f"LocalHost:{port}"}.get(host, host)
        told = await room.upload()
        await room.attach(f"{scheme}://{origin}{told['url']}?download=1#top")
        assert (await room.bob.expect(MESSAGE_EVENT))["attachment"] == stored(told)


async def test_a_file_that_is_not_there_cannot_be_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        address, port = room.server.addresses.tcp[0]
        unknown = "/api/v1/files/file_" + "0" * 40
        for url in (unknown, f"http://{address}:{port}{unknown}", f"https://localhost:{port}{unknown}"):
            await refused(room, url, 1004, "there is no such file")
        for name in ("", "x", "..", "../../secret", "file_" + "0" * 40 + "/x"):
            await refused(room, f"/api/v1/files/{name}", 1004, "there is no such file")


async def test_anothers_file_cannot_be_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        made = await room.bobs.post("/files", params={"channel_id": "x"}, content=b"x")
        url = made.json()["url"]
        await refused(room, url, 1004, "there is no such file")
        await room.attach(url, room.bob)
        await room.alice.expect(MESSAGE_EVENT)
        await room.bob.expect(MESSAGE_EVENT)
        await refused(room, url, 1007, "only its uploader may attach")


async def test_a_file_of_another_channel_cannot_be_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        await room.alice.ack(CREATE, {"channel_id": "y"})
        await room.alice.ack(JOIN, {"channel_id": "y"})
        told = await room.upload(channel_id="y")
        await refused(room, told["url"], 1007, "uploaded to another channel")
        assert (await room.http.get(path_of(told))).status_code == 200


async def test_a_removed_file_cannot_be_attached(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        await room.http.delete(path_of(told))
        await refused(room, told["url"], 1004, "there is no such file")


async def test_who_left_attaches_nothing(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        await room.alice.ack(LEAVE, {"channel_id": "x"})
        await room.bob.receive()
        message = {"channel_id": "x", "content": "", "attachment": claimed(told["url"])}
        assert (await room.alice.refused(MESSAGE, message, id=1))["code"] == 3002
        assert (await room.bobs.get(path_of(told))).status_code == 404


async def test_a_repeated_message_is_the_first_one_again(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        first = await room.attach(told["url"], nonce="n")
        await room.alice.expect(MESSAGE_EVENT)
        admin = room.server.mint_token("root", ["admin"]).token
        async with calling(room.server, None, token=admin) as root:
            await root.delete(path_of(told))
        again = await room.attach(told["url"], nonce="n")
        assert again == {**first, "duplicate": True}
        await refused_nonce(room, told["url"])


async def refused_nonce(room: FileRoom, url: str) -> None:
    message = {"channel_id": "x", "content": "", "attachment": claimed(url), "nonce": "other"}
    refusal = await room.alice.refused(MESSAGE, message, id=1)
    assert (refusal["code"], refusal["nonce"]) == (1004, "other")


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/cat.png",
        "https://elsewhere.example/api/v1/files/file_" + "0" * 40,
        "https://elsewhere.example/api/v1/files/x",
        "//elsewhere.example/cat.png",
        "http://[broken",
        "mailto:cat@example.org",
        "cat.png",
    ],
)
async def test_an_attachment_elsewhere_is_left_as_it_is_said_unless_that_is_not_allowed(
    tmp_path: Path, url: str
) -> None:
    async with file_room(tmp_path / "open") as room:
        await room.attach(url)
        assert (await room.bob.expect(MESSAGE_EVENT))["attachment"] == claimed(url)
    async with file_room(tmp_path / "closed", files=FileSettings(foreign_attachments=False)) as room:
        code = 1004 if url.endswith("0" * 40) else 1007
        await refused(room, url, code, "file")
        told = await room.upload()
        await room.attach(told["url"])
        assert (await room.bob.expect(MESSAGE_EVENT))["attachment"] == stored(told)


async def test_messages_over_http_refer_to_files_as_well(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        body = {"content": "", "message_type": "FILE", "attachment": claimed(told["url"])}
        assert (await room.bobs.post("/channels/x/messages", json=body)).status_code == 422
        assert (await room.http.post("/channels/x/messages", json=body)).status_code == 201
        assert (await room.bob.expect(MESSAGE_EVENT))["attachment"] == stored(told)
        assert (await room.bobs.get(path_of(told))).content == b"hello"


async def test_messages_stay_in_order_with_and_without_files(tmp_path: Path) -> None:
    """A file is looked up within the message's own transaction, so none overtakes another."""
    async with file_room(tmp_path) as room:
        urls = [(await room.upload(name=f"{index}.txt"))["url"] for index in range(5)]
        for index, url in enumerate(urls):
            await room.alice.send(MESSAGE, {"channel_id": "x", "content": f"{index}a", "attachment": claimed(url)})
            await room.alice.send(MESSAGE, {"channel_id": "x", "content": f"{index}b"})
        heard = [(await room.bob.expect(MESSAGE_EVENT))["content"] for _ in range(10)]
        assert heard == [f"{index}{which}" for index in range(5) for which in "ab"]


async def test_what_no_message_took_and_what_a_deleted_channel_had_is_swept(tmp_path: Path) -> None:
    settings = FileSettings(unattached_ttl_ms=1, sweep_interval_ms=10)
    async with file_room(tmp_path, files=settings) as room:
        told = await room.upload()
        await wait_until(lambda: blobs_in(room.folder) == {})
        assert (await room.http.get(path_of(told))).status_code == 404
    async with file_room(tmp_path / "other", files=FileSettings(sweep_interval_ms=10)) as room:
        await room.attach((await room.upload())["url"])
        await room.alice.ack(DELETE, {"channel_id": "x"})
        await wait_until(lambda: blobs_in(room.folder) == {})


async def test_what_a_crash_left_is_swept_at_the_next_start(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload()
        (kept,) = blobs_in(room.folder)
    half, whole = "file_" + "a" * 40, "file_" + "b" * 40
    for name in (half, whole, told["file_id"]):
        (room.folder / "incoming" / name).write_bytes(b"left")
    (room.folder / "bb").mkdir(exist_ok=True)
    (room.folder / "bb" / ("b" * 38)).write_bytes(b"left")
    async with running_server(tmp_path) as server, calling(server) as http:
        await wait_until(lambda: set(blobs_in(room.folder)) == {kept})
        assert (await http.get(path_of(told))).content == b"hello"


async def test_the_client_library_reads_what_a_message_refers_to(tmp_path: Path) -> None:
    async with file_room(tmp_path) as room:
        told = await room.upload(PNG, "cat.png", "image/png")
        url, token = room.server.url, room.server.mint_token("bob").token
        async with livechat.open_client(url, token) as bob:
            messages = bob.messages("x")
            await room.attach(told["url"])
            with trio.fail_after(20):
                message = await anext(messages)
            assert message.attachment == stored(told)
