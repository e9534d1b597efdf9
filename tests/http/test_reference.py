from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from livechat.http.app import all_endpoints
from livechat.http.openapi import document
from livechat.http.problems import KINDS
from livechat.http.reference import CONTENT_SECURITY_POLICY, page
from tests.support.api import calling
from tests.support.server import running_server

DOCUMENT = document(all_endpoints())
PAGE = page(DOCUMENT)
VOID = {"meta", "br"}


class Outline(HTMLParser):
    """What is in a page: tags, ids, links, text; and whether every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [value for name, value in given.items() if name in ("href", "src")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_nothing_but_itself() -> None:
    outline = Outline(PAGE)
    assert not {"script", "link", "img", "iframe", "form", "object", "base"} & set(outline.tags)
    assert "@import" not in PAGE
    assert "url(" not in PAGE
    assert all(link.startswith("#") or link == "openapi.json" for link in outline.links)


def test_every_link_leads_to_one_place() -> None:
    outline = Outline(PAGE)
    assert len(set(outline.ids)) == len(outline.ids)
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)


def test_every_operation_schema_and_problem_is_on_it() -> None:
    outline = Outline(PAGE)
    for path, methods in DOCUMENT["paths"].items():
        assert path in outline.words
        for operation in methods.values():
            assert operation["operationId"] in outline.ids
            assert operation["summary"] in outline.words
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(outline.ids)
    # Where the `type` of a problem leads.
    assert {f"problem-{error.code}" for error in KINDS} <= set(outline.ids)


def test_bounds_and_choices_are_told() -> None:
    for words in ("1 to 100000", "0 to 65536 characters", "conference", "default 20", "required"):
        assert words in PAGE or words in Outline(PAGE).words, words


def test_an_operation_shows_the_fields_of_its_body_and_folds_its_refusals() -> None:
    (create,) = re.findall("<article id='post_channels'>.*?</article>", PAGE)
    assert "<code>channel_id</code><span class='required'" in create
    shown, folded = create.split("<details>")
    assert "<td><code>201</code></td>" in shown
    assert "<td><code>422</code></td>" not in shown
    assert "<td><code>422</code></td>" in folded


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    (style,) = re.findall("<style>(.*?)</style>", PAGE, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_whatever_a_document_says_is_text() -> None:
    hostile = "<script>alert(1)</script>'\"`<b>`"
    parameter = {"name": hostile, "in": "query", "schema": {"enum": [hostile]}, "description": hostile}
    operation = {
        "operationId": "x",
        "tags": ["t"],
        "summary": hostile,
        "description": hostile,
        "parameters": [parameter],
        "responses": {"200": {"description": hostile}},
        "security": [{"bearer": [hostile]}],
    }
    schema = {"description": hostile, "properties": {hostile: {"type": "string", "default": hostile}}}
    outline = Outline(
        page(
            {
                "info": {"title": hostile, "version": hostile, "description": hostile},
                "tags": [{"name": "t"}],
                "paths": {f"/{hostile}": {"get": operation}},
                "components": {"schemas": {"A": schema}, "responses": {}},
            }
        )
    )
    assert not {"script", "b" * 2} & set(outline.tags)
    assert "alert(1)" in outline.words


async def test_it_is_served_to_anybody(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None, token=None) as anybody:
        told = await anybody.get("/docs")
        assert (told.status_code, told.text) == (200, PAGE)
        assert told.headers["content-type"] == "text/html; charset=utf-8"
        assert told.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        again = await anybody.get("/docs", headers={"If-None-Match": told.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
