"""Media types: what is taken, what the bytes must say, what a browser may show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.files.types import (
    INLINE,
    SIGNATURES,
    TypeRefused,
    check_content,
    check_type,
    is_inline,
    media_type_untrusted,
)

HEADS = {
    "image/png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "image/gif": b"GIF89a\1\0\1\0",
    "image/webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "image/bmp": b"BM\x46\0\0\0",
    "image/tiff": b"II\x2a\0\x08\0",
    "image/vnd.microsoft.icon": b"\0\0\1\0\1\0",
    "image/avif": b"\0\0\0\x1cftypavif",
    "image/heic": b"\0\0\0\x18ftypheic",
    "image/heif": b"\0\0\0\x18ftypmif1",
}
PAGE = b"<!doctype html><script>alert(1)</script>"


@pytest.mark.parametrize(
    ("header", "mime"),
    [
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        (" text/plain ;x", "text/plain"),
        ("image/jpg", "image/jpeg"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document",) * 2,
    ],
)
def test_a_type_is_read(header: str, mime: str) -> None:
    assert media_type_untrusted(header) == mime


@pytest.mark.parametrize(
    "header", ["", "png", "image/", "/png", "image/png/x", "im age/png", "*/*", "a/" + "b" * 130]
)
def test_what_is_no_type_is_refused(header: str) -> None:
    with pytest.raises(TypeRefused, match="content-type"):
        media_type_untrusted(header)


@pytest.mark.parametrize(
    ("mime", "allowed", "taken"),
    [
        ("image/png", ("image/png",), True),
        ("image/png", ("IMAGE/PNG",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("*/*",), True),
        ("image/png", ("image/jpeg", "video/*"), False),
        ("image/png", (), False),
        ("image/svg+xml", ("image/*",), False),
        ("image/svg+xml", ("image/svg+xml",), True),
        ("image/svg+xml", ("*/*",), True),
        ("text/html", ("image/*", "text/plain"), False),
        ("audio/ogg", ("audio/*",), True),
    ],
)
def test_only_what_the_list_names_is_taken(mime: str, allowed: tuple[str, ...], taken: bool) -> None:
    if taken:
        check_type(mime, allowed)
    else:
        with pytest.raises(TypeRefused, match="is not taken here"):
            check_type(mime, allowed)


@pytest.mark.parametrize("mime", SIGNATURES)
def test_an_image_must_begin_like_one(mime: str) -> None:
    check_content(mime, HEADS[mime])
    for head in (PAGE, b"", HEADS[mime][:1], b" " + HEADS[mime]):
        with pytest.raises(TypeRefused, match=mime):
            check_content(mime, head)


def test_one_image_is_not_taken_for_another() -> None:
    for mime, head in HEADS.items():
        for other in {"image/png", "image/jpeg", "image/gif", "image/webp"} - {mime}:
            with pytest.raises(TypeRefused):
                check_content(other, head)


def test_what_is_no_image_may_begin_as_it_likes() -> None:
    for mime in ("text/plain", "application/octet-stream", "video/mp4", "image/svg+xml"):
        check_content(mime, PAGE)


def test_nothing_that_runs_is_shown_in_place() -> None:
    for mime in (
        "text/html",
        "image/svg+xml",
        "text/xml",
        "application/pdf",
        "application/xhtml+xml",
        "text/plain",
    ):
        assert not is_inline(mime)
    assert is_inline("image/png")
    assert {mime.partition("/")[0] for mime in INLINE} == {"image", "audio", "video"}
    assert {mime for mime in INLINE if mime.startswith("image/")} <= SIGNATURES.keys()


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    try:
        mime = media_type_untrusted(header)
    except TypeRefused:
        return
    assert mime == mime.lower()
    assert mime.isascii()
    assert mime.isprintable()
