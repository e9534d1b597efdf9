from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import attrs
import jsonschema_rs
import pytest

from livechat.protocol import events, requests
from livechat.protocol.jsonschema import ID, NO_NUL, Schemas, field_notes, schema_of
from livechat.protocol.types import ID_PATTERN, ChannelId, Frequency, MessageId, UserId
from livechat.protocol.validators import between, json_object, length, seqs


@attrs.frozen
class Leaf:
    """A part
    of something."""

    name: str = attrs.field(validator=length(1, 3))


@attrs.frozen
class Tree:
    leaf: Leaf
    trees: list[Tree]
    """What is within."""


@attrs.frozen
class Empty:
    pass


@attrs.frozen
class Base:
    kind: Literal["a", "b"]
    """Which one."""


@attrs.frozen
class Derived(Base):
    number: int = attrs.field(default=3, validator=[between(1, 9), between(2, 8)])
    """How many."""
    json_schema: ClassVar[Mapping[str, Any]] = {"maxProperties": 2}


def of(kind: Any, direction: Literal["in", "out"] = "in") -> Any:
    return Schemas(direction).of(kind)


TEXT = {"type": "string", "pattern": NO_NUL}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, TEXT),
        (int, {"type": "integer"}),
        (bool, {"type": "boolean"}),
        (float, {"type": "number"}),
        (bytes, {"type": "string", "contentMediaType": "application/octet-stream"}),
        (Any, {}),
        (UserId, ID),
        (MessageId, TEXT),
        (Frequency, {"type": ["string", "number"], "minLength": 1, "maxLength": 64, "pattern": NO_NUL}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a"] | None, {"type": ["string", "null"], "enum": ["a", None]}),
        (int | None, {"type": ["integer", "null"]}),
        (Any | None, {}),
        (int | str, {"anyOf": [{"type": "integer"}, TEXT]}),
        (int | str | None, {"anyOf": [{"type": "integer"}, TEXT, {"type": "null"}]}),
        (Leaf | None, {"anyOf": [{"$ref": "#/$defs/Leaf"}, {"type": "null"}]}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (list[Leaf], {"type": "array", "items": {"$ref": "#/$defs/Leaf"}}),
        (dict[str, Any], {"type": "object", "propertyNames": {"pattern": NO_NUL}}),
        (
            dict[ChannelId, int],
            {
                "type": "object",
                "propertyNames": {"pattern": ID["pattern"]},
                "additionalProperties": {"type": "integer"},
            },
        ),
    ],
)
def test_a_type_is_what_it_accepts(kind: Any, schema: object) -> None:
    assert of(kind) == schema


def test_what_the_server_sends_need_not_be_said_to_be_text() -> None:
    assert of(str, "out") == {"type": "string"}


def test_a_type_that_nobody_reads_has_no_schema() -> None:
    with pytest.raises(AssertionError, match="no schema"):
        of(set[int])


@pytest.mark.parametrize(
    ("kind", "validator", "keywords"),
    [
        (str, length(1, 9), {"minLength": 1, "maxLength": 9}),
        (str, length(0, 9), {"maxLength": 9}),
        (list[int], length(1, 9), {"minItems": 1, "maxItems": 9}),
        (dict[str, int], length(1, 9), {"minProperties": 1, "maxProperties": 9}),
        (int, between(-1, 9), {"minimum": -1, "maximum": 9}),
        (int, [between(0, 9), between(1, 8)], {"minimum": 1, "maximum": 8}),
        (str | None, length(1, 9), {"minLength": 1, "maxLength": 9}),
        (dict[ChannelId, int], seqs(9), {"maxProperties": 9}),
        (dict[str, Any], json_object(60, 2), {"maxProperties": 10}),
    ],
)
def test_a_validator_says_what_it_checks(kind: Any, validator: Any, keywords: dict[str, Any]) -> None:
    cls = attrs.make_class("Made", {"field": attrs.field(type=kind, validator=validator)})
    assert schema_of(cls)["properties"]["field"].items() >= keywords.items()


def test_a_validator_reaches_what_is_within() -> None:
    inner = schema_of(requests.Resume)["properties"]["channels"]["additionalProperties"]
    assert inner == {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}


def test_a_validator_that_cannot_say_what_it_checks_is_passed_over() -> None:
    cls = attrs.make_class("Made", {"field": attrs.field(type=int, validator=lambda *_: None)})
    assert schema_of(cls)["properties"]["field"] == {"type": "integer"}


def test_metadata_says_what_nothing_else_knows() -> None:
    cls = attrs.make_class("Made", {"url": attrs.field(type=str, metadata={"schema": {"format": "uri"}})})
    assert schema_of(cls)["properties"]["url"] == {**TEXT, "format": "uri"}


def test_a_class_is_described_with_all_that_it_refers_to() -> None:
    tree = {
        "title": "Tree",
        "type": "object",
        "properties": {
            "leaf": {"$ref": "#/$defs/Leaf"},
            "trees": {
                "description": "What is within.",
                "type": "array",
                "items": {"$ref": "#/$defs/Tree"},
            },
        },
        "required": ["leaf", "trees"],
    }
    leaf = {
        "description": "A part of something.",
        "title": "Leaf",
        "type": "object",
        "properties": {"name": {**TEXT, "minLength": 1, "maxLength": 3}},
        "required": ["name"],
    }
    assert schema_of(Tree) == {**tree, "$defs": {"Tree": tree, "Leaf": leaf}}
    assert schema_of(Leaf) == leaf
    validator = jsonschema_rs.validator_for(schema_of(Tree))
    assert validator.is_valid({"leaf": {"name": "a"}, "trees": [{"leaf": {"name": "b"}, "trees": []}]})
    assert not validator.is_valid({"leaf": {"name": "a"}, "trees": [{"leaf": {"name": ""}, "trees": []}]})


def test_an_empty_class_is_an_object() -> None:
    assert schema_of(Empty) == {"title": "Empty", "type": "object", "properties": {}}


def test_a_class_inherits_fields_and_what_is_said_of_them_and_adds_its_own() -> None:
    assert schema_of(Derived) == {
        "title": "Derived",
        "type": "object",
        "properties": {
            "kind": {"description": "Which one.", "type": "string", "enum": ["a", "b"]},
            "number": {
                "description": "How many.",
                "type": ["integer", "null"],
                "minimum": 2,
                "maximum": 8,
                "default": 3,
            },
        },
        "required": ["kind"],
        "maxProperties": 2,
    }


def test_what_may_be_left_out_depends_on_the_direction() -> None:
    sent, received = schema_of(events.Ready, "out"), schema_of(requests.Focus)
    # `always`: sent though it has a default.
    assert "announcements" in sent["required"]
    assert "expires_at" not in sent["required"]
    assert sent["properties"]["expires_at"] == {"type": "integer"}
    assert received["properties"]["channel_id"] == {**ID, "type": ["string", "null"]}
    assert "required" not in received


def test_fields_are_told_one_by_one_without_null() -> None:
    found = {field.name: field for field in Schemas("in").fields(requests.MemberList)}
    assert [found["channel_id"].required, found["after"].required] == [True, False]
    assert found["after"].schema == ID
    assert found["limit"].schema == {"type": "integer", "minimum": 1, "maximum": 200, "default": 100}
    assert [field.description for field in Schemas("in").fields(Derived)] == ["Which one.", "How many."]


def test_two_classes_of_one_name_are_found_out() -> None:
    schemas = Schemas("in")
    schemas.of(Leaf)
    with pytest.raises(AssertionError, match="two classes are called Leaf"):
        schemas.of(attrs.make_class("Leaf", []))


def test_a_class_without_a_source_has_no_notes() -> None:
    assert field_notes(attrs.make_class("Made", {"field": attrs.field(type=int)})) == {}


def test_ids_are_written_of_the_same_characters_in_both_dialects() -> None:
    """ECMA-262 has no `\\w` beyond ASCII: letters and numbers of all scripts must be the same as Python's."""
    assert ID["pattern"] == "^" + ID_PATTERN.pattern.replace(r"\w", r"\p{L}\p{N}_") + "$"
    for code in range(sys.maxunicode + 1):
        is_listed = unicodedata.category(chr(code))[0] in "LN" or chr(code) == "_"
        assert (re.match(r"\w", chr(code)) is not None) is is_listed, hex(code)
