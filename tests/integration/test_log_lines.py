"""What `livechat serve` writes to its log: one line of JSON or text each, and never what people say or secrets."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture
from websockets.exceptions import ConnectionClosed

import livechat
from livechat.store.failures import reason_of, without_detail
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    IDENTIFY,
    JOIN,
    MESSAGE,
    PRESENCE_UPDATE,
    RESUME,
    SETTINGS_SET,
    Client,
    connected,
    identified,
)
from tests.support.http import exchange
from tests.support.process import serving
from tests.support.server import make_config

PLAN = "a-plan-nobody-should-read-in-a-log"
SECRET = "an-operators-own-secret-0123456789"
WRONG = "not-the-secret-but-a-secret-all-the-same"


async def say_all(url: str) -> list[str]:
    """Do what clients do, rightly and wrongly; return what must not be in a log."""
    host, port = url.split("/")[2].rsplit(":", 1)
    hidden = [PLAN, SECRET, WRONG]
    async with identified(url, "alice", token=SECRET) as alice, identified(url, "bob", token=SECRET) as bob:
        hidden += [client.ready["session_id"] for client in (alice, bob)]
        await alice.ack(CREATE, {"channel_id": "c"})
        for client in (alice, bob):
            joined = await client.ack(JOIN, {"channel_id": "c", "ssrc": 7})
            hidden += [joined["media"]["client_key"], joined["media"]["server_key"]]
        await alice.expect(CHANNEL_EVENT)
        await alice.say("c", PLAN)
        await alice.ack(SETTINGS_SET, {"settings": {"note": PLAN}})
        await alice.ack(PRESENCE_UPDATE, {"status": "AWAY", "text": PLAN})
        await bob.refused(MESSAGE, {"channel_id": "c", "content": {"text": PLAN}})
        await bob.refused(MESSAGE, {"channel_id": PLAN * 10, "content": PLAN})
        await bob.ws.send(f'{{"op": 20, "d": "{PLAN}"')
        await abuse(bob)
    async with connected(url) as client:
        for _ in range(3):
            await client.send(IDENTIFY, {"token": WRONG, "user_id": "eve"})
        await client.closed()
    async with connected(url) as client:
        await client.request(RESUME, {"token": WRONG, "session_id": "sess_" + "1" * 40})
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Version: 13\r\nHost: x\r\nCookie: livechat_token={WRONG}\r\n"
    )
    for line in (
        f"GET /ws?token={WRONG}&user_id=eve HTTP/1.1\r\n{upgrade}",
        f"GET /api/v1/announcements?token={WRONG} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRONG}\r\n",
        f"GET /{PLAN}?token={WRONG} HTTP/1.1\r\nHost: x\r\n",
    ):
        await exchange((host, int(port)), f"{line}\r\n".encode())
    return hidden


async def abuse(client: Client) -> None:
    """Be closed for sending what is no packet."""
    with suppress(ConnectionClosed):  # it may be closed before all are sent
        for _ in range(20):
            await client.ws.send(PLAN)
    assert await client.closed() == 4503


@pytest.mark.parametrize(("style", "level"), [("json", "info"), ("json", "debug"), ("console", "info")])
async def test_the_log_of_a_server_holds_no_payload_and_no_secret(tmp_path: Path, style: str, level: str) -> None:
    log = tmp_path / "log"
    options = ("--log-format", style, "--log-level", level)
    async with serving(tmp_path / "data", *options, env={"LIVECHAT_SECRET": SECRET}, log=log) as server:
        hidden = await say_all(server.url)
        server.process.terminate()
        assert await server.ended() == 0
    text = log.read_text()
    for secret in hidden:
        assert secret not in text
    for event in ("listening", "connection closed", "upgrade refused", "draining", "stopped"):
        assert event in text
    if style == "json":
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        closed = next(line for line in lines if line["event"] == "connection closed" and line["code"] == 4503)
        assert (closed["user"], closed["level"]) == ("bob", "info")
        assert any(secret.startswith(closed["session"]) for secret in hidden)


async def test_a_hosts_own_configuration_of_structlog_is_left_alone(tmp_path: Path) -> None:
    lines = LogCapture()
    before = structlog.get_config()

    def stamp(_logger: Any, _method: str, event: Any) -> Any:
        return {**event, "host": "mine"}

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, stamp, livechat.mask_secrets, lines])
    configured = structlog.get_config()
    try:
        with structlog.contextvars.bound_contextvars(tenant="acme"):
            async with livechat.open_server(make_config(tmp_path)) as server, connected(server) as client:
                for _ in range(20):
                    await client.ws.send("no packet")
                await client.closed()
        assert structlog.get_config() == configured
        assert structlog.contextvars.get_contextvars() == {}
    finally:
        structlog.configure(**before)
    assert {line["event"] for line in lines.entries} >= {"listening", "connection closed", "stopped"}
    for line in lines.entries:
        # What the host has bound around the server, its tasks inherit.
        assert (line["host"], line["tenant"]) == ("mine", "acme")


def test_a_database_that_quotes_what_it_refuses_is_not_quoted() -> None:
    class Refusal(Exception):
        """As psycopg writes them: what was refused is on the second line."""

    cause = Refusal(f'violates check constraint "x"\nDETAIL:  Failing row contains ({PLAN}).')
    error = RuntimeError(f"a statement failed\n[parameters: {PLAN}]")
    error.__cause__ = cause
    lines = LogCapture()
    logger = structlog.wrap_logger(None, processors=[structlog.processors.format_exc_info, lines])
    logger.error("store.operation_failed", exc_info=without_detail(error))
    (line,) = lines.entries
    assert PLAN not in str(line)
    assert "violates check constraint" in line["exception"]
    assert reason_of(cause) == 'violates check constraint "x"'
    assert reason_of(KeyError()) == "KeyError"
