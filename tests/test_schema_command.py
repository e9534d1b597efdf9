"""`livechat schema`, as authors of clients run it, and what a server serves in its stead."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.http import exchange, split_responses
from tests.support.process import run_livechat
from tests.support.schema import DOCUMENT
from tests.support.server import running_server


def test_the_document_is_printed_to_be_read() -> None:
    done = run_livechat("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == DOCUMENT
    assert done.stdout.startswith('{\n  "asyncapi": "3.0.0"')


async def test_a_server_serves_the_same_document_and_lets_clients_keep_it(tmp_path: Path) -> None:
    compact = run_livechat("schema", "--compact").stdout.rstrip("\n")
    async with running_server(tmp_path) as server:
        line = b"GET /api/v1/protocol.json HTTP/1.1\r\nHost: x\r\n"
        (first,) = split_responses(await exchange(server.addresses.tcp[0], line + b"\r\n"))
        assert (first.status, first.headers["content-type"]) == (200, "application/json")
        assert first.body.decode() == compact
        tag = first.headers["etag"].encode()
        for known in (tag, b'"other", W/' + tag, b"*"):
            raw = await exchange(server.addresses.tcp[0], line + b"If-None-Match: " + known + b"\r\n\r\n")
            (again,) = split_responses(raw)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag.decode())
        raw = await exchange(server.addresses.tcp[0], line + b'If-None-Match: "other"\r\n\r\n')
        assert split_responses(raw)[0].status == 200


async def test_the_http_api_is_described_as_a_server_describes_it(tmp_path: Path) -> None:
    done = run_livechat("schema", "--openapi", "--compact")
    assert (done.returncode, done.stderr) == (0, "")
    async with running_server(tmp_path) as server:
        line = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        (served,) = split_responses(await exchange(server.addresses.tcp[0], line))
    assert done.stdout.rstrip("\n") == served.body.decode()
    assert json.loads(done.stdout)["openapi"].startswith("3.1.")


def test_an_option_that_is_none_is_the_callers_mistake() -> None:
    done = run_livechat("schema", "--yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
