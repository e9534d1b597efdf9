"""Owns the settings of files; the configuration holds one of these."""

from __future__ import annotations

import attrs

from livechat.error import ConfigError
from livechat.files.types import PATTERN

DEFAULT_TYPES = (
    *("image/*", "audio/*", "video/*", "text/plain", "text/csv", "text/markdown"),
    *("application/pdf", "application/json", "application/zip", "application/gzip", "application/octet-stream"),
    *("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/rtf"),
    *("application/vnd.openxmlformats-officedocument.wordprocessingml.document",),
    *("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",),
    *("application/vnd.openxmlformats-officedocument.presentationml.presentation",),
    *("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.spreadsheet"),
)


@attrs.frozen
class FileSettings:
    """What may be uploaded, how much of it, and for how long it waits for its message."""

    uploads: bool = True
    """Whether files are taken; those that are there stay available."""
    file_bytes: int = 104_857_600
    """A larger file gets 1005."""
    user_bytes: int = 1_073_741_824
    """All files of one user; a file counts as 4,096 bytes at least."""
    total_bytes: int = 21_474_836_480
    """All files."""
    types: tuple[str, ...] = attrs.field(default=DEFAULT_TYPES, repr=False)
    """Media types that are taken, as `image/png`, `image/*` or `*/*`."""
    foreign_attachments: bool = True
    """Whether a message's attachment may be elsewhere; its name, size and type are then what its author says."""
    unattached_ttl_ms: int = 86_400_000
    """A file that no message refers to is removed after this time."""
    sweep_interval_ms: int = 60_000
    """How often it is looked for what is to be removed."""
    uploads_per_user: int = 4
    """Uploads of one user at a time; more get 9001."""
    uploads_max: int = 64
    """Uploads at a time; more get 9001."""

    def check(self) -> None:
        """Refuse what is no media type.

        Raises:
            ConfigError: names it.
        """
        for pattern in self.types:
            if PATTERN.fullmatch(pattern) is None:
                raise ConfigError(f"files.types: expected media types as image/png or image/*, got {pattern!r}")
