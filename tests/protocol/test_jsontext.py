from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.error import LiveError
from livechat.protocol.codec import JsonCodec, decode_untrusted, request_untrusted
from livechat.protocol.jsontext import JSON_TEXT, JSON_TEXTS, PYTHON_JSON, JsonText, NotJson
from livechat.protocol.requests import REQUESTS
from tests.support.packets import FULL

EACH = pytest.mark.parametrize("text", JSON_TEXTS.values(), ids=JSON_TEXTS)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1])
    | st.floats()
    | st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8)
    | st.just("null"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_both_ways_are_there_to_be_tested_and_the_fast_one_is_used() -> None:
    """orjson belongs to the extra `test`; a server without it does as well."""
    assert list(JSON_TEXTS) == ["json", "orjson"]
    assert JSON_TEXT is JSON_TEXTS["orjson"]


def outcome(call: Any, *args: Any) -> Any:
    """Return what a call returns, or the kind of what it raises."""
    try:
        return repr(call(*args))
    except (ValueError, TypeError, RecursionError) as exc:
        return type(exc)


@EACH
@settings(deadline=None)
@given(value=VALUES)
def test_what_can_be_written_and_as_what_it_is_read_are_the_same_everywhere(text: JsonText, value: Any) -> None:
    assert outcome(text.dumps, value) == outcome(PYTHON_JSON.dumps, value) or (
        text.loads(text.dumps(value).decode()) == value
    )


@EACH
@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": "号", "b": [1, 2.5, None, True]}, '{"a":"号","b":[1,2.5,null,true]}'),
        ({"a": 2**64}, '{"a":18446744073709551616}'),
        ((1, "null"), '[1,"null"]'),
        ({1: 2}, '{"1":2}'),
    ],
)
def test_json_is_compact_utf8(text: JsonText, value: Any, written: str) -> None:
    assert text.dumps(value) == written.encode()


@EACH
@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}, "\ud800", {"\udfff": 1}])
def test_what_is_not_json_is_not_written(text: JsonText, value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates not allowed"):
        text.dumps(value)


@EACH
@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}])
def test_what_json_has_no_word_for_is_not_written(text: JsonText, value: Any) -> None:
    with pytest.raises(TypeError):
        text.dumps(value)


@EACH
@pytest.mark.parametrize(
    "written", ["", "{", "[1,]", "'a'", "01", "\ufeff{}", '"\n"', "nul", '{"a":1}x', "1e", "[" * 2000]
)
def test_what_is_not_json_is_refused_in_the_same_words(text: JsonText, written: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        text.loads(written)
    with pytest.raises(caught.type) as expected:
        PYTHON_JSON.loads(written)
    assert str(caught.value) == str(expected.value)


@EACH
@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_constants_of_javascript_are_not_json(text: JsonText, name: str) -> None:
    with pytest.raises(NotJson, match=name):
        text.loads(f"[{name}]")


@EACH
def test_lone_surrogates_and_keys_given_twice_are_read(text: JsonText) -> None:
    assert text.loads(r'{"a":"\ud800","a":"\udfff","b":"\ud83d\ude00"}') == {"a": "\udfff", "b": "😀"}


@attrs.frozen
class Refusal:
    """How a packet was refused."""

    code: int
    field: str


def verdict(frame: str, text: JsonText) -> object:
    """Return the request that a packet is read as, or its refusal."""
    try:
        packet = decode_untrusted(frame, text)
        return packet.id, request_untrusted(packet)
    except LiveError as refusal:
        return Refusal(refusal.code, refusal.reason.partition(": ")[0])


@EACH
@settings(deadline=None)
@given(op=st.sampled_from(sorted(REQUESTS)), data=st.data())
def test_any_packet_is_judged_the_same(text: JsonText, op: int, data: st.DataObject) -> None:
    payload = dict(FULL[op])
    names = data.draw(st.lists(st.sampled_from(sorted(payload)), max_size=2)) if payload else []
    for name in names:
        payload[name] = data.draw(VALUES)
    packet = {"op": op, "d": payload, "id": data.draw(st.integers() | st.text(max_size=70))}
    # What is bytes in msgpack can only be something else here.
    frame = json.dumps(packet, default=repr)
    judged, expected = verdict(frame, text), verdict(frame, PYTHON_JSON)
    if len(set(names)) == 2 and isinstance(judged, Refusal) and isinstance(expected, Refusal):
        # Of two faults one is named, and an integer past 64 bits has the wrong type here, is out of range there.
        judged = attrs.evolve(judged, field=expected.field)
    assert judged == expected


@EACH
def test_numbers_past_64_bits_stay_what_they_are_where_any_number_may_be(text: JsonText) -> None:
    frame = '{"op":36,"d":{"settings":{"a":18446744073709551616}}}'
    assert verdict(frame, text) == Refusal(1004, "settings")
    create = '{"op":10,"d":{"channel_id":"lobby","freq":18446744073709551616}}'
    assert decode_untrusted(create, text).d == {"channel_id": "lobby", "freq": 2**64}


@EACH
def test_a_codec_writes_by_either(text: JsonText) -> None:
    assert JsonCodec(text).encode({"op": 2, "d": None}) == b'{"op":2,"d":null}'
