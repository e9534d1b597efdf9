"""Owns what a log line may say of a database's failure.

It must not say what was to be stored: PostgreSQL adds the refused row, with all that somebody wrote, on lines of
their own (`DETAIL`, `CONTEXT`).
"""

from __future__ import annotations


def reason_of(error: BaseException) -> str:
    """Return the first line of what the database says; its class where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def without_detail(error: Exception) -> Exception:
    """Cut an exception, and what it came from, down to the first lines of their texts; return it for a log."""
    cause: BaseException | None = error
    while cause is not None:
        if len(cause.args) and isinstance(cause.args[0], str) and "\n" in cause.args[0]:
            cause.args = (reason_of(cause), *cause.args[1:])
        cause = cause.__cause__ or cause.__context__
    return error
