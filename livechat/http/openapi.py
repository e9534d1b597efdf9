"""Owns the description of the HTTP API: endpoints become an OpenAPI document, from the classes that validate.

It must not serve anything or be corrected by hand: what is wrong in the document is wrong in an `Endpoint` or in a
class of its. The words are those of the source: docstrings of the classes and of their fields.

Source: OpenAPI 3.1.1 (https://spec.openapis.org/oas/v3.1.1), JSON Schema 2020-12.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from livechat.error import (
    BackendUnavailable,
    Forbidden,
    InternalError,
    InvalidToken,
    LiveError,
    NotAuthenticated,
    PayloadTooLarge,
    ProtocolError,
    RateLimited,
)
from livechat.http.access import SCOPES, USER_ID_HEADER
from livechat.http.decoding import ID_PARAMETERS, PATH_CHARS_MAX
from livechat.http.endpoint import Endpoint
from livechat.http.problems import PROBLEM_JSON, Problem, UnsupportedMediaType, kind_of
from livechat.protocol.jsonschema import NO_NUL, Schema, Schemas
from livechat.protocol.types import UserId
from livechat.version import __version__

JSON: Final = "application/json"
SCHEMAS: Final = "#/components/schemas/"
RESPONSES: Final = "#/components/responses/"
PARAMETER: Final = re.compile(r"\{(\w+)\}")
INTRODUCTION: Final = (
    "For programs that hold no WebSocket: channels, messages, files, jobs, accounts, and what operators need. "
    "Send `Authorization: Bearer TOKEN`; with the shared secret for a token, `X-User-Id` says whom you act for. "
    "Refusals are problem details (RFC 9457) with the `code` of the protocol. Timestamps are milliseconds since "
    "1970. A field that is null counts as left out; unknown fields are ignored."
)
ALWAYS: Final[tuple[type[LiveError], ...]] = (RateLimited, InternalError)
"""What any endpoint may end with."""
WITH_TOKEN: Final[tuple[type[LiveError], ...]] = (NotAuthenticated, InvalidToken, Forbidden, BackendUnavailable)
"""What any endpoint may end with that takes a token."""
WITH_BODY: Final[tuple[type[LiveError], ...]] = (ProtocolError, PayloadTooLarge, UnsupportedMediaType)
"""What any endpoint may end with that takes a body."""


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of endpoints, in their order."""
    return _Writer().document(tuple(endpoints))


def errors_of(endpoint: Endpoint) -> dict[int, list[type[LiveError]]]:
    """Return what an endpoint may end with, by status."""
    errors = [*endpoint.errors, *ALWAYS]
    if endpoint.access != "public":
        errors += WITH_TOKEN
    if takes_body(endpoint):
        errors += WITH_BODY
    if endpoint.query is not None or PARAMETER.search(endpoint.path):
        errors.append(ProtocolError)
    found: dict[int, list[type[LiveError]]] = {}
    for error in dict.fromkeys(errors):
        found.setdefault(kind_of(error).status, []).append(error)
    return dict(sorted(found.items()))


def takes_body(endpoint: Endpoint) -> bool:
    """Tell whether an endpoint reads a body."""
    return endpoint.body is not None or (endpoint.raw and bool(endpoint.consumes))


def scopes_of(endpoint: Endpoint) -> list[str]:
    """Return the scopes any of which opens an endpoint."""
    return [] if endpoint.access == "public" else [*sorted(SCOPES[endpoint.access]), "admin"]


class _Writer:
    """Writes one document."""

    def __init__(self) -> None:
        self._in = Schemas("in", SCHEMAS)
        self._out = Schemas("out", SCHEMAS)
        self._bodies: dict[str, tuple[str, ...]] = {}
        """Classes of bodies, each with its fields that come with the path."""
        self._problems: dict[str, dict[str, Any]] = {}
        """Responses of refusal by name: many endpoints share each."""

    def document(self, endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for endpoint in endpoints:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = self._operation(endpoint)
        return {
            "openapi": "3.1.1",
            "info": {"title": "livechat", "version": __version__, "description": INTRODUCTION},
            "servers": [{"url": "/"}],
            "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
            "paths": paths,
            "components": {
                "schemas": self._schemas(),
                "responses": self._problems,
                "securitySchemes": SECURITY_SCHEMES,
            },
        }

    def _operation(self, endpoint: Endpoint) -> dict[str, Any]:
        operation: dict[str, Any] = {
            "operationId": _operation_id(endpoint),
            "tags": [endpoint.tag],
            "summary": endpoint.summary,
        }
        if endpoint.description:
            operation["description"] = endpoint.description
        if parameters := list(self._parameters(endpoint)):
            operation["parameters"] = parameters
        if takes_body(endpoint):
            operation["requestBody"] = self._body(endpoint)
        operation["responses"] = self._responses(endpoint)
        operation["security"] = _security(endpoint)
        return operation

    def _parameters(self, endpoint: Endpoint) -> Iterator[dict[str, Any]]:
        in_path = PARAMETER.findall(endpoint.path)
        for name in in_path:
            yield {"name": name, "in": "path", "required": True, "schema": _path_schema(self._in, name)}
        if endpoint.query is not None:
            for field in self._in.fields(endpoint.query):
                if field.name in in_path:
                    continue
                parameter = {"name": field.name, "in": "query", "required": field.required, "schema": field.schema}
                yield parameter | ({"description": field.description} if field.description else {})
        headers = dict(endpoint.request_headers)
        if endpoint.etag:
            headers["If-None-Match"] = "The ETag of what you have: 304 if it is still like that."
        for name, description in headers.items():
            yield {"name": name, "in": "header", "schema": {"type": "string"}, "description": description}

    def _body(self, endpoint: Endpoint) -> dict[str, Any]:
        schema: Schema = {}
        if endpoint.body is not None:
            schema = self._in.of(endpoint.body)
            in_path = tuple(PARAMETER.findall(endpoint.path))
            known = self._bodies.setdefault(endpoint.body.__name__, in_path)
            assert known == in_path, f"{endpoint.body.__name__}: one body of two kinds of path"
        return {"required": not endpoint.body_optional, "content": {endpoint.consumes: {"schema": schema}}}

    def _responses(self, endpoint: Endpoint) -> dict[str, Any]:
        responses: dict[int, dict[str, Any]] = {}
        for status, answer in endpoint.answers.items():
            responses[status] = {"description": HTTPStatus(status).phrase}
            if headers := _answer_headers(endpoint):
                responses[status]["headers"] = headers
            if answer is not None:
                responses[status]["content"] = {JSON: {"schema": self._out.of(answer)}}
            elif status in endpoint.produces:
                responses[status]["content"] = {endpoint.produces[status]: {}}
        if endpoint.etag:
            responses[304] = {
                "description": "Still what you have",
                "headers": {"ETag": _header("As you sent it.")},
            }
        for status, errors in errors_of(endpoint).items():
            problem = self._problem(status, errors)
            if status in responses:
                responses[status].setdefault("content", {}).update(self._problems[problem]["content"])
            else:
                responses[status] = {"$ref": RESPONSES + problem}
        return {str(status): response for status, response in sorted(responses.items())}

    def _problem(self, status: int, errors: list[type[LiveError]]) -> str:
        """Return the name of the response that says one of these."""
        codes = sorted({error.code for error in errors})
        name = "_".join(["problem", str(status), *map(str, codes)])
        schema = {"allOf": [self._out.of(Problem), {"properties": {"code": {"enum": codes}}}]}
        self._problems[name] = {"description": _described(errors), "content": {PROBLEM_JSON: {"schema": schema}}}
        if status == 401:
            self._problems[name]["headers"] = {"WWW-Authenticate": _header("`Bearer`, and what is wrong with it.")}
        if status in (429, 503):
            self._problems[name]["headers"] = {"Retry-After": _header("Seconds, where it is known.")}
        return name

    def _schemas(self) -> dict[str, Schema]:
        for name, in_path in self._bodies.items():
            self._in.definitions[name] = _without(self._in.definitions[name], in_path)
        twice = self._in.definitions.keys() & self._out.definitions.keys()
        assert not twice, f"sent and received by one name: {', '.join(sorted(twice))}"
        return dict(sorted({**self._in.definitions, **self._out.definitions}.items()))


SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A signed token, or the shared secret of the server; the latter goes with `actingUser`. "
        "Pages of origins that the server allows may send a token as a cookie instead.",
    },
    "actingUser": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "With the shared secret: whom you act for. `?user_id=` does as well.",
    },
}
assert SECURITY_SCHEMES["actingUser"]["name"].lower() == USER_ID_HEADER


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.access == "public":
        return []
    ways: list[dict[str, list[str]]] = [
        {"bearer": scopes_of(endpoint)},
        {"bearer": scopes_of(endpoint), "actingUser": []},
    ]
    # An empty one says that there is a way without any.
    return [*ways, {}] if endpoint.open_on_loopback else ways


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", endpoint.path.removeprefix("/api/v1"))
    return "_".join([endpoint.method.lower(), *words])


def _path_schema(schemas: Schemas, name: str) -> Schema:
    if name in ID_PARAMETERS:
        return schemas.of(UserId)
    return {"type": "string", "minLength": 1, "maxLength": PATH_CHARS_MAX, "pattern": NO_NUL}


def _answer_headers(endpoint: Endpoint) -> dict[str, Any]:
    headers = {name: _header(description) for name, description in endpoint.answer_headers.items()}
    return headers | ({"ETag": _header("Names this state of it.")} if endpoint.etag else {})


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _described(errors: list[type[LiveError]]) -> str:
    return ", ".join(dict.fromkeys(f"{kind_of(error).title} ({error.code})" for error in errors))


def _without(schema: Schema, names: Iterable[str]) -> Schema:
    """Return the schema of an object without some of its properties."""
    dropped = frozenset(names)
    properties = {name: each for name, each in schema["properties"].items() if name not in dropped}
    required = [name for name in schema.get("required", ()) if name not in dropped]
    kept = {name: each for name, each in schema.items() if name not in ("properties", "required")}
    return {**kept, "properties": properties, **({"required": required} if required else {})}
