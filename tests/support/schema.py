"""Holds packets against the description of the gateway, by a validator that is not ours (`jsonschema_rs`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from livechat.protocol.asyncapi import ack_name, document
from livechat.protocol.opcodes import Op

DOCUMENT = document()


@cache
def validator(message: str) -> jsonschema_rs.Validator:
    """Return what validates the envelope of a message of the document, by its name."""
    reference = {"$ref": f"#/components/messages/{message}/payload"}
    return jsonschema_rs.Draft7Validator({"allOf": [reference], "components": DOCUMENT["components"]})


def fits_request(packet: Mapping[str, Any]) -> bool:
    """Tell whether a packet from a client is one of its op as the document describes it."""
    return validator(Op(packet["op"]).name).is_valid(_as_json(packet))


def assert_sent(packet: Mapping[str, Any]) -> None:
    """Assert that a packet from the server is as the document describes it."""
    op = Op(packet["op"])
    name = ack_name(Op(packet["d"]["op"])) if op is Op.ACK else op.name
    error = next(validator(name).iter_errors(_as_json(packet)), None)
    assert error is None, f"{name}: {error}: {packet}"


def _as_json(value: Any) -> Any:
    """Return a packet with text for its bytes, which JSON has none of; their schema is that of text."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Mapping):
        return {name: _as_json(item) for name, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list) else value
