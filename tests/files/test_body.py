"""Files out of request bodies: the body itself, or a form however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ProtocolError
from livechat.files.body import FORM_FIELD_BYTES_MAX, FORM_PARTS_MAX, FormBody, RawBody, body_of_untrusted
from livechat.files.types import TypeRefused

FORM = "multipart/form-data; boundary=xYz"


def part(content: bytes, headers: bytes) -> bytes:
    return b"--xYz\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def file_part(content: bytes, name: str = "a.png", mime: str = "image/png") -> bytes:
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    return part(content, f"{disposition}\r\nContent-Type: {mime}".encode())


def field(content: bytes) -> bytes:
    return part(content, b'Content-Disposition: form-data; name="note"')


END = b"--xYz--\r\n"


def form_of(data: bytes, *, step: int = 65_536) -> tuple[FormBody, bytes]:
    body = FormBody(FORM)
    pieces = [body.feed_untrusted(data[start : start + step]) for start in range(0, len(data), step)]
    body.end_untrusted()
    return body, b"".join(piece for some in pieces for piece in some)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_a_form_gives_its_file_however_it_is_cut(content: bytes, step: int) -> None:
    if b"\r\n--xYz" in content:
        content = b""
    body, got = form_of(field(b"before") + file_part(content, "사진.png") + field(b"after") + END, step=step)
    assert got == content
    assert (body.name, body.mime) == ("사진.png", "image/png")


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"--xYz", b"\r\n--xY", b"\r\n--", b"\r" * 500, b"\n--xYz--", b"\r\n--xY" * 200]
)
@pytest.mark.parametrize("step", [1, 2, 7, 65_536])
def test_what_looks_like_a_boundary_is_content(content: bytes, step: int) -> None:
    assert form_of(file_part(content) + END, step=step)[1] == content


def test_name_and_type_are_known_before_the_first_bytes() -> None:
    body = FormBody(FORM)
    head, _, rest = file_part(b"xy").partition(b"\r\n\r\n")
    assert not body.feed_untrusted(head)
    begun = [body.has_begun]
    body.feed_untrusted(b"\r\n\r\n")
    assert [*begun, body.has_begun] == [False, True]
    assert body.feed_untrusted(rest + END) == [b"xy"]


def test_a_file_without_a_type_is_just_bytes() -> None:
    body, _ = form_of(part(b"x", b'Content-Disposition: form-data; filename="a"') + END)
    assert body.mime == "application/octet-stream"


def test_what_follows_a_form_is_nothing() -> None:
    assert form_of(file_part(b"x") + END + b"epilogue" * 100, step=10)[1] == b"x"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (file_part(b"x"), "cut short"),
        (file_part(b"x")[:40], "cut short"),
        (b"", "cut short"),
        (field(b"x") + END, "expected a part with a file name"),
        (file_part(b"x") * 2 + END, "expected one file"),
        (b"no form at all", "malformed form"),
        (b"--xYz\r\nContent Disposition: x\r\n\r\n", "malformed form"),
        (part(b"x", b"A: " + b"b" * 5000) + END, "malformed form"),
        (part(b"x", b"\r\n".join([b"A: b"] * 20)) + END, "malformed form"),
        (field(b"x") * (FORM_PARTS_MAX + 1) + END, "at most 32 parts"),
        (field(b"x" * (FORM_FIELD_BYTES_MAX + 1)) + END, "bytes beside the file"),
        (file_part(b"x", mime="nonsense") + END, "content-type"),
    ],
)
def test_a_bad_form_is_refused(data: bytes, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProtocolError, match=reason):
        form_of(data)
    assert capfd.readouterr() == ("", ""), "the parser's own warnings would fill the log"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="x\u00e9"',
        'multipart/form-data; boundary="x',
    ],
)
def test_a_form_needs_a_boundary(content_type: str) -> None:
    with pytest.raises(ProtocolError, match="boundary"):
        body_of_untrusted(content_type, None, None)


@pytest.mark.parametrize("boundary", ["----WebKitFormBoundaryABC123", '"a b"', "'()+_,-./:=?", "x" * 70])
def test_every_boundary_that_there_may_be_is_understood(boundary: str) -> None:
    body = body_of_untrusted(f"Multipart/Form-Data; charset=utf-8; Boundary={boundary}", None, None)
    form = file_part(b"content") + END
    data = form.replace(b"xYz", boundary.strip('"').encode())
    assert b"".join(body.feed_untrusted(data)) == b"content"


def test_a_body_is_the_file_unless_it_is_a_form() -> None:
    body = body_of_untrusted("Image/PNG; x=y", 'attachment; filename="a.png"', None)
    assert isinstance(body, RawBody)
    assert (body.name, body.mime, body.has_begun) == ("a.png", "image/png", True)
    assert (body.feed_untrusted(b"abc"), body.feed_untrusted(b"")) == ([b"abc"], [])
    body.end_untrusted()


def test_the_name_in_the_query_goes_before_the_headers() -> None:
    assert body_of_untrusted(None, 'attachment; filename="a.png"', "b.png").name == "b.png"
    assert body_of_untrusted(None, None, None).mime == "application/octet-stream"
    # Starlette reads headers as Latin-1, whatever they are.
    assert body_of_untrusted(None, 'attachment; filename="사진"'.encode().decode("latin-1"), None).name == "사진"


def test_another_multipart_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="multipart/mixed"):
        body_of_untrusted("multipart/mixed; boundary=x", None, None)
    with pytest.raises(TypeRefused):
        body_of_untrusted("nonsense", None, None)


@given(st.binary(max_size=400))
def test_no_bytes_break_a_form(data: bytes) -> None:
    body = FormBody(FORM)
    try:
        body.feed_untrusted(b"--xYz\r\n" + data)
        body.end_untrusted()
    except ProtocolError:
        pass
