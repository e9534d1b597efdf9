"""Owns the way between bytes and packets: the envelope, JSON and msgpack.

It must not act on a packet. What comes from the wire is untrusted: every function that takes bytes raises
only `ProtocolError`, whose reason names the field.

The envelope is `{"op": int, "d": object|null, "id"?: string|int, "trace"?: string}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from json import JSONDecodeError
from typing import Any, Final, Protocol

import attrs
import msgpack
from cattrs import ClassValidationError, Converter
from cattrs.gen import make_dict_unstructure_fn, override

from livechat.error import ProtocolError, UnknownOpcode
from livechat.protocol.events import Ack
from livechat.protocol.jsontext import JSON_TEXT, PYTHON_JSON, JsonText, NotJson
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS, Request
from livechat.protocol.strict import explain, make_converter
from livechat.protocol.types import is_text

RequestId = str | int
REQUEST_ID_LENGTH_MAX: Final = 64
ROUTING_INT_MAX: Final = 2**63
REASON_LENGTH_MAX: Final = 300
"""Characters of a reason that may quote what the client wrote."""

FREE_NUMBERS: Final = frozenset({Op.CHANNEL_CREATE, Op.SETTINGS_SET, Op.READY, Op.SETTINGS_EVENT, Op.JOB_EVENT})
"""Ops with a field that takes any number: an integer past 64 bits must be seen as what it is."""


@attrs.define
class Packet:
    """An envelope whose `d` is not validated yet. Not frozen, which takes twice as long, for each frame."""

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


class JsonCodec:
    """Packets as JSON.

    Args:
        text: what writes it.
    """

    name = "json"
    subprotocol = "livechat.v1.json"
    binary = False

    def __init__(self, text: JsonText) -> None:
        self.encode: Callable[[Mapping[str, Any]], bytes] = text.dumps


class _Msgpack:
    name = "msgpack"
    subprotocol = "livechat.v1.msgpack"
    binary = True

    def __init__(self) -> None:
        # It begins anew with each packet; to make one costs more than most packets do.
        self.encode: Callable[[Mapping[str, Any]], bytes] = msgpack.Packer().pack


JSON: Final[Codec] = JsonCodec(JSON_TEXT)
MSGPACK: Final[Codec] = _Msgpack()
CODECS: Final[dict[str, Codec]] = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}

_fast: Final = make_converter(detailed=False)
_detailed: Final = make_converter(detailed=True)
_structure: Final = {cls: _fast.get_structure_hook(cls) for cls in REQUESTS.values()}


# --- from the wire ---------------------------------------------------------------------------------


def decode_untrusted(data: str | bytes, json_text: JsonText = JSON_TEXT) -> Packet:
    """Parse one frame: text is JSON, binary is msgpack.

    Args:
        json_text: what reads JSON.

    Raises:
        ProtocolError: it does not parse, or the envelope does not hold what it must.
    """
    try:
        if isinstance(data, str):
            value = json_text.loads(data)
            if not json_text.is_exact and type(value) is dict:
                op = value.get("op")
                if type(op) is int and op in FREE_NUMBERS:
                    value = PYTHON_JSON.loads(data)
        else:
            value = msgpack.unpackb(data)
    except RecursionError:
        raise ProtocolError("packet: nested too deeply") from None
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        kind = "JSON" if isinstance(data, str) else "msgpack"
        raise ProtocolError(f"packet: expected {kind}: {_why(exc)}") from None
    return _envelope_untrusted(value)


def _why(exc: Exception) -> str:
    """Say in the client's terms why its bytes did not parse; some parsers say nothing, or speak to programmers."""
    if isinstance(exc, JSONDecodeError):
        return f"{exc.msg.lower().removesuffix(' at')} at character {exc.pos}"
    if isinstance(exc, UnicodeDecodeError):
        return "text that is not UTF-8"
    text = str(exc)
    return text[:120] if isinstance(exc, NotJson) else "malformed, cut short or with a number too large"


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
    except ClassValidationError as exc:
        raise ProtocolError(_sendable(explain(exc))) from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ProtocolError(_sendable(f"d: {first}")) from None


def _sendable(reason: str) -> str:
    """Bound a reason that quotes the packet, and escape what no codec could write."""
    return reason[:REASON_LENGTH_MAX].encode(errors="backslashreplace").decode()


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
        value = PYTHON_JSON.loads(data) if isinstance(data, str) else msgpack.unpackb(data)
        request_id = value.get("id")
        _check_request_id(request_id)
    except (ValueError, TypeError, AttributeError, RecursionError, ProtocolError, msgpack.UnpackException):
        return None
    result: RequestId = request_id
    return result


def _check_request_id(request_id: Any) -> None:
    if type(request_id) is str:
        if len(request_id) > REQUEST_ID_LENGTH_MAX or not is_text(request_id):
            raise ProtocolError(f"id: expected at most {REQUEST_ID_LENGTH_MAX} characters of text")
    elif type(request_id) is not int or not -ROUTING_INT_MAX <= request_id < ROUTING_INT_MAX:
        raise ProtocolError("id: expected a string or a 64-bit integer")


# --- to the wire -----------------------------------------------------------------------------------

_out: Final = Converter(omit_if_default=True)


def _unstructure_factory(cls: type[Any]) -> Callable[[Any], Any]:
    always: dict[str, Any] = {
        field.name: override(omit_if_default=False) for field in attrs.fields(cls) if field.metadata.get("always")
    }
    return make_dict_unstructure_fn(cls, _out, _cattrs_omit_if_default=True, **always)


_out.register_unstructure_hook_factory(attrs.has, _unstructure_factory)


class _Hooks(dict[type[Any], Callable[[Any], Any]]):
    """What turns instances of a class into plain values, by class: cattrs takes far longer to find it."""

    def __missing__(self, cls: type[Any]) -> Callable[[Any], Any]:
        hook = self[cls] = _out.get_unstructure_hook(cls)
        return hook


_hooks: Final = _Hooks()


def _unstructure_ack(ack: Ack) -> dict[str, Any]:
    data = ack.data
    return {"op": ack.op, "data": None if data is None else _hooks[type(data)](data)}


_out.register_unstructure_hook(Ack, _unstructure_ack)


def unstructure(payload: Any) -> Any:
    """Turn an event into plain values; fields at their default are left out."""
    return _hooks[type(payload)](payload)


def envelope(
    op: int, payload: Any, request_id: RequestId | None = None, trace: str | None = None
) -> dict[str, Any]:
    """Build a packet of plain values, ready for `Codec.encode`."""
    packet = {"op": int(op), "d": None if payload is None else _hooks[type(payload)](payload)}
    if request_id is not None:
        packet["id"] = request_id
    if trace is not None:
        packet["trace"] = trace
    return packet
