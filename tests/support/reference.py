"""Reads the tables of the protocol reference, and compares the fields it writes with the classes of the code."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import attrs

import livechat.protocol

TEXT = (Path(livechat.protocol.__file__).parent / "README.md").read_text("utf-8")
ITEM = re.compile(r"(?P<name>\w+)(?P<optional>\?)?(?:=(?P<default>\S+))?(?: (?P<shape>[\[{].*))?")


@attrs.frozen
class DocumentedField:
    """A field as the reference writes it: `name`, `name?`, `name?=default`, each perhaps with a shape."""

    name: str
    optional: bool
    default: Any
    """None where none is written."""
    shape: str | None
    """`{…}` or `[…]`."""


def tables() -> list[list[list[str]]]:
    """Return all tables: rows of cells, the head first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in TEXT.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        if not inside:
            found.append([])
        inside = True
        if not set(line) <= set("|-"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def table(*head: str) -> list[list[str]]:
    """Return the rows of the one table with this head."""
    (rows,) = [rows[1:] for rows in tables() if rows[0] == list(head)]
    return rows


def fields(cell: str) -> dict[str, DocumentedField]:
    """Parse a list of fields; what stands in parentheses is for the reader."""
    parsed = {}
    for item in _split(re.sub(r"\s*\([^()]*\)", "", cell)):
        match = ITEM.fullmatch(item)
        assert match is not None, f"not a field: {item!r}"
        name, optional, default, shape = match.group("name", "optional", "default", "shape")
        assert name not in parsed, f"twice: {name}"
        value = None if default is None else default.strip("`") if default[0] == "`" else json.loads(default)
        parsed[name] = DocumentedField(name, optional is not None, value, shape)
    return parsed


def _split(text: str) -> list[str]:
    """Split at the commas that are in no bracket."""
    items = [""]
    depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth:
            items.append("")
        else:
            items[-1] += character
    return [item.strip() for item in items if item.strip()]


def check(cell: str, cls: type[Any]) -> None:
    """Assert that a cell lists exactly the fields of a class, which may be left out, and what is within them."""
    documented = fields(cell)
    declared = {field.name: field for field in attrs.fields(attrs.resolve_types(cls))}
    assert set(documented) == set(declared), cls
    for name, field in declared.items():
        written = documented[name]
        may_be_missing = field.default is not attrs.NOTHING and not field.metadata.get("always")
        assert written.optional is may_be_missing, (cls, name)
        if not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            assert written.default == (field.default if may_be_missing else None), (cls, name)
        _check_shape(written, field.type, (cls, name))


def _check_shape(written: DocumentedField, kind: Any, place: object) -> None:
    item = _innermost(kind)
    if not attrs.has(item):
        return
    assert written.shape is not None, place
    inner = written.shape[1:-1]
    if get_origin(_given(kind)) is dict:
        inner = inner.partition(": ")[2]
    if inner.startswith("{"):
        inner = inner[1:-1]
    # A structure has a row of its own.
    if inner != item.__name__:
        check(inner, item)


def _given(kind: Any) -> Any:
    """Return a type without its None, where one is left."""
    if get_origin(kind) in (Union, types.UnionType):
        given = [arg for arg in get_args(kind) if arg is not type(None)]
        return given[0] if len(given) == 1 else kind
    return kind


def _innermost(kind: Any) -> Any:
    """Return what a type is a list or a map of, or the type itself."""
    kind = _given(kind)
    if get_origin(kind) in (list, tuple):
        return get_args(kind)[0]
    return get_args(kind)[1] if get_origin(kind) is dict else kind
