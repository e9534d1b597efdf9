"""What the operator is shown over HTTP, and putting users out; on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

import livechat
from livechat.handlers.auth import Identity
from livechat.protocol.types import UserId
from tests.support.api import calling, is_problem
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    FOCUS,
    IDENTIFY,
    INVALID_SESSION,
    JOIN,
    MEDIA_UPDATE,
    RESUME,
    connected,
    identified,
)
from tests.support.server import SECRET, running_server, wait_until

READING = (
    *("/admin/status", "/admin/users", "/admin/users/alice", "/admin/channels", "/admin/channels/x"),
    *("/admin/peers", "/admin/peers/1", "/admin/trace"),
)
CHANGING = ("/admin/kick/alice", "/admin/floor-revoke/x", "/admin/rekey/x")


class ByName:
    """Takes a name for a token; `root` may do everything."""

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """See `livechat.Authenticator`."""
        if token == "wrong":
            raise livechat.InvalidToken("token: wrong")
        return Identity(UserId(token), scopes=frozenset({"chat", "admin"} if token == "root" else {"chat"}))


async def got(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """Return the document under a path."""
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*READING, *CHANGING])
async def test_only_the_admin_scope_opens_it(path: str, tmp_path: Path) -> None:
    config = livechat.Config(port=0, udp_port=0, data_dir=tmp_path, gateway=livechat.GatewaySettings(drain_ms=0))
    async with livechat.open_server(config, authenticator=ByName()) as server:
        method = "POST" if path in CHANGING else "GET"
        async with calling(server, None, token="alice") as client:
            assert is_problem(await client.request(method, path), 403, 1007)
        async with calling(server, None, token="wrong") as client:
            assert is_problem(await client.request(method, path), 401, 1001)
        async with calling(server, None, token=None, headers={"X-Forwarded-For": "192.0.2.1"}) as client:
            # Not a program of this machine, whatever the address.
            assert is_problem(await client.request(method, path), 401, 1000)
        async with calling(server, None, token="root") as client, client.stream(method, path) as response:
            assert response.status_code in (200, 404), await response.aread()


async def test_reading_needs_no_token_on_loopback_and_changing_does(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None, token=None) as client:
        for path in ("/admin/status", "/admin/users", "/admin/channels", "/admin/peers"):
            await got(client, path)
        for path in CHANGING:
            assert is_problem(await client.post(path), 401, 1000)


async def test_beyond_loopback_reading_needs_a_token(tmp_path: Path) -> None:
    secret = "Xk7pQ2vN9rT4wZ8m"
    config = livechat.Config(
        host="0.0.0.0",
        port=0,
        udp_port=0,
        data_dir=tmp_path,
        secret=secret,
        gateway=livechat.GatewaySettings(drain_ms=0),
    )
    async with livechat.open_server(config) as server:
        for path in READING:
            async with calling(server, None, token=None) as client:
                assert is_problem(await client.get(path), 401, 1000)
        async with calling(server, None, token=secret) as client:
            await got(client, "/admin/status")


# --- what is shown --------------------------------------------------------------------------------


async def test_the_status_tells_how_the_server_is(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with identified(server, "alice") as alice, identified(server, "alice"), identified(server, "bob"):
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x", "media": {}})
            await alice.say("x", "hello")
            told = await got(client, "/admin/status")
        assert told["server"].startswith("livechat/")
        assert told["node_id"] == server.node_id
        assert (told["connections"], told["sessions"], told["sessions_parked"], told["users_online"]) == (
            3,
            3,
            0,
            2,
        )
        assert (told["channels"], told["subscriptions"], told["peers"], told["draining"]) == (1, 2, 1, False)
        assert told["store"]["works"] is True
        assert told["store"]["detail"] == told["backplane"] == "ok"
        assert 0 < told["store"]["commit_latency_p50_ms"] <= told["store"]["commit_latency_max_ms"]
        assert told["store"]["operations"] > 0
        assert told["egress"] == {"frames": 0, "frames_max": 0, "bytes": 0}
        assert told["rates"]["packets_in"] > 0
        assert told["rates"]["messages"] > 0
        assert told["memory_bytes"] > 1_000_000
        assert told["uptime_s"] > 0


async def test_users_are_listed_by_page_and_shown_with_their_sessions(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with (
            identified(server, "alice") as alice,
            identified(server, "bob") as bob,
            identified(server, "carol"),
        ):
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x", "media": {}})
            await alice.ack(FOCUS, {"channel_id": "x"}, id=1)
            page = await got(client, "/admin/users", limit=2)
            assert [user["user_id"] for user in page["users"]] == ["alice", "bob"]
            alices = {"sessions": 1, "connected": 1, "channels": 1, "voices": 1}
            assert page["users"][0] == {"user_id": "alice", "status": "ONLINE", **alices}
            rest = await got(client, "/admin/users", limit=2, after=page["next"])
            assert [user["user_id"] for user in rest["users"]] == ["carol"]
            assert "next" not in rest
            shown = await got(client, "/admin/users/alice")
            (session,) = shown["sessions"]
            assert alice.ready["session_id"].startswith(session["session"])
            assert len(session["session"]) < 20
            assert (session["connected"], session["peer"], session["focus"]) == (True, "127.0.0.1", "x")
            assert (session["subscriptions"], session["egress_frames"], session["is_admin"]) == (1, 0, False)
            assert session["chunks_dropped"] == 0
            assert shown["channels"] == ["x"]
            assert [voice["channel_id"] for voice in shown["voices"]] == ["x"]
            # A lost connection parks the session.
            await bob.ws.stream.aclose()
            await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
            shown = await got(client, "/admin/users/bob")
            assert shown["status"] == "OFFLINE"
            assert (shown["sessions"][0]["connected"], "peer" in shown["sessions"][0]) == (False, False)
            assert shown["sessions"][0]["parked_s"] >= 0
        nobody = await got(client, "/admin/users/nobody")
        assert nobody == {"user_id": "nobody", "status": "OFFLINE", "sessions": [], "channels": [], "voices": []}


async def test_channels_are_listed_by_page_private_ones_too(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with identified(server, "alice") as alice:
            for channel_id in ("a", "b", "c"):
                await alice.ack(CREATE, {"channel_id": channel_id, "private": channel_id == "b"})
            await alice.ack(JOIN, {"channel_id": "b", "media": {}})
            page = await got(client, "/admin/channels", limit=2)
            assert [channel["channel_id"] for channel in page["channels"]] == ["a", "b"]
            rest = await got(client, "/admin/channels", limit=2, after=page["next"])
            assert [channel["channel_id"] for channel in rest["channels"]] == ["c"]
            shown = await got(client, "/admin/channels/b")
            assert shown["channel"] == page["channels"][1]
            assert shown["members_here"] == ["alice"]
            assert [voice["user_id"] for voice in shown["voices"]] == ["alice"]
            assert shown["active_speakers"] == []
            channel = shown["channel"]
            assert (channel["private"], channel["owner_id"], channel["last_seq"]) == (True, "alice", 1)
            assert (channel["members_here"], channel["subscribers"], channel["voices"]) == (1, 1, 1)
        assert is_problem(await client.get("/admin/channels/none"), 404, 2000)


async def test_media_peers_are_listed_by_page_without_their_keys(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server, None) as client,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        keys = []
        for channel_id in ("x", "y"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            for each in (alice, bob):
                joined = await each.ack(JOIN, {"channel_id": channel_id, "media": {}})
                keys += [joined["media"]["client_key"], joined["media"]["server_key"]]
        page = await got(client, "/admin/peers", limit=3)
        assert [peer["peer_id"] for peer in page["peers"]] == [1, 2, 3]
        rest = await got(client, "/admin/peers", limit=3, after=page["next"])
        assert [(peer["user_id"], peer["channel_id"]) for peer in rest["peers"]] == [("bob", "y")]
        of_y = await got(client, "/admin/peers", channel_id="y")
        assert [peer["peer_id"] for peer in of_y["peers"]] == [3, 4]
        peer = await got(client, "/admin/peers/4")
        assert (peer["user_id"], peer["packets_received"], "address" in peer) == ("bob", 0, False)
        text = (await client.get("/admin/peers")).text
        assert not [key for key in keys if key in text]


async def test_a_token_of_some_channels_is_shown_no_others(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for channel_id in ("other", "x"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id, "media": {}})
        await alice.ack(FOCUS, {"channel_id": "other"}, id=1)
        token = server.mint_token("operator", scopes=("admin",), channels=("x",)).token
        async with calling(server, None, token=token) as client:
            channels = await got(client, "/admin/channels")
            assert [channel["channel_id"] for channel in channels["channels"]] == ["x"]
            peers = await got(client, "/admin/peers")
            assert [(peer["peer_id"], peer["channel_id"]) for peer in peers["peers"]] == [(2, "x")]
            assert is_problem(await client.get("/admin/peers/1"), 404, 1003)
            assert is_problem(await client.get("/admin/channels/other"), 403, 1007)
            shown = await got(client, "/admin/users/alice")
            assert (shown["channels"], len(shown["voices"]), "focus" in shown["sessions"][0]) == (["x"], 1, False)


@pytest.mark.parametrize("peer_id", ["0", "9", "x", "-1", "1.5", "9" * 100])
async def test_a_peer_that_is_none_is_not_found(peer_id: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        assert is_problem(await client.get(f"/admin/peers/{peer_id}"), 404, 1003, "peer_id: no such media peer")


@pytest.mark.parametrize(
    ("path", "query", "detail"),
    [
        ("/admin/users", {"limit": "0"}, "limit"),
        ("/admin/users", {"limit": "1001"}, "limit"),
        ("/admin/users", {"after": "no id"}, "after"),
        ("/admin/channels", {"limit": "x"}, "limit"),
        ("/admin/channels", {"after": ""}, "after"),
        ("/admin/peers", {"after": "-1"}, "after"),
        ("/admin/peers", {"channel_id": "no id"}, "channel_id"),
        ("/admin/users/no id", {}, "user_id"),
        ("/admin/channels/no id", {}, "channel_id"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(
    path: str, query: dict[str, str], detail: str, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        assert is_problem(await client.get(path, params=query), 422, 1004, detail)


# --- putting somebody out -------------------------------------------------------------------------


async def test_a_kick_ends_all_sessions_and_none_can_be_resumed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with (
            identified(server, "alice") as parked,
            identified(server, "alice") as one,
            identified(server, "alice", binary=True) as two,
            identified(server, "bob") as bob,
        ):
            await parked.ws.stream.aclose()
            await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
            response = await client.post("/admin/kick/alice")
            assert (response.status_code, response.json()) == (200, {"user_id": "alice", "sessions_ended": 3})
            assert [await each.closed() for each in (one, two)] == [4507, 4507]
            await bob.expect_silence()
            for session_id in (parked.ready["session_id"], one.ready["session_id"]):
                async with connected(server) as again:
                    refused = await again.request(RESUME, {"session_id": session_id, "token": SECRET})
                    assert refused["op"] == INVALID_SESSION
        # Without a ban, whoever has a good token may come back.
        async with identified(server, "alice"):
            pass


async def test_a_ban_keeps_the_user_out(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with identified(server, "alice") as alice:
            response = await client.post("/admin/kick/alice", json={"reason": "be nice", "ban_for_s": 3600})
            banned_until = response.json()["banned_until"]
            assert await alice.closed() == 4507
            assert alice.ws.close_reason == "be nice"
        async with connected(server) as again:
            refused = await again.request(IDENTIFY, {"token": SECRET, "user_id": "alice"})
            assert (refused["op"], refused["d"]["code"]) == (ERROR, 1007)
            assert 0 < refused["d"]["retry_after_ms"] <= 3_600_000
            assert await again.closed() == 4507
        async with calling(server, "alice") as hers:
            assert is_problem(await hers.get("/users/me"), 403, 1007)
        assert (await got(client, "/admin/users/alice"))["banned_until"] == banned_until
        async with identified(server, "bob"):
            pass


async def test_a_ban_ends(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        now_ms = server._node.now_ms
        response = await client.post("/admin/kick/alice", json={"ban_for_s": 1})
        await wait_until(lambda: now_ms() > response.json()["banned_until"])
        async with identified(server, "alice"):
            assert "banned_until" not in await got(client, "/admin/users/alice")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 124}, "reason"),
        ({"reason": "안" * 42}, "reason: expected at most 123 bytes"),
        ({"reason": 5}, "reason"),
        ({"ban_for_s": 0}, "ban_for_s"),
        ({"ban_for_s": "1h"}, "ban_for_s"),
        ({"ban_for_s": 10**12}, "ban_for_s"),
        ([], "body"),
    ],
)
async def test_a_wrong_kick_puts_nobody_out(body: object, detail: str, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server, None) as client,
        identified(server, "alice") as alice,
    ):
        assert is_problem(await client.post("/admin/kick/alice", json=body), 422, 1004, detail)
        await alice.expect_silence()


async def test_nobody_holds_a_floor_that_could_be_taken_away(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "talk", "mode": "ptt"})
            await alice.ack(CREATE, {"channel_id": "meet"})
        assert is_problem(await client.post("/admin/floor-revoke/talk"), 409, 4001)
        assert is_problem(
            await client.post("/admin/floor-revoke/meet"), 409, 4000, "channel_id: expected a channel"
        )
        assert is_problem(await client.post("/admin/floor-revoke/none"), 404, 2000)


async def test_a_token_shows_only_the_channels_that_it_is_good_for(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for channel_id in ("den", "team-a"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id, "media": {}})
        await alice.ack(FOCUS, {"channel_id": "den"})
        token = server.mint_token("op", ("admin",), channels=("team-*",)).token
        async with calling(server, None) as all_of_it, calling(server, None, token=token) as part:
            peers = (await all_of_it.get("/admin/peers")).json()["peers"]
            by_channel = {peer["channel_id"]: peer["peer_id"] for peer in peers}
            assert set(by_channel) == {"den", "team-a"}
            channels = (await part.get("/admin/channels")).json()["channels"]
            assert [channel["channel_id"] for channel in channels] == ["team-a"]
            peers = (await part.get("/admin/peers")).json()["peers"]
            assert [peer["channel_id"] for peer in peers] == ["team-a"]
            user = (await part.get("/admin/users/alice")).json()
            assert user["channels"] == ["team-a"]
            assert "focus" not in user["sessions"][0]
            assert [voice["channel_id"] for voice in user["voices"]] == ["team-a"]
            assert (await part.get(f"/admin/peers/{by_channel['team-a']}")).status_code == 200
            assert is_problem(await part.get(f"/admin/peers/{by_channel['den']}"), 404, 1003)
            for path in ("/admin/channels/den", "/admin/peers?channel_id=den"):
                assert is_problem(await part.get(path), 403, 1007, "channel_id: the token is not good for den")


# --- keys of voices -------------------------------------------------------------------------------


async def test_the_keys_of_voices_change_when_the_operator_says_so(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server, None) as client,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        assert is_problem(await client.post("/admin/rekey/x"), 404, 2000)
        assert is_problem(await client.post("/admin/rekey/x", json={"user_id": "no id"}), 422, 1004, "user_id")
        await alice.ack(CREATE, {"channel_id": "x"})
        assert (await client.post("/admin/rekey/x")).json() == {"channel_id": "x", "voices": 0}
        joined = await alice.ack(JOIN, {"channel_id": "x", "media": {}})
        await bob.ack(JOIN, {"channel_id": "x", "media": {}})
        response = await client.post("/admin/rekey/x", json={"user_id": "alice"})
        assert (response.status_code, response.json()) == (200, {"channel_id": "x", "voices": 1})
        await alice.expect(CHANNEL_EVENT)
        update = await alice.expect(MEDIA_UPDATE)
        assert update["media"].keys() == joined["media"].keys()
        assert update["media"]["client_key"] != joined["media"]["client_key"]
        await bob.expect_silence()
        assert (await client.post("/admin/rekey/x")).json()["voices"] == 2
        assert (await bob.expect(MEDIA_UPDATE))["cause"] == "demand"
