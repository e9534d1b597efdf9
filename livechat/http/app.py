"""Owns what is served over HTTP: it collects the endpoints of all resources, and routes requests to them.

It must not know sockets; any ASGI host can run it. Errors are problem details (RFC 9457) with the protocol's code.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from livechat.error import InternalError, LiveError, PayloadTooLarge, ProtocolError
from livechat.handlers.node import Node
from livechat.http import problems
from livechat.http.api import (
    accounts,
    admin,
    announcements,
    auth,
    channels,
    files,
    jobs,
    messages,
    operate,
    protocol,
    server,
    trace,
    users,
)
from livechat.http.api.describing import Description
from livechat.http.endpoint import Endpoint
from livechat.http.host import Describe
from livechat.http.metrics import Exposition
from livechat.http.pipeline import Gate, Pipeline
from livechat.telemetry.counters import Counters

RESOURCES: Final[tuple[tuple[Endpoint, ...], ...]] = (
    server.ENDPOINTS,
    users.ENDPOINTS,
    channels.ENDPOINTS,
    messages.ENDPOINTS,
    files.ENDPOINTS,
    announcements.ENDPOINTS,
    protocol.ENDPOINTS,
    operate.ENDPOINTS,
    jobs.ENDPOINTS,
    auth.ENDPOINTS,
    accounts.ENDPOINTS,
    admin.ENDPOINTS,
    trace.ENDPOINTS,
)
"""Every resource of the API. Paths are tried in this order."""


def create_app(
    node: Node, *, body_bytes_max: int, on_loopback: bool = False, gates: tuple[Gate, ...] = ()
) -> Starlette:
    """Build the application of one server.

    Args:
        body_bytes_max: for endpoints that do not say otherwise.
        on_loopback: the server is bound to loopback only.
        gates: each is asked before a handler runs.
    """
    pipeline, counters = Pipeline(node, on_loopback, body_bytes_max, gates), node.instruments.counters
    app = Starlette(
        routes=routes(pipeline, all_endpoints()),
        exception_handlers={HTTPException: partial(_refuse, counters), Exception: partial(_fail, counters)},
    )
    app.router.redirect_slashes = False
    app.state.exposition = Exposition(node)
    return app


def all_endpoints() -> tuple[Endpoint, ...]:
    """Return the endpoints of all resources, and those that describe them."""
    endpoints = tuple(endpoint for resource in RESOURCES for endpoint in resource)
    return (*endpoints, *Description(endpoints).endpoints)


def routes(pipeline: Pipeline, endpoints: Iterable[Endpoint]) -> list[BaseRoute]:
    """Return one route a path, in the order in which the paths come first."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        methods = by_path.setdefault(endpoint.path, {})
        assert endpoint.method not in methods, f"{endpoint.method} {endpoint.path} is there twice"
        methods[endpoint.method] = endpoint
    return [Route(path, _Resource(pipeline, methods)) for path, methods in by_path.items()]


class _Resource:
    """All methods of one path."""

    def __init__(self, pipeline: Pipeline, endpoints: dict[str, Endpoint]) -> None:
        self._pipeline = pipeline
        self._endpoints = dict(endpoints)
        if "GET" in endpoints:
            # The host leaves the body out.
            self._endpoints["HEAD"] = endpoints["GET"]
        self.allow = ", ".join(sorted({*self._endpoints, "OPTIONS"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["method"])
        if endpoint is not None:
            response = await self._pipeline.run(endpoint, Request(scope, receive, send))
        elif scope["method"] == "OPTIONS":
            response = Response(None, 204, {"allow": self.allow})
        else:
            refusal = problems.MethodNotAllowed(f"method: expected one of {self.allow}")
            self._pipeline.node.instruments.counters.errors[refusal.code] += 1
            response = problems.respond(refusal, {"allow": self.allow})
        await response(scope, receive, send)


def describing(counters: Counters) -> Describe:
    """Return what counts the refusals of the host itself, and describes them."""

    def describe_and_count(status: int) -> tuple[str, bytes]:
        counters.errors[_refusal_of(status).code] += 1
        return describe(status)

    return describe_and_count


def describe(status: int) -> tuple[str, bytes]:
    """Return the problem document of a request that the host itself refuses, for it never became one."""
    problem = attrs.evolve(problems.problem_of(_refusal_of(status)), status=status)
    return problems.PROBLEM_JSON, problems.serialize(problem)


def _refusal_of(status: int) -> LiveError:
    if status in (413, 431):
        return PayloadTooLarge("request: larger than this server takes")
    if status == 408:
        return ProtocolError("request: expected all of it sooner")
    if status == 500:
        return InternalError("internal error")
    return ProtocolError("request: expected HTTP/1.1")


async def _refuse(counters: Counters, request: Request, exc: Exception) -> Response:
    """Answer what the router refuses."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == 405:
        refusal: LiveError = problems.MethodNotAllowed(f"method: {request.method} is not served here")
    else:
        refusal = problems.NoSuchPath("path: nothing is served here")
    counters.errors[refusal.code] += 1
    return problems.respond(refusal, dict(exc.headers or {}))


async def _fail(counters: Counters, _request: Request, _exc: Exception) -> Response:
    """Answer for a handler that raised; the host logs what."""
    counters.errors[InternalError.code] += 1
    return problems.respond(InternalError("internal error"))
