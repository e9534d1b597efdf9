"""History and sending over HTTP, heard by clients on the gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from tests.support.api import calling, is_problem
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    HISTORY,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    identified,
)
from tests.support.scopes import Scopes
from tests.support.server import make_config, running_server
from tests.support.store_sqlite import Rival

MESSAGES = "/channels/room/messages"


async def test_a_message_is_stored_and_told_as_one_of_the_gateway(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server) as poster,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "room"})
        for client in (alice, bob):
            await client.ack(JOIN, {"channel_id": "room"})
        await alice.expect(CHANNEL_EVENT)
        body = {"content": "안녕", "mentions": ["bob"], "nonce": "n1"}
        sent = await poster.post(MESSAGES, json=body)
        assert sent.status_code == 201
        created = sent.json()
        assert (created["seq"], created["duplicate"], created["nonce"]) == (3, False, "n1")
        for client in (alice, bob):
            event = await client.expect(MESSAGE_EVENT)
            assert (
                event.items() >= {"author_id": "alice", "content": "안녕", "mentions": ["bob"], "seq": 3}.items()
            )
            assert event["message_id"] == created["message_id"]
        assert (await bob.expect(NOTIFICATION))["kind"] == "mention"
        # The next one over the gateway goes on from there.
        assert (await bob.say("room", "hi"))["seq"] == 4
        history = (await poster.get(MESSAGES)).json()
        assert history == await alice.ack(HISTORY, {"channel_id": "room"})


@pytest.mark.parametrize("as_header", [True, False])
async def test_the_same_key_makes_one_message(as_header: bool, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as poster, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})

        async def send(content: str) -> Any:
            if as_header:
                return await poster.post(MESSAGES, json={"content": content}, headers={"Idempotency-Key": "k"})
            return await poster.post(MESSAGES, json={"content": content, "nonce": "k"})

        first, second = await send("hello"), await send("hello")
        assert (first.status_code, second.status_code) == (201, 200)
        assert second.json() == {**first.json(), "duplicate": True}
        assert is_problem(await send("other"), 409, 3003)
        assert (await alice.expect(MESSAGE_EVENT))["content"] == "hello"
        # A nonce is one, whichever way it comes.
        again = await alice.ack(MESSAGE, {"channel_id": "room", "content": "hello", "nonce": "k"}, id=1)
        assert (again["duplicate"], again["seq"]) == (True, first.json()["seq"])
        await alice.expect_silence()


async def test_a_key_and_another_nonce_contradict_each_other(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        await alice.post("/channels", json={"channel_id": "room"})
        body = {"content": "x", "nonce": "other"}
        assert is_problem(
            await alice.post(MESSAGES, json=body, headers={"Idempotency-Key": "k"}), 422, 1004, "nonce"
        )
        body = {"content": "x", "nonce": "k"}
        assert (await alice.post(MESSAGES, json=body, headers={"Idempotency-Key": "k"})).status_code == 201
        for key in ("", "k" * 65):
            refused = await alice.post(MESSAGES, json={"content": "x"}, headers={"Idempotency-Key": key})
            assert is_problem(refused, 422, 1004, "idempotency-key: ")


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        ({"content": " "}, 422, 3000, "content: "),
        ({"content": "x" * 2001}, 422, 3001, "content: "),
        ({}, 422, 1004, "content: required"),
        ({"content": "\ud800"}, 422, 1004, "content: "),
        ({"content": "x", "message_type": "SYSTEM"}, 422, 1004, "message_type: "),
        ({"content": "x", "attachment": {"url": "u"}}, 422, 1004, "attachment."),
        ({"content": "x", "mentions": ["a b"]}, 422, 1004, "mentions[0]: "),
        ({"content": "darn"}, 422, 3004, ""),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_told_to_nobody(
    body: dict[str, Any], status: int, code: int, detail: str, tmp_path: Path
) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), content_filter=livechat.WordFilter(["darn"])) as server,
        calling(server) as poster,
        identified(server, "alice") as alice,
    ):
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})
        # Escaped, so that a lone surrogate can be written.
        refused = await poster.post(
            MESSAGES, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert is_problem(refused, status, code, detail)
        await alice.expect_silence()


# --- who may -----------------------------------------------------------------------------------------------


async def test_members_send_and_so_does_who_may_publish(tmp_path: Path) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), authenticator=Scopes()) as server,
        identified(server, "alice", token="alice") as alice,
        calling(server, None, token="alice") as member,
        calling(server, None, token="mallory") as stranger,
        calling(server, None, token="bot:publish") as bot,
        calling(server, None, token="root:admin") as root,
        calling(server, None, token="odd:other") as odd,
    ):
        for name, private in (("room", False), ("den", True)):
            await alice.ack(CREATE, {"channel_id": name, "private": private})
            await alice.ack(JOIN, {"channel_id": name})
        hello = {"content": "hello"}
        for name, code in (("room", 3002), ("den", 2002)):
            path = f"/channels/{name}/messages"
            for client, author in ((member, "alice"), (bot, "bot"), (root, "root")):
                assert (await client.post(path, json=hello)).status_code == 201
                assert (await alice.expect(MESSAGE_EVENT))["author_id"] == author
            assert is_problem(await stranger.post(path, json=hello), 403, code)
            assert is_problem(await odd.post(path, json=hello), 403, 1007, "authorization: ")
            # Publishing is not reading.
            assert is_problem(await bot.get(path), 403, 1007, "authorization: ")
            assert is_problem(await stranger.get(path), 403, 2002 if name == "den" else 2004)
            assert (await root.get(path)).status_code == 200
        assert is_problem(await bot.post("/channels/none/messages", json=hello), 404, 2000)
        await alice.expect_silence()


async def test_who_has_the_shared_secret_publishes_without_being_a_member(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        calling(server, "backend") as backend,
    ):
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})
        assert (await backend.post(MESSAGES, json={"content": "deployed"})).status_code == 201
        assert (await alice.expect(MESSAGE_EVENT))["author_id"] == "backend"
        assert is_problem(await backend.get(MESSAGES), 403, 2004)


# --- history -----------------------------------------------------------------------------------------------


async def test_history_is_read_page_by_page_in_both_directions(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as reader, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})
        for number in range(10):
            await alice.say("room", str(number))

        async def page(**query: int) -> Any:
            response = await reader.get(MESSAGES, params={"limit": 4, **query})
            assert response.status_code == 200
            return response.json()

        newest = await page()
        assert [each["seq"] for each in newest["messages"]] == [8, 9, 10, 11]
        assert (newest["has_before"], newest["has_after"], newest["last_seq"]) == (True, False, 11)
        before = await page(before_seq=8)
        assert [each["seq"] for each in before["messages"]] == [4, 5, 6, 7]
        after = await page(after_seq=0)
        assert [each["seq"] for each in after["messages"]] == [1, 2, 3, 4]
        assert (after["has_before"], after["has_after"]) == (False, True)
        assert is_problem(
            await reader.get(MESSAGES, params={"before_seq": 1, "after_seq": 1}), 422, 1004, "after_seq: "
        )
        assert is_problem(await reader.get(MESSAGES, params={"limit": 101}), 422, 1004, "limit: ")


async def test_a_page_that_has_not_changed_is_not_sent_again(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as reader, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})
        tag = (await reader.get(MESSAGES)).headers["etag"]
        assert (await reader.get(MESSAGES, headers={"If-None-Match": tag})).status_code == 304
        await alice.say("room", "news")
        assert (await reader.get(MESSAGES, headers={"If-None-Match": tag})).status_code == 200


# --- the store is away -------------------------------------------------------------------------------------


async def test_what_is_not_persisted_is_said_and_told_to_nobody(tmp_path: Path) -> None:
    store = livechat.StoreSettings(timeout_ms=300)
    async with (
        running_server(tmp_path, store=store) as server,
        identified(server, "alice") as alice,
        calling(server) as poster,
    ):
        await alice.ack(CREATE, {"channel_id": "room"})
        await alice.ack(JOIN, {"channel_id": "room"})
        rival = Rival(tmp_path)
        rival.lock()
        async with trio.open_nursery() as nursery:
            for number in range(2):

                async def send(number: int = number) -> None:
                    refused = await poster.post(MESSAGES, json={"content": str(number)})
                    assert is_problem(refused, 503, 3005)
                    assert refused.json()["retryable"]
                    assert refused.json()["action"] in ("ROLLBACK", "RETRY")

                nursery.start_soon(send)
        rival.unlock()
        rival.close()
        sent = await poster.post(MESSAGES, json={"content": "healed", "nonce": "n"})
        assert sent.status_code == 201
        heard = await alice.expect(MESSAGE_EVENT)
        assert (heard["content"], heard["seq"]) == ("healed", sent.json()["seq"])
