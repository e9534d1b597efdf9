"""Owns the way from attrs classes to JSON Schema: types, defaults and validators become what they accept. Pure.

It must not know any class in particular. What it writes is valid in draft-07 (AsyncAPI 3.0) and in 2020-12
(OpenAPI 3.1) alike: no keyword stands beside a `$ref`, and nothing newer than draft-07 is used but for bytes.

A class is read in one of two directions:

    in   what clients send: as `strict` reads it. A field with a default may be left out, or be null;
         text holds no NUL; unknown fields are ignored.
    out  what the server sends: as `codec.unstructure` writes it. A field with a default is left out while it
         has it, unless its metadata says `always`.

Keywords that neither type nor validator can know stand in a field's metadata, `{"schema": {...}}`, or, of a whole
class, in its `json_schema`. The line under a field in the source becomes its description.

Source: https://json-schema.org/draft-07/json-schema-validation
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import attrs

from livechat.protocol.types import ID_LENGTH_MAX, ChannelId, Frequency, JobId, SessionId, StreamId, UserId
from livechat.protocol.validators import Validator

Direction = Literal["in", "out"]
Schema = dict[str, Any]

LOCAL: Final = "#/$defs/"
"""Where a schema on its own keeps the classes that it refers to."""
NO_NUL: Final = r"^[^\u0000]*$"
ID: Final[Schema] = {"type": "string", "pattern": rf"^[\p{{L}}\p{{N}}_.:@-]{{1,{ID_LENGTH_MAX}}}$"}
"""`types.ID_PATTERN` as ECMA-262 writes it, whose `\\w` is ASCII."""
_SCALARS: Final[dict[Any, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "contentMediaType": "application/octet-stream"},
    NoneType: {"type": "null"},
    UserId: ID,
    ChannelId: ID,
    SessionId: ID,
    JobId: ID,
    StreamId: ID,
    Any: {},
}


@attrs.frozen
class FieldSchema:
    """A field of a class as a document describes it."""

    name: str
    required: bool
    schema: Schema
    """Of a field that may be left out: as it is when it is there, never null."""
    description: str | None


class Schemas:
    """Writes schemas, and collects those of the classes that they refer to.

    Args:
        direction: see the module.
        prefix: what comes before a class's name in a `$ref`.
    """

    def __init__(self, direction: Direction, prefix: str = LOCAL) -> None:
        self.definitions: dict[str, Schema] = {}
        """By the class's name; complete as far as `of` was asked."""
        self._direction = direction
        self._prefix = prefix
        self._homes: dict[str, type[Any]] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a type; an attrs class is defined once and referred to."""
        if not (isinstance(kind, type) and attrs.has(kind)):
            return self._of_other(kind)
        name = kind.__name__
        known = self._homes.setdefault(name, kind)
        assert known is kind, f"two classes are called {name}"
        if name not in self.definitions:
            # There first, for classes that hold themselves.
            self.definitions[name] = {}
            self.definitions[name] = self._of_class(kind)
        return {"$ref": self._prefix + name}

    def fields(self, cls: type[Any]) -> Iterator[FieldSchema]:
        """Yield the fields of an attrs class one by one, as parameters of a query are described."""
        notes = field_notes(cls)
        for field in attrs.fields(attrs.resolve_types(cls)):
            yield FieldSchema(field.name, self._is_required(field), self._of_field(field), notes.get(field.name))

    def _is_required(self, field: attrs.Attribute[Any]) -> bool:
        if field.default is attrs.NOTHING:
            return True
        return self._direction == "out" and bool(field.metadata.get("always"))

    def _of_class(self, cls: type[Any]) -> Schema:
        properties: dict[str, Schema] = {}
        required = []
        for field in self.fields(cls):
            schema = field.schema
            if field.required:
                required.append(field.name)
            elif self._direction == "in":
                schema = _or_null(schema)
            properties[field.name] = _described(schema, field.description)
        schema = {"title": cls.__name__, "type": "object", "properties": properties}
        if required:
            schema["required"] = required
        own: Mapping[str, Any] = getattr(cls, "json_schema", {})
        return _described({**schema, **own}, class_note(cls))

    def _of_field(self, field: attrs.Attribute[Any]) -> Schema:
        schema = self.of(_given(field.type) if field.default is None else field.type)
        for validator in _validators(field.validator):
            schema = _tighten(schema, validator)
        schema = {**schema, **field.metadata.get("schema", {})}
        if self._direction == "in" and _is_plain(field.default) and "$ref" not in schema:
            schema["default"] = field.default
        return schema

    def _of_other(self, kind: Any) -> Schema:
        if kind in _SCALARS:
            schema = dict(_SCALARS[kind])
            # The server sends nothing else; there it need not be said.
            return {**schema, "pattern": NO_NUL} if kind is str and self._direction == "in" else schema
        if kind is Frequency:
            return {"type": ["string", "number"], "minLength": 1, "maxLength": 64, "pattern": NO_NUL}
        if hasattr(kind, "__supertype__"):
            return self.of(kind.__supertype__)
        arguments = get_args(kind)
        origin = get_origin(kind)
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin in (Union, UnionType):
            return self._of_union(arguments)
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(arguments[0])}
        assert origin is dict, f"no schema for {kind!r}"
        return self._of_map(*arguments)

    def _of_union(self, members: tuple[Any, ...]) -> Schema:
        schemas = [self.of(member) for member in members if member is not NoneType]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
        return _or_null(schema) if NoneType in members else schema

    def _of_map(self, key: Any, item: Any) -> Schema:
        schema: Schema = {"type": "object"}
        if pattern := self.of(key).get("pattern"):
            schema["propertyNames"] = {"pattern": pattern}
        if item is not Any:
            schema["additionalProperties"] = self.of(item)
        return schema


def schema_of(cls: type[Any], direction: Direction = "in") -> Schema:
    """Return the schema of an attrs class on its own; the classes within it are in its `$defs`."""
    schemas = Schemas(direction)
    reference = schemas.of(cls)
    schema = schemas.definitions[cls.__name__]
    if not _refers(schemas.definitions, reference):
        del schemas.definitions[cls.__name__]
    return {**schema, "$defs": schemas.definitions} if schemas.definitions else schema


def _refers(value: object, reference: Schema) -> bool:
    """Tell whether a schema has a reference within."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == reference or any(_refers(each, reference) for each in inner)


def _given(kind: Any) -> Any:
    """Return a type without its None."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    return Union[tuple(member for member in get_args(kind) if member is not NoneType)]  # noqa: UP007


# --- keywords ------------------------------------------------------------------------------------------


def _validators(validator: Any) -> Iterator[Validator]:
    """Yield those that can say what they check, also where attrs has joined several."""
    if isinstance(validator, Validator):
        yield validator
    for inner in getattr(validator, "_validators", ()):
        yield from _validators(inner)


def _tighten(schema: Schema, validator: Validator) -> Schema:
    kinds = schema.get("type")
    # What may be null as well is checked where it is not.
    kind = next((each for each in kinds if each != "null"), "") if isinstance(kinds, list) else str(kinds)
    return _merged(schema, validator.keywords(kind))


def _merged(schema: Schema, keywords: Mapping[str, Any]) -> Schema:
    merged = dict(schema)
    for name, value in keywords.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def _or_null(schema: Schema) -> Schema:
    """Accept null as well; where null was accepted nothing changes."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if "anyOf" in schema:
        if {"type": "null"} in schema["anyOf"]:
            return schema
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "type" not in schema:
        return schema
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "null" in kinds:
        return schema
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [*kinds, "null"], **enum}


def _described(schema: Schema, description: str | None) -> Schema:
    if description is None:
        return schema
    if "$ref" in schema:
        # Draft-07 ignores what stands beside a reference.
        schema = {"allOf": [schema]}
    return {"description": description, **schema}


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


# --- what the source says ------------------------------------------------------------------------------


def class_note(cls: type[Any]) -> str | None:
    """Return the docstring of a class on one line, if it has one of its own."""
    text = cls.__dict__.get("__doc__")
    # attrs writes none; dataclasses would.
    return " ".join(text.split()) if text else None


def field_notes(cls: type[Any]) -> Mapping[str, str]:
    """Return the docstrings that stand under the fields of a class and of those it comes from.

    They exist in the source only: without it there are none.
    """
    notes: dict[str, str] = {}
    for home in reversed(cls.__mro__):
        notes.update(_notes_in(_body(home)))
    return notes


def _body(cls: type[Any]) -> list[ast.stmt]:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return []
    return tree.body if isinstance(tree, ast.ClassDef) else []


def _notes_in(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, note in pairwise(body):
        match field, note:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, " ".join(text.split())
