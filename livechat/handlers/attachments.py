"""Owns what the URL of a message's attachment refers to: a file of this server, or something elsewhere.

It must not look for the file: the store does, in the transaction of the message.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from livechat.error import Forbidden, ProtocolError
from livechat.files.names import FILE_ID, FILES_PATH, file_url
from livechat.handlers.node import Node
from livechat.protocol.types import Address, FileId
from livechat.store.operations import FileClaim


def claim_of(node: Node, url: str) -> FileClaim | None:
    """Return the file that a URL refers to; None: it is elsewhere, and nobody looks at it.

    A server has more names than it knows. So of a URL with a host the path tells, as ids can't be guessed: it is
    one of ours if there is such a file. Where the host is surely ours there must be.

    Raises:
        ProtocolError: no file can have this URL.
        Forbidden: it is elsewhere, and that is not allowed.
    """
    path, host = _split(url)
    is_ours = not host or host in node.hosts
    file_id = path.removeprefix(f"{FILES_PATH}/") if path.startswith(f"{FILES_PATH}/") else None
    if file_id is not None and FILE_ID.fullmatch(file_id) is not None:
        is_certain = is_ours or not node.files.settings.foreign_attachments
        return FileClaim(FileId(file_id), file_url(FileId(file_id)), is_certain)
    if file_id is not None and is_ours:
        raise ProtocolError("attachment.url: there is no such file")
    if not node.files.settings.foreign_attachments:
        raise Forbidden(f"attachment.url: expected that of a file uploaded here, {FILES_PATH}/…")
    return None


def hosts_of(addresses: tuple[Address, ...]) -> frozenset[str]:
    """Return how a server that is bound there may be called in a URL, but for names of its own."""
    bound = {f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses}
    local = {f"localhost:{port}" for host, port in addresses if ip_address(host).is_loopback}
    return frozenset(bound | local)


def _split(url: str) -> tuple[str, str]:
    """Return (path, host and port); the path is empty for what is neither http or https nor a path."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    if parts.scheme.lower() not in ("", "http", "https"):
        return "", ""
    return parts.path, parts.netloc.lower()
