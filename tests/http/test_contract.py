"""The live server against its own description, over real sockets.

schemathesis calls every endpoint with what the document allows, and with what it does not.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

import livechat
from livechat.http.app import all_endpoints
from tests.support.api import API, origin_of
from tests.support.client import CREATE, JOIN, identified
from tests.support.process import clean_environment
from tests.support.server import SECRET, make_config

DOCUMENT = f"{API}/openapi.json"
PATIENCE_S = 300.0
"""It takes some ten seconds, and many times that on a busy machine."""
EXAMPLES = 6
"""Cases an operation and phase, beside those of the bounds of its schema."""

CONFIG = """
# Rules between fields, and with the clock, that no schema can say: there a valid body may get 422.
[[operations]]
include-name = ["GET /api/v1/channels/{channel_id}/messages", "POST /api/v1/channels/{channel_id}/messages",
                "POST /api/v1/announcements", "POST /api/v1/auth/register",
                "POST /api/v1/auth/logout", "POST /api/v1/admin/accounts",
                "PUT /api/v1/admin/accounts/{user_id}/password",
                "POST /api/v1/admin/kick/{user_id}", "POST /api/v1/jobs"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]

# Nobody has such a password or token; and after some attempts, nobody may try.
[[operations]]
include-name = ["POST /api/v1/auth/login", "POST /api/v1/auth/password", "POST /api/v1/auth/refresh"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422", "429"]

[[operations]]
include-name = "POST /api/v1/files"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "415", "422"]

[[operations]]
include-name = "GET /api/v1/files/{file_id}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "304", "401", "403", "404", "412", "416"]

[[operations]]
include-name = "GET /ws"
checks.positive_data_acceptance.expected-statuses = ["426"]
"""


async def test_no_request_gets_an_error_of_the_server_or_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    (tmp_path / "data").mkdir()
    config = make_config(tmp_path / "data")
    with trio.fail_after(PATIENCE_S):
        async with livechat.open_server(config) as server, identified(server, "alice") as alice:
            # Something to be read, under an id that the smallest examples name.
            await alice.ack(CREATE, {"channel_id": "0"})
            await alice.ack(JOIN, {"channel_id": "0"})
            await alice.say("0", "hello")
            command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run"]
            arguments = ["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"]
            arguments += ["--max-examples", str(EXAMPLES), "--generation-deterministic"]
            arguments += ["--warnings", "off", "--no-color"]
            # A stream without an end is no answer that could be checked.
            streams = [each.path for each in all_endpoints() if "text/event-stream" in each.produces.values()]
            arguments += [word for path in streams for word in ("--exclude-path", path)]
            arguments += ["--header", f"Authorization: Bearer {SECRET}", "--header", "X-User-Id: alice"]
            done = await trio.run_process(
                [*command, origin_of(server) + DOCUMENT, *arguments],
                capture_stdout=True,
                check=False,
                cwd=tmp_path,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
    assert done.returncode == 0, done.stdout.decode()
    # It does not test the document that it reads.
    tested = sum(each.path not in (DOCUMENT, *streams) for each in all_endpoints())
    assert f"Tested: {tested}\n" in done.stdout.decode()
