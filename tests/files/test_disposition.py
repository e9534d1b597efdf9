"""Content-Disposition: what clients send, and what is sent to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.files.disposition import filename_untrusted, parameters_untrusted, serialize_disposition


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b'attachment; filename="a.txt"', "a.txt"),
        (b"attachment; filename=a.txt", "a.txt"),
        (b'Attachment ; FILENAME = "a.txt" ', "a.txt"),
        (b'form-data; name="file"; filename="a; b.txt"', "a; b.txt"),
        (rb'form-data; filename="a \"b\" \\c"', 'a "b" \\c'),
        (rb'form-data; filename="C:\dir\a.txt"', r"C:\dir\a.txt"),
        ('form-data; filename="사진 1.png"'.encode(), "사진 1.png"),
        (b'form-data; filename="caf\xe9"', "caf\xe9"),
        (b"attachment; filename*=UTF-8''%e2%82%ac%20rates", "\u20ac rates"),
        (b"attachment; filename*=iso-8859-1'en'%A3%20rates", "\xa3 rates"),
        (b"attachment; filename=\"EURO\"; filename*=utf-8''%e2%82%ac", "\u20ac"),
        (b"attachment; filename*=utf-8''%e2%82%ac; filename=EURO", "\u20ac"),
        (b"attachment; filename=plain; filename*=utf-8''%e2%82", "plain"),
        (b"attachment; filename=plain; filename*=utf-8''%zz", "plain"),
        (b"attachment; filename=plain; filename*=utf-16''abc", "plain"),
        (b"attachment; filename=plain; filename*=nothing", "plain"),
        (b"attachment; filename=one; filename=two", "one"),
        (b'attachment; filename=""', ""),
        (b"attachment; filename=", ""),
        (b"attachment", None),
        (b"attachment; x=y", None),
        (b'attachment; filename="never closed', ""),
        (b"; filename=x", None),
        (b"", None),
    ],
)
def test_the_file_name_is_found(header: bytes, name: str | None) -> None:
    assert filename_untrusted(header) == name


def test_the_kind_stands_beside_the_parameters() -> None:
    assert parameters_untrusted(b'Form-Data; name="x"') == {"": b"form-data", "name": b"x"}


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("caf\xe9.txt", "attachment; filename=\"cafe.txt\"; filename*=UTF-8''caf%C3%A9.txt"),
        ('a"b\\c%41', "attachment; filename=\"a_b_c_41\"; filename*=UTF-8''a%22b%5Cc%2541"),
        ("사진.png", "attachment; filename=\"file.png\"; filename*=UTF-8''%EC%82%AC%EC%A7%84.png"),
        ("사진", "attachment; filename=\"file\"; filename*=UTF-8''%EC%82%AC%EC%A7%84"),
        (
            "a\r\nSet-Cookie: x",
            "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x",
        ),
    ],
)
def test_a_header_for_a_name(name: str, header: str) -> None:
    assert serialize_disposition(name, inline=False) == header
    assert serialize_disposition(name, inline=True) == header.replace("attachment", "inline", 1)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_what_is_written_is_read_and_safe_in_a_header(name: str, inline: bool) -> None:
    header = serialize_disposition(name, inline=inline)
    assert header.isascii()
    assert header.isprintable()
    assert filename_untrusted(header.encode()) == name


@given(st.binary())
def test_no_header_breaks_it(header: bytes) -> None:
    parameters = parameters_untrusted(header)
    assert (filename_untrusted(header) is not None) <= bool(parameters.keys() & {"filename", "filename*"})


def test_a_long_header_takes_no_long_time() -> None:
    """The time would be told by the deadline of hypothesis or the patience of who runs this."""
    for header in (b'x; a="' + b"\\" * 16_000, b"x" + b";a" * 8_000, b"x; filename*=utf-8''" + b"%e2" * 5_000):
        filename_untrusted(header)
