"""Owns files that hold a secret: only their owner may read them.

It must not know what the secrets are for, and never shows one.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from livechat.error import ConfigError


def obtain_private(path: Path, fresh: str) -> str:
    """Return what a private file holds; if there is none, make it, with `fresh` in it.

    The file and its folder, if that is made as well, can be used by their owner only (modes 0600 and 0700).

    Raises:
        ConfigError: the file cannot be read or made, others can read it, or nothing is in it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_private(path)
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {(exc.strerror or str(exc)).lower()}") from exc
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(fresh + "\n")
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {(exc.strerror or str(exc)).lower()}") from exc
    return fresh


def read_private(path: Path, *, group_may_read: bool = False) -> str:
    """Return what a private file holds, without white space around it.

    Args:
        group_may_read: as where an operator gives a file to the group that a service runs as.

    Raises:
        ConfigError: the file cannot be read, others can read it, or nothing is in it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path}: {(getattr(exc, 'strerror', None) or str(exc)).lower()}") from exc
    if mode & (0o037 if group_may_read else 0o077):
        expected = "0640" if group_may_read else "0600"
        raise ConfigError(f"{path} can be read by others (mode {mode:04o}); expected {expected}")
    if not text:
        raise ConfigError(f"{path} is empty; remove it to have a new secret made")
    return text


def replace_private(path: Path, text: str) -> None:
    """Write a private file, whole or not at all: who reads it meanwhile sees the old text or the new one.

    Raises:
        ConfigError: the file cannot be written.
    """
    fresh = path.parent / f"{path.name}.{secrets.token_hex(4)}"  # with_name raises for "."
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", newline="") as file:
                file.write(text)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {(exc.strerror or str(exc)).lower()}") from exc
