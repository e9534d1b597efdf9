"""Owns which part of a file a request asks for, and whether its conditions hold. Pure.

It must not know files or HTTP messages: header texts and a size in, a selection out. A range that is not
understood is ignored, as RFC 9110 has it; several ranges at once are answered with the whole, which it allows.

Source: RFC 9110, sections 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import attrs

_SPECIFIER: Final = re.compile(r"[ \t]*bytes[ \t]*=[ \t]*([0-9]*)[ \t]*-[ \t]*([0-9]*)[ \t]*", re.IGNORECASE)
_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
POSITION_DIGITS_MAX: Final = 19
"""A position of more digits lies behind the end of every file; Python would take its time to read it."""


class Verdict(Enum):
    """What a request gets; the value is the HTTP status."""

    WHOLE = 200
    PART = 206
    NOT_MODIFIED = 304
    PRECONDITION_FAILED = 412
    NOT_SATISFIABLE = 416


@attrs.frozen
class Selection:
    """The bytes from `start` up to, not including, `stop`; all of them unless the verdict is PART."""

    verdict: Verdict
    start: int
    stop: int


class _Unsatisfiable(Enum):
    TOKEN = auto()


def select_untrusted(headers: Mapping[str, str], etag: str, size: int, *, is_get: bool = True) -> Selection:
    """Decide what is asked for, conditions first (RFC 9110, section 13.2.2).

    Args:
        headers: by names in lower case.
        etag: the file's, strong, with its quotes.
        size: the file's, in bytes.
        is_get: a range means nothing to other methods.
    """
    if_match = headers.get("if-match")
    if if_match is not None and not _matches(if_match, etag, weakly=False):
        return Selection(Verdict.PRECONDITION_FAILED, 0, 0)
    if_none_match = headers.get("if-none-match")
    if if_none_match is not None and _matches(if_none_match, etag, weakly=True):
        return Selection(Verdict.NOT_MODIFIED, 0, 0)
    specifier = headers.get("range")
    # A date in If-Range matches nothing: files have no other date than that of their making.
    if specifier is None or not is_get or headers.get("if-range", etag).strip() != etag:
        return Selection(Verdict.WHOLE, 0, size)
    part = _parse_range(specifier, size)
    if isinstance(part, _Unsatisfiable):
        return Selection(Verdict.NOT_SATISFIABLE, 0, 0)
    if part is None:
        return Selection(Verdict.WHOLE, 0, size)
    return Selection(Verdict.PART, *part)


def _matches(header: str, etag: str, *, weakly: bool) -> bool:
    """Tell whether a list of entity tags has this one; a weak one in it counts only if compared weakly."""
    if header.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _TAG.findall(header))


def _parse_range(specifier: str, size: int) -> tuple[int, int] | _Unsatisfiable | None:
    """Return (start, stop) of a single range; None: it is to be ignored."""
    match = _SPECIFIER.fullmatch(specifier)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        return _suffix(last, size)
    start = _position(first)
    end = _position(last) if last else None
    if end is not None and (end < start or (end == start and _is_longer(first, last))):
        return None
    if start >= size:
        return _Unsatisfiable.TOKEN
    return start, size if end is None else min(end + 1, size)


def _suffix(length: str, size: int) -> tuple[int, int] | _Unsatisfiable | None:
    if not length:
        return None
    if not _position(length):
        return _Unsatisfiable.TOKEN
    # The last bytes of nothing are nothing, which no Content-Range can tell: it gets the whole.
    return (max(size - _position(length), 0), size) if size else None


def _position(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= POSITION_DIGITS_MAX else 10**POSITION_DIGITS_MAX


def _is_longer(first: str, last: str) -> bool:
    """Tell two positions apart that are both too large to be read."""
    first, last = first.lstrip("0"), last.lstrip("0")
    return len(first) > POSITION_DIGITS_MAX and (len(first), first) > (len(last), last)
