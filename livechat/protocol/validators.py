"""Owns the checks of what a request's fields may hold, beyond their types.

It must not know any request. A check raises `ValueError` whose text begins with the field's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Final

import attrs

from livechat.protocol.types import is_text

SEQ_MAX: Final = 2**63 - 1
INT_END: Final = 2**63
"""Integers within JSON lie between this one and its negative: 64 bits, as in every database."""

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def length(least: int, most: int) -> Validator:
    """Check the length of a text, list or map; None is left alone."""

    def check(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not least <= len(value) <= most:
            raise ValueError(f"{attribute.name}: expected {least} to {most} in length, got {len(value)}")

    return check


def between(least: int, most: int) -> Validator:
    """Check a number; None is left alone."""

    def check(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not least <= value <= most:
            raise ValueError(f"{attribute.name}: expected {least} to {most}, got {value}")

    return check


def seqs(channels_max: int) -> Validator:
    """Check a map of channel ids to `seq`s; None is left alone."""

    def check(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        if len(value) > channels_max:
            raise ValueError(f"{attribute.name}: expected at most {channels_max} channels, got {len(value)}")
        for channel_id, seq in value.items():
            if not 0 <= seq <= SEQ_MAX:
                raise ValueError(f"{attribute.name}[{channel_id}]: expected 0 to {SEQ_MAX}, got {seq}")

    return check


def json_object(bytes_max: int, levels_max: int) -> Validator:
    """Check that a dict is an object of JSON (RFC 8259) that each codec and store can hold.

    Args:
        bytes_max: as `json_bytes` counts.
        levels_max: objects and lists within each other, the outermost included.
    """

    def check(_instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        # First, as it stops early: only what is found to be small and flat is serialized.
        problem = _json_problem(value, bytes_max, levels_max)
        if problem is None and (size := json_bytes(value)) > bytes_max:
            problem = f"{_expected_bytes(bytes_max)}, got {size}"
        if problem is not None:
            raise ValueError(f"{attribute.name}: {problem}")

    return check


def json_bytes(value: object) -> int:
    """Return the size of a value as JSON in UTF-8 without white space."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _expected_bytes(bytes_max: int) -> str:
    return f"expected at most {bytes_max} bytes of JSON"


def _json_problem(value: object, bytes_max: int, levels_max: int) -> str | None:
    """Look at a value and all within it, level by level: neither depth nor number can be abused."""
    level = [value]
    seen = 1
    for _ in range(levels_max + 1):
        problem = next(filter(None, map(_problem_by_itself, level)), None)
        if problem is not None:
            return problem
        containers = [outer for outer in level if isinstance(outer, dict | list)]
        if not containers:
            return None
        level = [inner for outer in containers for inner in _contents(outer)]
        seen += len(level)
        if seen > bytes_max:
            # Each key and each value takes a byte at least.
            return _expected_bytes(bytes_max)
    return f"expected at most {levels_max} levels"


def _contents(value: dict[Any, Any] | list[Any]) -> Iterable[object]:
    return value if isinstance(value, list) else (*value, *value.values())


def _problem_by_itself(value: object) -> str | None:
    """Say what is wrong with a value, whatever is within it; msgpack and Python can say more than JSON."""
    if value is None or isinstance(value, bool | list):
        return None
    if isinstance(value, str):
        return None if is_text(value) else "expected Unicode text without NUL and lone surrogates"
    if isinstance(value, int):
        return None if -INT_END <= value < INT_END else "expected integers of 64 bits"
    if isinstance(value, float):
        return None if isfinite(value) else "expected finite numbers"
    if isinstance(value, dict):
        return None if all(isinstance(key, str) for key in value) else "expected text as keys"
    return "expected what JSON can hold"
