"""The built-in accounts over HTTP: from a password to a conversation on the gateway, and to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import livechat
from tests.integration.test_tls import authority as authority
from tests.integration.test_tls import certificate_files, client_context
from tests.support.accounts import NEW_PASSWORD, PASSWORD
from tests.support.api import calling, is_problem
from tests.support.client import CREATE, ERROR, IDENTIFY, connected, identified
from tests.support.logins import PROXIED, at, bearer, log_in, refresh, register, serving
from tests.support.server import SECRET, counted, wait_until

# --- what the tokens are good for ------------------------------------------------------------------------


async def test_from_registering_to_talking(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        tokens = await register(client, "Ann", display_name="Ann 안녕")
        assert tokens.keys() == {
            *("user_id", "access_token", "refresh_token", "expires_in", "token_type", "refresh_expires_in"),
            "display_name",
        }
        assert (tokens["user_id"], tokens["token_type"], tokens["display_name"]) == ("Ann", "Bearer", "Ann 안녕")
        assert (tokens["expires_in"], tokens["refresh_expires_in"]) == (900, 30 * 86_400)
        me = (await client.get("/users/me", headers=bearer(tokens))).json()
        assert (me["user_id"], me["name"], me["scopes"]) == ("Ann", "Ann 안녕", ["chat"])
        again = await log_in(client, "aNN")
        assert again["user_id"] == "Ann"
        async with identified(server, "Ann", token=again["access_token"]) as ann:
            await ann.ack(CREATE, {"channel_id": "den"})


@pytest.mark.parametrize("mode", ["jwt", "both"])
async def test_over_tls(tmp_path: Path, authority: Any, mode: str) -> None:
    files = certificate_files(authority, tmp_path)
    auth = livechat.AuthSettings(mode=mode)  # type: ignore[arg-type]
    context = client_context(authority)
    async with (
        serving(tmp_path, None, auth=auth, **files) as server,
        calling(server, None, token=None, tls=context) as client,
    ):
        tokens = await register(client)
        async with identified(server, "ann", token=tokens["access_token"], tls=context) as ann:
            tokens = (await refresh(client, tokens)).json()
            response = await client.post("/auth/logout", headers=bearer(tokens))
            assert response.status_code == 204
            assert await ann.closed() == 4502


async def test_no_token_lives_longer_than_any_may(tmp_path: Path) -> None:
    auth = livechat.AuthSettings(lifetime_max_s=60)
    async with serving(tmp_path, auth=auth) as server, at(server) as client:
        tokens = await register(client)
        assert tokens["expires_in"] == 60
        assert (await client.get("/users/me", headers=bearer(tokens))).status_code == 200


async def test_answers_are_not_to_be_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        tokens = await register(client)
        body = {"user_id": "ann", "password": PASSWORD}
        for response in (
            await client.post("/auth/login", json=body),
            await client.post("/auth/login", json=body | {"cookies": True}),
            await refresh(client, tokens),
            await client.post("/auth/logout", headers=bearer(tokens)),
        ):
            assert response.headers["cache-control"] == "no-store"


async def test_an_access_token_renews_a_session_that_began_with_another_of_the_login(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        tokens = await register(client)
        async with identified(server, "ann", token=tokens["access_token"]) as ann:
            tokens = (await refresh(client, tokens)).json()
            assert (await ann.ack(IDENTIFY, {"token": tokens["access_token"]}))["expires_at"]
            await client.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]})
            assert await ann.closed() == 4502


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("register", {"user_id": "a b", "password": PASSWORD}, "user_id: expected"),
        ("register", {"user_id": "bob"}, "password: required"),
        ("register", {"user_id": "bob", "password": "short"}, "password: expected 8 to 1024"),
        ("register", {"user_id": "bob", "password": "x" * 1025}, "password: expected 8 to 1024"),
        ("register", {"user_id": "longname", "password": "LONGNAME"}, "password: expected another text"),
        ("register", {"user_id": "bob", "password": "with a\ttab"}, "password: expected text without control"),
        ("register", {"user_id": "bob", "password": 12345678}, "password: expected"),
        (
            "register",
            {"user_id": "bob", "password": PASSWORD, "display_name": ""},
            "display_name: expected 1 to 100",
        ),
        ("register", {"user_id": "bob", "password": PASSWORD, "cookies": "yes"}, "cookies: expected"),
        ("login", {"password": PASSWORD}, "user_id: required"),
        ("login", {"user_id": "ann"}, "password: required"),
        ("login", {"user_id": "ann", "password": ""}, "password: expected 1 to 1024"),
        ("password", {"user_id": "ann", "password": PASSWORD}, "new_password: required"),
        (
            "password",
            {"user_id": "ann", "password": PASSWORD, "new_password": "short"},
            "new_password: expected 8",
        ),
        (
            "password",
            {"user_id": "ann", "password": PASSWORD, "new_password": "tab\tinside"},
            "new_password: expected",
        ),
        ("refresh", {"refresh_token": ""}, "refresh_token: expected 1 to 256"),
        ("refresh", {"refresh_token": "x" * 257}, "refresh_token: expected 1 to 256"),
        ("logout", {"everywhere": 1}, "everywhere: expected"),
        ("logout", [], "body: expected an object"),
    ],
)
async def test_a_wrong_field_is_named(tmp_path: Path, path: str, body: Any, expected: str) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        await register(client)
        response = await client.post(f"/auth/{path}", json=body)
        assert is_problem(response, 422, 1004, expected)
        assert PASSWORD not in response.text


async def test_a_body_that_is_too_large_or_no_json_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        body = {"user_id": "bob", "password": PASSWORD, "more": "x" * 20_000}
        assert is_problem(await client.post("/auth/register", json=body), 413, 1005)
        assert is_problem(await client.post("/auth/login", content=b"{"), 422, 1004, "body: expected JSON")
        assert is_problem(await client.post("/auth/login", content=b""), 422, 1004, "body: expected JSON")
        form = await client.post("/auth/login", data={"user_id": "ann", "password": PASSWORD})
        assert is_problem(form, 415, 1004)
        assert is_problem(await client.get("/auth/login"), 405, 1003)


async def test_the_longest_password_of_any_script_will_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        for user_id, password in (("bob", "한" * 1024), ("eve", "\U0001f600" * 1024)):
            body = {"user_id": user_id, "password": password}
            assert (await client.post("/auth/register", json=body)).status_code == 201
            assert (await client.post("/auth/login", json=body)).status_code == 200


async def test_an_unknown_user_and_a_wrong_password_are_refused_in_the_same_words(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        await register(client)
        refused = [
            await client.post("/auth/login", json={"user_id": user_id, "password": "wrong horse"})
            for user_id in ("ann", "nobody")
        ]
        for response in refused:
            assert is_problem(response, 401, 1001, "user_id, password: not those of an account")
        assert refused[0].text == refused[1].text


async def test_a_user_id_belongs_to_whoever_had_it_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        await register(client)
        async with identified(server, "secretive"):
            for user_id in ("ann", "ANN", "secretive"):
                response = await client.post("/auth/register", json={"user_id": user_id, "password": PASSWORD})
                assert is_problem(response, 409, 1004, "user_id: taken")


async def test_attempts_are_limited(tmp_path: Path) -> None:
    async with serving(tmp_path, {"attempts_per_account": 2}) as server, at(server) as client:
        await register(client)
        await register(client, "bob")
        wrong = {"user_id": "ann", "password": "wrong horse"}
        for path, fields in (("login", {}), ("password", {"new_password": NEW_PASSWORD})):
            assert is_problem(await client.post(f"/auth/{path}", json=wrong | fields), 401, 1001)
        response = await client.post("/auth/login", json=wrong | {"password": PASSWORD})
        assert is_problem(response, 429, 1006, "user_id: too many attempts")
        assert 0 < response.json()["retry_after_ms"] <= 10_000
        assert 0 < int(response.headers["retry-after"]) <= 10
        await log_in(client, "bob")


async def test_addresses_are_those_that_a_trusted_proxy_names(tmp_path: Path) -> None:
    settings = {"attempts_per_address": 1, "registrations_per_address": 1, "registration": "open"}
    async with serving(tmp_path, settings, **PROXIED) as server, at(server) as client:
        here, there = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "198.51.100.7"}
        body = {"user_id": "ann", "password": PASSWORD}
        assert (await client.post("/auth/register", json=body, headers=here)).status_code == 201
        second = await client.post("/auth/register", json=body | {"user_id": "bob"}, headers=here)
        assert is_problem(second, 429, 1006)
        wrong = body | {"password": "wrong horse"}
        assert is_problem(await client.post("/auth/login", json=wrong, headers=here), 401, 1001)
        for path, sent in (
            ("login", body),
            ("refresh", {"refresh_token": "x"}),
            ("logout", {"refresh_token": "x"}),
        ):
            assert is_problem(await client.post(f"/auth/{path}", json=sent, headers=here), 429, 1006)
        assert (await client.post("/auth/login", json=body, headers=there)).status_code == 200


async def test_strangers_at_the_door_do_not_keep_the_owner_out(tmp_path: Path) -> None:
    settings = {"attempts_per_account": 2, "registration": "open"}
    async with (
        serving(tmp_path, settings, **PROXIED) as server,
        at(server, **{"X-Forwarded-For": "192.0.2.1"}) as ann,
        at(server, **{"X-Forwarded-For": "198.51.100.7"}) as stranger,
    ):
        await register(ann)
        await log_in(ann)
        wrong = {"user_id": "ann", "password": "wrong horse"}
        statuses = [(await stranger.post("/auth/login", json=wrong)).status_code for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        await log_in(ann)


# --- refresh and reuse -----------------------------------------------------------------------------------


async def test_reuse_closes_the_sessions_of_the_login_and_no_others(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        other = await register(client)
        first = await log_in(client)
        second = (await refresh(client, first)).json()
        assert second["refresh_token"] != first["refresh_token"]
        async with (
            identified(server, "ann", token=first["access_token"]) as thief,
            identified(server, "ann", token=second["access_token"]) as ann,
            identified(server, "ann", token=other["access_token"]) as elsewhere,
        ):
            response = await refresh(client, first)
            assert is_problem(response, 401, 1001, "refresh_token: was replaced before")
            assert await thief.closed() == 4502
            assert await ann.closed() == 4502
            assert is_problem(await refresh(client, second), 401, 1001, "refresh_token: its login has ended")
            for tokens in (first, second):
                assert is_problem(
                    await client.get("/users/me", headers=bearer(tokens)), 401, 1001, "token: revoked"
                )
                async with connected(server) as client_again:
                    reply = await client_again.request(IDENTIFY, {"token": tokens["access_token"]})
                    assert (reply["op"], reply["d"]["code"]) == (ERROR, 1001)
            await elsewhere.ack(CREATE, {"channel_id": "den"})
            assert (await refresh(client, other)).status_code == 200


@pytest.mark.parametrize("text", ["x", "lcr_" + "A" * 64, "한글"])
async def test_a_refresh_token_of_nobody_is_refused(tmp_path: Path, text: str) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        for path in ("refresh", "logout"):
            response = await client.post(f"/auth/{path}", json={"refresh_token": text})
            assert is_problem(response, 401, 1001, "refresh_token: not one of this server")


async def test_without_a_token_there_is_nothing_to_refresh_or_to_log_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        assert is_problem(await client.post("/auth/refresh"), 401, 1000, "refresh_token: expected in the body")
        assert is_problem(await client.post("/auth/refresh", json={}), 401, 1000)
        assert is_problem(await client.post("/auth/logout"), 401, 1000)
        wrong = {"Authorization": "Bearer nonsense"}
        assert is_problem(await client.post("/auth/logout", headers=wrong), 401, 1001)


async def test_what_ended_before_a_restart_has_ended_after_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        lives, out = await register(client), await log_in(client)
        assert (await client.post("/auth/logout", headers=bearer(out))).status_code == 204
    async with serving(tmp_path) as server, at(server) as client:
        assert is_problem(await client.get("/users/me", headers=bearer(out)), 401, 1001, "token: revoked")
        assert (await client.get("/users/me", headers=bearer(lives))).status_code == 200
        assert (await refresh(client, lives)).status_code == 200


# --- logout ----------------------------------------------------------------------------------------------


async def test_logging_out_ends_one_device(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        phone, laptop = await register(client), await log_in(client)
        async with (
            identified(server, "ann", token=phone["access_token"]) as on_phone,
            identified(server, "ann", token=laptop["access_token"]) as on_laptop,
        ):
            response = await client.post("/auth/logout", json={"refresh_token": phone["refresh_token"]})
            assert (response.status_code, response.content) == (204, b"")
            assert await on_phone.closed() == 4502
            await on_laptop.ack(CREATE, {"channel_id": "den"})
            assert counted(server)["sessions"] == 1
        assert is_problem(await refresh(client, phone), 401, 1001)
        assert (await refresh(client, laptop)).status_code == 200


async def test_logging_out_everywhere_ends_all_that_the_user_has(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        phone, laptop = await register(client), await log_in(client)
        minted = server.mint_token("ann").token
        async with (
            identified(server, "ann", token=phone["access_token"]) as on_phone,
            identified(server, "ann", token=laptop["access_token"]) as on_laptop,
            identified(server, "ann", token=minted) as by_minted,
            identified(server, "ann", token=SECRET) as by_secret,
            identified(server, "bob", token=SECRET) as bob,
        ):
            response = await client.post("/auth/logout", json={"everywhere": True}, headers=bearer(phone))
            assert response.status_code == 204
            for device in (on_phone, on_laptop, by_minted, by_secret):
                assert await device.closed() == 4502
            await bob.ack(CREATE, {"channel_id": "den"})
        for tokens in (phone, laptop):
            assert is_problem(await refresh(client, tokens), 401, 1001)
            assert is_problem(await client.get("/users/me", headers=bearer(tokens)), 401, 1001)
        await log_in(client)


async def test_a_session_that_is_parked_ends_as_well(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        tokens = await register(client)
        async with identified(server, "ann", token=tokens["access_token"]) as ann:
            await ann.ws.aclose(3000)
        await wait_until(lambda: counted(server)["sessions_parked"] == 1)
        await client.post("/auth/logout", headers=bearer(tokens))
        assert counted(server)["sessions"] == 0


async def test_a_login_of_another_issuer_ends_here_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        issuer = server._node.issuer
        assert issuer is not None
        token = issuer.issue("ann", family_id="not-of-our-making").token
        async with calling(server, None, token=token) as ann, identified(server, "ann", token=token) as device:
            assert (await ann.post("/auth/logout")).status_code == 204
            assert await device.closed() == 4502
            assert is_problem(await ann.get("/users/me"), 401, 1001, "token: revoked")


async def test_credentials_that_are_no_login_end_by_themselves(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        minted = server.mint_token("ann").token
        async with calling(server, None, token=minted) as ann, identified(server, "ann", token=minted) as device:
            assert (await ann.post("/auth/logout")).status_code == 204
            assert await device.closed() == 4502
            assert is_problem(await ann.post("/auth/logout"), 401, 1001, "token: revoked")
        async with calling(server, "ann") as ann, identified(server, "ann") as device:
            assert is_problem(await ann.post("/auth/logout"), 422, 1004, "everywhere: expected true")
            assert (await ann.post("/auth/logout", json={"everywhere": True})).status_code == 204
            assert await device.closed() == 4502
        async with calling(server, None) as nobody:
            assert is_problem(await nobody.post("/auth/logout"), 401, 1001, "user_id: required")


async def test_another_password_ends_all_but_the_new_login(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        before = await register(client)
        async with identified(server, "ann", token=before["access_token"]) as ann:
            body = {"user_id": "ann", "password": PASSWORD, "new_password": NEW_PASSWORD}
            after = (await client.post("/auth/password", json=body)).json()
            assert await ann.closed() == 4502
        assert is_problem(await refresh(client, before), 401, 1001)
        assert (await client.get("/users/me", headers=bearer(after))).status_code == 200
        assert (await refresh(client, after)).status_code == 200
        assert is_problem(
            await client.post("/auth/password", json=body), 401, 1001, "user_id, password: not those"
        )
        await log_in(client, password=NEW_PASSWORD)
