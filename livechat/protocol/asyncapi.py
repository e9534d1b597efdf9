"""Owns the description of the gateway as an AsyncAPI document, made from the classes that read and write it. Pure.

It must not say anything that the code could contradict: every payload, code and number in it is the code's own.

Beside what AsyncAPI knows there are `x-error-codes`, `x-close-codes` and `x-subprotocols`: what is described
as JSON travels in msgpack just the same; and each message that is sent has its `x-delivery`, explained in
`x-delivery-classes`.

Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from livechat.error import ERRORS, LiveError
from livechat.protocol.catalog import ACK_DATA, REPLIES, SENT
from livechat.protocol.codec import CODECS, JSON, REQUEST_ID_LENGTH_MAX, ROUTING_INT_MAX
from livechat.protocol.delivery import Delivery, delivery_of
from livechat.protocol.jsonschema import NO_NUL, Schema, Schemas, class_note
from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode, Op, ends_session
from livechat.protocol.requests import REQUESTS
from livechat.version import __version__

ASYNCAPI_VERSION: Final = "3.0.0"
SCHEMAS: Final = "#/components/schemas/"
_CHANNEL: Final = "#/channels/gateway"
_NOTE_PREFIX: Final = re.compile(r"Op \d+(, |: |\. ?)")
"""How the docstring of a payload begins; the document says the opcode elsewhere."""

_REQUEST_ID: Final[Schema] = {
    "description": "repeated on the answer",
    "anyOf": [
        {"type": "string", "maxLength": REQUEST_ID_LENGTH_MAX, "pattern": NO_NUL},
        {"type": "integer", "minimum": -ROUTING_INT_MAX, "maximum": ROUTING_INT_MAX - 1},
        {"type": "null"},
    ],
}
_ANSWERED_ID: Final[Schema] = {"description": "as the request had it", "type": ["string", "integer"]}
_TRACE: Final[Schema] = {"description": "a W3C traceparent", "type": ["string", "null"]}
_TOLD_TRACE: Final[Schema] = {"description": "of the request that it answers or that caused it", "type": "string"}
FINAL_CLOSES: Final = 4500
"""From this close code on a client must not reconnect as it is."""
DELIVERY_NOTES: Final = {
    Delivery.DURABLE: "waits for a client that reads too slowly; one for whom too much waits is closed (4001)",
    Delivery.COALESCED: "left out if a newer one of the same state comes before the client has read it",
    Delivery.DROPPABLE: "the oldest is left out if the client reads too slowly",
}
_NO_PAYLOAD: Final[Schema] = {"type": "null"}

_DESCRIPTION: Final = """Chat and voice over one WebSocket, as JSON or msgpack.

Operations are the server's: it receives requests and sends events. Every request is answered exactly once, by the
messages that its operation names or by ERROR. Unknown fields are to be ignored."""


def document() -> dict[str, Any]:
    """Build the document: plain values, ready for JSON."""
    messages = _Messages()
    for op in sorted(REQUESTS):
        messages.add_request(Op(op))
    for op in sorted(SENT):
        messages.add_sent(Op(op))
    names = [*messages.by_name]
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {"title": "livechat gateway", "version": __version__, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": {
            "gateway": {
                "address": "/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": _binding()},
            }
        },
        "operations": {**_requests(), "events": _events()},
        "components": {
            "messages": messages.by_name,
            "schemas": messages.schemas(),
            "correlationIds": {"request": {"location": "$message.payload#/id"}},
        },
        "x-error-codes": [_error(cls) for _, cls in sorted(ERRORS.items())],
        "x-close-codes": [_close(code) for code in sorted(CloseCode) if code >= CloseCode.INTERNAL],
        "x-delivery-classes": {each.name.lower(): DELIVERY_NOTES[each] for each in Delivery},
        "x-subprotocols": {
            name: f"{'binary' if codec.binary else 'text'} frames, one {codec.name} packet each"
            for name, codec in CODECS.items()
        },
    }


class _Messages:
    """The messages of the document, and the schemas of what they hold."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}
        self._received = Schemas("in", SCHEMAS)
        self._sent = Schemas("out", SCHEMAS)

    def add_request(self, op: Op) -> None:
        cls = REQUESTS[op]
        required = any(field.required for field in self._received.fields(cls))
        payload = self._received.of(cls) if attrs.fields(cls) else {"type": "object"}
        if not required:
            payload = {"anyOf": [payload, _NO_PAYLOAD]}
        envelope = {"op": {"const": int(op)}, "d": payload, "id": _REQUEST_ID, "trace": _TRACE}
        self._add(op.name, envelope, ["op", "d"] if required else ["op"], class_note(cls))

    def add_sent(self, op: Op) -> None:
        if op is Op.ACK:
            for request in sorted(ACK_DATA):
                self._add_ack(Op(request))
            return
        classes = SENT[op]
        payloads = [self._sent.of(cls) for cls in classes] or [_NO_PAYLOAD]
        payload = payloads[0] if len(payloads) == 1 else {"anyOf": payloads}
        note = class_note(classes[0]) if classes else None
        self._add(op.name, _sent_envelope(op, payload), ["op", "d"], note, op)

    def _add_ack(self, request: Op) -> None:
        data = self._sent.of(ACK_DATA[request])
        payload = {
            "type": "object",
            "properties": {"op": {"const": int(request)}, "data": data},
            "required": ["op", "data"],
        }
        note = f"{request.name} was done."
        self._add(ack_name(request), _sent_envelope(Op.ACK, payload), ["op", "d"], note, Op.ACK)

    def _add(
        self, name: str, envelope: dict[str, Schema], required: list[str], note: str | None, sent: Op | None = None
    ) -> None:
        message: dict[str, Any] = {
            "name": name,
            "payload": {"type": "object", "properties": envelope, "required": required},
            "correlationId": {"$ref": "#/components/correlationIds/request"},
        }
        if sent is not None:
            message["x-delivery"] = delivery_of(sent).name.lower()
        if note:
            message["summary"] = _NOTE_PREFIX.sub("", note)
        self.by_name[name] = message

    def schemas(self) -> dict[str, Schema]:
        received, sent = self._received.definitions, self._sent.definitions
        twice = received.keys() & sent.keys()
        assert not twice, f"one name for what comes and what goes: {twice}"
        schemas = {**received, **sent}
        schemas["Error"]["properties"]["code"]["enum"] = sorted(ERRORS)
        return dict(sorted(schemas.items()))


def _sent_envelope(op: Op, payload: Schema) -> dict[str, Schema]:
    return {"op": {"const": int(op)}, "d": payload, "id": _ANSWERED_ID, "trace": _TOLD_TRACE}


def ack_name(request: Op) -> str:
    """Return what the document calls the ACK of a request."""
    return f"ACK_{request.name}"


# --- operations ----------------------------------------------------------------------------------------


def _requests() -> dict[str, Any]:
    return {
        Op(op).name: {
            "action": "receive",
            "channel": {"$ref": _CHANNEL},
            "messages": [_message(Op(op).name)],
            "reply": {
                "channel": {"$ref": _CHANNEL},
                "messages": [_message(name) for name in (*_answers(Op(op)), Op.ERROR.name)],
            },
        }
        for op in sorted(REQUESTS)
    }


def _answers(op: Op) -> list[str]:
    acks = [ack_name(op)] if op in ACK_DATA else []
    return [*(reply.name for reply in REPLIES.get(op, ())), *acks]


def _events() -> dict[str, Any]:
    sent = [Op(op).name for op in sorted(SENT) if op not in (Op.ACK, Op.HEARTBEAT_ACK)]
    return {
        "action": "send",
        "channel": {"$ref": _CHANNEL},
        "summary": "What comes without being asked for, among it READY where a token came with the upgrade.",
        "messages": [_message(name) for name in sent],
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"{_CHANNEL}/messages/{name}"}


def _binding() -> dict[str, Any]:
    query = {
        "token": "saves the IDENTIFY",
        "user_id": "who comes, where the token is a shared secret",
        "session_id": "RESUME will follow",
    }
    protocols = {
        "description": f"{JSON.subprotocol} if left out",
        "type": "string",
        "enum": list(CODECS),
    }
    return {
        "method": "GET",
        "query": {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": description} for name, description in query.items()
            },
        },
        "headers": {"type": "object", "properties": {"Sec-WebSocket-Protocol": protocols}},
        "bindingVersion": "0.1.0",
    }


# --- codes ---------------------------------------------------------------------------------------------


def _error(cls: type[LiveError]) -> dict[str, Any]:
    meaning = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()
    entry: dict[str, Any] = {"code": cls.code, "meaning": meaning, "retryable": cls.retryable}
    note = class_note(cls)
    if note is not None:
        entry["description"] = note
    if cls.default_action is not None:
        entry["action"] = cls.default_action
    return entry


def _close(code: CloseCode) -> dict[str, Any]:
    return {
        "code": int(code),
        "meaning": CLOSE_REASONS[code],
        "reconnect": code < FINAL_CLOSES,
        "session": "ended" if ends_session(code, by_peer=False) else "kept",
    }
