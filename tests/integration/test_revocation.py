"""Revoking tokens: what is live ends at once, and nothing comes in by them any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from livechat.store.operations import LoadUser
from tests.support.client import ERROR, IDENTIFY, INVALID_SESSION, LIST, RESUME, connected, identified
from tests.support.faulty_store import server_with_door
from tests.support.resume import park
from tests.support.server import SECRET, counted, running_server, wait_until
from tests.support.token_client import auth, entered, next_millisecond, now_ms, refused_with, sessions_of


async def test_a_revoked_token_ends_its_sessions_and_no_others(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        bad, good = server.mint_token("alice"), server.mint_token("alice")
        async with sessions_of(server, bad.token, bad.token, good.token) as (one, two, other):
            session_id = await park(server, two)
            assert server.revoke(token_id=bad.token_id, expires_at=bad.expires_at) == 2
            assert await one.closed() == 4502
            await other.ack(LIST)
            assert await refused_with(server, query=f"?token={bad.token}") == 401
            async with connected(server) as client:
                d = {"session_id": session_id, "token": good.token}
                assert (await client.request(RESUME, d))["op"] == INVALID_SESSION
                assert (await client.refused(IDENTIFY, {"token": bad.token}))["code"] == 1001
            assert (await other.refused(IDENTIFY, {"token": bad.token}))["code"] == 1001
            assert counted(server)["sessions"] == 1


async def test_all_that_a_user_has_is_revoked_and_a_new_token_counts(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("both")) as server:
        old, bob = server.mint_token("alice").token, server.mint_token("bob").token
        async with (
            identified(server, "alice") as by_secret,
            sessions_of(server, old, bob) as (by_token, other),
        ):
            assert server.revoke(user_id="alice") == 2
            assert await by_token.closed() == 4502
            assert await by_secret.closed() == 4502
            await other.ack(LIST)
            assert await refused_with(server, query=f"?token={old}") == 401
            await next_millisecond()
            async with connected(server, query=f"?token={server.mint_token('alice').token}") as client:
                await entered(client)
            async with identified(server, "alice"):
                pass


async def test_only_what_was_issued_by_then_is_revoked(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        old = server.mint_token("alice")
        between = await next_millisecond()
        await next_millisecond()
        new = server.mint_token("alice")
        async with sessions_of(server, old.token, new.token) as (before, after):
            assert server.revoke(user_id="alice", issued_by=between) == 1
            assert await before.closed() == 4502
            await after.ack(LIST)
            assert await refused_with(server, query=f"?token={old.token}") == 401


async def test_who_is_kicked_is_told_and_may_be_kept_out_for_a_while(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("both")) as server:
        token = server.mint_token("alice").token
        async with sessions_of(server, token) as (client,):
            until = now_ms() + 1000
            assert server.revoke(user_id="alice", issued_by=until, is_kicked=True) == 1
            assert await client.closed() == 4507
        fresh = server.mint_token("alice").token
        assert await refused_with(server, query=f"?token={fresh}") == 403
        assert await refused_with(server, query=f"?token={SECRET}&user_id=alice") == 403
        await wait_until(lambda: now_ms() > until)
        async with connected(server, query=f"?token={server.mint_token('alice').token}") as client:
            await entered(client)
        async with identified(server, "alice"):
            pass


async def test_a_session_that_is_being_opened_is_not_when_the_token_is_revoked(tmp_path: Path) -> None:
    async with server_with_door(tmp_path, auth=auth()) as (server, door):
        issued = server.mint_token("alice")
        door.close_for(LoadUser)
        async with connected(server) as client:
            await client.send(IDENTIFY, {"token": issued.token})
            await wait_until(lambda: door.operations_waiting)
            assert server.revoke(token_id=issued.token_id) == 0
            door.open()
            refusal = await client.expect(ERROR)
            assert (refusal["op"], refusal["code"]) == (IDENTIFY, 1001)
            assert counted(server)["sessions"] == 0


@pytest.mark.parametrize("is_kicked", [True, False])
async def test_a_session_that_is_being_resumed_ends_as_well(is_kicked: bool, tmp_path: Path) -> None:
    async with server_with_door(tmp_path, auth=auth()) as (server, door):
        token = server.mint_token("alice").token
        async with identified(server, "alice", token=token) as client:
            session_id = await park(server, client)
        door.close_for_queries()
        async with connected(server) as client:
            await client.send(RESUME, {"session_id": session_id, "token": token})
            await wait_until(lambda: door.fetches_waiting)
            assert server.revoke(user_id="alice", is_kicked=is_kicked) == 1
            assert await client.closed() == (4507 if is_kicked else 4502)
        assert counted(server)["sessions"] == 0
