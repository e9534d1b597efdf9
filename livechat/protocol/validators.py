"""Owns the checks of what a request's fields may hold, beyond their types, and says each in words of JSON Schema.

It must not know any request. A check raises `ValueError` whose text begins with the field's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final, Protocol, runtime_checkable

import attrs

from livechat.protocol.types import is_text

SEQ_MAX: Final = 2**63 - 1
INT_END: Final = 2**63
"""Integers within JSON lie between this one and its negative: 64 bits, as in every database."""

_SIZES: Final = {"string": "Length", "array": "Items", "object": "Properties"}
"""How JSON Schema ends the names of keywords that bound the size of a type."""


@runtime_checkable
class Validator(Protocol):
    """What attrs calls with each new value of a field, and what the value may be in words of JSON Schema."""

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: Any, /) -> None:
        """Raise ValueError if the value does not fit; None, of a field that may be left out, always does."""
        ...

    def keywords(self, kind: str) -> dict[str, Any]:
        """Return what the schema of a field says beside its type, which is `kind`, as far as it can be said."""
        ...


def length(least: int, most: int) -> Validator:
    """Check the length of a text, list or map; None is left alone."""
    return _Length(least, most)


def between(least: int, most: int) -> Validator:
    """Check a number; None is left alone."""
    return _Between(least, most)


def seqs(most: int, of: str = "channels") -> Validator:
    """Check a map of at most so many ids to `seq`s; None is left alone."""
    return _Seqs(most, of)


def json_object(bytes_max: int, levels_max: int) -> Validator:
    """Check that a dict is an object of JSON (RFC 8259) that each codec and store can hold.

    Args:
        bytes_max: as `json_bytes` counts.
        levels_max: objects and lists within each other, the outermost included.
    """
    return _JsonObject(bytes_max, levels_max)


@attrs.frozen
class _Length:
    least: int
    most: int

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not self.least <= len(value) <= self.most:
            raise ValueError(f"{attribute.name}: expected {self.least} to {self.most} in length, got {len(value)}")

    def keywords(self, kind: str) -> dict[str, Any]:
        ending = _SIZES[kind]
        least = {f"min{ending}": self.least} if self.least else {}
        return {**least, f"max{ending}": self.most}


@attrs.frozen
class _Between:
    least: int
    most: int

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None and not self.least <= value <= self.most:
            raise ValueError(f"{attribute.name}: expected {self.least} to {self.most}, got {value}")

    def keywords(self, _kind: str) -> dict[str, Any]:
        return {"minimum": self.least, "maximum": self.most}


@attrs.frozen
class _Seqs:
    most: int
    of: str

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        if len(value) > self.most:
            raise ValueError(f"{attribute.name}: expected at most {self.most} {self.of}, got {len(value)}")
        for key, seq in value.items():
            if not 0 <= seq <= SEQ_MAX:
                raise ValueError(f"{attribute.name}[{key}]: expected 0 to {SEQ_MAX}, got {seq}")

    def keywords(self, _kind: str) -> dict[str, Any]:
        return {
            "maxProperties": self.most,
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": SEQ_MAX},
        }


@attrs.frozen
class _JsonObject:
    bytes_max: int
    levels_max: int

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        # First, as it stops early: only what is found to be small and flat is serialized.
        problem = json_problem(value, self.bytes_max, self.levels_max)
        if problem is None and (size := json_bytes(value)) > self.bytes_max:
            problem = f"{_expected_bytes(self.bytes_max)}, got {size}"
        if problem is not None:
            raise ValueError(f"{attribute.name}: {problem}")

    def keywords(self, _kind: str) -> dict[str, Any]:
        # Neither bytes nor levels can be said; a member takes six bytes at least, as in `"a":1,`.
        return {"maxProperties": self.bytes_max // 6}


def json_bytes(value: object) -> int:
    """Return the size of a value as JSON in UTF-8 without white space."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _expected_bytes(bytes_max: int) -> str:
    return f"expected at most {bytes_max} bytes of JSON"


def json_problem(value: object, bytes_max: int, levels_max: int) -> str | None:
    """Say what keeps a value from being JSON that each codec and store can hold; None: nothing, but its size.

    It looks at the value and all within it, level by level: neither depth nor number can be abused.
    """
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
