from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from starlette.routing import Route

from livechat.http.app import all_endpoints, create_app
from livechat.http.endpoint import Answer, Call, Endpoint
from livechat.http.openapi import document, errors_of
from livechat.http.problems import kind_of
from livechat.protocol.requests import CAPACITY_MAX, CONTENT_LENGTH_PARSED, HISTORY_LIMIT_MAX
from tests.support.api import calling
from tests.support.server import running_server

DOCUMENT = document(all_endpoints())


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a `$ref`."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(inner)


async def test_every_route_is_described_and_nothing_else_is(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        app = create_app(server._node, body_bytes_max=1000)
    served = set()
    for route in app.routes:
        assert isinstance(route, Route)
        methods = route.endpoint.allow.split(", ")  # type: ignore[attr-defined]
        served |= {(method, route.path) for method in methods if method not in ("HEAD", "OPTIONS")}
    assert served == {(method, path) for method, path, _ in operations()}


async def test_it_is_what_is_served(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None, token=None) as anybody:
        told = await anybody.get("/openapi.json")
        assert told.headers["content-type"] == "application/json"
        assert told.json() == json.loads(json.dumps(DOCUMENT))
        again = await anybody.get("/openapi.json", headers={"If-None-Match": told.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    references = {node["$ref"] for node in walk(DOCUMENT) if "$ref" in node}
    for reference in references:
        assert resolved({"$ref": reference})
    for kind in ("schemas", "responses"):
        assert {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} <= references


def test_every_operation_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for _, _, operation in operations():
        assert operation["summary"][0].isupper()
        assert not operation["summary"].endswith(".")
        assert set(operation["tags"]) <= tags


def test_every_refusal_is_documented_as_a_problem_with_its_codes() -> None:
    for endpoint in all_endpoints():
        responses = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["responses"]
        for status, errors in errors_of(endpoint).items():
            content = resolved(responses[str(status)])["content"]
            problem, codes = content["application/problem+json"]["schema"]["allOf"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
            assert set(codes["properties"]["code"]["enum"]) == {error.code for error in errors}
            assert all(kind_of(error).status == status for error in errors)


def test_every_status_of_success_is_documented() -> None:
    for endpoint in all_endpoints():
        responses = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["responses"]
        assert {str(status) for status in endpoint.answers} <= set(responses)
        assert ("304" in responses) == (endpoint.etag or 304 in endpoint.answers)


def test_who_may_is_said_of_every_operation() -> None:
    for endpoint in all_endpoints():
        security = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["security"]
        if endpoint.access == "public":
            assert security == []
        else:
            assert {"401", "403"} <= set(DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]["responses"])
            assert "admin" in security[0]["bearer"]
            assert security[1]["actingUser"] == []


def test_what_validates_is_what_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    capacity = schemas["ChannelCreate"]["properties"]["capacity"]
    assert (capacity["minimum"], capacity["maximum"], capacity["default"]) == (1, CAPACITY_MAX, 100)
    message = schemas["MessageCreate"]
    assert message["required"] == ["content"]
    assert message["properties"]["content"]["maxLength"] == CONTENT_LENGTH_PARSED
    assert "channel_id" not in message["properties"], "it comes with the path"
    history = DOCUMENT["paths"]["/api/v1/channels/{channel_id}/messages"]["get"]["parameters"]
    by_name = {parameter["name"]: parameter for parameter in history}
    assert by_name["channel_id"]["in"] == "path"
    assert (
        by_name["limit"]["schema"].items() >= {"minimum": 1, "maximum": HISTORY_LIMIT_MAX, "default": 20}.items()
    )
    assert not by_name["limit"]["required"]
    assert schemas["AnnouncementCreate"]["properties"]["url"]["pattern"].startswith("^https?://")


def test_the_words_are_those_of_the_source() -> None:
    problem = DOCUMENT["components"]["schemas"]["Problem"]
    assert problem["description"].startswith("Why a request was refused")
    assert problem["properties"]["code"]["description"] == "The error code of the protocol."


async def nothing(_call: Call) -> Answer:
    """Answer nothing."""
    return Answer()


@attrs.frozen
class Both:
    """Sent and received."""

    name: str = ""


def test_one_name_cannot_stand_for_what_is_sent_and_what_is_received() -> None:
    endpoint = Endpoint("POST", "/x", nothing, "t", "s", "public", body=Both, answers={200: Both})
    with pytest.raises(AssertionError, match="Both"):
        document([endpoint])


def test_an_answer_and_a_problem_may_share_a_status() -> None:
    endpoint = Endpoint("GET", "/x", nothing, "t", "s", "admin", answers={200: Both, 503: Both})
    content = document([endpoint])["paths"]["/x"]["get"]["responses"]["503"]["content"]
    assert set(content) == {"application/json", "application/problem+json"}
