"""Everything that a relay remembers, as one value fit for comparison.

It walks the objects themselves, so whatever is added to the relay is part of it. Left out are the counters, a
peer's own count of refused packets, and what comes from outside (functions, keys' contexts).
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from typing import Any

from livechat.media.counters import RelayCounters
from livechat.media.relay import Relay

IGNORED = {"packets_rejected"}
PLAIN = (int, float, str, bytes, bool, type(None), enum.Enum)


def relay_state(relay: Relay) -> Any:
    """Return a deep copy of what the relay holds."""
    return _state(relay, {})


def _state(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, PLAIN):
        return value
    if id(value) in seen:
        return ("seen", seen[id(value)])
    if isinstance(value, RelayCounters):
        return "counters"
    if isinstance(value, list | tuple | deque):
        return [type(value).__name__, *(_state(each, seen) for each in value)]
    if isinstance(value, dict):
        return {"dict": [(_state(key, seen), _state(each, seen)) for key, each in value.items()]}
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if not type(value).__module__.startswith("livechat."):
        return type(value).__name__
    seen[id(value)] = len(seen)
    fields = {name: _state(getattr(value, name), seen) for name in _fields(value) if hasattr(value, name)}
    return type(value).__name__, fields


def _fields(value: Any) -> Iterator[str]:
    """Yield the names of an object's attributes, in slots or not."""
    names = set(getattr(value, "__dict__", ()))
    for cls in type(value).__mro__:
        slots = getattr(cls, "__slots__", ())
        names |= {slots} if isinstance(slots, str) else set(slots)
    for name in sorted(names - IGNORED - {"__weakref__"}):
        yield f"_{type(value).__name__}{name}" if name.startswith("__") and not name.endswith("__") else name
