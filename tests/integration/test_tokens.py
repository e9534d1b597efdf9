"""Signed tokens on the gateway: the ways in, keys, renewal, the end, scopes."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import livechat
from livechat.error import ConfigError
from livechat.handlers.auth import Authenticator
from livechat.http.settings import HttpSettings
from tests.support.client import (
    ACK,
    CREATE,
    IDENTIFY,
    INVALID_SESSION,
    JOIN,
    LIST,
    READY,
    RESUME,
    connected,
    identified,
)
from tests.support.process import serving
from tests.support.resume import park, resumed
from tests.support.server import DEADLINE_S, SECRET, counted, make_config, running_server, wait_until
from tests.support.token_client import auth, entered, now_ms, refused_with, warning
from tests.support.tokens import by, forged, private_key, public_jwk, public_pem, write_jwks

ORIGIN = "https://chat.example"
OTHER = "https://partner.example"
GATEWAY = {"allowed_origins": (ORIGIN,)}
MODES = ("both", "jwt")


# --- the ways in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_a_token_comes_in_by_every_way(mode: str, tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(mode), gateway=GATEWAY) as server:
        token, expires_at, _ = server.mint_token("alice", lifetime_s=600)
        ways: list[dict[str, Any]] = [
            {"query": f"?token={token}"},
            {"query": f"?token={token}&user_id=alice"},
            {"headers": {"Authorization": f"Bearer {token}"}},
            {"headers": {"Cookie": f"a=b; livechat_token={token}", "Origin": ORIGIN}},
        ]
        for way in ways:
            async with connected(server, **way) as client:
                ready = await entered(client)
                assert (ready["user_id"], ready["expires_at"]) == ("alice", expires_at)
        async with connected(server) as client:
            ready = (await client.request(IDENTIFY, {"token": token}))["d"]
            assert (ready["user_id"], ready["expires_at"]) == ("alice", expires_at)
            session_id = ready["session_id"]
            await client.ws.stream.aclose()
        await wait_until(lambda: counted(server)["sessions_parked"] == 1)
        async with connected(server) as client:
            _, done = await resumed(client, session_id, token=token)
            assert done["session_id"] == session_id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        # Its pages may open a WebSocket, and bring a token of their own.
        {"Origin": OTHER},
    ],
)
async def test_a_cookie_counts_for_nothing_from_elsewhere(headers: dict[str, str], tmp_path: Path) -> None:
    http = HttpSettings(cors_origins=(OTHER,))
    async with running_server(tmp_path, auth=auth(), gateway=GATEWAY, http=http) as server:
        cookie = {"Cookie": f"livechat_token={server.mint_token('alice').token}"}
        async with connected(server, headers={**cookie, **headers}) as client:
            assert (await client.refused(LIST))["code"] == 1000


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ORIGIN + ".evil.example", ORIGIN.upper()])
async def test_a_foreign_page_with_the_cookie_is_not_let_in_at_all(origin: str, tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(), gateway=GATEWAY) as server:
        cookie = {"Cookie": f"livechat_token={server.mint_token('alice').token}"}
        assert await refused_with(server, headers={**cookie, "Origin": origin}) == 403


async def test_the_cookie_has_the_name_that_the_operator_gave_it(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(cookie="__Host-chat"), gateway=GATEWAY) as server:
        token = server.mint_token("alice").token
        async with connected(server, headers={"Cookie": f"__Host-chat={token}", "Origin": ORIGIN}) as client:
            await entered(client)
        async with connected(server, headers={"Cookie": f"livechat_token={token}", "Origin": ORIGIN}) as client:
            assert (await client.refused(LIST))["code"] == 1000


@pytest.mark.parametrize("mode", MODES)
async def test_a_bad_token_opens_nothing(mode: str, tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(mode), gateway=GATEWAY) as server:
        good = server.mint_token("alice").token
        header, payload, _ = good.split(".")
        for bad in ("x", "a.b.c", f"{header}.{payload}.", f"{header}.{payload}.AAAA", "x" * 9000, "x." * 4000):
            assert await refused_with(server, query=f"?token={bad}") == 401
            assert await refused_with(server, headers={"Authorization": f"Bearer {bad}"}) == 401
        assert await refused_with(server, query=f"?token={good}&user_id=bob") == 401
        async with connected(server) as client:
            for d in ({"token": "a.b.c"}, {"token": good, "user_id": "bob"}):
                assert (await client.refused(IDENTIFY, d))["code"] == 1001
            assert (await client.request(IDENTIFY, {"token": good}))["op"] == READY


async def test_where_only_tokens_count_the_secret_does_not(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("jwt")) as server, connected(server) as client:
        assert (await client.refused(IDENTIFY, {"token": SECRET, "user_id": "alice"}))["code"] == 1001


async def test_where_either_counts_the_secret_is_as_it_was(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("both")) as server, connected(server) as client:
        assert (await client.refused(IDENTIFY, {"token": SECRET}))["code"] == 1001
        reply = await client.request(IDENTIFY, {"token": SECRET, "user_id": "alice"})
        assert reply["d"]["user_id"] == "alice"
        assert "expires_at" not in reply["d"]


async def test_where_only_the_secret_counts_no_token_does(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    token = livechat.mint_token(config, "alice").token
    async with running_server(tmp_path, auth=auth("shared-secret")) as server, connected(server) as client:
        assert (await client.refused(IDENTIFY, {"token": token}))["code"] == 1001
        with pytest.raises(ConfigError, match="takes no signed tokens"):
            server.mint_token("alice")


async def test_an_embedder_replaces_it_all(tmp_path: Path) -> None:
    class Anybody:
        async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
            return livechat.Identity(livechat.UserId(token))

    authenticator: Authenticator = Anybody()
    config = make_config(tmp_path, auth=auth("jwt", public_keys=tmp_path / "none"))
    async with livechat.open_server(config, authenticator=authenticator) as server:
        async with connected(server, query="?token=alice") as client:
            assert (await entered(client))["user_id"] == "alice"
        with pytest.raises(ConfigError, match="takes no signed tokens"):
            server.mint_token("alice")


# --- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_the_tokens_of_another_issuer_are_taken_by_its_public_key(algorithm: str, tmp_path: Path) -> None:
    pem = tmp_path / "issuer.pem"
    pem.write_bytes(public_pem(private_key(algorithm)))
    settings = auth("jwt", public_keys=pem, issuer="https://id.example", audience="chat")
    async with running_server(tmp_path, auth=settings) as server:
        claims = {"sub": "alice", "exp": time.time() + 600, "iss": "https://id.example", "aud": ["chat"]}
        header = {"alg": algorithm, "kid": "issuer"}
        good = forged(header, claims, by(private_key(algorithm)))
        async with connected(server, query=f"?token={good}") as client:
            assert (await entered(client))["user_id"] == "alice"
        # The server's own meet the same conditions.
        async with connected(server, query=f"?token={server.mint_token('bob').token}") as client:
            assert (await entered(client))["user_id"] == "bob"
        for bad in (
            forged(header, {**claims, "aud": "mail"}, by(private_key(algorithm))),
            forged(header, {**claims, "iss": "https://evil.example"}, by(private_key(algorithm))),
            forged(header, claims, by(private_key(algorithm, 1))),
        ):
            assert await refused_with(server, query=f"?token={bad}") == 401


async def test_keys_are_changed_while_the_server_goes_on(tmp_path: Path) -> None:
    jwks = write_jwks(tmp_path / "keys.json", public_jwk(private_key("ES256"), kid="old"))
    old, new = (
        forged(
            {"alg": "ES256", "kid": kid}, {"sub": kid, "exp": time.time() + 600}, by(private_key("ES256", number))
        )
        for number, kid in enumerate(("old", "new"))
    )
    async with running_server(tmp_path, auth=auth(public_keys=jwks)) as server:
        assert await refused_with(server, query=f"?token={new}") == 401
        both = [public_jwk(private_key("ES256", number), kid=kid) for number, kid in enumerate(("old", "new"))]
        write_jwks(jwks, *both)
        assert await server.reload()
        for token in (old, new):
            async with connected(server, query=f"?token={token}") as client:
                await entered(client)
        write_jwks(jwks, both[1])
        assert await server.reload()
        assert await refused_with(server, query=f"?token={old}") == 401
        # What cannot be used changes nothing.
        jwks.write_text("{")
        assert not await server.reload()
        async with connected(server, query=f"?token={new}") as client:
            await entered(client)


async def test_the_servers_own_keys_are_kept_and_changed(tmp_path: Path) -> None:
    key_file = tmp_path / "token-key"
    config = attrs.evolve(make_config(tmp_path), secret=None, auth=auth("jwt"))
    async with livechat.open_server(config) as server:
        old = server.mint_token("alice").token
        assert not (tmp_path / "secret").exists(), "there is no use for one"
        key_file.write_text("A" * 43 + "\n" + key_file.read_text())
        assert await server.reload()
        new = server.mint_token("alice").token
        assert new.split(".")[0] != old.split(".")[0]
        for token in (old, new, livechat.mint_token(config, "alice").token):
            async with connected(server, query=f"?token={token}") as client:
                await entered(client)
        key_file.write_text("A" * 43)
        assert await server.reload()
        assert await refused_with(server, query=f"?token={old}") == 401
    async with livechat.open_server(config) as server, connected(server, query=f"?token={new}") as client:
        await entered(client)


async def test_a_guessable_secret_makes_no_key(tmp_path: Path) -> None:
    config = attrs.evolve(make_config(tmp_path), secret="guess")
    async with livechat.open_server(config) as server, connected(server) as client:
        assert (tmp_path / "token-key").exists()
        reply = await client.request(IDENTIFY, {"token": server.mint_token("alice").token})
        assert reply["op"] == READY


async def test_a_key_file_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    config = make_config(tmp_path, auth=auth("jwt", public_keys=tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"cannot read .*none\.pem"):
        async with livechat.open_server(config):
            pass


# --- renewal and the end -----------------------------------------------------------------------------------


async def test_the_end_of_a_token_is_told_and_then_comes(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        token, expires_at, _ = server.mint_token("alice", lifetime_s=1)
        async with connected(server, query=f"?token={token}") as client:
            await entered(client)
            told = await warning(client)
            assert told["expires_at"] == expires_at
            assert 0 <= told["expires_in_ms"] <= 500, "at most half of what was left of its life"
            assert await client.closed() == 4502
            assert time.time() * 1000 >= expires_at
        await wait_until(lambda: counted(server)["sessions"] == 0)
        assert await refused_with(server, query=f"?token={token}") == 401


async def test_the_warning_comes_as_early_as_configured(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(warning_s=1)) as server:
        token = server.mint_token("alice", lifetime_s=3600).token
        async with connected(server, query=f"?token={token}") as client:
            await entered(client)
            await client.expect_silence()
            short = server.mint_token("alice", lifetime_s=1.2).token
            await client.ack(IDENTIFY, {"token": short})
            # 0.6 s before the end, as that is later than 1 s before it.
            assert 0 <= (await warning(client))["expires_in_ms"] <= 600


async def test_a_token_is_renewed_on_the_connection(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        short = server.mint_token("alice", lifetime_s=1)
        async with connected(server, query=f"?token={short.token}") as client:
            await entered(client)
            await warning(client)
            token, expires_at, _ = server.mint_token("alice", lifetime_s=600)
            assert await client.ack(IDENTIFY, {"token": token}, id=7) == {"expires_at": expires_at}
            await wait_until(lambda: now_ms() > short.expires_at)
            await client.ack(LIST)


async def test_only_a_good_token_of_the_same_user_renews(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        token, expires_at, _ = server.mint_token("alice", lifetime_s=600)
        async with connected(server, query=f"?token={token}") as client:
            await entered(client)
            assert (await client.refused(IDENTIFY, {"token": server.mint_token("bob").token}))["code"] == 1002
            assert (await client.refused(IDENTIFY, {"token": "a.b.c"}))["code"] == 1001
            publishing = server.mint_token("alice", ("publish",)).token
            assert (await client.refused(IDENTIFY, {"token": publishing}))["code"] == 1007
            # Nothing of all this has changed anything.
            assert await client.ack(IDENTIFY, {"token": token}) == {"expires_at": expires_at}


async def test_the_client_renews_by_itself(tmp_path: Path) -> None:
    fetched = 0
    enough = trio.Event()
    async with running_server(tmp_path, auth=auth()) as server:

        async def fetch() -> str:
            nonlocal fetched
            fetched += 1
            if fetched == 4:
                enough.set()
            return server.mint_token("alice", lifetime_s=1).token

        with trio.fail_after(DEADLINE_S):
            async with livechat.open_client(server.url, fetch) as client:
                session_id = client.session_id
                await enough.wait()
                await client.list_channels()
                assert client.session_id == session_id


# --- a session is its user's -------------------------------------------------------------------------------


async def test_a_session_is_resumed_by_its_own_user_only_and_goes_by_the_newest_token(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        async with connected(server, query=f"?token={server.mint_token('alice', lifetime_s=600).token}") as client:
            client.ready = await entered(client)
            session_id = await park(server, client)
        async with connected(server) as client:
            d = {"session_id": session_id, "token": server.mint_token("bob").token}
            assert (await client.request(RESUME, d))["op"] == INVALID_SESSION
            publishing = server.mint_token("alice", ("publish",)).token
            assert (await client.refused(RESUME, {"session_id": session_id, "token": publishing}))["code"] == 1007
            assert counted(server)["sessions_parked"] == 1
            short = server.mint_token("alice", lifetime_s=1).token
            await resumed(client, session_id, token=short)
            await warning(client)
            assert await client.closed() == 4502


async def test_a_session_by_token_that_the_secret_resumes_goes_by_the_secret(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("both")) as server:
        short = server.mint_token("alice", ("admin",), 1)
        async with connected(server, query=f"?token={short.token}") as client:
            client.ready = await entered(client)
            session_id = await park(server, client)
        await wait_until(lambda: now_ms() > short.expires_at)
        async with connected(server) as client, identified(server, "bob") as bob:
            await bob.ack(CREATE, {"channel_id": "den", "private": True})
            assert (await client.request(RESUME, {"session_id": session_id, "token": short.token}))["op"] == (
                INVALID_SESSION
            )
            await resumed(client, session_id, token=SECRET)
            assert (await client.refused(JOIN, {"channel_id": "den"}))["code"] == 2002
            await client.ack(LIST)


# --- scopes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [("publish",), ()])
async def test_without_the_scope_chat_there_is_no_session(scopes: tuple[str, ...], tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        token = server.mint_token("alice", scopes).token
        assert await refused_with(server, query=f"?token={token}") == 403
        async with connected(server) as client:
            assert (await client.refused(IDENTIFY, {"token": token}))["code"] == 1007
        assert counted(server)["sessions"] == 0


async def test_the_scope_admin_comes_and_goes_with_the_token(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, auth=auth()) as server,
        identified(server, "bob", token=server.mint_token("bob").token) as bob,
    ):
        await bob.ack(CREATE, {"channel_id": "den", "private": True})
        token = server.mint_token("alice").token
        async with connected(server, query=f"?token={token}") as alice:
            await entered(alice)
            assert (await alice.refused(JOIN, {"channel_id": "den"}))["code"] == 2002
            await alice.ack(IDENTIFY, {"token": server.mint_token("alice", ("admin",)).token})
            assert await alice.ack(JOIN, {"channel_id": "den"})
            await alice.ack(IDENTIFY, {"token": token})
            assert (await alice.refused(14, {"channel_id": "den"}))["code"] == 1007


async def test_a_signal_has_the_process_read_its_keys_again(tmp_path: Path) -> None:
    jwks = write_jwks(tmp_path / "keys.json", public_jwk(private_key("ES256"), kid="old"))
    env = {"LIVECHAT_AUTH_PUBLIC_KEYS": str(jwks), "LIVECHAT_AUTH_MODE": "jwt", "LIVECHAT_SECRET": SECRET}
    claims = {"sub": "alice", "exp": time.time() + 600}
    token = forged({"alg": "EdDSA", "kid": "new"}, claims, by(private_key("EdDSA")))
    async with serving(tmp_path, env=env) as server:
        write_jwks(jwks, public_jwk(private_key("EdDSA"), kid="new"))
        server.send(signal.SIGHUP)
        with trio.fail_after(DEADLINE_S):
            while True:
                async with connected(server.url) as client:
                    reply = await client.request(IDENTIFY, {"token": token})
                    if reply["op"] == READY:
                        break
                    assert reply["op"] != ACK
                await trio.sleep(0.01)
