"""Serves what a server's operator watches it by: is it ready, and its numbers."""

from __future__ import annotations

from typing import Final, Literal

import attrs
import trio
from starlette.responses import Response

from livechat.error import Overloaded
from livechat.http.endpoint import Answer, Call, Endpoint
from livechat.http.metrics import Exposition


@attrs.frozen
class ReadinessChecks:
    """What a probe found: `ok`, or in a few words what was wrong."""

    store: str
    """A row was written, read and removed, and the transaction committed."""
    backplane: str
    """A notice was published, and came back."""


@attrs.frozen
class ReadinessReport:
    """Whether the server can do now what it is for."""

    status: Literal["ready", "not ready", "draining"]
    checks: ReadinessChecks | None = None
    """Left out while the server is shutting down."""


async def readyz(call: Call) -> Answer:
    """Say how a probe went that is at most a second old."""
    if call.node.draining:
        return Answer(ReadinessReport("draining"), 503)
    verdict = await call.node.readiness.verdict()
    checks = ReadinessChecks(verdict.store, verdict.backplane)
    if not verdict.is_ready:
        return Answer(ReadinessReport("not ready", checks), 503)
    return Answer(ReadinessReport("ready", checks))


async def metrics(call: Call) -> Response:
    """Write the numbers of this moment."""
    exposition: Exposition = call.request.app.state.exposition
    try:
        body, content_type = await exposition.render(call.request.headers.get("accept", ""))
    except trio.TooSlowError:
        raise Overloaded("metrics: too many ask at once") from None
    return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        "/readyz",
        readyz,
        "operation",
        "Tell whether the server is ready",
        "public",
        answers={200: ReadinessReport, 503: ReadinessReport},
        description="A probe really goes through the store and the backplane, at most once a second. For load"
        " balancers and orchestrators: 503 means to send new clients elsewhere.",
    ),
    Endpoint(
        "GET",
        "/metrics",
        metrics,
        "operation",
        "Read the server's numbers",
        "admin",
        errors=(Overloaded,),
        description="For Prometheus, in its text format or as OpenMetrics, by the Accept header.",
        produces={200: "text/plain"},
        open_on_loopback=True,
    ),
)
