"""Owns who a request is from, and whether that one may call an endpoint.

It must not know tokens: the node's authenticator does. A request is refused here before anything of it is read but
its head.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from livechat.error import Forbidden, NotAuthenticated
from livechat.gateway.head import cookie_value, is_loopback, is_trusted
from livechat.handlers.access import prove
from livechat.handlers.auth import ADMIN_SCOPE, Identity, UserIdMissing
from livechat.handlers.node import Node
from livechat.http.endpoint import Access, Endpoint, text_of

USER_ID_HEADER: Final = "x-user-id"
USER_ID_QUERY: Final = "user_id"

SCOPES: Final[dict[Access, frozenset[str]]] = {
    "user": frozenset({"chat"}),
    "publish": frozenset({"publish"}),
    "send": frozenset({"chat", "publish"}),
    "admin": frozenset(),
}
"""Any one of these opens an endpoint; `admin` opens every one."""

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
"""They change nothing (RFC 9110, section 9.2.1)."""
SITE_HEADER: Final = "sec-fetch-site"
"""Sent by browsers, and out of the reach of pages: where the request comes from, as seen from here."""
OWN_SITE: Final = "none"
"""Of a request that no page has caused."""
FOREIGN_HEADERS: Final = (
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"),
    "origin",
)
"""What a proxy adds, or a page: then the address it connects from says nothing of where the request is from."""


async def identify(node: Node, request: Request) -> Identity:
    """Return who a request is from, by its Authorization or else by the cookie with a token.

    Whoever knows the shared secret says so by `?user_id=` or the header `X-User-Id`.

    Raises:
        NotAuthenticated: it shows no credentials.
        Forbidden: it shows the cookie, and may be made by a page of somebody else.
        UserIdMissing: it shows the shared secret, and does not say who that is.
        InvalidToken: what it shows proves nothing, has expired or was revoked.
        RateLimited: too much that was shown from there proved nothing.
        BackendUnavailable: the authenticator failed.
    """
    token = _bearer(request)
    if token is None and "authorization" not in request.headers:
        token = cookie_untrusted(node, request, node.auth.cookie)
    if token is None:
        raise NotAuthenticated("authorization: expected a bearer token")
    user_id = request.query_params.get(USER_ID_QUERY) or text_of(request, USER_ID_HEADER)
    assert request.client is not None
    return await prove(node, token, user_id, request.client.host)


async def check_admin(node: Node, request: Request) -> None:
    """Refuse whom an endpoint of the `admin` scope is not for; see `let_in`."""
    try:
        identity = await identify(node, request)
    except UserIdMissing:
        return
    if not may_call(identity, "admin"):
        raise Forbidden("authorization: expected a token of scope admin")


async def let_in(node: Node, endpoint: Endpoint, request: Request, *, on_loopback: bool) -> Identity | None:
    """Return who calls an endpoint; None: it need not be known.

    Args:
        on_loopback: the server is bound to loopback only.

    Raises:
        Forbidden: the token is not good for this.
        LiveError: see `identify`.
    """
    if endpoint.access == "public":
        return None
    is_open = endpoint.open_on_loopback and on_loopback and "authorization" not in request.headers
    if is_open and is_local(request, node.trusted_proxies):
        return None
    try:
        identity = await identify(node, request)
    except UserIdMissing:
        # Who knows the secret may be anybody, so also the one who may do all.
        if endpoint.access == "admin" or not endpoint.needs_user:
            return None
        raise
    if not may_call(identity, endpoint.access):
        wanted = " or ".join(sorted(SCOPES[endpoint.access] | {ADMIN_SCOPE}))
        raise Forbidden(f"authorization: expected a token of scope {wanted}")
    return identity


def may_call(identity: Identity, access: Access) -> bool:
    """Tell whether somebody may call endpoints of this access."""
    return identity.holds_secret or not identity.scopes.isdisjoint({*SCOPES[access], ADMIN_SCOPE})


def is_local(request: Request, trusted_proxies: tuple[str, ...] = ()) -> bool:
    """Tell whether a request is surely from a program on this machine, and not from a page in its browser.

    A page of a foreign site may have its name point to 127.0.0.1, so the host that was asked for counts as well.

    Args:
        trusted_proxies: one that connects from loopback and names no client may speak for anybody.
    """
    if request.client is None or not is_loopback(request.client.host):
        return False
    if is_trusted(request.client.host, trusted_proxies):
        return False
    if any(name in request.headers for name in FOREIGN_HEADERS):
        return False
    # What a page loads without reading it, as an image, comes without an Origin.
    if request.headers.get(SITE_HEADER, OWN_SITE) not in (OWN_SITE, "same-origin"):
        return False
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return host == "localhost" or is_loopback(host)
    except ValueError:
        return False


def _bearer(request: Request) -> str | None:
    scheme, _, token = (text_of(request, "authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def cookie_untrusted(node: Node, request: Request, name: str) -> str | None:
    """Return the token of a cookie; None: there is none.

    A browser sends it along with whatever any page asks for. Another origin's page must say which it is, but for
    what it cannot read anyway: a GET may come without Origin, as from our own pages. What changes something must
    come from an allowed origin, surely (OWASP, cross-site request forgery).

    Raises:
        Forbidden: the request may be made by a page of somebody else.
    """
    token = cookie_value("; ".join(request.headers.getlist("cookie")), name)
    if token is None:
        return None
    origins = request.headers.getlist("origin")
    if not origins and request.method in SAFE_METHODS and request.headers.get(SITE_HEADER) != "cross-site":
        return token
    if len(origins) != 1 or origins[0] not in node.allowed_origins:
        raise Forbidden("origin: the cookie counts only from an allowed origin")
    return token
