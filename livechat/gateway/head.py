"""Owns the head of the first request on a connection: enough of it to tell a WebSocket from plain HTTP. Pure.

It must not answer or refuse: malformed heads go to the HTTP side, whose parser (h11) knows what to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import parse_qs, urlsplit

import attrs

HEAD_BYTES_MAX: Final = 16_384
WEBSOCKET_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
QUERY_FIELDS_MAX: Final = 64
END_OF_HEAD: Final = b"\r\n\r\n"
END_OF_LINES: Final = re.compile(rb"\n\r?\n")
"""The end of a head as h11 finds it: to some programs a line ends without a carriage return (RFC 9112, 2.2)."""
LOOSE: Final = re.compile(r"^[ \t]|[\x00-\x08\x0a-\x1f\x7f]")
"""What a line of a head may hold to one reader, and another reads two lines in it, or half of one."""
WEBSOCKET_PATH: Final = "/ws"
HANDSHAKE_FIELDS: Final = frozenset(
    (
        "host",
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "content-length",
        "transfer-encoding",
    )
)
"""Headers that the handshake is made of (RFC 6455, section 4.2.1), and those that tell where a request ends."""
REQUEST_TARGET: Final = re.compile(r"[\x21-\x7e]+")
FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""A name as it must be (RFC 9110, section 5.1), in lower case."""
ANY_ORIGIN: Final = "*"
"""Among origins: all of them."""


@attrs.frozen
class RequestHead:
    """A request line and its headers."""

    method: str
    target: str = attrs.field(repr=False)
    """May hold a token, as the headers may; so neither shows in a repr."""
    headers: tuple[tuple[str, str], ...] = attrs.field(repr=False)
    """Names in lower case, in order of appearance."""
    version: str = "HTTP/1.1"
    is_loose: bool = False
    """A line is continued, or holds a control character: who reads it elsewhere may read something else."""

    @property
    def path(self) -> str:
        """The target's path."""
        return urlsplit(self.target).path

    def header(self, name: str) -> str | None:
        """Return the first header of this (lower-case) name."""
        return next((value for key, value in self.headers if key == name), None)

    def values(self, name: str) -> list[str]:
        """Return the comma-separated values of all headers of this name, in order (RFC 9110, section 5.3)."""
        fields = ",".join(value for key, value in self.headers if key == name).split(",")
        return [value for field in fields if (value := field.strip())]

    def upgrades(self, path: str) -> bool:
        """Tell whether this asks for a WebSocket at a path: a GET with an upgrade (RFC 6455, section 4.1)."""
        upgrades = [value.lower() for value in self.values("upgrade")]
        return self.method == "GET" and self.path == path and "websocket" in upgrades

    @property
    def is_websocket(self) -> bool:
        """Whether this asks for the gateway."""
        return self.upgrades(WEBSOCKET_PATH)

    @property
    def upgrade_fault(self) -> str | None:
        """What is wrong with an upgrade that a lenient parser would let through; None: nothing.

        The rest of RFC 6455, section 4.2.1, is wsproto's to check.
        """
        keys = [value for name, value in self.headers if name == "sec-websocket-key"]
        if self.version != "HTTP/1.1":
            return "expected HTTP/1.1"
        if self.is_loose:
            return "expected each header on a line, without control characters"
        if not all(name.isascii() and value.isascii() for name, value in self.headers):
            return "expected headers in ASCII"
        if self.values("transfer-encoding") or any(length != "0" for length in self.values("content-length")):
            return "expected no body"
        if len(keys) != 1 or WEBSOCKET_KEY.fullmatch(keys[0]) is None:
            return "expected one Sec-WebSocket-Key of 16 bytes in base64"
        if len(self.values("sec-websocket-version")) > 1:
            return "expected one Sec-WebSocket-Version"
        return None


def bare_upgrade(head: RequestHead) -> bytes:
    """Return an upgrade with nothing in it but what the handshake needs: the rest need not be parsed again.

    What a WebSocket library would have to refuse stays.
    """
    target = head.path if REQUEST_TARGET.fullmatch(head.target) else head.target
    lines = [f"{head.method} {target} {head.version}"]
    for name, value in head.headers:
        if name in HANDSHAKE_FIELDS or FIELD_NAME.fullmatch(name) is None:
            lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


@attrs.frozen
class UpgradeCredentials:
    """What came with an upgrade request to save the IDENTIFY."""

    token: str = attrs.field(repr=False)
    user_id: str | None
    awaits_resume: bool
    """`session_id` was stated: the client will RESUME."""


def parse_head_untrusted(data: bytes) -> RequestHead | None:
    """Parse a request head; None if it is none or is cut short (the HTTP side will say why)."""
    head, end, _ = data.partition(END_OF_HEAD)
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if not end or len(parts) != 3:
        return None
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers.append((name.lower(), value.strip()))
    try:
        urlsplit(parts[1])
    except ValueError:
        return None
    is_loose = any(LOOSE.search(line) for line in (first, *lines))
    return RequestHead(parts[0], parts[1], tuple(headers), parts[2], is_loose)


def credentials_untrusted(
    head: RequestHead, allowed_origins: tuple[str, ...], cookie: str
) -> UpgradeCredentials | None:
    """Find a token in the query, the Authorization header or, from an allowed origin, the cookie.

    A browser sends cookies along with whatever page opens the socket; so its origin must be one of ours.

    Args:
        cookie: its name.
    """
    try:
        query = parse_qs(urlsplit(head.target).query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        return None
    token = next(iter(query.get("token", ())), None)
    if token is None:
        scheme, _, value = (head.header("authorization") or "").partition(" ")
        if scheme.lower() == "bearer" and value:
            token = value.strip()
    if token is None and head.header("origin") in allowed_origins:
        token = cookie_value(head.header("cookie") or "", cookie)
    if token is None:
        return None
    return UpgradeCredentials(token, next(iter(query.get("user_id", ())), None), "session_id" in query)


def cookie_value(header: str, name: str) -> str | None:
    """Return what a Cookie header says of a name; None: nothing."""
    for pair in header.split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name and value:
            return value
    return None


def is_loopback(host: str) -> bool:
    """Tell whether an IP literal is loopback, also as an IPv4-mapped IPv6 address."""
    address = ip_address(host)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_trusted(host: str, proxies: tuple[str, ...]) -> bool:
    """Tell whether an IP literal is one of the hosts or networks in `proxies`."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in ip_network(proxy, strict=False) for proxy in proxies)


def original_peer(head: RequestHead, peer_host: str, is_tls: bool, proxies: tuple[str, ...]) -> tuple[str, bool]:
    """Return who the client is and whether TLS protects it all the way: (IP literal, confidential).

    Only what a trusted proxy says is believed, and of X-Forwarded-For only the last address that is not a
    trusted proxy itself: everything before it is the client's own claim.
    """
    if not is_trusted(peer_host, proxies):
        return peer_host, is_tls or is_loopback(peer_host)
    # Some proxies add a header of their own after the client's instead of extending it: all of them count.
    claimed = head.values("x-forwarded-for")
    client = next((host for host in reversed(claimed) if not is_trusted(host, proxies)), peer_host)
    try:
        ip_address(client)
    except ValueError:
        client = peer_host
    # A proxy beside us says nothing of where its client is, so its own loopback address does not count.
    return client, is_forwarded_https(head) or (client != peer_host and is_loopback(client))


def is_forwarded_https(head: RequestHead) -> bool:
    """Tell whether a trusted proxy says that TLS protects the way to it."""
    return head.values("x-forwarded-proto")[-1:] == ["https"]


def may_open(head: RequestHead, origins: Collection[str]) -> bool:
    """Tell whether a WebSocket may be opened from where a browser says that it is opened from.

    A program that is no browser sends no Origin; it could say anything. A page always may reach the server that it
    came from itself.

    Args:
        origins: of the pages that may; without any, all may.
    """
    origin = head.header("origin")
    if origin is None or not origins or ANY_ORIGIN in origins or origin in origins:
        return True
    host = (head.header("host") or "").lower()
    return bool(host) and origin in (f"https://{host}", f"http://{host}")
