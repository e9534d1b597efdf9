from __future__ import annotations

import json
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.protocol.codec import CODECS
from livechat.protocol.validators import Validator, between, json_bytes, json_object, length, seqs


def problem(validator: Validator, value: object) -> str | None:
    """Return what a validator says of a field named `x`, or None if it lets the value through."""
    cls = attrs.make_class("Holder", {"x": attrs.field(validator=validator)})
    try:
        cls(value)
    except ValueError as exc:
        return str(exc)
    return None


@pytest.mark.parametrize(
    ("validator", "value", "said"),
    [
        (length(1, 2), None, None),
        (length(1, 2), "é", None),
        (length(1, 2), [], "x: expected 1 to 2 in length, got 0"),
        (length(1, 2), "abc", "x: expected 1 to 2 in length, got 3"),
        (between(1, 2), None, None),
        (between(1, 2), 2, None),
        (between(1, 2), 0, "x: expected 1 to 2, got 0"),
        (seqs(2), None, None),
        (seqs(2), {"a": 0, "b": 2**63 - 1}, None),
        (seqs(2), {"a": 0, "b": 2**63}, "x[b]: expected 0 to 9223372036854775807, got 9223372036854775808"),
        (seqs(2), {"a": 0, "b": 0, "c": 0}, "x: expected at most 2 channels, got 3"),
        (json_object(9, 9), {"a": "é"}, "x: expected at most 9 bytes of JSON, got 10"),
        (json_object(10, 9), {"a": "é"}, None),
        (json_object(99, 2), {"a": [1]}, None),
        (json_object(99, 2), {"a": [{}]}, "x: expected at most 2 levels"),
        (json_object(99, 9), {"a": (1,)}, "x: expected what JSON can hold"),
    ],
)
def test_a_check_names_the_field_and_says_what_was_expected(
    validator: Validator, value: object, said: str | None
) -> None:
    assert problem(validator, value) == said


@pytest.mark.parametrize("value", [{"a": [[0] * 50] * 50}, {"a": {str(n): [n] for n in range(1000)}}])
def test_the_size_is_told_exactly_only_where_it_was_worth_counting(value: object) -> None:
    assert problem(json_object(1000, 9), value) == "x: expected at most 1000 bytes of JSON"


def levels(value: object) -> int:
    """Count the objects and lists within each other, by recursion."""
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(TEXT, JSON_VALUES, max_size=4), st.integers(0, 120), st.integers(1, 4))
def test_an_object_of_json_passes_exactly_if_it_is_small_and_flat(
    value: dict[str, Any], bytes_max: int, levels_max: int
) -> None:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assert json_bytes(value) == size
    fits = size <= bytes_max and levels(value) <= levels_max
    assert (problem(json_object(bytes_max, levels_max), value) is None) is fits


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=3) | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.binary(max_size=3), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(), max_size=5), JSON_VALUES | ANYTHING, max_size=4))
def test_what_passes_can_be_sent_by_every_codec_and_comes_back_the_same(value: dict[str, Any]) -> None:
    if problem(json_object(16_384, 32), value) is not None:
        return
    for codec in CODECS.values():
        data = codec.encode(value)
        assert (msgpack.unpackb(data) if codec.binary else json.loads(data)) == value
