"""The way through an endpoint, with endpoints of the tests' own on a real port."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs

from livechat.error import ChannelNotFound, RateLimited
from livechat.http.app import create_app, describe, routes
from livechat.http.endpoint import OPERATOR, Answer, Call, Endpoint
from livechat.http.pipeline import Gate, Pipeline
from livechat.protocol.validators import between, length
from tests.support.api import calling, is_problem
from tests.support.http import serving
from tests.support.server import SECRET, running_server


@attrs.frozen
class Note:
    room: str
    text: str = attrs.field(validator=length(1, 10))
    stars: int | None = attrs.field(default=None, validator=between(0, 5))


@attrs.frozen
class Search:
    limit: int = attrs.field(default=3, validator=between(1, 5))
    word: str | None = None
    is_exact: bool = False


calls: list[Call] = []


async def note(call: Call) -> Answer:
    """Answer with the body."""
    calls.append(call)
    return Answer(call.body, 201, {"x-extra": "1"})


async def search(call: Call) -> Answer:
    """Answer with the query."""
    return Answer(call.query)


async def size(call: Call) -> Any:
    """Read a raw body part by part, and stream their sizes."""
    sizes = [len(part) async for part in call.request.stream()]

    async def parts() -> Any:
        for each in sizes:
            yield b"%d " % each

    return StreamingResponse(parts(), media_type="text/plain")


async def broken(_call: Call) -> Answer:
    """Fail."""
    raise RuntimeError("a bug with a secret in it")


async def refusing(_call: Call) -> Answer:
    """Refuse."""
    raise ChannelNotFound("channel_id: there is none")


async def who(call: Call) -> Answer:
    """Answer with who asks."""
    return Answer(Note(call.actor, "x"))


ENDPOINTS = (
    Endpoint("POST", "/rooms/{room}/notes", note, "t", "s", "public", body=Note, answers={201: Note}),
    Endpoint("GET", "/search", search, "t", "s", "public", query=Search, answers={200: Search}, etag=True),
    Endpoint("PUT", "/raw", size, "t", "s", "public", raw=True, body_bytes_max=200_000),
    Endpoint("GET", "/broken", broken, "t", "s", "public"),
    Endpoint("GET", "/refusing", refusing, "t", "s", "public"),
    Endpoint("GET", "/who", who, "t", "s", "admin"),
    Endpoint("GET", "/numbers", who, "t", "s", "admin", open_on_loopback=True),
)


@asynccontextmanager
async def served(
    tmp_path: Path, *, gates: tuple[Gate, ...] = (), on_loopback: bool = True
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve the endpoints above, with the node of a running server behind them."""
    async with running_server(tmp_path) as server:
        pipeline = Pipeline(server._node, on_loopback, 1000, gates)
        handlers = create_app(server._node, body_bytes_max=1000).exception_handlers
        app = Starlette(routes=routes(pipeline, ENDPOINTS), exception_handlers=handlers)
        app.router.redirect_slashes = False
        async with (
            serving(app, body_bytes=1000, describe=describe) as (host, port),
            httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client,
        ):
            yield client


async def test_a_body_is_validated_and_takes_what_the_path_says(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        made = await client.post("/rooms/방/notes", json={"text": "hi", "room": "other", "stars": 5.0, "x": [1]})
        assert (made.status_code, made.json(), made.headers["x-extra"]) == (
            201,
            {"room": "방", "text": "hi", "stars": 5},
            "1",
        )
        assert (await client.post("/rooms/a/notes", json={"text": "hi", "stars": None})).json() == {
            "room": "a",
            "text": "hi",
        }


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "body: expected JSON"),
        (b"{", "body: expected JSON"),
        (b"\xff", "body: expected JSON"),
        (b"[" * 900, "body: "),
        (b"[]", "body: expected an object"),
        (b'"text"', "body: expected an object"),
        (b"null", "body: expected an object"),
        (b"{}", "text: required"),
        (b'{"text": null}', "text: required"),
        (b'{"text": 5}', "text: expected a string"),
        (b'{"text": ""}', "text: expected 1 to 10"),
        (b'{"text": "a\\u0000b"}', "text: "),
        (b'{"text": "x", "stars": true}', "stars: expected an integer"),
        (b'{"text": "x", "stars": 2.5}', "stars: expected an integer"),
        (b'{"text": "x", "stars": 6}', "stars: expected 0 to 5"),
        (b'{"text": "x", "stars": 1e300}', "stars: "),
        (b'{"text": "x", "stars": NaN}', "body: expected JSON"),
        (b'{"text": "x", "stars": ' + b"9" * 900 + b"}", "stars: "),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_wrong_body_is_refused_by_its_field(content: bytes, detail: str, tmp_path: Path) -> None:
    calls.clear()
    async with served(tmp_path) as client:
        assert is_problem(await client.post("/rooms/a/notes", content=content), 422, 1004, detail)
    assert not calls


async def test_a_body_that_says_to_be_something_else_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        for stated in ("application/json", "application/json; charset=utf-8", "application/merge-patch+json", ""):
            headers = {"Content-Type": stated} if stated else {}
            assert (
                await client.post("/rooms/a/notes", content=b'{"text":"x"}', headers=headers)
            ).status_code == 201
        for stated in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"Content-Type": stated}
            refused = await client.post("/rooms/a/notes", content=b'{"text":"x"}', headers=headers)
            assert is_problem(refused, 415, 1004, "content-type: ")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_a_problem(chunked: bool, tmp_path: Path) -> None:
    async def parts() -> AsyncGenerator[bytes]:
        for _ in range(20):
            yield b" " * 100

    async with served(tmp_path) as client:
        refused = await client.post("/rooms/a/notes", content=parts() if chunked else b" " * 2000)
        assert is_problem(refused, 413, 1005)


async def test_a_query_is_validated(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        told = await client.get("/search", params={"limit": "5", "word": "한", "is_exact": "true", "x": "y"})
        assert told.json() == {"limit": 5, "word": "한", "is_exact": True}
        assert (await client.get("/search")).json() == {}
        for query, detail in (
            ("limit=", "limit: expected an integer"),
            ("limit=1.0", "limit: expected an integer"),
            ("limit=%D9%A3", "limit: expected an integer"),
            ("limit=" + "9" * 5000, "limit: expected an integer"),
            ("limit=0", "limit: expected 1 to 5"),
            ("limit=-1", "limit: expected 1 to 5"),
            ("is_exact=1", "is_exact: expected true or false"),
            ("word=a&word=b", "word: expected once"),
            ("word=%00", "word: "),
        ):
            assert is_problem(await client.get(f"/search?{query}"), 422, 1004, detail), query


async def test_a_path_holds_text(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        assert is_problem(await client.post("/rooms/%00/notes", json={"text": "x"}), 422, 1004, "room: ")
        assert is_problem(await client.post(f"/rooms/{'x' * 129}/notes", json={"text": "x"}), 422, 1004, "room: ")
        # Bytes that are no UTF-8 are no reason to fail.
        assert (await client.post("/rooms/%ff/notes", json={"text": "x"})).json()["room"] == "\ufffd"


async def test_a_raw_endpoint_reads_for_itself_up_to_its_own_limit(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        streamed = await client.put("/raw", content=b"x" * 200_000)
        assert sum(map(int, streamed.text.split())) == 200_000
        assert is_problem(
            await client.put("/raw", content=b"x" * 200_001), 413, 1005, "body: expected at most 200000"
        )


async def test_what_is_not_served_is_a_problem(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        for path in ("/", "/nothing", "/search/", "/rooms//notes", "/rooms/a/b/notes"):
            assert is_problem(await client.get(path), 404, 1003), path
        for method in ("POST", "DELETE", "TRACE", "BREW"):
            refused = await client.request(method, "/search")
            assert is_problem(refused, 405, 1003), method
            assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
        options = await client.options("/rooms/a/notes")
        assert (options.status_code, options.headers["allow"]) == (204, "OPTIONS, POST")
        head = await client.head("/search")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2")


async def test_a_handler_that_fails_costs_a_500_that_says_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        with capture_logs() as logs:
            failed = await client.get("/broken")
        assert is_problem(failed, 500, 9000)
        assert "secret" not in failed.text
        assert [entry["event"] for entry in logs] == ["http application failed"]
        assert is_problem(await client.get("/refusing"), 404, 2000, "channel_id: ")


async def test_a_gate_stands_before_every_handler(tmp_path: Path) -> None:
    seen: list[tuple[str, Any, Any]] = []

    def gate(endpoint: Endpoint, call: Call) -> None:
        # Who is held back must not make the server look at what he sent.
        seen.append((endpoint.path, call.query, call.body))
        if endpoint.path != "/search":
            raise RateLimited("too many", retry_after_ms=1200)

    calls.clear()
    async with served(tmp_path, gates=(gate,)) as client:
        assert (await client.get("/search")).status_code == 200
        refused = await client.post("/rooms/a/notes", json={"text": "x"})
        assert is_problem(refused, 429, 1006)
        assert refused.headers["retry-after"] == "2"
    assert seen == [("/search", None, None), ("/rooms/{room}/notes", None, None)]
    assert not calls


async def test_who_has_what_is_asked_for_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        first = await client.get("/search")
        tag = first.headers["etag"]
        same = await client.get("/search", headers={"If-None-Match": f'"other", W/{tag}'})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
        other = await client.get("/search?limit=5", headers={"If-None-Match": tag})
        assert (other.status_code, other.headers["etag"] != tag) == (200, True)


# --- operators ---------------------------------------------------------------------------------------------


async def test_on_loopback_what_only_reads_is_open_to_the_operator_and_nothing_else_is(tmp_path: Path) -> None:
    async with served(tmp_path) as client:
        assert (await client.get("/numbers")).json()["room"] == OPERATOR
        assert is_problem(await client.get("/who"), 401, 1000)
        # Who shows a token is held to it.
        assert is_problem(await client.get("/numbers", headers={"Authorization": "Bearer x"}), 401, 1001)
        assert is_problem(await client.get("/numbers", headers={"Host": "evil.example"}), 401, 1000)
        assert is_problem(await client.get("/numbers", headers={"X-Forwarded-For": "192.0.2.1"}), 401, 1000)
        told = await client.get("/who", headers={"Authorization": f"Bearer {SECRET}"})
        assert told.json()["room"] == OPERATOR
        told = await client.get("/who", headers={"Authorization": f"Bearer {SECRET}", "X-User-Id": "ann"})
        assert told.json()["room"] == "ann"


async def test_on_a_server_that_others_can_reach_nothing_is_open(tmp_path: Path) -> None:
    async with served(tmp_path, on_loopback=False) as client:
        assert is_problem(await client.get("/numbers"), 401, 1000)


# --- the whole application ---------------------------------------------------------------------------------


async def test_what_is_no_request_is_a_problem_too(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        too_long = await alice.get("/channels", headers={"X-Long": "x" * 20_000})
        assert is_problem(too_long, 431, 1005)
        assert is_problem(await alice.get("/nothing"), 404, 1003)
        refused = await alice.put("/channels")
        assert is_problem(refused, 405, 1003)
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1004), (408, 1004), (413, 1005), (431, 1005), (500, 9000), (501, 1004), (505, 1004)]
)
def test_the_host_describes_its_refusals_as_problems(status: int, code: int) -> None:
    media_type, body = describe(status)
    assert media_type == "application/problem+json"
    assert f'"status":{status}' in body.decode()
    assert f'"code":{code}' in body.decode()


def test_one_method_of_a_path_is_served_once() -> None:
    twice = (ENDPOINTS[1], ENDPOINTS[1])
    with pytest.raises(AssertionError, match="twice"):
        routes(Pipeline(None, True, 1), twice)  # type: ignore[arg-type]
