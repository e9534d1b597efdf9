"""Owns the reference of the API for people: one HTML page made from the OpenAPI document.

It must not need anything but itself: no script, no font, no file from anywhere. Whatever is in the document is
escaped.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from html import escape
from http import HTTPStatus
from typing import Any, Final

from livechat.http.problems import KINDS
from livechat.http.reference_style import STYLE

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of the page: nothing but its own style, which is told by its hash."""
_CODE: Final = re.compile(r"`([^`]+)`")
_UNITS: Final = {"Length": " characters", "Items": " entries", "Properties": " entries"}


def page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append((method, path, operation))
    components = document["components"]
    main = [
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{_text(info['description'])} <a href='openapi.json'>openapi.json</a></p>",
        *(_tag(name, operations, components) for name, operations in by_tag.items()),
        "<section id='schemas'><h2>Schemas</h2>",
        *(_schema_section(name, schema) for name, schema in components["schemas"].items()),
        "</section><section id='problems'><h2>Problems</h2>",
        *_problems(),
        "</section>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head>"
        f"<body><nav>{_contents(by_tag)}</nav><main>{''.join(main)}</main></body></html>"
    )


def _contents(by_tag: Mapping[str, list[tuple[str, str, Mapping[str, Any]]]]) -> str:
    parts = []
    for tag, operations in by_tag.items():
        links = "".join(
            f"<li><a href='#{escape(operation['operationId'])}'>"
            f"{_badge(method)} {_text(operation['summary'])}</a></li>"
            for method, _, operation in operations
        )
        parts.append(f"<h3>{escape(tag)}</h3><ul>{links}</ul>")
    return "".join(parts) + "<h3><a href='#schemas'>schemas</a></h3><h3><a href='#problems'>problems</a></h3>"


# --- operations ----------------------------------------------------------------------------------------


def _tag(
    name: str, operations: Iterable[tuple[str, str, Mapping[str, Any]]], components: Mapping[str, Any]
) -> str:
    inner = "".join(_operation(method, path, operation, components) for method, path, operation in operations)
    return f"<section><h2>{escape(name)}</h2>{inner}</section>"


def _operation(method: str, path: str, operation: Mapping[str, Any], components: Mapping[str, Any]) -> str:
    parts = [
        f"<article id='{escape(operation['operationId'])}'>",
        f"<h3>{_badge(method)} <code>{escape(path)}</code></h3>",
        f"<p><b>{_text(operation['summary'])}.</b> {_text(operation.get('description', ''))}</p>",
        f"<p class='access'>{_access(operation['security'])}</p>",
    ]
    if parameters := operation.get("parameters"):
        parts.append(_table("Parameters", map(_parameter, parameters)))
    if body := operation.get("requestBody"):
        for media_type, content in body["content"].items():
            schema = content.get("schema", {})
            parts.append(f"<h4>Body</h4><p><code>{escape(media_type)}</code> {_kind(schema)}</p>")
            if name := _name(schema):
                parts.append(_table("", _fields(components["schemas"][name])))
    responses = operation["responses"]
    refusals = [status for status in responses if status[0] in "45"]
    answers = [status for status in responses if status not in refusals]
    parts.append(_table("Answers", (_answer(each, responses[each], components) for each in answers)))
    if refusals:
        # Much the same everywhere: folded away, so that the page shows what differs.
        listed = " ".join(f"<code>{escape(status)}</code>" for status in refusals)
        table = _table("", (_answer(each, responses[each], components) for each in refusals))
        parts.append(f"<details><summary>Refusals {listed}</summary>{table}</details>")
    return "".join([*parts, "</article>"])


def _access(security: list[Mapping[str, list[str]]]) -> str:
    if not security:
        return "No token is needed."
    scopes = " or ".join(f"<code>{escape(scope)}</code>" for scope in security[0]["bearer"])
    exception = "; none on the machine of a server that listens on loopback only" if {} in security else ""
    return f"Takes a token of scope {scopes}, or the shared secret{exception}."


def _parameter(parameter: Mapping[str, Any]) -> list[str]:
    schema = parameter["schema"]
    name = f"<code>{escape(parameter['name'])}</code>{_star(parameter.get('required', False))}"
    return [name, escape(parameter["in"]), f"{_kind(schema)} {_text(parameter.get('description', ''))}"]


def _answer(status: str, response: Mapping[str, Any], components: Mapping[str, Any]) -> list[str]:
    if name := _name(response):
        response = components["responses"][name]
    kinds = [
        f"<code>{escape(media_type)}</code> {_kind(content.get('schema', {}))}"
        for media_type, content in response.get("content", {}).items()
        if "problem" not in media_type
    ]
    headers = [f"<code>{escape(name)}</code>" for name in response.get("headers", {})]
    described = _linked_codes(_text(response["description"]))
    return [f"<code>{escape(status)}</code>", " ".join([described, *kinds, *headers])]


def _linked_codes(text: str) -> str:
    """Link each code of a problem to where it is explained."""
    return re.sub(r"\((\d{4})\)", r"(<a href='#problem-\1'>\1</a>)", text)


# --- schemas and problems ------------------------------------------------------------------------------


def _schema_section(name: str, schema: Mapping[str, Any]) -> str:
    description = _text(schema.get("description", ""))
    heading = f"<h3>{escape(name)}</h3><p>{description}</p>"
    return f"<article id='schema-{escape(name)}'>{heading}{_table('', _fields(schema))}</article>"


def _fields(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    required = schema.get("required", ())
    for field, each in schema.get("properties", {}).items():
        name = f"<code>{escape(field)}</code>{_star(field in required)}"
        yield [name, f"{_kind(each)} {_text(each.get('description', ''))}"]


def _problems() -> Iterator[str]:
    by_code: dict[int, list[str]] = {}
    for error, kind in KINDS.items():
        phrase = HTTPStatus(kind.status).phrase
        said = f"{_text(kind.title)} <small>{kind.status} {escape(phrase)}</small>"
        if error.retryable:
            said += " <small>may succeed later</small>"
        entries = by_code.setdefault(error.code, [])
        if said not in entries:
            entries.append(said)
    for code, entries in sorted(by_code.items()):
        said = f"<h3><code>{code}</code></h3><p>{'<br>'.join(entries)}</p>"
        yield f"<article id='problem-{code}' class='problem'>{said}</article>"


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema accepts."""
    if name := escape(_name(schema)):
        return f"<a href='#schema-{name}'>{name}</a>"
    for union, word in (("anyOf", " or "), ("allOf", " and ")):
        if union in schema:
            return word.join(filter(None, map(_kind, schema[union])))
    kinds = schema.get("type", "any value" if not schema else "")
    words = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        words += f" of {_kind(schema['additionalProperties'])}"
    details = ", ".join(_bounds(schema))
    return f"<span class='kind'>{words}{f' ({details})' if details else ''}</span>"


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield " ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"] if each is not None)
    if "minimum" in schema or "maximum" in schema:
        yield _range(schema.get("minimum"), schema.get("maximum"), "")
    for ending, unit in _UNITS.items():
        least, most = schema.get(f"min{ending}"), schema.get(f"max{ending}")
        if least is not None or most is not None:
            yield _range(least or 0, most, unit)
    if schema.get("default") not in (None, ""):
        yield f"default <code>{escape(str(schema['default']))}</code>"


def _range(least: int | None, most: int | None, unit: str) -> str:
    if most is None or most >= 2**53:
        return f"at least {least}{unit}"
    return f"{least} to {most}{unit}" if least is not None else f"at most {most}{unit}"


# --- leaves --------------------------------------------------------------------------------------------


def _name(part: Mapping[str, Any]) -> str:
    """Return the name of the component that a part of the document refers to; empty: it is no reference."""
    return str(part.get("$ref", "")).rpartition("/")[2]


def _table(title: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML already; nothing if there is no row."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    heading = f"<h4>{escape(title)}</h4>" if title else ""
    return f"{heading}<div class='scroll'><table>{body}</table></div>" if body else ""


def _badge(method: str) -> str:
    return f"<span class='method {escape(method)}'>{escape(method.upper())}</span>"


def _star(required: bool) -> str:
    return "<span class='required' title='required'>*</span>" if required else ""


def _text(text: str) -> str:
    """Return text as HTML; what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))
