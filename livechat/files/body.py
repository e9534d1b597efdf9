"""Owns how the bytes of a file come out of a request's body, be it the file itself or a form with one in it. Pure.

It must not read or keep anything: a piece of the body in, pieces of the file out, so that no file is ever whole in
memory.

Source: RFC 7578 (multipart/form-data), parsed by python-multipart.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final, Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from livechat.error import ProtocolError
from livechat.files.disposition import filename_untrusted, parameters_untrusted, text_untrusted
from livechat.files.types import DEFAULT_TYPE, media_type_untrusted

FORM_TYPE: Final = "multipart/form-data"
FORM_PARTS_MAX: Final = 32
FORM_FIELD_BYTES_MAX: Final = 65_536
"""Bytes of all that is in a form beside the file; they are dropped."""
FORM_OVERHEAD_BYTES: Final = 2 * FORM_FIELD_BYTES_MAX
"""How much larger than its file a form may be."""
_SILENT: Final = logging.Logger("livechat.files.form", logging.CRITICAL + 1)
"""The parser's log: it warns of every malformed form, which is the client's business and refused anyway."""
_BOUNDARY: Final = re.compile(
    r"""[ \t]*;[ \t]*boundary=("?)([\w'()+,./:=? -]{0,69}[\w'()+,./:=?-])\1[ \t]*(?:;|$)""",
    re.IGNORECASE | re.ASCII,
)


class Body(Protocol):
    """A request's body on its way to a file."""

    name: str | None
    """The file's name as the client said it, as soon as it is known; it may say none."""
    mime: str
    """The file's type, once `has_begun`."""
    has_begun: bool
    """Whether name and type are known."""

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """Take a piece of the body; return those of the file in it.

        Raises:
            ProtocolError: it is not what it must be.
        """
        ...

    def end_untrusted(self) -> None:
        """Note the end of the body.

        Raises:
            ProtocolError: something is missing yet.
        """
        ...


class RawBody:
    """A body that is the file."""

    has_begun = True

    def __init__(self, name: str | None, mime: str) -> None:
        self.name = name
        self.mime = mime

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """See `Body`."""
        return [data] if data else []

    def end_untrusted(self) -> None:
        """See `Body`; whether all of it came, HTTP knows."""


class FormBody:
    """A form; its first part with a file name is the file.

    Raises:
        ProtocolError: the boundary is missing or malformed.
    """

    def __init__(self, content_type: str) -> None:
        boundary = _BOUNDARY.search(content_type)
        if boundary is None:
            raise ProtocolError("content-type: expected a boundary of 1 to 70 characters")
        self.name: str | None = None
        self.mime = DEFAULT_TYPE
        self.has_begun = False
        self._has_ended = False
        self._in_file = False
        self._parts = 0
        self._dropped_bytes = 0
        self._headers: dict[str, bytes] = {}
        self._field = b""
        self._value = b""
        self._pieces: list[bytes] = []
        self._parser = MultipartParser(boundary[2].encode("ascii"), self._callbacks())
        self._parser.logger = _SILENT

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """See `Body`."""
        if self._has_ended:
            return []  # the epilogue, which means nothing
        try:
            self._parser.write(data)
        except MultipartParseError as exc:
            raise ProtocolError(f"body: malformed form: {' '.join(str(exc).split())[:120]}") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def end_untrusted(self) -> None:
        """See `Body`."""
        if not self._has_ended:
            raise ProtocolError("body: the form is cut short")
        if not self.has_begun:
            raise ProtocolError("body: expected a part with a file name")

    # --- what the parser tells ----------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > FORM_PARTS_MAX:
            raise ProtocolError(f"body: expected at most {FORM_PARTS_MAX} parts")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.setdefault(self._field.decode("latin-1").lower(), self._value)
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        disposition = self._headers.get("content-disposition", b"")
        if parameters_untrusted(disposition).keys().isdisjoint(("filename", "filename*")):
            return
        if self.has_begun:
            raise ProtocolError("body: expected one file")
        self.name = filename_untrusted(disposition)
        content_type = self._headers.get("content-type")
        if content_type is not None:
            self.mime = media_type_untrusted(text_untrusted(content_type))
        self.has_begun = self._in_file = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])
            return
        self._dropped_bytes += end - start
        if self._dropped_bytes > FORM_FIELD_BYTES_MAX:
            raise ProtocolError(f"body: expected at most {FORM_FIELD_BYTES_MAX} bytes beside the file")

    def _on_part_end(self) -> None:
        self._in_file = False

    def _on_end(self) -> None:
        self._has_ended = True


def body_of_untrusted(content_type: str | None, disposition: str | None, name: str | None) -> Body:
    """Return what takes the body of a request.

    Args:
        content_type: the header, if there is one.
        disposition: the Content-Disposition header, if there is one; not of a form.
        name: from the query; it goes before the header's.

    Raises:
        ProtocolError: the type is malformed.
    """
    if content_type is None:
        mime = DEFAULT_TYPE
    else:
        mime = media_type_untrusted(content_type)
        if mime == FORM_TYPE:
            return FormBody(content_type)
        if mime.startswith("multipart/"):
            raise ProtocolError(f"content-type: expected {FORM_TYPE} or the file's own type, got {mime}")
    if name is None and disposition is not None:
        name = filename_untrusted(disposition.encode("latin-1", "replace"))
    return RawBody(name, mime)
