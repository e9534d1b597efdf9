"""Owns every error a peer or an operator can cause: one class per code of the protocol.

It must not know who raises them or how they travel; the gateway turns a `LiveError` into an ERROR packet.

Ranges mean something and numbers are never reused:

    1000-1999  session and packet      4000-4999  floor control
    2000-2999  channel and media       5000-5999  jobs
    3000-3999  message                 6000-6999  files
                                       9000-9999  the server itself
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

Action = Literal["ROLLBACK", "RETRY", "RECONNECT"]


class LiveError(Exception):
    """A refused request. Its message says what was expected and what came; never a secret."""

    code: ClassVar[int]
    retryable: ClassVar[bool] = False
    default_action: ClassVar[Action | None] = None

    def __init__(self, reason: str, *, action: Action | None = None, retry_after_ms: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action or self.default_action
        self.retry_after_ms = retry_after_ms


class ConfigError(Exception):
    """The operator asked for something that cannot be; its text is one line fit for a terminal."""


# --- session and packet ---------------------------------------------------------------------------


class NotAuthenticated(LiveError):
    code = 1000


class InvalidToken(LiveError):
    code = 1001


class AlreadyIdentified(LiveError):
    code = 1002


class UnknownOpcode(LiveError):
    code = 1003


class ProtocolError(LiveError):
    """Bytes from the wire that do not parse or validate; the reason names the field."""

    code = 1004


class PayloadTooLarge(LiveError):
    code = 1005


class RateLimited(LiveError):
    code = 1006
    retryable = True


class Forbidden(LiveError):
    code = 1007


# --- channel and media ----------------------------------------------------------------------------


class ChannelNotFound(LiveError):
    code = 2000


class ChannelFull(LiveError):
    code = 2001
    retryable = True


class AccessDenied(LiveError):
    code = 2002


class AlreadyInChannel(LiveError):
    code = 2003


class NotInChannel(LiveError):
    code = 2004


class ChannelExists(LiveError):
    code = 2005


class SsrcInUse(LiveError):
    code = 2006


class MediaNotPossible(LiveError):
    code = 2007


# --- message --------------------------------------------------------------------------------------


class EmptyMessage(LiveError):
    code = 3000


class MessageTooLong(LiveError):
    code = 3001


class JoinBeforeMessaging(LiveError):
    code = 3002


class NonceConflict(LiveError):
    code = 3003


class ContentRejected(LiveError):
    """The server's content filter does not let it through."""

    code = 3004


class NotPersisted(LiveError):
    """The store refused or is away. ROLLBACK: surely not stored; RETRY: unknown, repeat the nonce."""

    code = 3005
    retryable = True
    default_action = "ROLLBACK"


# --- floor control --------------------------------------------------------------------------------


class NotPttChannel(LiveError):
    """Only in a channel of the mode `ptt` is there a floor."""

    code = 4000


class FloorNotHeld(LiveError):
    code = 4001


# --- jobs -----------------------------------------------------------------------------------------


class JobNotFound(LiveError):
    """No such job, or another user's."""

    code = 5000


class UnknownJobKind(LiveError):
    code = 5001


class IdempotencyKeyReused(LiveError):
    """The Idempotency-Key was used for another body."""

    code = 5002


# --- files ----------------------------------------------------------------------------------------


class FileNotFound(LiveError):
    """There is no such file, as far as the one who asks may know."""

    code = 6000


# --- the server itself ----------------------------------------------------------------------------


class InternalError(LiveError):
    code = 9000
    retryable = True


class Overloaded(LiveError):
    code = 9001
    retryable = True


class ShuttingDown(LiveError):
    code = 9002
    retryable = True
    default_action = "RECONNECT"


class BackendUnavailable(LiveError):
    code = 9003
    retryable = True


ERRORS: Final = {cls.code: cls for cls in LiveError.__subclasses__()}
"""Every class above, by its code."""
