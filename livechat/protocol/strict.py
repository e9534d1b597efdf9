"""Owns the strict way from plain values to classes: what cattrs would coerce (5 becomes '5') is refused here.

It must not know the envelope or any request. Whatever is refused is refused with an exception that `explain` turns
into `field[place].field: what was expected`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, Final, Literal, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_structure_fn

from livechat.protocol.types import (
    ID_LENGTH_MAX,
    ID_PATTERN,
    ChannelId,
    Frequency,
    JobId,
    SessionId,
    Ssrc,
    StreamId,
    UserId,
    is_text,
)

_Hook = Callable[[Any, Any], Any]
_MISFITS: Final = (ValueError, TypeError, KeyError, ClassValidationError)
"""What the hooks and cattrs raise for a value that does not fit."""


def make_converter(*, detailed: bool) -> Converter:
    """Build a converter.

    Args:
        detailed: slower; only its errors can be explained.
    """
    converter = Converter(detailed_validation=detailed)
    converter.register_structure_hook(str, _strict_str)
    converter.register_structure_hook(int, _strict_int)
    converter.register_structure_hook(bool, _strict_bool)
    converter.register_structure_hook(bytes, _strict_bytes)
    for identifier in (UserId, ChannelId, SessionId, JobId, StreamId):
        converter.register_structure_hook(identifier, _strict_id)
    converter.register_structure_hook(Ssrc, _strict_int)
    converter.register_structure_hook(Frequency, _strict_frequency)
    converter.register_structure_hook_factory(_is_literal, _strict_literal)
    converter.register_structure_hook_factory(attrs.has, _object_hooks(converter, detailed=detailed))
    converter.register_structure_hook_factory(_is_list, _list_hooks(converter))
    converter.register_structure_hook_factory(_is_dict, _map_hooks(converter))
    return converter


def explain(exc: BaseException, path: str = "") -> str:
    """Turn the first leaf error of a detailed converter into `field[place].field: what was expected`."""
    if isinstance(exc, ClassValidationError):
        noted, bare = exc.group_exceptions()
        if noted:
            leaf, note = noted[0]
            return explain(leaf, f"{path}.{note.name}" if path else str(note.name))
        # Raised by the class itself: a validator, whose text begins with the field's name.
        return f"{path}.{bare[0]}" if path else str(bare[0])
    if isinstance(exc, _Inside):
        assert exc.__cause__ is not None
        return explain(exc.__cause__, f"{path}[{str(exc.place)[:ID_LENGTH_MAX]}]")
    return f"{path}: {'required' if isinstance(exc, KeyError) else exc}"


# --- lists, maps and objects -----------------------------------------------------------------------


class _Inside(ValueError):
    """An entry of a list or map does not fit; the cause says why."""

    def __init__(self, place: object) -> None:
        super().__init__()
        self.place = place
        """An index or a key; what comes as a key need not be an id, nor even text."""


def _object_hooks(converter: Converter, *, detailed: bool) -> Callable[[Any], _Hook]:
    """Read attrs classes from objects and from nothing else."""

    def hook_for(cls: type[Any]) -> _Hook:
        inner = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=detailed)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not dict:
                raise ValueError("expected an object")
            return inner(value, cls)

        return structure

    return hook_for


def _list_hooks(converter: Converter) -> Callable[[Any], _Hook]:
    """Read tuples and lists, up to the first entry that does not fit: to explain thousands takes a second."""

    def hook_for(cls: Any) -> _Hook:
        kind: Callable[[list[Any]], Any] = get_origin(cls)
        item = get_args(cls)[0]
        hook = converter.get_structure_hook(item)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not list:
                raise ValueError("expected a list")
            taken = []
            for index, entry in enumerate(value):
                try:
                    taken.append(hook(entry, item))
                except _MISFITS as exc:
                    raise _Inside(index) from exc
            return kind(taken)

        return structure

    return hook_for


def _map_hooks(converter: Converter) -> Callable[[Any], _Hook]:
    """Read dicts from objects, up to the first key or value that does not fit."""

    def hook_for(cls: Any) -> _Hook:
        key_type, item = get_args(cls)
        key_hook = converter.get_structure_hook(key_type)
        hook = converter.get_structure_hook(item)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not dict:
                raise ValueError("expected an object")
            taken = {}
            for key, entry in value.items():
                try:
                    name = key_hook(key, key_type)
                    taken[name] = hook(entry, item)
                except _MISFITS as exc:
                    raise _Inside(key) from exc
            return taken

        return structure

    return hook_for


# --- scalars ---------------------------------------------------------------------------------------


def _strict_str(value: Any, _type: object = str) -> str:
    if type(value) is not str:
        raise ValueError("expected a string")
    if not is_text(value):
        raise ValueError("expected Unicode text without NUL and lone surrogates")
    return value


def _strict_int(value: Any, _type: object = int) -> int:
    if type(value) is not int:
        raise ValueError("expected an integer")
    return value


def _strict_bool(value: Any, _type: object = bool) -> bool:
    if type(value) is not bool:
        raise ValueError("expected true or false")
    return value


def _strict_bytes(value: Any, _type: object = bytes) -> bytes:
    if type(value) is not bytes:
        raise ValueError("expected bytes, which take a binary frame with a msgpack packet")
    return value


def _strict_id(value: Any, _type: object = str) -> str:
    if type(value) is not str or ID_PATTERN.fullmatch(value) is None:
        raise ValueError("expected 1 to 64 letters, digits or _ . : @ -")
    return value


def _strict_frequency(value: Any, _type: object = None) -> str:
    """Mini LiveChat's `freq`: a number or a short text, kept as text."""
    if type(value) is int or (type(value) is float and isfinite(value)):
        value = repr(value)
    if type(value) is not str or not 1 <= len(value) <= 64 or not is_text(value):
        raise ValueError("expected a number or a text of at most 64 characters")
    result: str = value
    return result


def _strict_literal(cls: Any) -> Callable[[Any, Any], Any]:
    allowed = get_args(cls)

    def structure(value: Any, _type: object) -> Any:
        if type(value) is not str or value not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return value

    return structure


def _is_literal(cls: Any) -> bool:
    origin: object = get_origin(cls)
    return origin is Literal


def _is_list(cls: Any) -> bool:
    origin: object = get_origin(cls)
    return origin is tuple or origin is list


def _is_dict(cls: Any) -> bool:
    origin: object = get_origin(cls)
    return origin is dict
