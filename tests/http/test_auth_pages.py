"""Logins of pages, by cookies; and who may register, where there are accounts at all."""

from __future__ import annotations

from pathlib import Path

import attrs
import httpx
import pytest

import livechat
from tests.integration.test_tls import authority as authority
from tests.support.accounts import NEW_PASSWORD, PASSWORD
from tests.support.api import is_problem
from tests.support.logins import ORIGIN, at, log_in, refresh, register, serving
from tests.support.server import SECRET

# --- cookies ---------------------------------------------------------------------------------------------


def cookies_of(response: httpx.Response) -> dict[str, tuple[str, set[str]]]:
    """Return what is set: name → (value, attributes in lower case)."""
    found = {}
    for line in response.headers.get_list("set-cookie"):
        pair, *attributes = [part.strip() for part in line.split(";")]
        name, _, value = pair.partition("=")
        found[name] = value.strip('"'), {attribute.lower() for attribute in attributes}
    return found


async def test_cookies_carry_a_login_of_a_page(tmp_path: Path) -> None:
    async with serving(tmp_path, {"registration": "open"}) as server, at(server, Origin=ORIGIN) as page:
        await register(page)
        body = {"user_id": "ann", "password": PASSWORD, "cookies": True}
        response = await page.post("/auth/login", json=body)
        assert "refresh_token" not in response.json()
        cookies = cookies_of(response)
        assert cookies.keys() == {"livechat_token", "livechat_refresh"}
        safe = {"httponly", "secure", "samesite=strict"}
        assert cookies["livechat_token"] == (response.json()["access_token"], safe | {"path=/", "max-age=900"})
        text, attributes = cookies["livechat_refresh"]
        assert attributes == safe | {"path=/api/v1/auth", f"max-age={30 * 86_400}"}

        sent = {"Cookie": f"livechat_token={cookies['livechat_token'][0]}"}
        assert (await page.get("/users/me", headers=sent)).json()["user_id"] == "ann"
        sent = {"Cookie": f"livechat_refresh={text}"}
        refreshed = await page.post("/auth/refresh", headers=sent)
        following = cookies_of(refreshed)["livechat_refresh"][0]
        assert following != text
        assert "refresh_token" not in refreshed.json()
        out = await page.post("/auth/logout", headers={"Cookie": f"livechat_refresh={following}"})
        assert out.status_code == 204
        assert {name: value for name, (value, _) in cookies_of(out).items()} == {
            "livechat_token": "",
            "livechat_refresh": "",
        }
        assert all("max-age=0" in attributes for _, attributes in cookies_of(out).values())
        assert is_problem(
            await page.post("/auth/refresh", headers={"Cookie": f"livechat_refresh={following}"}), 401, 1001
        )


async def test_a_refresh_token_in_the_body_gets_no_cookie(tmp_path: Path) -> None:
    async with serving(tmp_path, {"registration": "open"}) as server, at(server, Origin=ORIGIN) as page:
        response = await refresh(page, await register(page))
        assert response.json()["refresh_token"]
        assert cookies_of(response) == {}


async def test_pages_of_others_can_neither_use_nor_set_cookies(tmp_path: Path) -> None:
    async with serving(tmp_path, {"registration": "open"}) as server, at(server) as client:
        body = {"user_id": "ann", "password": PASSWORD, "cookies": True}
        registered = await client.post("/auth/register", json=body)
        text = cookies_of(registered)["livechat_refresh"][0]
        sent = {"Cookie": f"livechat_refresh={text}"}
        evil = {"Origin": "https://evil.example"}
        for path, given in (
            ("register", body | {"user_id": "bob"}),
            ("login", body),
            ("password", body | {"new_password": NEW_PASSWORD}),
        ):
            response = await client.post(f"/auth/{path}", json=given, headers=evil)
            assert is_problem(response, 403, 1007, "origin: cookies are only for allowed origins")
        for origin in (evil, {}, {"Origin": "null"}):
            for path in ("refresh", "logout"):
                response = await client.post(f"/auth/{path}", headers=sent | origin)
                assert is_problem(response, 403, 1007, "origin: the cookie counts only from an allowed origin")
        ours = {"Origin": ORIGIN}
        assert (await client.post("/auth/refresh", headers=sent | ours)).status_code == 200


# --- who may register, and whether there are accounts -------------------------------------------------------


async def test_by_default_only_programs_on_this_machine_make_accounts(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        body = {"user_id": "bob", "password": PASSWORD}
        for headers in (
            {"X-Forwarded-For": "192.0.2.1"},
            {"Via": "1.1 proxy"},
            {"Host": "chat.example"},
            # A page in a browser on this machine, whosever it is.
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": ORIGIN},
        ):
            response = await client.post("/auth/register", json=body, headers=headers)
            assert is_problem(response, 403, 1007, "registration: closed")
        await register(client)
        headers = {"Host": "chat.example"}
        response = await client.post("/auth/login", json=body | {"user_id": "ann"}, headers=headers)
        assert response.status_code == 200


async def test_registration_may_be_open_to_all_or_closed(tmp_path: Path) -> None:
    body = {"user_id": "bob", "password": PASSWORD}
    async with serving(tmp_path / "open", {"registration": "open"}) as server, at(server) as client:
        response = await client.post("/auth/register", json=body, headers={"Host": "chat.example"})
        assert response.status_code == 201
    async with serving(tmp_path / "closed", {"registration": "closed"}) as server, at(server) as client:
        assert is_problem(await client.post("/auth/register", json=body), 403, 1007, "registration: closed")
        await server.accounts.create("ann", PASSWORD)
        await log_in(client)


class NobodyKnown:
    """An embedder's authenticator."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        raise livechat.InvalidToken("token: not known")


@pytest.mark.parametrize("why", ["enabled", "mode", "authenticator"])
async def test_a_server_without_accounts_says_that_there_are_none(tmp_path: Path, why: str) -> None:
    config = livechat.Config(port=0, udp_port=0, data_dir=tmp_path, secret=SECRET)
    if why == "enabled":
        config = attrs.evolve(config, accounts=livechat.AccountSettings(enabled=False))
    if why == "mode":
        config = attrs.evolve(config, auth=livechat.AuthSettings(mode="shared-secret"))
    authenticator = NobodyKnown() if why == "authenticator" else None
    async with livechat.open_server(config, authenticator=authenticator) as server, at(server) as client:
        body = {"user_id": "ann", "password": PASSWORD}
        for path, given in (
            ("register", body),
            ("login", body),
            ("password", body | {"new_password": NEW_PASSWORD}),
            ("refresh", {}),
            ("logout", {}),
        ):
            response = await client.post(f"/auth/{path}", json=given)
            assert is_problem(response, 404, 1003, "path: this server has no accounts")
        with pytest.raises(livechat.ConfigError, match="this server has no accounts of its own"):
            _ = server.accounts
