from __future__ import annotations

from typing import Any

import pytest

from livechat.limits.addresses import FULL_RETRY_MS, Addresses, Refusal
from livechat.limits.settings import AddressLimits


def addresses(*proxies: str, **limits: Any) -> Addresses:
    return Addresses(AddressLimits(**limits), proxies)


# --- who counts as one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("127.5.5.5", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("10.1.2.3", None),
        ("192.0.2.9", "192.0.2.9"),
    ],
)
def test_an_ipv6_network_counts_as_one_and_loopback_and_proxies_do_not_count(host: str, name: str | None) -> None:
    assert addresses("10.0.0.0/8", "2001:db8:ffff::1").name(host) == name


def test_loopback_counts_where_it_is_configured_to() -> None:
    counting = addresses("127.0.0.9", spare_loopback=False)
    assert counting.name("127.0.0.1") == "127.0.0.1"
    assert counting.name("::1") == "::/64"
    assert counting.name("127.0.0.9") is None


# --- connections ---------------------------------------------------------------------------------------

HOST = "203.0.113.7"


def test_who_connects_too_often_is_told_when_to_come_back_and_then_dropped() -> None:
    book = addresses(connects_per_min=120, connects_burst=3)
    seen = [book.connect(HOST, 10.0) for _ in range(8)]
    told, dropped = Refusal(500), Refusal(500, is_flood=True)
    assert seen == [None] * 3 + [told] * 3 + [dropped] * 2
    assert book.connect("203.0.113.8", 10.0) is None
    assert book.connect(HOST, 10.5) is None
    assert book.connect(HOST, 10.5) == told


def test_only_so_many_connections_at_a_time() -> None:
    book = addresses(connections=2, connects_per_min=0)
    assert [book.connect(HOST, 0.0) for _ in range(3)] == [None, None, Refusal(FULL_RETRY_MS)]
    assert book.connect("203.0.113.8", 0.0) is None
    book.disconnect(HOST)
    assert [book.connect(HOST, 0.0) for _ in range(2)] == [None, Refusal(FULL_RETRY_MS)]


def test_zero_is_no_limit() -> None:
    book = addresses(connections=0, connects_per_min=0, failures_per_min=0, failures_burst=1)
    assert [book.connect(HOST, 0.0) for _ in range(10_000)] == [None] * 10_000
    for _ in range(100):
        book.failed(HOST, 0.0)
    assert book.wait_ms(HOST, 0.0) is None


def test_a_connection_that_has_ended_leaves_nothing_behind() -> None:
    book = addresses()
    for _ in range(3):
        book.connect(HOST, 0.0)
    for _ in range(3):
        book.disconnect(HOST)
    assert book._open == {}
    book.connect("127.0.0.1", 0.0)
    book.disconnect("127.0.0.1")
    assert book._open == {}


def test_clients_behind_a_proxy_count_by_themselves() -> None:
    book = addresses("10.0.0.1", connects_per_min=60, connects_burst=1)
    assert [book.connect("10.0.0.1", 0.0) for _ in range(50)] == [None] * 50
    assert book.connect_behind_proxy(HOST, 0.0) is None
    assert book.connect_behind_proxy(HOST, 0.0) == Refusal(1000)
    assert book.connect_behind_proxy("203.0.113.8", 0.0) is None
    assert book.connect_behind_proxy("10.0.0.1", 0.0) is None


# --- tokens --------------------------------------------------------------------------------------------


def test_who_shows_many_bad_tokens_has_to_wait() -> None:
    book = addresses(failures_per_min=60, failures_burst=2)
    assert book.wait_ms(HOST, 0.0) is None
    book.failed(HOST, 0.0)
    assert book.wait_ms(HOST, 0.0) is None
    book.failed(HOST, 0.0)
    assert book.wait_ms(HOST, 0.0) == 1000
    assert book.wait_ms("203.0.113.8", 0.0) is None
    assert book.wait_ms(HOST, 1.0) is None


def test_bad_tokens_of_this_machine_do_not_count() -> None:
    book = addresses(failures_per_min=1, failures_burst=1)
    for _ in range(10):
        book.failed("127.0.0.1", 0.0)
    assert book.wait_ms("127.0.0.1", 0.0) is None
