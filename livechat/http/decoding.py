"""Owns the way from what a request holds to instances of the classes that validate it.

It must not act on them. What comes from the wire is untrusted: everything here raises only `ProtocolError`, whose
reason names the field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import NoneType
from typing import Any, Final, NewType, get_args, get_origin

import attrs
from cattrs import ClassValidationError
from starlette.requests import Request

from livechat.error import ProtocolError
from livechat.http.problems import UnsupportedMediaType
from livechat.protocol.strict import explain, make_converter
from livechat.protocol.types import ID_PATTERN, is_text

REASON_LENGTH_MAX: Final = 300
"""Characters of a reason that may quote what the client wrote."""
PATH_CHARS_MAX: Final = 128
INT_EXACT_END: Final = 2**53
"""From here on a float is not one integer but several."""
ID_PARAMETERS: Final = frozenset({"channel_id", "user_id"})
"""Parameters of paths that are ids of the protocol."""

_converter: Final = make_converter(detailed=True)


def structure_untrusted(value: object, cls: type[Any], path: Mapping[str, str]) -> Any:
    """Make an instance of an attrs class of plain values; null counts as left out.

    Args:
        path: the parameters of the path; those that are fields of the class are taken from here.

    Raises:
        ProtocolError: a field is missing, of the wrong type or out of range.
    """
    if type(value) is not dict:
        raise ProtocolError("body: expected an object")
    given = {name: each for name, each in value.items() if each is not None}
    given |= {name: each for name, each in path.items() if name in attrs.fields_dict(cls)}
    try:
        return _converter.structure(given, cls)
    except ClassValidationError as exc:
        raise ProtocolError(_sendable(explain(exc))) from None
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise ProtocolError(_sendable(f"body: {exc}")) from None


def body_untrusted(data: bytes, cls: type[Any], path: Mapping[str, str]) -> Any:
    """Make an instance of an attrs class of a JSON body.

    Raises:
        ProtocolError: it is no JSON, or not of the right fields.
    """
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_read_number)
    except RecursionError:
        raise ProtocolError("body: nested too deeply") from None
    except ValueError as exc:
        why = f"{exc.msg.lower()} at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else "malformed"
        raise ProtocolError(f"body: expected JSON: {why}") from None
    return structure_untrusted(value, cls, path)


def query_untrusted(pairs: Iterable[tuple[str, str]], cls: type[Any], path: Mapping[str, str]) -> Any:
    """Make an instance of an attrs class of the pairs of a query.

    Raises:
        ProtocolError: a field is missing, there twice, of the wrong type or out of range.
    """
    # mypy takes a class for something that cannot be hashed.
    readers = _readers(cls)  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name not in readers:
            continue
        if name in given:
            raise ProtocolError(f"{name}: expected once")
        try:
            given[name] = readers[name](text)
        except ValueError as exc:
            raise ProtocolError(f"{name}: {exc}") from None
    return structure_untrusted(given, cls, path)


def path_untrusted(parameters: Mapping[str, str]) -> dict[str, str]:
    """Check the parameters of a path.

    Raises:
        ProtocolError: one cannot be what it stands for.
    """
    for name, value in parameters.items():
        if name in ID_PARAMETERS:
            if ID_PATTERN.fullmatch(value) is None:
                raise ProtocolError(f"{name}: expected 1 to 64 letters, digits or _ . : @ -")
        elif not 1 <= len(value) <= PATH_CHARS_MAX or not is_text(value):
            raise ProtocolError(f"{name}: expected 1 to {PATH_CHARS_MAX} characters")
    return dict(parameters)


def check_is_json(request: Request) -> None:
    """Refuse a body that says to be something else than JSON.

    Raises:
        UnsupportedMediaType: it does.
    """
    stated = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stated and stated != "application/json" and not stated.endswith("+json"):
        raise UnsupportedMediaType("content-type: expected application/json")


def _read_number(text: str) -> int | float:
    """Read 5.0 as the integer that it is for JSON Schema, and for clients that know one kind of number only."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < INT_EXACT_END else value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _sendable(reason: str) -> str:
    """Bound a reason that quotes the request, and escape what no JSON could hold."""
    return reason[:REASON_LENGTH_MAX].encode(errors="backslashreplace").decode()


@cache
def _readers(cls: Any) -> dict[str, Callable[[str], Any]]:
    """Return for each field of a class what turns its text into the plain value that JSON would hold."""
    return {field.name: _reader(field.type) for field in attrs.fields(attrs.resolve_types(cls))}


def _reader(kind: Any) -> Callable[[str], Any]:
    for member in get_args(kind) if get_origin(kind) is not None or NoneType in get_args(kind) else (kind,):
        plain = member.__supertype__ if isinstance(member, NewType) else member
        if plain is bool:
            return _read_bool
        if plain is int:
            return _read_int
    return str


def _read_int(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 19:
        raise ValueError("expected an integer")
    return int(text)


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"
