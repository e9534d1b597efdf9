"""What one address may do: connect, hold connections, show bad tokens; and how often it may ask over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

import livechat
from livechat.protocol.types import Address
from tests.support.client import IDENTIFY, LIST, RESUME, connected, identified
from tests.support.http import Response, exchange, split_responses
from tests.support.server import SECRET, running_server, wait_until

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def limits(**changed: Any) -> livechat.AddressLimits:
    """Limits that count loopback, and that nobody reaches who is not meant to."""
    return livechat.AddressLimits(spare_loopback=False, **changed)


async def ask(address: Address, request: bytes = GET) -> Response | None:
    """Return the answer of a connection of its own; None: it was dropped."""
    try:
        responses = split_responses(await exchange(address, request))
    except trio.BrokenResourceError:
        return None
    return responses[0] if responses else None


def assert_rate_limited(response: Response | None) -> None:
    assert response is not None
    assert response.status == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(response.body)
    assert (problem["code"], problem["status"], problem["retryable"]) == (1006, 429, True)
    assert -(-problem["retry_after_ms"] // 1000) == int(response.headers["retry-after"])


# --- connections ---------------------------------------------------------------------------------------


async def test_who_connects_too_often_is_told_so_and_then_dropped(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with running_server(tmp_path, addresses=limits(connects_per_min=1, connects_burst=3)) as server:
            address = server.addresses.tcp[0]
            seen = [await ask(address) for _ in range(9)]
            gateway = server.statistics()["gateway"]
    assert [None if each is None else each.status for each in seen] == [200] * 3 + [429] * 3 + [None] * 3
    assert_rate_limited(seen[3])
    assert (gateway["connections_accepted"], gateway["connections_refused"]) == (9, 6)
    # Once, not for each.
    assert [entry["peer"] for entry in logs if entry["event"] == "connections refused"] == ["127.0.0.1"]


async def test_an_upgrade_is_refused_the_same_way(tmp_path: Path) -> None:
    few = limits(connects_per_min=1, connects_burst=1)
    async with running_server(tmp_path, addresses=few) as server, identified(server, "alice") as alice:
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server):
                pass
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        # Who is in stays in.
        await alice.ack(LIST)


async def test_only_so_many_connections_of_one_address_at_a_time(tmp_path: Path) -> None:
    async with running_server(tmp_path, addresses=limits(connections=2)) as server:
        address = server.addresses.tcp[0]
        async with connected(server), connected(server):
            assert_rate_limited(await ask(address))
        await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)
        for _ in range(10):
            response = await ask(address)
            assert response is not None
            assert response.status == 200


async def test_the_limits_hold_when_a_crowd_comes_at_once_and_who_is_in_stays_in(tmp_path: Path) -> None:
    few = limits(connects_per_min=1, connects_burst=21)
    async with running_server(tmp_path, addresses=few) as server, identified(server, "alice") as alice:
        seen: list[int | None] = []

        async def knock() -> None:
            response = await ask(server.addresses.tcp[0])
            seen.append(None if response is None else response.status)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(knock)
            for _ in range(10):
                await alice.ack(LIST)
        gateway = server.statistics()["gateway"]
    assert (seen.count(200), seen.count(429), seen.count(None)) == (20, 21, 59)
    assert (gateway["connections_accepted"], gateway["connections_refused"]) == (101, 80)


async def test_loopback_is_spared_unless_configured(tmp_path: Path) -> None:
    sparing = livechat.AddressLimits(connects_per_min=1, connects_burst=1, connections=1, failures_burst=1)
    async with running_server(tmp_path, addresses=sparing) as server:
        for _ in range(20):
            response = await ask(server.addresses.tcp[0])
            assert response is not None
            assert response.status == 200


async def test_clients_behind_a_proxy_count_by_themselves(tmp_path: Path) -> None:
    few = limits(connects_per_min=1, connects_burst=1)
    async with running_server(tmp_path, addresses=few, gateway={"trusted_proxies": ("127.0.0.1",)}) as server:
        first, second = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (1, 2))
        async with connected(server, headers=first), connected(server, headers=second):
            with pytest.raises(InvalidStatus) as refused:
                async with connected(server, headers=first):
                    pass
        assert refused.value.response.status_code == 429


# --- tokens --------------------------------------------------------------------------------------------


def healthz_of(user_id: str, token: str) -> bytes:
    return (
        f"GET /api/v1/channels HTTP/1.1\r\nHost: x\r\nX-User-Id: {user_id}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


async def test_who_shows_many_bad_tokens_waits_before_another_is_looked_at(tmp_path: Path) -> None:
    """By whichever way they come: all count, and all wait."""
    async with running_server(tmp_path, addresses=limits(failures_per_min=1, failures_burst=3)) as server:
        address = server.addresses.tcp[0]
        async with identified(server, "alice") as alice, connected(server) as stranger:
            with pytest.raises(InvalidStatus) as bad_upgrade:
                async with connected(server, query="?token=bad&user_id=mallory"):
                    pass
            bad_identify = await stranger.refused(IDENTIFY, {"token": "bad", "user_id": "mallory"})
            bad_request = await ask(address, healthz_of("mallory", "bad"))
            assert bad_request is not None
            assert (bad_upgrade.value.response.status_code, bad_identify["code"], bad_request.status) == (
                401,
                1001,
                401,
            )

            with pytest.raises(InvalidStatus) as upgrade:
                async with connected(server, query=f"?token={SECRET}&user_id=bob"):
                    pass
            assert upgrade.value.response.status_code == 429
            assert int(upgrade.value.response.headers["Retry-After"]) >= 1
            for op, payload in (
                (IDENTIFY, {"token": SECRET, "user_id": "bob"}),
                (RESUME, {"token": SECRET, "session_id": "sess_x"}),
            ):
                refusal = await stranger.refused(op, payload)
                assert (refusal["code"], refusal["retry_after_ms"] >= 1) == (1006, True)
            assert_rate_limited(await ask(address, healthz_of("bob", SECRET)))
            # Who has proven himself is not asked again.
            await alice.ack(LIST)


async def test_a_right_token_that_lacks_its_user_is_no_bad_one(tmp_path: Path) -> None:
    async with running_server(tmp_path, addresses=limits(failures_per_min=1, failures_burst=1)) as server:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                async with connected(server, query=f"?token={SECRET}"):
                    pass
            assert refused.value.response.status_code == 401
        async with identified(server, "alice"):
            pass


# --- requests over HTTP --------------------------------------------------------------------------------

FEW = livechat.RateLimits(
    messages_per_s=1, messages_burst=2, history_per_s=0, sync_per_s=0, read_per_s=0, others_per_s=1, others_burst=2
)
"""A token comes back each second; so in what is asked many times at once, most are refused."""
MANY = 50


async def statuses(address: Address, request: bytes) -> list[Response]:
    """Ask the same many times at once, on one connection."""
    return split_responses(await exchange(address, request * MANY))


async def test_a_user_has_one_bucket_over_all_connections(tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW) as server:
        address = server.addresses.tcp[0]
        answers = await statuses(address, healthz_of("alice", SECRET))
        assert [answer.status for answer in answers[:2]] == [200, 200]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) >= 1
        assert {answer.status for answer in answers} == {200, 429}
        assert_rate_limited(refused[0])
        # Another one is not held up, and on this machine who does not say who asks is not counted.
        assert (await ask(address, healthz_of("bob", SECRET))).status == 200  # type: ignore[union-attr]
        assert {answer.status for answer in await statuses(address, GET)} == {200}


async def test_who_does_not_say_who_asks_counts_by_address(tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW, addresses=limits()) as server:
        answers = await statuses(server.addresses.tcp[0], GET)
        assert {answer.status for answer in answers} == {200, 429}


async def test_sending_has_a_bucket_of_its_own(tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW) as server:
        address = server.addresses.tcp[0]
        head = f"HTTP/1.1\r\nHost: x\r\nX-User-Id: alice\r\nAuthorization: Bearer {SECRET}\r\n"
        body = '{"content":"hi"}'
        post = f"POST /api/v1/channels/nowhere/messages {head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        read = f"GET /api/v1/channels/nowhere/messages {head}\r\n".encode()
        assert {answer.status for answer in await statuses(address, post)} == {404, 429}
        assert {answer.status for answer in await statuses(address, read)} == {404}
        assert (await ask(address, healthz_of("alice", SECRET))).status == 200  # type: ignore[union-attr]


async def test_a_refused_request_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW) as server:
        head = f"HTTP/1.1\r\nHost: x\r\nX-User-Id: alice\r\nAuthorization: Bearer {SECRET}\r\n"
        post = f"POST /api/v1/channels/nowhere/messages {head}Content-Length: 4\r\n\r\nnot{{".encode()
        answers = await statuses(server.addresses.tcp[0], post)
        assert {answer.status for answer in answers} == {422, 429}
