"""Owns the errors of a client: the server's refusals as the classes of their codes, and what only clients know.

It must not decide what to do about them.

    LiveError       the server refused a request (`livechat.error`), `retryable` and `retry_after_ms` as it said
    ClientError     everything else that can go wrong
"""

from __future__ import annotations

from typing import ClassVar, Final

import livechat.error
from livechat.error import LiveError
from livechat.protocol.events import Error


class ClientError(Exception):
    """Something that no answer of the server says. Its text is one line fit for a terminal."""


class CannotConnect(ClientError):
    """No connection could be made, or none any more."""


class SessionEnded(ClientError):
    """The server closed the connection for good (4500-4999).

    Args:
        code: the close code.
        reason: the server's words.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server ended the session: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class ConnectionLost(ClientError):
    """The connection ended before the answer came: whether the request was done is not known."""


class ClientClosed(ClientError):
    """The block of the client was left, or the client has given up."""


class OutboxFull(ClientError):
    """Too many messages wait for their answer."""


class NotSent(ClientError):
    """A message was given up before it was sent: it is surely not stored."""


class OutcomeUnknown(ClientError):
    """A message was given up after it was sent: whether it is stored is not known."""


class JobLost(ClientError):
    """The server knows nothing of a job (any more)."""


class FloorDenied(ClientError):
    """The floor of a push-to-talk channel is somebody else's, and nobody more may wait for it.

    Args:
        channel_id: of which channel.
        reason: the server's word: `queue_full`, `taken`.
    """

    def __init__(self, channel_id: str, reason: str) -> None:
        super().__init__(f"the floor of {channel_id} was denied: {reason}")
        self.reason = reason


class FloorLost(ClientError):
    """The floor of a push-to-talk channel was taken away.

    Args:
        channel_id: of which channel.
        cause: the server's word: `preempted`, `ping_timeout`, `max_duration`, `disconnect`, `admin_revoke`.
    """

    def __init__(self, channel_id: str, cause: str) -> None:
        super().__init__(f"the floor of {channel_id} was lost: {cause}")
        self.cause = cause


class SubscriberTooSlow(ClientError):
    """More events waited for a subscriber than it may keep; what it was handed up to here is complete."""


class UnknownRefusal(LiveError):
    """The server refused with a code that this version does not know."""

    code: ClassVar[int] = 0


REFUSALS: Final[dict[int, type[LiveError]]] = {
    value.code: value
    for value in vars(livechat.error).values()
    if isinstance(value, type) and issubclass(value, LiveError) and "code" in vars(value)
}


def refusal(error: Error) -> LiveError:
    """Turn an ERROR into the exception of its code."""
    cls = REFUSALS.get(error.code)
    if cls is None:
        # The code and whether to retry belong to the class, so an unknown one gets a class of its own.
        facts = {"code": error.code, "retryable": error.retryable}
        cls = type(UnknownRefusal.__name__, (UnknownRefusal,), facts)
    return cls(error.reason, action=error.action, retry_after_ms=error.retry_after_ms)
