"""Who asks too often of a real server: refused whatever it asks for, and closed if it goes on."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import livechat
from livechat.gateway.rates import REFUSALS_MAX
from livechat.protocol.opcodes import CloseCode
from tests.support.client import CREATE, JOIN, LIST, MESSAGE, RESUME, Client, connected, identified
from tests.support.server import running_server

BURST = 5
ALL = ("messages", "history", "sync", "read", "others")
FEW = livechat.RateLimits(**{f"{name}_per_s": 1 for name in ALL}, **{f"{name}_burst": BURST for name in ALL})
UNKNOWN = 9999


async def test_over_its_rate_a_request_is_refused_and_says_when_to_try_again(tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        for number in range(BURST):
            await alice.say("x", f"{number}")
        refusal = await alice.refused(MESSAGE, {"channel_id": "x", "content": "one too many"}, id=1)
        assert (refusal["code"], refusal["retryable"], refusal["op"]) == (1006, True, MESSAGE)
        assert refusal["retry_after_ms"] >= 1
        # Other kinds of requests have buckets of their own.
        await alice.ack(LIST)


async def codes(client: Client, op: int, d: dict[str, Any] | None) -> list[int]:
    return [(await client.refused(op, d))["code"] for _ in range(BURST + 1)]


@pytest.mark.parametrize(("op", "d", "refusal"), [(UNKNOWN, None, 1003), (LIST, None, 1000)])
async def test_what_is_refused_anyway_counts_before_anybody_is_known(
    op: int, d: dict[str, Any] | None, refusal: int, tmp_path: Path
) -> None:
    async with running_server(tmp_path, rates=FEW) as server, connected(server) as client:
        assert await codes(client, op, d) == [refusal] * BURST + [1006]


@pytest.mark.parametrize(
    ("op", "d", "refusal"), [(UNKNOWN, None, 1003), (RESUME, {"session_id": "s", "token": "t"}, 1002)]
)
async def test_what_is_refused_anyway_counts_in_a_session(
    op: int, d: dict[str, Any] | None, refusal: int, tmp_path: Path
) -> None:
    async with running_server(tmp_path, rates=FEW) as server, identified(server, "alice") as alice:
        # The IDENTIFY was one.
        assert (await codes(alice, op, d))[:-1] == [refusal] * (BURST - 1) + [1006]


@pytest.mark.parametrize("op", [LIST, UNKNOWN])
async def test_who_goes_on_is_closed(op: int, tmp_path: Path) -> None:
    async with running_server(tmp_path, rates=FEW) as server, identified(server, "alice") as alice:
        # It may be closed before the last of them has left.
        with suppress(ConnectionClosed):
            for _ in range(REFUSALS_MAX + BURST):
                await alice.ws.send(json.dumps({"op": op, "d": None}))
        assert await alice.closed() == CloseCode.RATE_ABUSE
