"""Users over HTTP: who I am, and who may know how somebody is."""

from __future__ import annotations

from pathlib import Path

import livechat
from tests.support.api import calling, is_problem
from tests.support.client import CREATE, JOIN, PRESENCE_UPDATE, SETTINGS_SET, identified
from tests.support.scopes import Scopes
from tests.support.server import make_config, running_server, wait_until


async def test_i_am_told_who_i_am_and_what_is_kept_of_me(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        me = (await alice.get("/users/me")).json()
        assert me == {"user_id": "alice", "scopes": ["chat"], "status": "OFFLINE", "settings": {}}
        async with identified(server, "alice") as session:
            await session.ack(SETTINGS_SET, {"settings": {"theme": "dark"}})
            await session.ack(PRESENCE_UPDATE, {"status": "AWAY"})
            me = (await alice.get("/users/me")).json()
            assert (me["status"], me["settings"]) == ("AWAY", {"theme": "dark"})


async def test_a_token_says_what_it_is_good_for(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    async with (
        livechat.open_server(config, authenticator=Scopes()) as server,
        calling(server, None, token="root:chat,admin") as root,
    ):
        assert (await root.get("/users/me")).json()["scopes"] == ["admin", "chat"]


async def test_who_shares_a_channel_is_told_how_somebody_is(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, chat=livechat.ChatLimits(presence_grace_ms=0)) as server,
        calling(server, "alice") as alice,
        calling(server, "mallory") as mallory,
    ):
        async with identified(server, "bob") as bob:
            await bob.ack(CREATE, {"channel_id": "room"})
            await bob.ack(JOIN, {"channel_id": "room"})
            assert is_problem(await alice.get("/users/bob/presence"), 403, 1007, "user_id: ")
            async with identified(server, "alice") as session:
                await session.ack(JOIN, {"channel_id": "room"})
            shown = (await alice.get("/users/bob/presence")).json()
            assert (shown["user_id"], shown["status"]) == ("bob", "ONLINE")
            assert shown["last_seen"] > 0
            await bob.ack(PRESENCE_UPDATE, {"status": "AWAY", "text": "lunch"})
            assert (await alice.get("/users/bob/presence")).json()["text"] == "lunch"
            assert is_problem(await mallory.get("/users/bob/presence"), 403, 1007, "user_id: ")
        await wait_until(lambda: not server.statistics()["gateway"]["connections"])
        gone = (await alice.get("/users/bob/presence")).json()
        assert gone["status"] == "OFFLINE"
        assert gone["last_seen"] >= shown["last_seen"]


async def test_of_nobody_it_is_said_what_is_said_of_a_stranger(tmp_path: Path) -> None:
    async with (
        livechat.open_server(make_config(tmp_path), authenticator=Scopes()) as server,
        identified(server, "bob", token="bob") as bob,
        calling(server, None, token="alice") as alice,
        calling(server, None, token="root:admin") as root,
    ):
        await bob.ack(CREATE, {"channel_id": "room"})
        await bob.ack(JOIN, {"channel_id": "room"})
        stranger, nobody = await alice.get("/users/bob/presence"), await alice.get("/users/nobody/presence")
        assert is_problem(stranger, 403, 1007)
        assert stranger.json() == nobody.json()
        assert (await root.get("/users/bob/presence")).json()["status"] == "ONLINE"
        own = await alice.get("/users/alice/presence")
        assert own.json() == {"user_id": "alice", "status": "OFFLINE", "last_seen": None}
        assert is_problem(await alice.get("/users/a%20b/presence"), 422, 1004, "user_id: ")
