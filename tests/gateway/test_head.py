from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.gateway.head import (
    RequestHead,
    UpgradeCredentials,
    bare_upgrade,
    credentials_untrusted,
    is_loopback,
    is_trusted,
    may_open,
    original_peer,
    parse_head_untrusted,
)

COOKIE = "livechat_token"
ORIGINS = ("https://chat.example", "http://localhost:3000")


def request(*headers: tuple[str, str], target: str = "/ws", method: str = "GET") -> RequestHead:
    lines = [f"{method} {target} HTTP/1.1", "Host: chat.example", *(f"{name}: {value}" for name, value in headers)]
    head = parse_head_untrusted(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    assert head is not None
    return head


# --- parsing -----------------------------------------------------------------------------------------------


def test_a_head_is_its_line_and_its_headers_and_what_follows_is_none_of_it() -> None:
    head = parse_head_untrusted(b"POST /a%20b?c=d HTTP/1.1\r\nHOST:  x \r\nA: 1\r\nA:2\r\n\r\nB: body\r\n\r\n")
    assert head == RequestHead("POST", "/a%20b?c=d", (("host", "x"), ("a", "1"), ("a", "2")))
    assert (head.path, head.header("a"), head.header("b")) == ("/a%20b", "1", None)


def test_values_of_all_headers_of_a_name_are_one_list() -> None:
    assert request(("X-A", "1, 2,"), ("X-B", "9"), ("x-a", " 3")).values("x-a") == ["1", "2", "3"]
    assert request().values("x-a") == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"a" * 20_000,
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1 x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET //[ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_whole_head_is_left_to_the_http_side(data: bytes) -> None:
    assert parse_head_untrusted(data) is None


@settings(deadline=None)
@given(
    st.one_of(st.binary(), st.builds(b"GET %b HTTP/1.1\r\n%b: %b\r\n\r\n".__mod__, st.tuples(*[st.binary()] * 3)))
)
def test_no_bytes_make_the_parser_or_what_reads_its_result_raise(data: bytes) -> None:
    head = parse_head_untrusted(data)
    if head is not None:
        credentials_untrusted(head, ORIGINS, COOKIE)
        original_peer(head, "10.0.0.1", False, ("10.0.0.0/8",))
        assert head.is_websocket in (True, False)


# --- which requests are the gateway's ----------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket", " websocket "])
def test_a_get_of_ws_with_an_upgrade_is_the_gateways(upgrade: str) -> None:
    assert request(("Upgrade", upgrade)).is_websocket
    assert request(("Upgrade", upgrade), target="/ws?token=x").is_websocket


def test_one_of_several_upgrade_headers_is_enough() -> None:
    assert request(("Upgrade", "h2c"), ("Upgrade", "websocket")).is_websocket


def test_everything_else_is_the_http_sides() -> None:
    upgrade = ("Upgrade", "websocket")
    assert not request().is_websocket
    assert not request(("Upgrade", "h2c")).is_websocket
    assert not request(("Upgrade", "websockets")).is_websocket
    assert not request(("Connection", "upgrade")).is_websocket
    assert not request(upgrade, method="POST").is_websocket
    for target in ("/", "/ws/", "/wss", "/WS", "/a/ws", "/a?x=/ws"):
        assert not request(upgrade, target=target).is_websocket


# --- credentials -------------------------------------------------------------------------------------------


def credentials(*headers: tuple[str, str], target: str = "/ws") -> UpgradeCredentials | None:
    return credentials_untrusted(request(*headers, target=target), ORIGINS, COOKIE)


def test_without_a_token_there_are_no_credentials() -> None:
    assert credentials() is None
    # An empty one is one, and wrong; it must not pass for none.
    assert credentials(target="/ws?user_id=ann&token=") == UpgradeCredentials("", "ann", False)


def test_a_token_comes_in_the_query() -> None:
    assert credentials(target="/ws?token=s%2Fe+c%C3%A9&user_id=%E5%8F%B7") == UpgradeCredentials(
        "s/e cé", "号", False
    )


def test_of_a_query_field_given_twice_the_first_one_counts() -> None:
    assert credentials(target="/ws?token=a&token=b&user_id=c&user_id=d") == UpgradeCredentials("a", "c", False)


def test_a_session_id_says_that_a_resume_comes() -> None:
    assert credentials(target="/ws?token=t&session_id=sess_1") == UpgradeCredentials("t", None, True)


@pytest.mark.parametrize("value", ["Bearer t", "bearer t", "BEARER   t "])
def test_a_token_comes_in_the_authorization_header(value: str) -> None:
    assert credentials(("Authorization", value), target="/ws?user_id=ann") == UpgradeCredentials("t", "ann", False)


@pytest.mark.parametrize("value", ["Basic dXNlcjpwdw==", "Bearer", "Bearer ", "t", ""])
def test_any_other_authorization_is_no_token(value: str) -> None:
    assert credentials(("Authorization", value)) is None


def test_the_query_comes_before_the_header_and_the_header_before_the_cookie() -> None:
    cookie = (("Origin", ORIGINS[0]), ("Cookie", "livechat_token=c"))
    authorization = ("Authorization", "Bearer b")
    found = [
        credentials(authorization, *cookie, target="/ws?token=a"),
        credentials(authorization, *cookie),
        credentials(*cookie),
    ]
    assert [each.token for each in found if each is not None] == ["a", "b", "c"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_token_comes_in_the_cookie_from_an_allowed_origin(origin: str) -> None:
    found = credentials(("Cookie", "a=b; livechat_token=t=; c=d"), ("Origin", origin))
    assert found is not None
    assert found.token == "t="


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Origin", "https://evil.example")],
        [("Origin", "http://chat.example")],
        [("Origin", "https://chat.example.evil.example")],
        [("Origin", "https://chat.example:444")],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "https://evil.example"), ("Origin", "https://chat.example")],
        [("Referer", "https://chat.example")],
    ],
)
def test_the_cookie_counts_for_nothing_from_anywhere_else(headers: list[tuple[str, str]]) -> None:
    assert credentials(("Cookie", "livechat_token=t"), *headers) is None


def test_the_cookie_has_the_name_that_it_was_given() -> None:
    head = request(("Cookie", "livechat_token=t; mine=m"), ("Origin", ORIGINS[0]))
    found = credentials_untrusted(head, ORIGINS, "mine")
    assert found is not None
    assert found.token == "m"
    assert credentials_untrusted(head, ORIGINS, "min") is None


def test_without_allowed_origins_no_cookie_counts() -> None:
    head = request(("Cookie", "livechat_token=t"))
    assert credentials_untrusted(head, (), COOKIE) is None
    assert credentials_untrusted(request(("Cookie", "livechat_token=t"), ("Origin", "null")), (), COOKIE) is None


@pytest.mark.parametrize("cookie", ["", ";;", "livechat_token", "livechat_token=", "xlivechat_token=t", "token=t"])
def test_other_cookies_are_no_token(cookie: str) -> None:
    assert credentials(("Cookie", cookie), ("Origin", ORIGINS[0])) is None


def test_a_query_of_very_many_fields_is_not_searched() -> None:
    assert credentials(target="/ws?token=t&" + "&".join(f"a{n}=1" for n in range(1000))) is None


def test_a_token_does_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(credentials(target="/ws?token=hunter2"))


# --- who the client is -------------------------------------------------------------------------------------

PROXIES = ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%lo", False),
    ],
)
def test_loopback_is_loopback_also_when_mapped_into_ipv6(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("10.200.3.4", True),
        ("192.0.2.1", True),
        ("::ffff:10.0.0.1", True),
        ("2001:db8:1::5", True),
        ("11.0.0.1", False),
        ("192.0.2.2", False),
        ("127.0.0.1", False),
        ("2001:db9::1", False),
        ("unknown", False),
        ("10.0.0.1:80", False),
        ("", False),
    ],
)
def test_a_proxy_is_trusted_by_host_or_network(host: str, trusted: bool) -> None:
    assert is_trusted(host, PROXIES) is trusted
    assert not is_trusted(host, ())


@pytest.mark.parametrize(
    ("peer", "is_tls", "confidential"),
    [
        ("127.0.0.1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("11.0.0.1", False, False),
        ("11.0.0.1", True, True),
    ],
)
def test_a_direct_client_is_who_it_is_and_confidential_by_tls_or_loopback(
    peer: str, is_tls: bool, confidential: bool
) -> None:
    claims = request(("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https"))
    assert original_peer(request(), peer, is_tls, PROXIES) == (peer, confidential)
    assert original_peer(claims, peer, is_tls, PROXIES) == (peer, confidential)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["2001:db9::7"], "2001:db9::7"),
        # What comes before the last hop that is not ours is the client's own claim.
        (["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        (["127.0.0.1, 203.0.113.7, 10.0.0.9, 192.0.2.1"], "203.0.113.7"),
        (["10.0.0.5, 203.0.113.7"], "203.0.113.7"),
        (["unknown, 203.0.113.7"], "203.0.113.7"),
        # A proxy that adds a header of its own after the client's.
        (["127.0.0.1", "203.0.113.7"], "203.0.113.7"),
        (["127.0.0.1, 127.0.0.1", "203.0.113.7", "10.0.0.9"], "203.0.113.7"),
        (["127.0.0.1", ""], "127.0.0.1"),
        # Nothing usable: the proxy itself stands for the client.
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        ([" , ,"], "10.0.0.1"),
        (["10.0.0.7, 10.0.0.8"], "10.0.0.1"),
        (["203.0.113.7, unknown"], "10.0.0.1"),
        (["203.0.113.7, _hidden"], "10.0.0.1"),
    ],
)
def test_behind_a_trusted_proxy_the_client_is_the_last_hop_that_is_not_ours(
    forwarded: list[str], client: str
) -> None:
    head = request(*(("X-Forwarded-For", value) for value in forwarded))
    assert original_peer(head, "10.0.0.1", False, PROXIES)[0] == client
    assert original_peer(head, "::ffff:10.0.0.1", False, PROXIES)[0] in (client, "::ffff:10.0.0.1")


@pytest.mark.parametrize(
    ("proto", "confidential"),
    [
        (["https"], True),
        (["http"], False),
        ([], False),
        (["https, http"], False),
        (["https", "http"], False),
        (["http", "https"], True),
        (["HTTPS?"], False),
    ],
)
def test_behind_a_trusted_proxy_it_is_the_proxy_that_says_whether_tls_protects(
    proto: list[str], confidential: bool
) -> None:
    head = request(("X-Forwarded-For", "203.0.113.7"), *(("X-Forwarded-Proto", value) for value in proto))
    for is_tls in (False, True):
        assert original_peer(head, "10.0.0.1", is_tls, PROXIES) == ("203.0.113.7", confidential)


def test_behind_a_trusted_proxy_on_loopback_a_client_is_not_taken_for_loopback() -> None:
    for claims in (request(), request(("X-Forwarded-For", "unknown")), request(("X-Forwarded-For", "127.0.0.1"))):
        assert original_peer(claims, "127.0.0.1", False, ("127.0.0.1",)) == ("127.0.0.1", False)


# --- what two could read differently, and who may open -----------------------------------------------------

GOOD_UPGRADE = (
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@pytest.mark.parametrize("value", ["a\nb: c", "a\rb", "a\0", "a\x7f", "a\r\n folded: b", "a\r\n\tfolded: b"])
def test_an_upgrade_with_lines_that_can_be_read_in_two_ways_is_refused(value: str) -> None:
    assert request(*GOOD_UPGRADE).upgrade_fault is None
    assert request(*GOOD_UPGRADE, ("A", "a\tb")).upgrade_fault is None
    loose = request(*GOOD_UPGRADE, ("A", value))
    assert loose.is_loose
    assert loose.upgrade_fault is not None
    assert loose.upgrade_fault.startswith("expected each header on a line")


def test_an_upgrade_of_two_versions_is_refused() -> None:
    both = request(*GOOD_UPGRADE, ("Sec-WebSocket-Version", "8"))
    assert both.upgrade_fault == "expected one Sec-WebSocket-Version"


@pytest.mark.parametrize(
    ("origin", "origins", "may"),
    [
        (None, ORIGINS, True),
        ("https://chat.example", ORIGINS, True),
        ("https://evil.example", ORIGINS, False),
        ("https://evil.example", (), True),
        ("https://evil.example", ("*",), True),
        ("null", ORIGINS, False),
        ("", ORIGINS, False),
        # The server's own, by the name it was asked by.
        ("http://chat.example", ("https://other.example",), True),
        ("http://chat.example:81", ("https://other.example",), False),
        ("https://chat.example.evil", ("https://other.example",), False),
        ("CHAT.EXAMPLE", ("https://other.example",), False),
    ],
)
def test_pages_may_open_from_where_they_are_allowed_to(
    origin: str | None, origins: tuple[str, ...], may: bool
) -> None:
    headers = () if origin is None else (("Origin", origin),)
    assert may_open(request(*headers), origins) is may


def test_a_page_of_no_host_is_not_the_servers_own() -> None:
    head = RequestHead("GET", "/ws", (("origin", "https://"),))
    assert not may_open(head, ORIGINS)


# --- what the handshake needs ------------------------------------------------------------------------------

HANDSHAKE = (
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "livechat.v1.json"),
)


def test_an_upgrade_is_stripped_of_tokens_and_whatever_else_the_handshake_does_not_need() -> None:
    secrets = (("Authorization", "Bearer SECRET"), ("Cookie", "a=SECRET"), ("User-Agent", "x" * 500))
    bare = bare_upgrade(request(*secrets, *HANDSHAKE, target="/ws?token=SECRET&user_id=ann"))
    head = parse_head_untrusted(bare)
    assert head is not None
    assert (head.method, head.target, head.version) == ("GET", "/ws", "HTTP/1.1")
    assert head.headers == (("host", "chat.example"), *HANDSHAKE)


@pytest.mark.parametrize(
    ("line", "kept"),
    [("GET /ws?a=\xff HTTP/1.1", b"GET /ws?a=\xff HTTP/1.1"), ("GET /ws HTTP/1.1", b"b(d: c")],
)
def test_what_a_strict_parser_refuses_is_left_in_for_it(line: str, kept: bytes) -> None:
    head = parse_head_untrusted(f"{line}\r\nHost: x\r\nB(d: c\r\n\r\n".encode("latin-1"))
    assert head is not None
    assert kept in bare_upgrade(head).split(b"\r\n")
