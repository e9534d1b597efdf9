from __future__ import annotations

import copy
import json
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.error import ProtocolError, UnknownOpcode
from livechat.protocol.codec import (
    CODECS,
    JSON,
    MSGPACK,
    Codec,
    Packet,
    decode_untrusted,
    envelope,
    request_id_of_untrusted,
    request_untrusted,
)
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS
from tests.support.packets import FULL, assert_can_be_sent, read

# --- the envelope ------------------------------------------------------------------------------------


def packed(value: object) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def in_both(value: object) -> list[str | bytes]:
    return [json.dumps(value), packed(value)]


@pytest.mark.parametrize("frame", in_both({"op": 20, "d": {"a": [1]}, "id": "x", "trace": "00-1"}))
def test_an_envelope_is_read_from_text_as_json_and_from_bytes_as_msgpack(frame: str | bytes) -> None:
    assert decode_untrusted(frame) == Packet(20, {"a": [1]}, "x", "00-1")


@pytest.mark.parametrize("frame", in_both({"op": 1}) + in_both({"op": 1, "d": None, "id": None, "trace": None}))
def test_all_of_an_envelope_but_the_op_may_be_left_out_or_null(frame: str | bytes) -> None:
    assert decode_untrusted(frame) == Packet(1, None)


@pytest.mark.parametrize("frame", in_both({"op": 1, "s": 5, "t": "x", "": None}))
def test_unknown_fields_of_the_envelope_are_ignored(frame: str | bytes) -> None:
    assert decode_untrusted(frame) == Packet(1, None)


@pytest.mark.parametrize("trace", [5, True, [], {}])
def test_a_trace_that_is_no_text_is_ignored(trace: object) -> None:
    assert decode_untrusted(json.dumps({"op": 1, "trace": trace})).trace is None


@pytest.mark.parametrize("request_id", ["", "x" * 64, "号", 0, -(2**63), 2**63 - 1])
def test_an_id_is_a_short_text_or_a_64_bit_integer(request_id: object) -> None:
    for frame in in_both({"op": 1, "id": request_id}):
        assert decode_untrusted(frame).id == request_id
        assert request_id_of_untrusted(frame) == request_id


@pytest.mark.parametrize("request_id", ["x" * 65, "a\0", "\ud800", 2**63, -(2**63) - 1, 1.5, True, [], {}, ["a"]])
def test_any_other_id_is_refused_and_not_echoed(request_id: object) -> None:
    frame = json.dumps({"op": 1, "id": request_id})
    with pytest.raises(ProtocolError, match=r"^id: "):
        decode_untrusted(frame)
    assert request_id_of_untrusted(frame) is None


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, "packet"),
        (5, "packet"),
        ("op", "packet"),
        ([], "packet"),
        ([{"op": 1}], "packet"),
        ({}, "op"),
        ({"d": {}}, "op"),
        ({"op": None}, "op"),
        ({"op": "1"}, "op"),
        ({"op": 1.0}, "op"),
        ({"op": True}, "op"),
        ({"op": [1]}, "op"),
        ({"op": 1, "d": []}, "d"),
        ({"op": 1, "d": "x"}, "d"),
        ({"op": 1, "d": 0}, "d"),
        ({"op": 1, "d": False}, "d"),
    ],
)
def test_a_wrong_envelope_is_refused_by_field(value: object, field: str) -> None:
    for frame in in_both(value):
        with pytest.raises(ProtocolError, match=f"^{field}: "):
            decode_untrusted(frame)


@pytest.mark.parametrize("op", [2**63, 2**64 - 1, -(2**63) - 1, 10**400], ids=lambda op: str(op)[:21])
def test_an_op_beyond_64_bits_is_refused_because_no_reply_could_repeat_it(op: int) -> None:
    frames: list[str | bytes] = [json.dumps({"op": op})]
    if 0 < op < 2**64:
        frames.append(packed({"op": op}))
    for frame in frames:
        with pytest.raises(ProtocolError, match=r"^op: "):
            decode_untrusted(frame)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        " ",
        "{",
        '{"op": 1} x',
        "{'op': 1}",
        '{"op": 01}',
        '{"op": NaN}',
        '{"op": 1, "d": {"x": NaN}}',
        '{"op": 1, "d": {"x": -Infinity}}',
        '{"op": 1, "d": {"x": "\n"}}',
        '{"op": 1' + "0" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\ufeff{}",
        b"",
        b"\xc1",
        b"\xdc\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000 + b"\x00",
        packed({"op": 1}) + b"\x00",
        packed({"op": 1})[:-1],
        b"\x81\xa2\xff\xfe\x01",
        b"\x81\x01\x02",
        b"\x81\xc0\x02",
        b"\x81\x91\x01\x02",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x03\xff\x00\x00\x00",
    ],
)
def test_what_does_not_parse_is_a_protocol_error(frame: str | bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^packet: ") as caught:
        decode_untrusted(frame)
    assert len(caught.value.reason) < 200
    assert_can_be_sent(caught.value)
    assert request_id_of_untrusted(frame) is None


def test_of_a_field_given_twice_the_last_one_counts() -> None:
    assert decode_untrusted('{"op": 1, "op": 3}').op == 3
    assert decode_untrusted(b"\x82\xa2op\x01\xa2op\x03").op == 3


def test_a_field_named_in_bytes_is_no_field_of_ours() -> None:
    with pytest.raises(ProtocolError, match=r"^op: "):
        decode_untrusted(packed({b"op": 1}))
    packet = decode_untrusted(packed({"op": 12, "d": {b"channel_id": "lobby"}}))
    with pytest.raises(ProtocolError, match=r"^channel_id: required$"):
        request_untrusted(packet)


ONLY_MSGPACK = [b"lobby", msgpack.Timestamp(5), msgpack.ExtType(5, b"x")]


@pytest.mark.parametrize("value", ONLY_MSGPACK)
def test_what_only_msgpack_can_write_is_no_text(value: object) -> None:
    packet = decode_untrusted(packed({"op": 12, "d": {"channel_id": value}}))
    with pytest.raises(ProtocolError, match=r"^channel_id: "):
        request_untrusted(packet)


@pytest.mark.parametrize("value", [*ONLY_MSGPACK, float("nan"), 2**63, {b"a": 1}, [ONLY_MSGPACK]])
def test_what_json_cannot_write_is_no_setting(value: object) -> None:
    packet = decode_untrusted(packed({"op": 36, "d": {"settings": {"a": value}}}))
    with pytest.raises(ProtocolError, match=r"^settings: "):
        request_untrusted(packet)


@pytest.mark.parametrize("levels", [33, 200, 500])
@pytest.mark.parametrize(("opening", "core", "closing"), [('{"a":', "{}", "}"), ("[", "[]", "]")])
def test_settings_that_parse_but_are_nested_deeply_are_refused_by_name(
    levels: int, opening: str, core: str, closing: str
) -> None:
    nested = opening * (levels - 2) + core + closing * (levels - 2)
    text = f'{{"op":36,"d":{{"settings":{{"a":{nested}}}}}}}'
    for frame in (text, packed(json.loads(text))):
        packet = decode_untrusted(frame)
        with pytest.raises(ProtocolError, match=r"^settings: expected at most 32 levels$") as caught:
            request_untrusted(packet)
        assert_can_be_sent(caught.value)


def test_the_id_of_a_packet_that_fails_to_validate_is_found() -> None:
    for frame in in_both({"op": "x", "id": "r-1"}):
        assert request_id_of_untrusted(frame) == "r-1"
    for frame in in_both({"op": "x"}) + in_both([]) + in_both(None):
        assert request_id_of_untrusted(frame) is None


# --- hostile input, at random --------------------------------------------------------------------------


ANY_TEXT = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=8)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, 10, 11, 20, 2**31, 2**32, 2**63, -(2**63) - 1, 2**64, 10**400]),
    st.floats(),
    ANY_TEXT,
)
NAMES = st.one_of(
    st.sampled_from(sorted({name for payload in FULL.values() for name in payload} | {"host", "kind", "after"})),
    ANY_TEXT,
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)


@settings(deadline=None)
@given(st.sampled_from(sorted(REQUESTS)), st.data())
def test_any_value_in_any_field_is_taken_or_refused_with_a_sendable_error(op: int, data: st.DataObject) -> None:
    payload = copy.deepcopy(FULL[op])
    for name in data.draw(st.lists(st.sampled_from(sorted(payload)), max_size=2)) if payload else []:
        payload[name] = data.draw(VALUES)
    payload |= data.draw(st.dictionaries(ANY_TEXT, VALUES, max_size=1))
    try:
        request = read(op, payload)
    except ProtocolError as refusal:
        assert_can_be_sent(refusal, op)
    else:
        assert type(request) is REQUESTS[op]


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"op": st.sampled_from(sorted(REQUESTS)) | st.integers() | VALUES},
        optional={"d": VALUES, "id": st.integers() | ANY_TEXT | VALUES, "trace": VALUES},
    )
)
def test_any_envelope_is_taken_or_refused_with_a_sendable_error(value: dict[str, Any]) -> None:
    frame = json.dumps(value)
    try:
        packet = decode_untrusted(frame)
        assert_can_be_sent(ProtocolError("refused later"), packet.op, packet.id)
        request_untrusted(packet)
    except (ProtocolError, UnknownOpcode) as refusal:
        assert_can_be_sent(refusal, None, request_id_of_untrusted(frame))


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary()))
def test_any_frame_is_taken_or_refused(frame: str | bytes) -> None:
    try:
        request_untrusted(decode_untrusted(frame))
    except (ProtocolError, UnknownOpcode) as refusal:
        assert_can_be_sent(refusal, None, request_id_of_untrusted(frame))


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_msgpack_payload_is_taken_or_refused(tail: bytes) -> None:
    for op in REQUESTS:
        try:
            request_untrusted(decode_untrusted(b"\x82\xa2op" + packed(op) + b"\xa1d" + tail))
        except ProtocolError as refusal:
            assert_can_be_sent(refusal, op)


# --- to the wire ---------------------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
REQUEST_IDS = (
    st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=64)
    | st.integers(-(2**63), 2**63 - 1)
)


def as_received(data: bytes, codec: Codec) -> str | bytes:
    return data if codec.binary else data.decode()


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: str(codec.name))
@settings(deadline=None, max_examples=50)
@given(op=st.integers(-(2**63), 2**63 - 1), payload=st.dictionaries(st.text(), PLAIN), request_id=REQUEST_IDS)
def test_what_is_encoded_decodes_to_itself(
    codec: Codec, op: int, payload: dict[str, Any], request_id: str | int | None
) -> None:
    written = codec.encode({"op": op, "d": payload, "id": request_id})
    assert decode_untrusted(as_received(written, codec)) == Packet(op, payload, request_id)


def test_json_is_compact_utf8_and_refuses_what_is_not_json() -> None:
    assert JSON.encode({"op": 1, "d": {"a": "号", "b": [1, 2]}}) == '{"op":1,"d":{"a":"号","b":[1,2]}}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        JSON.encode({"x": float("nan")})


def test_the_codecs_are_found_by_their_subprotocol() -> None:
    assert {"livechat.v1.json": JSON, "livechat.v1.msgpack": MSGPACK} == CODECS


def test_a_packet_without_a_payload_says_null() -> None:
    assert envelope(Op.HEARTBEAT_ACK, None) == {"op": 2, "d": None}
    assert envelope(Op.HEARTBEAT_ACK, None, 0) == {"op": 2, "d": None, "id": 0}
