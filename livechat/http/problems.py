"""Owns how a refusal looks over HTTP: one table error class → status and title, and the problem document.

It must not decide what is refused. The document is RFC 9457's, with the protocol's `code` and what else an ERROR
packet says (section 2 of the protocol).

Source: RFC 9457; RFC 6750, section 3 (WWW-Authenticate); RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs
from starlette.responses import Response

from livechat import error
from livechat.accounts.error import NoSuchAccount, UserIdTaken, WrongPassword
from livechat.error import Action, LiveError, PayloadTooLarge, ProtocolError, UnknownOpcode
from livechat.files.types import TypeRefused
from livechat.handlers.auth import Banned, UserIdMissing
from livechat.http.endpoint import API
from livechat.protocol.codec import unstructure

PROBLEM_JSON: Final = "application/problem+json"


class NoSuchPath(UnknownOpcode):
    """Nothing is served under this path."""


class MethodNotAllowed(UnknownOpcode):
    """Something is served under this path, but not by this method."""


class UpgradeRequired(UnknownOpcode):
    """Under this path another protocol is spoken."""


class UnsupportedMediaType(ProtocolError):
    """The body says to be something else than what the endpoint reads."""


class RangeNotSatisfiable(ProtocolError):
    """A part was asked for that is not there."""


class PreconditionFailed(ProtocolError):
    """The client wanted something only if it was something else than it is."""


@attrs.frozen
class Problem:
    """Why a request was refused (RFC 9457). A refused request has changed nothing, unless `action` is RETRY."""

    type: str
    """Where problems of this code are explained."""
    title: str
    """A short summary, the same for all problems of its kind."""
    status: int
    """The status of the response."""
    detail: str
    """What was expected, and what came; of a field it begins with its name."""
    code: int
    """The error code of the protocol."""
    retryable: bool
    """Whether the same request may succeed later."""
    action: Action | None = None
    """As in an ERROR packet."""
    retry_after_ms: int | None = None
    """When to come back."""


@attrs.frozen
class Kind:
    """How one class of errors looks."""

    status: int
    title: str
    """A short summary, the same for all errors of the class."""


KINDS: Final[dict[type[LiveError], Kind]] = {
    error.NotAuthenticated: Kind(401, "Not authenticated"),
    error.InvalidToken: Kind(401, "Invalid or expired token"),
    UserIdMissing: Kind(401, "Invalid or expired token"),
    error.AlreadyIdentified: Kind(409, "Already identified"),
    error.UnknownOpcode: Kind(404, "Nothing is served here"),
    NoSuchPath: Kind(404, "Nothing is served here"),
    MethodNotAllowed: Kind(405, "Method not allowed"),
    UpgradeRequired: Kind(426, "Upgrade required"),
    error.ProtocolError: Kind(422, "Invalid payload"),
    TypeRefused: Kind(415, "Unsupported media type"),
    RangeNotSatisfiable: Kind(416, "Range not satisfiable"),
    PreconditionFailed: Kind(412, "Precondition failed"),
    UnsupportedMediaType: Kind(415, "Unsupported media type"),
    WrongPassword: Kind(401, "Invalid or expired token"),
    UserIdTaken: Kind(409, "User id taken"),
    NoSuchAccount: Kind(404, "No such account"),
    error.PayloadTooLarge: Kind(413, "Payload too large"),
    error.RateLimited: Kind(429, "Rate limited"),
    error.Forbidden: Kind(403, "Forbidden"),
    Banned: Kind(403, "Forbidden"),
    error.ChannelNotFound: Kind(404, "Channel not found"),
    error.ChannelFull: Kind(409, "Channel full"),
    error.AccessDenied: Kind(403, "Access denied"),
    error.AlreadyInChannel: Kind(409, "Already in channel"),
    error.NotInChannel: Kind(403, "Not in channel"),
    error.ChannelExists: Kind(409, "Channel exists"),
    error.SsrcInUse: Kind(409, "SSRC in use"),
    error.MediaNotPossible: Kind(409, "Media not possible"),
    error.EmptyMessage: Kind(422, "Empty message"),
    error.MessageTooLong: Kind(422, "Message too long"),
    error.JoinBeforeMessaging: Kind(403, "Join the channel before messaging"),
    error.NonceConflict: Kind(409, "Nonce conflict"),
    error.ContentRejected: Kind(422, "Content rejected"),
    error.NotPersisted: Kind(503, "Not persisted"),
    error.JobNotFound: Kind(404, "Job not found"),
    error.UnknownJobKind: Kind(422, "Unknown job kind"),
    error.IdempotencyKeyReused: Kind(409, "Idempotency-Key reused"),
    error.FileNotFound: Kind(404, "File not found"),
    error.NotPttChannel: Kind(409, "Not a push-to-talk channel"),
    error.FloorNotHeld: Kind(409, "Floor not held"),
    error.InternalError: Kind(500, "Internal error"),
    error.Overloaded: Kind(503, "Overloaded"),
    error.ShuttingDown: Kind(503, "Shutting down"),
    error.BackendUnavailable: Kind(503, "Backend unavailable"),
}
"""Every error there is. A class that is not here looks like the nearest one that it is derived from."""


def kind_of(refusal: type[LiveError]) -> Kind:
    """Return how errors of a class look."""
    return next(KINDS[cls] for cls in refusal.__mro__ if cls in KINDS)


def type_of(code: int) -> str:
    """Return the `type` of a problem: where it is explained, relative to the server."""
    return f"{API}/docs#problem-{code}"


def problem_of(refusal: LiveError) -> Problem:
    """Return what is told of a refusal."""
    kind = kind_of(type(refusal))
    return Problem(
        type=type_of(refusal.code),
        title=kind.title,
        status=kind.status,
        detail=refusal.reason,
        code=refusal.code,
        retryable=refusal.retryable,
        action=refusal.action,
        retry_after_ms=refusal.retry_after_ms,
    )


def serialize(problem: Problem) -> bytes:
    """Return the document; a reason may quote what no JSON could hold."""
    return json.dumps(unstructure(problem), ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def respond(refusal: LiveError, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal as a response."""
    problem = problem_of(refusal)
    sent = {"cache-control": "no-store", **(headers or {})}
    challenge = _challenge(refusal)
    if challenge is not None:
        sent["www-authenticate"] = challenge
    if refusal.retry_after_ms is not None:
        # Whole seconds, rounded up: who comes back a moment too early is refused again.
        sent["retry-after"] = str(-(-refusal.retry_after_ms // 1000))
    return Response(serialize(problem), problem.status, sent, PROBLEM_JSON)


def _challenge(refusal: LiveError) -> str | None:
    """Return the WWW-Authenticate of a 401: without an error code for who showed no token (RFC 6750)."""
    if kind_of(type(refusal)).status != 401:
        return None
    return (
        "Bearer" if isinstance(refusal, error.NotAuthenticated | WrongPassword) else 'Bearer error="invalid_token"'
    )


def too_large(bytes_max: int) -> PayloadTooLarge:
    """Return the refusal of a body that is larger than may be."""
    return PayloadTooLarge(f"body: expected at most {bytes_max} bytes")
