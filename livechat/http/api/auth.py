"""Serves the built-in accounts: making one, and the steps of a login.

It must not know passwords or tokens (`livechat.accounts` does). Nobody need be known here: each request carries
its own proof, and the attempts are counted.

The refresh token of a client that asks for `cookies` travels in a cookie that no page can read and that is sent to
these paths only; the access token comes in one as well, for the gateway and the rest of the API. Both are `Secure`
and `SameSite=Strict`. Where they are used, the request must come from an allowed origin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
from starlette.responses import JSONResponse, Response

from livechat.accounts.error import UserIdTaken, WrongPassword
from livechat.accounts.logins import Logins, Tokens
from livechat.accounts.passwords import LENGTH_MAX, LENGTH_MIN
from livechat.error import Forbidden, InvalidToken, LiveError, NotAuthenticated, ProtocolError, RateLimited
from livechat.handlers.auth import Identity, UserIdMissing
from livechat.handlers.revoke import revoke_token
from livechat.http.access import cookie_untrusted, identify, is_local
from livechat.http.endpoint import API, READING, WRITING, Answer, Call, Endpoint
from livechat.http.problems import NoSuchPath
from livechat.protocol.codec import unstructure
from livechat.protocol.types import UserId
from livechat.protocol.validators import length
from livechat.tokens.claims import NAME_LENGTH_MAX

PATH: Final = f"{API}/auth"
BODY_BYTES_MAX: Final = 16_384
"""A password of the longest kind, escaped, and the rest."""
REFRESH_LENGTH_MAX: Final = 256
COOKIES: Final = {"set-cookie": "of clients that asked for cookies: the access token's and the refresh token's"}


@attrs.frozen
class Register:
    """Who wants an account."""

    user_id: UserId
    """Unlike all others' in more than case and width."""
    password: str = attrs.field(validator=length(LENGTH_MIN, LENGTH_MAX), repr=False)
    """Not the user id."""
    display_name: str | None = attrs.field(default=None, validator=length(1, NAME_LENGTH_MAX))
    """What the user is called, for people."""
    cookies: bool = False
    """Send the refresh token, and the access token too, in cookies."""


@attrs.frozen
class Login:
    """Who wants to log in."""

    user_id: UserId
    """In any case."""
    password: str = attrs.field(validator=length(1, LENGTH_MAX), repr=False)
    cookies: bool = False
    """Send the refresh token, and the access token too, in cookies."""


@attrs.frozen
class PasswordChange:
    """Who wants another password."""

    user_id: UserId
    """In any case."""
    password: str = attrs.field(validator=length(1, LENGTH_MAX), repr=False)
    """The one that counts until now."""
    new_password: str = attrs.field(validator=length(LENGTH_MIN, LENGTH_MAX), repr=False)
    """Not the user id."""
    cookies: bool = False
    """Send the refresh token, and the access token too, in cookies."""


@attrs.frozen
class Refresh:
    """Which login is to go on."""

    refresh_token: str | None = attrs.field(default=None, validator=length(1, REFRESH_LENGTH_MAX), repr=False)
    """Left out: the one of the cookie."""


@attrs.frozen
class Logout:
    """Which login is to end."""

    refresh_token: str | None = attrs.field(default=None, validator=length(1, REFRESH_LENGTH_MAX), repr=False)
    """Left out: the one of the cookie or, without one, the login of the access token."""
    everywhere: bool = False
    """All logins of the user, and all sessions, however they began."""


@attrs.frozen
class LoginAnswer:
    """What a login gives."""

    user_id: UserId
    """As it was registered."""
    access_token: str = attrs.field(repr=False)
    expires_in: int
    """Seconds that the access token lives."""
    token_type: str
    """`Bearer`."""
    refresh_expires_in: int
    """Seconds until the login ends if it is not refreshed."""
    refresh_token: str | None = attrs.field(default=None, repr=False)
    """Good for one refresh; null: it is in the cookie."""
    display_name: str | None = None


async def register(call: Call) -> Answer | Response:
    """Make an account and log in to it."""
    logins = logins_of(call)
    wanted: Register = call.body
    _check_registration(call, logins)
    _check_cookies(call, wanted.cookies)
    if call.node.users.sessions_of(wanted.user_id):
        # Somebody is here by this id already, by the shared secret or another's token.
        raise UserIdTaken("user_id: taken")
    host = _host_of(call)
    tokens = await logins.register(wanted.user_id, wanted.password, wanted.display_name, host)
    return _answer(call, tokens, 201, in_cookies=wanted.cookies)


async def log_in(call: Call) -> Answer | Response:
    """Begin a login."""
    logins = logins_of(call)
    wanted: Login = call.body
    _check_cookies(call, wanted.cookies)
    tokens = await logins.log_in(wanted.user_id, wanted.password, _host_of(call))
    return _answer(call, tokens, 200, in_cookies=wanted.cookies)


def _host_of(call: Call) -> str:
    # The host of the application has looked behind the proxies that are trusted already.
    assert call.request.client is not None
    return call.request.client.host


async def change_password(call: Call) -> Answer | Response:
    """Change one's own password, and begin a login by the new one."""
    logins = logins_of(call)
    wanted: PasswordChange = call.body
    _check_cookies(call, wanted.cookies)
    host = _host_of(call)
    tokens = await logins.change_password(wanted.user_id, wanted.password, wanted.new_password, host)
    return _answer(call, tokens, 200, in_cookies=wanted.cookies)


async def refresh(call: Call) -> Answer | Response:
    """Go on with a login."""
    logins = logins_of(call)
    text, in_cookies = _refresh_token(call, logins, call.body.refresh_token)
    if text is None:
        raise NotAuthenticated("refresh_token: expected in the body or in the cookie")
    tokens = await logins.refresh(text, _host_of(call))
    return _answer(call, tokens, 200, in_cookies=in_cookies)


async def log_out(call: Call) -> Answer | Response:
    """End a login, or all of the user's."""
    logins = logins_of(call)
    wanted: Logout = call.body
    text, in_cookies = _refresh_token(call, logins, wanted.refresh_token)
    if text is not None:
        host = _host_of(call)
        await logins.log_out(text, host, everywhere=wanted.everywhere)
    else:
        identity = await identify(call.node, call.request)
        await _end_by_access(call, logins, identity, wanted.everywhere)
    response = Response(None, 204, {"cache-control": "no-store"})
    if in_cookies or call.node.auth.cookie in call.request.cookies:
        _forget_cookies(call, logins, response)
    return response


async def _end_by_access(call: Call, logins: Logins, identity: Identity, everywhere: bool) -> None:
    """End what an access token belongs to; one that was minted, here or elsewhere, is no login of ours."""
    user_id, family_id = identity.user_id, identity.family_id
    if everywhere:
        await logins.end_all(user_id)
    elif family_id is not None and await logins.end(user_id, family_id):
        return
    elif family_id is not None:
        revoke_token(call.node, family_id, user_id=user_id)
    elif identity.token_id is not None:
        revoke_token(call.node, identity.token_id, identity.expires_at, user_id=user_id)
    else:
        raise ProtocolError("everywhere: expected true: these credentials belong to no login")


def logins_of(call: Call) -> Logins:
    """Return the accounts of the server.

    Raises:
        NoSuchPath: it has none.
    """
    if call.node.logins is None:
        raise NoSuchPath("path: this server has no accounts of its own")
    return call.node.logins


def _check_registration(call: Call, logins: Logins) -> None:
    """Refuse to make accounts for whom the settings keep out.

    Raises:
        Forbidden: they do.
    """
    registration = logins.settings.registration
    if registration == "closed" or (
        registration == "local" and not is_local(call.request, call.node.trusted_proxies)
    ):
        raise Forbidden("registration: closed; accounts are made by the operator")


def _check_cookies(call: Call, wanted: bool) -> None:
    """Refuse to set cookies for a page of somebody else, which would log its visitor in as whom it likes.

    Raises:
        Forbidden: the request comes from one.
    """
    origins = call.request.headers.getlist("origin")
    if wanted and any(origin not in call.node.allowed_origins for origin in origins):
        raise Forbidden("origin: cookies are only for allowed origins")


def _refresh_token(call: Call, logins: Logins, stated: str | None) -> tuple[str | None, bool]:
    """Return the refresh token of a request, and whether it came in the cookie.

    Raises:
        Forbidden: it did, and not surely from an allowed origin.
    """
    if stated is not None:
        return stated, False
    text = cookie_untrusted(call.node, call.request, logins.settings.cookie)
    return text, text is not None


def _answer(call: Call, tokens: Tokens, status: int, *, in_cookies: bool) -> Answer | Response:
    now_ms = call.node.now_ms()
    answer = LoginAnswer(
        user_id=tokens.user_id,
        access_token=tokens.access_token,
        expires_in=_seconds(tokens.access_expires_at - now_ms),
        token_type="Bearer",  # noqa: S106 - its kind, no password
        refresh_expires_in=_seconds(tokens.refresh_expires_at - now_ms),
        refresh_token=None if in_cookies else tokens.refresh_token,
        display_name=tokens.display_name,
    )
    if not in_cookies:
        return Answer(answer, status)
    response = JSONResponse(unstructure(answer), status, {"cache-control": "no-store"})
    auth, logins = call.node.auth, logins_of(call)
    _set_cookie(response, auth.cookie, tokens.access_token, "/", answer.expires_in)
    _set_cookie(response, logins.settings.cookie, tokens.refresh_token, PATH, answer.refresh_expires_in)
    return response


def _forget_cookies(call: Call, logins: Logins, response: Response) -> None:
    _set_cookie(response, call.node.auth.cookie, "", "/", 0)
    _set_cookie(response, logins.settings.cookie, "", PATH, 0)


def _set_cookie(response: Response, name: str, value: str, path: str, max_age_s: int) -> None:
    response.set_cookie(name, value, max_age_s, path=path, secure=True, httponly=True, samesite="strict")


def _seconds(ms: int) -> int:
    return max(0, round(ms / 1000))


def _endpoint(
    name: str,
    handler: Callable[[Call], Awaitable[Answer | Response]],
    summary: str,
    body: type[object],
    status: int,
    errors: tuple[type[LiveError], ...],
    description: str,
    *,
    body_optional: bool = False,
) -> Endpoint:
    return Endpoint(
        "POST",
        f"{PATH}/{name}",
        handler,
        "auth",
        summary,
        "public",
        body=body,
        answers={status: None if status == 204 else LoginAnswer},
        errors=(NoSuchPath, RateLimited, Forbidden, *errors, *READING, *WRITING),
        description=description,
        body_bytes_max=BODY_BYTES_MAX,
        body_optional=body_optional,
        answer_headers=COOKIES,
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    _endpoint(
        "register",
        register,
        "Make an account",
        Register,
        201,
        (UserIdTaken,),
        "And log in to it. `accounts.registration` says who may.",
    ),
    _endpoint(
        "login",
        log_in,
        "Log in",
        Login,
        200,
        (WrongPassword,),
        "Attempts are limited for each account and each address.",
    ),
    _endpoint(
        "password",
        change_password,
        "Change one's password",
        PasswordChange,
        200,
        (WrongPassword,),
        "Ends all logins and sessions of the user, and begins a new login.",
    ),
    _endpoint(
        "refresh",
        refresh,
        "Go on with a login",
        Refresh,
        200,
        (InvalidToken, NotAuthenticated),
        "The refresh token is replaced by the one in the answer. Whoever shows one that was replaced ends the "
        "login: its tokens count no more, and its sessions are closed (4502). A client that may not have got the "
        "answer logs in again.",
        body_optional=True,
    ),
    _endpoint(
        "logout",
        log_out,
        "Log out",
        Logout,
        204,
        (InvalidToken, NotAuthenticated, UserIdMissing),
        "Ends the login of the refresh token or, without one, of the access token: its tokens count no more, and "
        "its sessions are closed (4502).",
        body_optional=True,
    ),
)
