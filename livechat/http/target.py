"""Owns what a request is for: the path in its target, and whether it is one to serve at all. Pure.

It must not know routes.

Source: RFC 9112, sections 3.2 (targets) and 6.1 (whose length two may read differently).
"""

from __future__ import annotations

import h11


def path_of(method: bytes, target: bytes) -> bytes | None:
    """Return the path and query of a request's target (RFC 9112, section 3.2); None: it is not one to serve."""
    if target.startswith(b"/") or (method == b"OPTIONS" and target == b"*"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return None
    # As a proxy would be asked. Whom it names does not matter: there is one site only.
    end = min((place for mark in (b"/", b"?") if (place := rest.find(mark)) >= 0), default=len(rest))
    path = rest[end:]
    return path if path.startswith(b"/") else b"/" + path


def fault_of(request: h11.Request) -> int | None:
    """Return the status of a request that h11 lets through and that is not to be served; None: it is."""
    if not request.http_version.startswith(b"1."):
        return 505
    names = {name for name, _ in request.headers}
    # Two who read it might not agree where its body ends: so requests are smuggled past a proxy (RFC 9112, 6.1).
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return 400
    return 400 if path_of(request.method, request.target) is None else None
