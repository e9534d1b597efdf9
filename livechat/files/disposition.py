"""Owns the Content-Disposition header: the file name in one, and one for a file name. Pure.

It must not judge names (`names`); what it reads is untrusted.

Source: RFC 6266 (the header), RFC 8187 (`filename*`), RFC 7578 section 4.2 (in forms: names as raw UTF-8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from unicodedata import normalize
from urllib.parse import quote, unquote_to_bytes

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb")[ \t]*=[ \t]*")
_KIND: Final = re.compile(rb"[ \t]*(" + _TOKEN + rb")")
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE: Final = re.compile(rb'[^;" \t]*')
_EXTENDED: Final = re.compile(rb"(utf-8|iso-8859-1)'[^']*'((?:[^%\x80-\xff]|%[0-9a-fA-F]{2})*)", re.IGNORECASE)
_RISKY: Final = re.compile(r'[^\x20-\x7e]|["\\%]')
ATTRIBUTE_CHARS: Final = "!#$&+-.^_`|~"
"""Beside letters and digits what `filename*` may hold as it is (RFC 8187, `attr-char`)."""


def parameters_untrusted(header: bytes) -> dict[str, bytes]:
    """Return the parameters by their names in lower case, and the kind (`attachment`, `form-data`) as "".

    What is malformed ends it: what came before counts. The first of two with the same name counts.
    """
    kind = _KIND.match(header)
    if kind is None:
        return {}
    return {"": kind[1].lower()} | dict(reversed(list(_parameters(header, kind.end()))))


def _parameters(header: bytes, position: int) -> Iterator[tuple[str, bytes]]:
    while (match := _PARAMETER.match(header, position)) is not None:
        quoted = _QUOTED.match(header, match.end())
        if quoted is not None:
            # Only what must be escaped is taken for an escape: some clients send `C:\dir\file` as it is.
            value, position = re.sub(rb'\\(["\\])', rb"\1", quoted[1]), quoted.end()
        else:
            bare = _BARE.match(header, match.end())
            assert bare is not None
            value, position = bare[0], bare.end()
        yield match[1].decode("ascii").lower(), value


def filename_untrusted(header: bytes) -> str | None:
    """Return the file name of a header; None if it has none. `filename*` goes before `filename`."""
    parameters = parameters_untrusted(header)
    extended = parameters.get("filename*")
    if extended is not None and (match := _EXTENDED.fullmatch(extended)) is not None:
        try:
            return unquote_to_bytes(match[2]).decode(match[1].decode("ascii"))
        except UnicodeDecodeError:
            pass
    plain = parameters.get("filename")
    return text_untrusted(plain) if plain is not None else None


def text_untrusted(value: bytes) -> str:
    """Return a header's bytes as text: UTF-8, or where they are none, Latin-1."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def serialize_disposition(name: str, *, inline: bool) -> str:
    """Return the header for a file name, in ASCII; a name that is not has a stand-in for old clients."""
    kind = "inline" if inline else "attachment"
    plain = _RISKY.sub("_", "".join(char for char in normalize("NFKD", name) if char.isascii()))
    if plain == name:
        return f'{kind}; filename="{name}"'
    if not plain.strip(" _") or plain.startswith("."):
        plain = f"file{plain.strip()}"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=ATTRIBUTE_CHARS)}"
