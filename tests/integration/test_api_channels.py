"""Channels and their members over HTTP, heard by clients on the gateway."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

import livechat
from livechat.protocol.patterns import ChannelPatterns
from tests.support.api import calling, is_problem
from tests.support.client import CHANNEL_EVENT, CREATE, INFO, JOIN, LIST, MEMBER_ADD, MEMBER_LIST, identified
from tests.support.scopes import Scopes
from tests.support.server import make_config, running_server


async def test_a_channel_is_made_described_changed_and_deleted(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice, identified(server, "bob") as bob:
        made = await alice.post("/channels", json={"channel_id": "방", "channel_name": "Room", "capacity": 7})
        assert made.status_code == 201
        assert made.json() == {
            "channel_id": "방",
            "channel_name": "Room",
            "mode": "conference",
            "durable": True,
            "capacity": 7,
        }
        assert made.headers["location"] == "/api/v1/channels/%EB%B0%A9"
        await bob.ack(JOIN, {"channel_id": "방"})
        changed = await alice.patch("/channels/방", json={"channel_name": "Other", "capacity": None})
        assert (changed.status_code, changed.json()["channel_name"], changed.json()["capacity"]) == (
            200,
            "Other",
            7,
        )
        assert (await bob.expect(CHANNEL_EVENT))["channel"]["channel_name"] == "Other"
        described = await alice.get("/channels/방")
        assert described.json() == changed.json()
        assert (await alice.delete("/channels/방")).status_code == 204
        gone = await bob.expect(CHANNEL_EVENT)
        assert (gone["event"], gone["actor_id"]) == ("delete", "alice")
        assert is_problem(await alice.get("/channels/방"), 404, 2000)


async def test_it_tells_what_the_gateway_tells(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as session,
        calling(server) as alice,
    ):
        for number in range(5):
            await session.ack(CREATE, {"channel_id": f"c{number}"})
        await session.ack(JOIN, {"channel_id": "c1"})
        await session.ack(MEMBER_ADD, {"channel_id": "c1", "user_id": "bob"})
        assert (await alice.get("/channels")).json() == await session.ack(LIST)
        assert (await alice.get("/channels/c1")).json() == await session.ack(INFO, {"channel_id": "c1"})
        page = await session.ack(MEMBER_LIST, {"channel_id": "c1"})
        assert (await alice.get("/channels/c1/members")).json() == page


async def test_lists_are_read_page_by_page(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as session,
        calling(server) as alice,
    ):
        names = [f"c{number}" for number in range(5)]
        for name in names:
            await session.ack(CREATE, {"channel_id": name})
        await session.ack(JOIN, {"channel_id": "c0"})
        for name in names:
            await session.ack(MEMBER_ADD, {"channel_id": "c0", "user_id": f"u-{name}"})
        for path, entries, key in (
            ("/channels", "channels", "channel_id"),
            ("/channels/c0/members", "members", "user_id"),
        ):
            found, after = [], None
            for _ in range(10):
                page = (await alice.get(path, params={"limit": 2, **({"after": after} if after else {})})).json()
                assert len(page[entries]) <= 2
                found += [entry[key] for entry in page[entries]]
                after = page.get("next")
                if after is None:
                    break
            assert found == sorted(found)
            assert len(found) == (5 if entries == "channels" else 6)


# --- who may -----------------------------------------------------------------------------------------------


async def test_a_private_channel_is_for_its_own(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice, calling(server, "mallory") as mallory:
        await alice.post("/channels", json={"channel_id": "den", "private": True})
        await alice.post("/channels", json={"channel_id": "hall"})
        assert [each["channel_id"] for each in (await alice.get("/channels")).json()["channels"]] == [
            "den",
            "hall",
        ]
        assert [each["channel_id"] for each in (await mallory.get("/channels")).json()["channels"]] == ["hall"]
        for method, path in (
            ("GET", "/channels/den"),
            ("PATCH", "/channels/den"),
            ("DELETE", "/channels/den"),
            ("GET", "/channels/den/members"),
            ("GET", "/channels/den/messages"),
        ):
            refused = await mallory.request(method, path, json={} if method == "PATCH" else None)
            assert is_problem(refused, 403, 2002), (method, path)
        assert is_problem(await mallory.patch("/channels/hall", json={"capacity": 5}), 403, 1007)
        assert is_problem(await mallory.delete("/channels/hall"), 403, 1007)
        assert is_problem(await mallory.get("/channels/hall/members"), 403, 2004)
        assert (await mallory.get("/channels/hall")).json()["role"] is None


async def test_the_scope_admin_may_all_and_no_other_may(tmp_path: Path) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), authenticator=Scopes()) as server,
        calling(server, None, token="alice:chat") as alice,
        calling(server, None, token="root:admin") as root,
        calling(server, None, token="bot:publish") as bot,
    ):
        await alice.post("/channels", json={"channel_id": "den", "private": True})
        assert (await root.get("/channels/den")).status_code == 200
        assert (await root.patch("/channels/den", json={"capacity": 5})).json()["capacity"] == 5
        for method, path in (("GET", "/channels"), ("POST", "/channels"), ("GET", "/channels/den")):
            refused = await bot.request(method, path, json={"channel_id": "x"} if method == "POST" else None)
            assert is_problem(refused, 403, 1007, "authorization: expected a token of scope"), (method, path)
        assert (await root.delete("/channels/den")).status_code == 204


class OneChannel:
    """Lets everybody in as alice, whose token is good for channels that begin with `a`."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        return livechat.Identity(livechat.UserId("alice"), channels=ChannelPatterns(("a*",)))


async def test_a_token_for_some_channels_is_good_for_no_other(tmp_path: Path) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), authenticator=OneChannel()) as server,
        calling(server, None, token="x") as alice,
    ):
        assert (await alice.post("/channels", json={"channel_id": "a1"})).status_code == 201
        assert is_problem(await alice.post("/channels", json={"channel_id": "b1"}), 403, 1007, "channel_id: ")
        requests: list[tuple[str, str, dict[str, Any] | None]] = [
            ("GET", "/channels/b1", None),
            ("PATCH", "/channels/b1", {}),
            ("DELETE", "/channels/b1", None),
            ("GET", "/channels/b1/members", None),
            ("GET", "/channels/b1/messages", None),
            ("POST", "/channels/b1/messages", {"content": "x"}),
        ]
        for method, path, body in requests:
            refused = await alice.request(method, path, json=body)
            assert is_problem(refused, 403, 1007, "channel_id: "), (method, path)


# --- what is wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "detail"),
    [
        ("POST", "/channels", {}, "channel_id: required"),
        ("POST", "/channels", {"channel_id": "a b"}, "channel_id: "),
        ("POST", "/channels", {"channel_id": "a", "capacity": 0}, "capacity: "),
        ("POST", "/channels", {"channel_id": "a", "capacity": "7"}, "capacity: expected an integer"),
        ("POST", "/channels", {"channel_id": "a", "capacity": 7.5}, "capacity: expected an integer"),
        ("POST", "/channels", {"channel_id": "a", "mode": "loud"}, "mode: expected one of"),
        ("PATCH", "/channels/a", {"channel_name": ""}, "channel_name: "),
        ("PATCH", "/channels/a", [], "body: expected an object"),
        ("PATCH", "/channels/a%20b", {}, "channel_id: "),
        ("GET", "/channels/a%20b", None, "channel_id: "),
        ("GET", "/channels/" + "x" * 65, None, "channel_id: "),
        ("GET", "/channels?limit=0", None, "limit: "),
        ("GET", "/channels?limit=201", None, "limit: "),
        ("GET", "/channels?limit=many", None, "limit: expected an integer"),
        ("GET", "/channels?limit=1&limit=2", None, "limit: expected once"),
        ("GET", "/channels?after=a%20b", None, "after: "),
    ],
)
async def test_what_is_wrong_is_named(method: str, path: str, body: Any, detail: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        assert is_problem(await alice.request(method, path, json=body), 422, 1004, detail)


async def test_a_channel_is_made_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        assert (await alice.post("/channels", json={"channel_id": "room"})).status_code == 201
        assert is_problem(await alice.post("/channels", json={"channel_id": "room"}), 409, 2005)
        # What the path names is meant, whatever the body says.
        assert (
            await alice.patch("/channels/room", json={"channel_id": "other", "capacity": 3})
        ).status_code == 200
        assert (await alice.get("/channels/room")).json()["capacity"] == 3


async def test_who_has_a_channel_already_is_not_sent_it_again(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        await alice.post("/channels", json={"channel_id": "room"})
        first = await alice.get("/channels/room")
        assert first.headers["cache-control"] == "private, no-cache"
        tag = first.headers["etag"]
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = await alice.get("/channels/room", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        await alice.patch("/channels/room", json={"capacity": 3})
        changed = await alice.get("/channels/room", headers={"If-None-Match": tag})
        assert (changed.status_code, changed.headers["etag"] == tag) == (200, False)


async def test_it_is_the_same_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    async with running_server(tmp_path / "data", **files) as server, calling(server, tls=trusting) as alice:
        assert (await alice.post("/channels", json={"channel_id": "room"})).status_code == 201
        content = "한" * 2000
        sent = await alice.post("/channels/room/messages", json={"content": content})
        assert sent.status_code == 201
        assert (await alice.get("/channels/room")).json()["last_seq"] == 1
        assert len((await alice.get("/docs")).content) > 10_000
