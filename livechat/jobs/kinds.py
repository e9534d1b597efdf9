"""Owns what kinds of jobs there are: what an embedder's handler is given and may yield, and who may ask for it.

It must not run anything (see `runner`).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from math import isfinite
from typing import Any, Final, Generic, TypedDict, TypeVar

import attrs
from cattrs import ClassValidationError, Converter

from livechat.error import Forbidden, PayloadTooLarge, ProtocolError, UnknownJobKind
from livechat.handlers.auth import ADMIN_SCOPE, Identity
from livechat.jobs.outputs import OutputFile
from livechat.protocol.strict import explain, make_converter
from livechat.protocol.types import ID_PATTERN, JobId, UserId, is_text
from livechat.protocol.validators import json_problem

T = TypeVar("T")

RESULT_LEVELS_MAX: Final = 32
"""Objects and lists within each other."""
OUTPUT_NAME_MAX: Final = 255
REASON_LENGTH_MAX: Final = 300

_converter: Final[Converter] = make_converter(detailed=True)


def _check_progress(_instance: object, _attribute: object, value: float) -> None:
    if not isfinite(value) or not 0 <= value <= 1:
        raise ValueError(f"progress: expected 0 to 1, got {value}")


@attrs.frozen
class Progress:
    """Yielded by a handler: how far the job is, from 0 to 1. Of many in a short time the newest is told."""

    value: float = attrs.field(converter=float, validator=_check_progress)


@attrs.frozen
class Partial:
    """Yielded by a handler: a part of the result, told at once and kept."""

    content: str | bytes = attrs.field(repr=False)
    progress: float | None = attrs.field(default=None)
    """How far the job is with it, from 0 to 1; None: as before."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.content, str | bytes) or (
            isinstance(self.content, str) and not is_text(self.content)
        ):
            raise ValueError("content: expected bytes, or Unicode text without NUL and lone surrogates")
        if self.progress is not None:
            _check_progress(self, None, self.progress)


@attrs.frozen
class Result:
    """Yielded by a handler, last: the job has succeeded."""

    value: Any = None
    """Any value of JSON."""


JobUpdate = Progress | Partial | Result
"""What a handler yields."""


@attrs.define(eq=False)
class JobContext(Generic[T]):
    """What a handler is given: the job that it does."""

    job_id: JobId
    kind: str
    user_id: UserId
    """Whose job it is."""
    is_admin: bool
    """The owner's token had the `admin` scope when the job was handed in."""
    input: T
    """An instance of the kind's `input` class, or the JSON object as it came."""
    attempt: int
    """1 for the first; more where the server stopped in the middle and the kind is safe to run again."""
    _open_file: Callable[[str, str], AbstractAsyncContextManager[OutputFile]] = attrs.field(repr=False)

    def open_output(
        self, name: str, mime: str = "application/octet-stream"
    ) -> AbstractAsyncContextManager[OutputFile]:
        """Make the job's file, which its owner can download once the job has succeeded; a second one replaces it.

        Args:
            name: what it is called where it is saved, 1-255 characters without slashes and control characters.
            mime: its media type, in ASCII.

        Raises:
            BackendUnavailable: on entering or leaving: the disk does not take it.
        """
        if not 1 <= len(name) <= OUTPUT_NAME_MAX or "/" in name or not name.isprintable():
            raise ValueError(f"name: expected 1 to {OUTPUT_NAME_MAX} printable characters without a slash")
        if not 1 <= len(mime) <= OUTPUT_NAME_MAX or not mime.isascii() or not mime.isprintable():
            raise ValueError("mime: expected a media type")
        return self._open_file(name, mime)


JobHandler = Callable[[JobContext[Any]], AsyncGenerator[JobUpdate, None]]
"""An async generator function. What it raises ends the job as `failed`: a `LiveError` is told, all else logged."""


class JobOptions(TypedDict, total=False):
    """What may be said of a kind of jobs when its handler is registered."""

    input: type[Any] | None
    """An attrs class that the input must fit; left out: any JSON object."""
    safe_to_rerun: bool
    """A job that ran when the server stopped is run again from the start; left out: it has failed."""
    timeout_s: float | None
    """How long a job may run; left out: `jobs.timeout_ms`."""
    concurrency: int | None
    """How many of this kind may run at a time; left out: as many as run in all."""
    scope: str | None
    """What the owner's token must be good for, `admin` say."""
    permit: Callable[[Identity, Any], None] | None
    """Is asked, when a job is handed in, who wants it and what its input is; raises a `LiveError` to refuse it."""


@attrs.frozen
class JobKind:
    """A kind of job and how to do it."""

    name: str
    handler: JobHandler
    input: type[Any] | None = None
    """An attrs class that the input must fit; None: any JSON object."""
    safe_to_rerun: bool = False
    """It may be run from the start again if the server stopped in the middle of it."""
    timeout_s: float | None = None
    """How long a job may run; None: as the settings say."""
    concurrency: int | None = None
    """How many of this kind may run at a time; None: as many as run in all."""
    scope: str | None = None
    """What the owner's token must be good for; None: nothing in particular."""
    permit: Callable[[Identity, Any], None] | None = None
    """Raises what refuses a job, by who wants it and its input; None: nothing does."""

    def __attrs_post_init__(self) -> None:
        if ID_PATTERN.fullmatch(self.name) is None:
            raise ValueError(f"kind: expected 1 to 64 letters, digits or _ . : @ -, got {self.name!r}")
        if not inspect.isasyncgenfunction(self.handler) and not inspect.isasyncgenfunction(
            getattr(self.handler, "__call__", None)  # noqa: B004 - whether calling it gives a generator
        ):
            raise TypeError(f"handler of {self.name!r}: expected an async generator function")
        if self.input is not None and not attrs.has(self.input):
            raise TypeError(f"input of {self.name!r}: expected an attrs class")
        if self.timeout_s is not None and not 0 < self.timeout_s < float("inf"):
            raise ValueError(f"timeout_s of {self.name!r}: expected seconds above 0, got {self.timeout_s}")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"concurrency of {self.name!r}: expected at least 1, got {self.concurrency}")

    def check(self, value: dict[str, Any], identity: Identity) -> None:
        """Check that a job may be handed in.

        Raises:
            Forbidden: the owner's token is not good for it.
            ProtocolError: the input does not fit; the reason names the field.
            LiveError: what the kind itself raises.
        """
        if self.scope is not None and not _is_good_for(identity, self.scope):
            raise Forbidden(f"authorization: expected a token of scope {self.scope}")
        wanted = self.structure(value)
        if self.permit is not None:
            self.permit(identity, wanted)

    def structure(self, value: dict[str, Any]) -> Any:
        """Return the input as the handler gets it.

        Raises:
            ProtocolError: it does not fit; the reason names the field.
        """
        if self.input is None:
            return value
        try:
            return _converter.structure({k: v for k, v in value.items() if v is not None}, self.input)
        except ClassValidationError as exc:
            reason = explain(exc, "input")[:REASON_LENGTH_MAX]
            raise ProtocolError(reason.encode(errors="backslashreplace").decode()) from None


def _is_good_for(identity: Identity, scope: str) -> bool:
    return identity.holds_secret or not identity.scopes.isdisjoint({scope, ADMIN_SCOPE})


class JobKinds:
    """The kinds of jobs that a server does."""

    def __init__(self) -> None:
        self._by_name: dict[str, JobKind] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, kind: JobKind) -> None:
        """Register a kind; one of the same name must not be there."""
        if kind.name in self._by_name:
            raise ValueError(f"kind: {kind.name!r} is registered already")
        self._by_name[kind.name] = kind

    def get(self, name: str) -> JobKind:
        """Return a kind.

        Raises:
            UnknownJobKind: there is none of this name.
        """
        kind = self._by_name.get(name)
        if kind is None:
            raise UnknownJobKind("kind: there are no jobs of this kind")
        return kind


def serialize_result(value: object, bytes_max: int) -> str:
    """Return a result as JSON that every client and store can hold.

    Raises:
        PayloadTooLarge: it is too large.
        ValueError, TypeError, RecursionError: it is no JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode())
    if size > bytes_max:
        raise PayloadTooLarge(f"result: expected at most {bytes_max} bytes of JSON, got {size}")
    problem = json_problem(json.loads(text), bytes_max, RESULT_LEVELS_MAX)
    if problem is not None:
        raise ValueError(f"result: {problem}")
    return text
