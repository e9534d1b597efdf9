"""The description of the gateway accepts what its parser accepts, and describes what the server writes."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Iterator
from typing import Any

import attrs
import jsonschema_rs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.error import ERRORS, LiveError, ProtocolError
from livechat.protocol.asyncapi import ack_name
from livechat.protocol.catalog import ACK_DATA, REPLIES, SENT
from livechat.protocol.codec import decode_untrusted, envelope, request_untrusted
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.requests import REQUESTS
from livechat.protocol.types import is_text
from tests.protocol.test_reference import LINES, parsed
from tests.protocol.test_requests import FIELDS, Field, brief, cases, changed
from tests.support.packets import FULL
from tests.support.schema import DOCUMENT, assert_sent, fits_request
from tests.support.sent import ACKS, PACKETS


def packet(op: int, payload: Any, **rest: Any) -> dict[str, Any]:
    return {"op": int(op), "d": payload, **rest}


def read_untrusted(written: dict[str, Any]) -> None:
    """Have a request read; as msgpack if it carries bytes."""
    carries_bytes = any(isinstance(value, bytes) for value in (written["d"] or {}).values())
    request_untrusted(decode_untrusted(msgpack.packb(written) if carries_bytes else json.dumps(written)))


def in_json(value: object) -> Any:
    """Return a value as JSON would carry it; None if it can't."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return None
    carried = json.loads(text)
    return carried if carried == value else None


SENT_NAMES = [*(Op(op).name for op in SENT if op != Op.ACK), *(ack_name(Op(op)) for op in ACK_DATA)]


@pytest.mark.parametrize("name", SENT_NAMES)
def test_everything_sent_may_carry_an_id_and_a_trace(name: str) -> None:
    properties = DOCUMENT["components"]["messages"][name]["payload"]["properties"]
    written = envelope(Op.HEARTBEAT, None, 1, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert properties.keys() == written.keys()
    for field in ("id", "trace"):
        assert jsonschema_rs.is_valid(properties[field], written[field])
        assert not jsonschema_rs.is_valid(properties[field], [])


# --- what clients send ---------------------------------------------------------------------------------


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_a_full_request_and_one_with_nulls_fit(op: int) -> None:
    assert fits_request(packet(op, FULL[op], id=1, trace="00-0af7-00-01"))
    optional = {field.path for field in FIELDS if field.op == op and field.required is False}
    nulls = {name: None if name in optional else value for name, value in FULL[op].items()}
    read_untrusted(packet(op, nulls))
    assert fits_request(packet(op, nulls))
    assert fits_request(packet(op, {**FULL[op], "of a later version": 1}))


@pytest.mark.parametrize("op", sorted(REQUESTS))
def test_a_request_without_a_payload_fits_where_none_is_needed(op: int) -> None:
    needed = any(field.op == op and field.required for field in FIELDS)
    for without in ({"op": op}, packet(op, None), packet(op, {})):
        assert fits_request(without) is not needed


@pytest.mark.parametrize(("field", "value"), cases("good"))
def test_what_a_field_may_hold_fits(field: Field, value: object) -> None:
    assert fits_request(packet(field.op, changed(field, value=value)))


def can_be_said(field: Field, value: object) -> bool:
    """Tell whether JSON can carry a bad value and JSON Schema can tell that it is one."""
    if in_json(value) is None:
        return False
    if isinstance(value, float) and value.is_integer():
        return False  # to JSON Schema 1.0 is an integer
    if field.path == "freq":
        return not isinstance(value, int) or isinstance(value, bool)  # a number is not limited in its digits
    if field.path == "data":
        return not isinstance(value, str)  # text is all that JSON has for bytes
    if field.path == "settings":
        # What is within them, and how large all is, takes a program to tell; so does text as a key.
        return not isinstance(value, dict) or len(value) > 2730 or not all(map(is_text, map(str, value)))
    return True


@pytest.mark.parametrize(("field", "value"), [case for case in cases("bad") if can_be_said(*case.values)])
def test_what_a_field_may_not_hold_does_not_fit(field: Field, value: object) -> None:
    assert not fits_request(packet(field.op, changed(field, value=value)))


def test_hardly_anything_bad_is_beyond_the_schema() -> None:
    beyond = {
        (field.path, brief(value))
        for case in cases("bad")
        for field, value in [case.values]
        if in_json(value) is not None and not can_be_said(field, value)
    }
    assert {path for path, value in beyond if value != "1.0"} == {"freq", "settings", "data"}


@pytest.mark.parametrize(("field"), [field for field in FIELDS if field.required], ids=lambda field: field.path)
def test_a_required_field_must_be_there(field: Field) -> None:
    assert not fits_request(packet(field.op, changed(field)))
    assert not fits_request(packet(field.op, changed(field, value=None)))


def test_fields_that_exclude_each_other_do_not_fit_together() -> None:
    payload = {"channel_id": "x", "before_seq": 1, "after_seq": 1}
    assert not fits_request(packet(Op.HISTORY, payload))
    assert fits_request(packet(Op.HISTORY, payload | {"after_seq": None}))


GOOD_IDS: tuple[Any, ...] = ("x" * 64, "", "Ü\t", 0, -(2**63), 2**63 - 1, None)
BAD_IDS: tuple[Any, ...] = ("x" * 65, "a\0", 2**63, -(2**63) - 1, 1.5, True, [], {})


@pytest.mark.parametrize("request_id", GOOD_IDS, ids=brief)
def test_an_id_that_is_read_fits(request_id: Any) -> None:
    written = packet(Op.HEARTBEAT, None, id=request_id)
    assert decode_untrusted(json.dumps(written)).id == request_id
    assert fits_request(written)


@pytest.mark.parametrize("request_id", BAD_IDS, ids=brief)
def test_an_id_that_is_refused_does_not_fit(request_id: Any) -> None:
    written = packet(Op.HEARTBEAT, None, id=request_id)
    with pytest.raises(ProtocolError, match=r"^id: "):
        decode_untrusted(json.dumps(written))
    assert not fits_request(written)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
IDS = st.sampled_from(["lobby", "", "x y", "号", 5])


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request, in which some fields hold something else, or are missing."""
    op = draw(st.sampled_from(sorted(REQUESTS)))
    payload: dict[str, Any] = {}
    for name, value in FULL[op].items():
        odd = draw(st.sampled_from(["as it is", "missing", "other", "null"]))
        if odd == "other":
            payload[name] = draw(PLAIN | IDS)
        elif odd != "missing":
            payload[name] = value if odd == "as it is" else None
    return packet(op, payload)


def said_otherwise(value: Any) -> Iterator[str]:
    """Yield where the two may differ: floats that are whole are integers to JSON Schema, and its Unicode is
    newer, so that it knows letters that Python does not."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from said_otherwise(each)
    if isinstance(value, float) and value.is_integer():
        yield "whole"
    if isinstance(value, str) and any(unicodedata.category(character) == "Cn" for character in value):
        yield "unassigned"


@settings(max_examples=400, deadline=None)
@given(requests())
def test_the_schema_and_the_parser_agree(written: dict[str, Any]) -> None:
    try:
        read_untrusted(written)
    except LiveError:
        is_read = False
    else:
        is_read = True
    fits = fits_request(written)
    if is_read:
        assert fits
    elif fits:
        assert list(said_otherwise(written)) or written["op"] in (Op.SETTINGS_SET, Op.MEDIA_CHUNK)


@pytest.mark.parametrize("line", [line for who, line in LINES if who == "C"])
def test_what_the_client_says_in_the_reference_fits(line: str) -> None:
    said = parsed(line)
    assert fits_request(packet(said.op, said.d))


# --- what the server sends -----------------------------------------------------------------------------

WRITTEN = [
    *((op, payload) for op, payload, _ in PACKETS),
    *((Op.ACK, {"op": op, "data": data}) for op, data, _ in ACKS),
]


@pytest.mark.parametrize(("op", "payload"), WRITTEN, ids=[op.name for op, _ in WRITTEN])
def test_each_packet_of_the_server_is_as_described(op: Op, payload: Any) -> None:
    written = msgpack.unpackb(msgpack.packb(envelope(op, payload, "r-1")))
    assert_sent(written)
    if payload is None:
        return
    for name in required_fields(written):
        del (lacking := copy.deepcopy(written))["d"][name]
        with pytest.raises((AssertionError, KeyError)):
            assert_sent(lacking)


def required_fields(written: dict[str, Any]) -> Iterator[str]:
    if written["op"] == Op.ACK:
        yield from ("op", "data")
    elif written["op"] != Op.PRESENCE_EVENT:
        (cls,) = SENT[written["op"]]
        for field in attrs.fields(cls):
            if field.default is attrs.NOTHING or field.metadata.get("always"):
                yield field.name


@pytest.mark.parametrize("line", [line for who, line in LINES if who == "S" and ",…}" not in line])
def test_what_the_server_says_in_the_reference_is_as_described(line: str) -> None:
    said = parsed(line)
    assert_sent(packet(said.op, said.d))


# --- the document --------------------------------------------------------------------------------------


def test_every_op_is_a_message_and_every_request_an_operation_with_its_answers() -> None:
    messages = DOCUMENT["components"]["messages"]
    acks = {ack_name(Op(op)) for op in ACK_DATA}
    assert set(messages) == {Op(op).name for op in [*REQUESTS, *SENT] if op != Op.ACK} | acks
    for op in REQUESTS:
        operation = DOCUMENT["operations"][Op(op).name]
        answers = {each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]}
        expected = {reply.name for reply in REPLIES.get(op, ())} | {"ERROR"}
        assert answers == expected | ({ack_name(Op(op))} if op in ACK_DATA else set())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            assert set(value) == {"$ref"}, "a draft-07 validator ignores what stands beside"
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_leads_somewhere_and_every_schema_is_referred_to() -> None:
    found = set(references(DOCUMENT))
    for reference in found:
        target: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    assert found >= {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


@pytest.mark.parametrize("draft", [jsonschema_rs.Draft7Validator, jsonschema_rs.Draft202012Validator])
def test_every_schema_is_one_in_the_draft_of_asyncapi_and_in_that_of_openapi(draft: type[Any]) -> None:
    for name in DOCUMENT["components"]["schemas"]:
        reference = {"$ref": f"#/components/schemas/{name}"}
        draft({"allOf": [reference], "components": DOCUMENT["components"]})


def test_the_codes_are_those_of_the_code() -> None:
    errors = {entry["code"]: entry for entry in DOCUMENT["x-error-codes"]}
    assert {code: entry["retryable"] for code, entry in errors.items()} == {
        code: cls.retryable for code, cls in ERRORS.items()
    }
    assert errors[1000]["meaning"] == "not authenticated"
    assert errors[3005]["action"] == "ROLLBACK"
    assert DOCUMENT["components"]["schemas"]["Error"]["properties"]["code"]["enum"] == sorted(ERRORS)
    closes = {entry["code"]: entry for entry in DOCUMENT["x-close-codes"]}
    assert set(closes) == {code for code in CloseCode if code >= 4000}
    assert (closes[4001]["reconnect"], closes[4001]["session"]) == (True, "kept")
    assert (closes[4505]["reconnect"], closes[4505]["session"]) == (False, "kept")
    assert (closes[4503]["reconnect"], closes[4503]["session"]) == (False, "ended")


def test_every_message_that_is_sent_has_its_delivery_class() -> None:
    messages = DOCUMENT["components"]["messages"]
    told = {name: message["x-delivery"] for name, message in messages.items() if "x-delivery" in message}
    assert set(told) == {name for name in messages if name not in {Op(op).name for op in REQUESTS}}
    assert set(told.values()) == set(DOCUMENT["x-delivery-classes"])
    assert {name for name, delivery in told.items() if delivery == "droppable"} == {"MEDIA_CHUNK_EVENT"}
    assert (told["MESSAGE_EVENT"], told["ACK_READ"], told["READ_EVENT"]) == ("durable", "durable", "coalesced")


def test_what_the_source_says_of_a_field_is_in_the_document() -> None:
    hello = DOCUMENT["components"]["schemas"]["Hello"]["properties"]
    assert hello["heartbeat_interval"]["description"] == "Milliseconds between the client's heartbeats."
    assert DOCUMENT["components"]["messages"]["TYPING_EVENT"].get("summary", "") == ""
    assert DOCUMENT["components"]["messages"]["IDENTIFY"]["summary"] == "Who speaks, proven by a token."


def test_nothing_in_the_document_is_beyond_json() -> None:
    assert in_json(DOCUMENT) == DOCUMENT
