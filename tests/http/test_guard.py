"""What browsers are told: CORS and the headers of protection, by a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

import livechat
from livechat.gateway.settings import GatewaySettings
from livechat.http.settings import HttpSettings
from tests.support.api import calling
from tests.support.server import running_server

APP = "https://app.example"
PARTNER = "https://partner.example"
STRANGER = "https://evil.example"
ORIGINS = {"gateway": {"allowed_origins": (APP,)}, "http": HttpSettings(cors_origins=(PARTNER,))}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def sharing(headers: object) -> dict[str, str]:
    """Return the CORS headers of a response, without their common beginning."""
    start = "access-control-"
    return {name.removeprefix(start): value for name, value in dict(headers).items() if name.startswith(start)}  # type: ignore[call-overload]


async def test_pages_of_listed_origins_may_read_answers_and_refusals(tmp_path: Path) -> None:
    async with running_server(tmp_path, **ORIGINS) as server, calling(server) as alice:
        for path, status in (("/users/me", 200), ("/channels/none", 404), ("/nothing", 404)):
            told = await alice.get(path, headers={"Origin": APP})
            assert told.status_code == status
            assert sharing(told.headers).items() >= {"allow-origin": APP, "allow-credentials": "true"}.items()
            assert "etag" in sharing(told.headers)["expose-headers"]
            told = await alice.get(path, headers={"Origin": PARTNER})
            assert sharing(told.headers)["allow-origin"] == PARTNER
            assert "allow-credentials" not in sharing(told.headers)
            for origin in (STRANGER, "null", "", APP.upper(), APP + ":443", APP + ".evil.example"):
                told = await alice.get(path, headers={"Origin": origin})
                assert sharing(told.headers) == {}, origin
            assert told.headers["vary"] == "Origin"
        assert sharing((await alice.get("/users/me")).headers) == {}


async def test_a_preflight_is_answered_without_a_token(tmp_path: Path) -> None:
    async with running_server(tmp_path, **ORIGINS) as server, calling(server, None, token=None) as page:
        for origin, credentials in ((APP, "true"), (PARTNER, None)):
            told = await page.options("/channels", headers={"Origin": origin, **PREFLIGHT})
            assert (told.status_code, told.content) == (204, b"")
            allowed = sharing(told.headers)
            assert allowed["allow-origin"] == origin
            assert allowed.get("allow-credentials") == credentials
            assert {"POST", "PATCH", "DELETE"} <= set(allowed["allow-methods"].split(", "))
            assert {"authorization", "content-type", "idempotency-key"} <= set(
                allowed["allow-headers"].split(", ")
            )
            assert int(allowed["max-age"]) > 0
        refused = await page.options("/channels", headers={"Origin": STRANGER, **PREFLIGHT})
        assert (refused.status_code, sharing(refused.headers)) == (204, {})
        # Without the question of a browser it is an OPTIONS like any other.
        assert (await page.options("/channels", headers={"Origin": APP})).headers["allow"].startswith("GET")


async def test_any_origin_may_be_let_in_but_never_with_the_cookie(tmp_path: Path) -> None:
    overrides = {**ORIGINS, "http": HttpSettings(cors_origins=("*",))}
    async with running_server(tmp_path, **overrides) as server, calling(server) as alice:
        told = sharing((await alice.get("/users/me", headers={"Origin": STRANGER})).headers)
        assert told["allow-origin"] == STRANGER
        assert "allow-credentials" not in told
        told = sharing((await alice.get("/users/me", headers={"Origin": APP})).headers)
        assert (told["allow-origin"], told["allow-credentials"]) == (APP, "true")


async def test_by_default_no_page_may_read_anything(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        for origin in (APP, "null"):
            assert sharing((await alice.get("/users/me", headers={"Origin": origin})).headers) == {}


async def test_every_response_is_kept_from_being_guessed_at_framed_or_kept(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        for path in ("/users/me", "/nothing", "/channels/none", "/../../healthz"):
            headers = (await alice.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-frame-options"] == "DENY"
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["cache-control"] == "no-store"
        page = (await alice.get("/docs")).headers
        assert page["cache-control"].startswith("public")
        assert "frame-ancestors 'none'" in page["content-security-policy"]


@pytest.mark.parametrize(
    "origin", ["app.example", "https://", "https://a.example/", "https://A.example", "*.a", "", "null"]
)
@pytest.mark.parametrize("setting", ["http.cors_origins", "gateway.allowed_origins"])
def test_what_is_no_origin_is_refused(setting: str, origin: str) -> None:
    group = (
        HttpSettings(cors_origins=(origin,))
        if setting.startswith("http")
        else GatewaySettings(allowed_origins=(origin,))
    )
    config = livechat.Config(**{setting.partition(".")[0]: group})  # type: ignore[arg-type]
    with pytest.raises(livechat.ConfigError, match=f"^{setting}: expected origins like"):
        config.check()


def test_a_star_is_no_origin_whose_cookie_counts() -> None:
    with pytest.raises(livechat.ConfigError, match=r"^gateway\.allowed_origins: "):
        livechat.Config(gateway=GatewaySettings(allowed_origins=("*",))).check()
    livechat.Config(http=HttpSettings(cors_origins=("*",))).check()


@pytest.mark.parametrize(
    "origin", ["https://chat.example", "http://localhost:3000", "http://[::1]:80", "capacitor://localhost"]
)
def test_what_browsers_and_apps_send_is_an_origin(origin: str) -> None:
    livechat.Config(http=HttpSettings(cors_origins=(origin,))).check()
