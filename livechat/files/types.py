"""Owns media types: which may be uploaded, whether the bytes are what they say, which a browser may show. Pure.

It must not look at more than the first bytes. An image must be one by its signature, so that nobody takes a page
of script for a picture; whatever a browser could run is never shown, only saved.

Source: the signatures of the WHATWG MIME Sniffing Standard, section 6.1, and ISO/IEC 14496-12 for AVIF and HEIC.
"""

from __future__ import annotations

import re
from typing import Final

from livechat.error import ProtocolError

HEAD_BYTES: Final = 32
"""First bytes of a file that all signatures need."""
MIME_CHARS_MAX: Final = 127
DEFAULT_TYPE: Final = "application/octet-stream"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*"
_MIME: Final = re.compile(rf"[ \t]*({_NAME}/{_NAME})[ \t]*(?:;.*)?", re.DOTALL)
PATTERN: Final = re.compile(rf"{_NAME}/(?:{_NAME}|\*)|\*/\*")
"""An entry of the allow-list: a type, or all of one kind, or all."""


class TypeRefused(ProtocolError):
    """The file is of a type that is not taken here, or not of the type it is said to be."""


def _iso_media(*brands: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"....ftyp(?:" + b"|".join(brands) + rb")", re.DOTALL)


SIGNATURES: Final[dict[str, re.Pattern[bytes]]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBPVP", re.DOTALL),
    "image/bmp": re.compile(rb"BM"),
    "image/tiff": re.compile(rb"II\x2a\x00|MM\x00\x2a"),
    "image/vnd.microsoft.icon": re.compile(rb"\x00\x00[\x01\x02]\x00"),
    "image/avif": _iso_media(rb"avif", rb"avis", rb"mif1"),
    "image/heic": _iso_media(rb"hei[csxm]", rb"hev[csxm]", rb"mif1", rb"msf1"),
    "image/heif": _iso_media(rb"hei[csxm]", rb"hev[csxm]", rb"mif1", rb"msf1"),
}
"""Images that can be told by how they begin."""

ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-icon": "image/vnd.microsoft.icon",
}

INLINE: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"),
        *("audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/webm", "audio/wav", "audio/x-wav"),
        *("audio/flac", "audio/opus", "video/mp4", "video/webm", "video/ogg", "video/quicktime"),
    }
)
"""What a browser shows or plays and cannot run."""


def media_type_untrusted(header: str) -> str:
    """Return the type of a Content-Type header, in lower case and without parameters.

    Raises:
        TypeRefused: it is none.
    """
    match = _MIME.fullmatch(header)
    if match is None or len(match[1]) > MIME_CHARS_MAX:
        raise TypeRefused("content-type: expected a media type, as image/png")
    mime = match[1].lower()
    return ALIASES.get(mime, mime)


def check_type(mime: str, allowed: tuple[str, ...]) -> None:
    """Refuse a type that is not in the allow-list.

    `image/*` stands for the images that can be told by their signature: others, SVG for one, must be named.

    Raises:
        TypeRefused: it is not.
    """
    kind = mime.partition("/")[0]
    patterns = {mime, "*/*"}
    if kind != "image" or mime in SIGNATURES:
        patterns.add(f"{kind}/*")
    if patterns.isdisjoint(pattern.lower() for pattern in allowed):
        raise TypeRefused(f"content-type: {mime} is not taken here")


def check_content(mime: str, head: bytes) -> None:
    """Refuse what is said to be an image and begins like none of that type.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of it.

    Raises:
        TypeRefused: it is not what it is said to be.
    """
    signature = SIGNATURES.get(mime)
    if signature is not None and signature.match(head) is None:
        raise TypeRefused(f"content-type: the file does not begin like {mime}")


def is_inline(mime: str) -> bool:
    """Tell whether a browser may show a file of this type in place."""
    return mime in INLINE
