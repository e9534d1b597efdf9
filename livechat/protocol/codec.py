"""Owns the way between bytes and packets: the envelope, JSON and msgpack, strict validation.

It must not act on a packet. What comes from the wire is untrusted: every function that takes bytes raises
only `ProtocolError`, whose reason names the field.

The envelope is `{"op": int, "d": object|null, "id"?: string|int, "trace"?: string}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, Literal, Protocol, get_args, get_origin

import attrs
import msgpack
from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from livechat.error import ProtocolError, UnknownOpcode
from livechat.protocol.requests import REQUESTS, Request
from livechat.protocol.types import ID_PATTERN, ChannelId, Frequency, SessionId, Ssrc, UserId

RequestId = str | int
REQUEST_ID_LENGTH_MAX: Final = 64
ROUTING_INT_MAX: Final = 2**63
REASON_LENGTH_MAX: Final = 300
"""Characters of a reason that may quote what the client wrote."""


@attrs.frozen
class Packet:
    """An envelope whose `d` is not validated yet."""

    op: int
    d: Mapping[str, Any] | None
    id: RequestId | None = None
    """Echoed on the ACK or ERROR."""
    trace: str | None = None
    """A W3C traceparent."""


class Codec(Protocol):
    """One way to write packets. Stateless, so one instance serves every connection."""

    name: str
    subprotocol: str
    binary: bool
    """Whether its packets travel in binary frames (opcode 2) rather than text (opcode 1)."""

    def encode(self, packet: Mapping[str, Any]) -> bytes:
        """Serialize an envelope made of plain values."""
        ...


class _Json:
    name = "json"
    subprotocol = "livechat.v1.json"
    binary = False
    _encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

    def encode(self, packet: Mapping[str, Any]) -> bytes:
        return self._encode(packet).encode()


class _Msgpack:
    name = "msgpack"
    subprotocol = "livechat.v1.msgpack"
    binary = True

    def encode(self, packet: Mapping[str, Any]) -> bytes:
        encoded: bytes = msgpack.packb(packet)
        return encoded


JSON: Final[Codec] = _Json()
MSGPACK: Final[Codec] = _Msgpack()
CODECS: Final[dict[str, Codec]] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}


# --- from the wire ---------------------------------------------------------------------------------


def decode_untrusted(data: str | bytes) -> Packet:
    """Parse one frame: text is JSON, binary is msgpack.

    Raises:
        ProtocolError: it does not parse, or the envelope does not hold what it must.
    """
    try:
        value = _loads_json(data) if isinstance(data, str) else msgpack.unpackb(data)
    except RecursionError:
        raise ProtocolError("packet: nested too deeply") from None
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        kind = "JSON" if isinstance(data, str) else "msgpack"
        raise ProtocolError(f"packet: expected {kind}: {_why(exc)}") from None
    return _envelope_untrusted(value)


def _why(exc: Exception) -> str:
    """Say in the client's terms why its bytes did not parse; some parsers say nothing, or speak to programmers."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg.lower()} at character {exc.pos}"
    if isinstance(exc, UnicodeDecodeError):
        return "text that is not UTF-8"
    text = str(exc)
    return text[:120] if isinstance(exc, _NotJson) else "malformed, cut short or with a number too large"


class _NotJson(ValueError):
    """What Python's parser takes for JSON and RFC 8259 does not."""


def request_untrusted(packet: Packet) -> Request:
    """Validate the payload of `packet` against its opcode.

    Raises:
        UnknownOpcode: no client may send this op.
        ProtocolError: a field is missing, of the wrong type or out of range.
    """
    cls = REQUESTS.get(packet.op)
    if cls is None:
        raise UnknownOpcode(f"op: {packet.op} is not an opcode that clients may send")
    payload = packet.d if packet.d is not None else {}
    try:
        request: Request = _structure[cls](payload, cls)
    except Exception as exc:  # noqa: BLE001 - whatever a payload provokes is the payload's fault
        return _retry_in_detail(payload, cls, exc)
    return request


def _retry_in_detail(payload: Mapping[str, Any], cls: type[Request], first: Exception) -> Request:
    """Validate again, slowly: nulls count as left out, and the error learns its field's name."""
    given = {name: value for name, value in payload.items() if value is not None}
    try:
        return _detailed.structure(given, cls)
    except (ClassValidationError, IterableValidationError) as exc:
        raise ProtocolError(_sendable(_explain(exc))) from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ProtocolError(f"d: {str(first)[:200]}") from None


def _sendable(reason: str) -> str:
    """Bound a reason that quotes the packet, and escape what no codec could write."""
    return reason[:REASON_LENGTH_MAX].encode(errors="backslashreplace").decode()


def _explain(exc: BaseException, path: str = "") -> str:
    """Turn cattrs' first leaf error into `field.field: what was expected`."""
    if isinstance(exc, ClassValidationError):
        noted, bare = exc.group_exceptions()
        if noted:
            leaf, note = noted[0]
            return _explain(leaf, f"{path}.{note.name}" if path else str(note.name))
        # Raised by the class itself: a validator, whose text begins with the field's name.
        return f"{path}.{bare[0]}" if path else str(bare[0])
    if isinstance(exc, IterableValidationError):
        indexed, rest = exc.group_exceptions()
        if indexed:
            leaf, place = indexed[0]
            return _explain(leaf, f"{path}[{place.index}]")
        return _explain(rest[0], path)
    return f"{path}: {'required' if isinstance(exc, KeyError) else exc}"


def _loads_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> Any:
    raise _NotJson(f"{name} is not JSON")


def _envelope_untrusted(value: Any) -> Packet:
    if type(value) is not dict:
        raise ProtocolError("packet: expected an object")
    op = value.get("op")
    if type(op) is not int or not -ROUTING_INT_MAX <= op < ROUTING_INT_MAX:
        # The reply repeats it, and not every codec could write a larger one.
        raise ProtocolError("op: expected a 64-bit integer")
    payload = value.get("d")
    if payload is not None and type(payload) is not dict:
        raise ProtocolError("d: expected an object or null")
    request_id = value.get("id")
    if request_id is not None:
        _check_request_id(request_id)
    trace = value.get("trace")
    return Packet(op, payload, request_id, trace if type(trace) is str else None)


def request_id_of_untrusted(data: str | bytes) -> RequestId | None:
    """Find the `id` to answer a packet that failed to decode, if it has a usable one."""
    try:
        value = _loads_json(data) if isinstance(data, str) else msgpack.unpackb(data)
        request_id = value.get("id")
        _check_request_id(request_id)
    except (ValueError, TypeError, AttributeError, RecursionError, ProtocolError, msgpack.UnpackException):
        return None
    result: RequestId = request_id
    return result


def _check_request_id(request_id: Any) -> None:
    if type(request_id) is str:
        if len(request_id) > REQUEST_ID_LENGTH_MAX or not _is_text(request_id):
            raise ProtocolError(f"id: expected at most {REQUEST_ID_LENGTH_MAX} characters of text")
    elif type(request_id) is not int or not -ROUTING_INT_MAX <= request_id < ROUTING_INT_MAX:
        raise ProtocolError("id: expected a string or a 64-bit integer")


# --- strict hooks: cattrs coerces by default (5 becomes '5'); a protocol must not --------------------


def _is_text(value: str) -> bool:
    """Tell whether every store and codec can hold `value`: no NUL, no lone surrogate."""
    if "\0" in value:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _strict_str(value: Any, _type: object = str) -> str:
    if type(value) is not str:
        raise ValueError("expected a string")
    if not _is_text(value):
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


def _strict_id(value: Any, _type: object = str) -> str:
    if type(value) is not str or ID_PATTERN.fullmatch(value) is None:
        raise ValueError("expected 1 to 64 letters, digits or _ . : @ -")
    return value


def _strict_frequency(value: Any, _type: object = None) -> str:
    """Mini LiveChat's `freq`: a number or a short text, kept as text."""
    if type(value) is int or (type(value) is float and isfinite(value)):
        value = repr(value)
    if type(value) is not str or not 1 <= len(value) <= 64 or not _is_text(value):
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


def _is_tuple(cls: Any) -> bool:
    origin: object = get_origin(cls)
    return origin is tuple


def _make_converter(*, detailed: bool) -> Converter:
    converter = Converter(detailed_validation=detailed)
    converter.register_structure_hook(str, _strict_str)
    converter.register_structure_hook(int, _strict_int)
    converter.register_structure_hook(bool, _strict_bool)
    for identifier in (UserId, ChannelId, SessionId):
        converter.register_structure_hook(identifier, _strict_id)
    converter.register_structure_hook(Ssrc, _strict_int)
    converter.register_structure_hook(Frequency, _strict_frequency)
    converter.register_structure_hook_factory(_is_literal, _strict_literal)

    def strict_object(cls: type[Any]) -> Callable[[Any, Any], Any]:
        inner = make_dict_structure_fn(cls, converter, _cattrs_detailed_validation=detailed)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not dict:
                raise ValueError("expected an object")
            return inner(value, cls)

        return structure

    def strict_list(cls: Any) -> Callable[[Any, Any], Any]:
        inner = base_list(cls)

        def structure(value: Any, _type: object) -> Any:
            if type(value) is not list:
                raise ValueError("expected a list")
            return inner(value, cls)

        return structure

    base = Converter(detailed_validation=detailed)

    def base_list(cls: Any) -> Callable[[Any, Any], Any]:
        item = get_args(cls)[0]
        hook = converter.get_structure_hook(item)
        if not detailed:
            return lambda value, _type: tuple([hook(v, item) for v in value])
        base.register_structure_hook(item, hook)
        return base.get_structure_hook(cls)

    converter.register_structure_hook_factory(attrs.has, strict_object)
    converter.register_structure_hook_factory(_is_tuple, strict_list)
    return converter


_fast: Final = _make_converter(detailed=False)
_detailed: Final = _make_converter(detailed=True)
_structure: Final = {cls: _fast.get_structure_hook(cls) for cls in REQUESTS.values()}


# --- to the wire -----------------------------------------------------------------------------------

_out: Final = Converter(omit_if_default=True)


def _unstructure_factory(cls: type[Any]) -> Callable[[Any], Any]:
    always: dict[str, Any] = {
        field.name: override(omit_if_default=False) for field in attrs.fields(cls) if field.metadata.get("always")
    }
    return make_dict_unstructure_fn(cls, _out, _cattrs_omit_if_default=True, **always)


_out.register_unstructure_hook_factory(attrs.has, _unstructure_factory)


def unstructure(payload: Any) -> Any:
    """Turn an event into plain values; fields at their default are left out."""
    return _out.unstructure(payload)


def envelope(op: int, payload: Any, request_id: RequestId | None = None) -> dict[str, Any]:
    """Build a packet of plain values, ready for `Codec.encode`."""
    packet: dict[str, Any] = {"op": int(op), "d": None if payload is None else _out.unstructure(payload)}
    if request_id is not None:
        packet["id"] = request_id
    return packet
