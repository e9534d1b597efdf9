"""Owns what a log line must not show: secrets, wherever in it they stand.

It must not be the reason to log one: no line of livechat holds a secret to begin with. This is the second fence,
for the messages of foreign exceptions, for URLs, and for what a host's own code logs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 6
"""Levels of a value that are looked into; deeper ones are masked whole."""

SECRET_KEYS: Final = re.compile(
    r"(?:.*_)?(?:tokens?|secrets?|passwords?|passphrase|passwd|pwd|authorization|cookies?|set_cookie|credentials?"
    r"|api_?key|client_key|server_key|master_key|master_salt|private_key|tls_key_pem|session_id|jwt)",
    re.IGNORECASE,
)
"""Names of fields whose values are secret, `-` counting as `_`."""

_NOT_TEXT: Final = ("exc_info", "stack_info", "_record", "_from_structlog")
"""What later processors turn into text, or need as it is."""

_SECRETS: Final = (
    # A token in a URL's query, or in a form.
    (
        re.compile(r"(?i)\b((?:access_|refresh_|id_)?token|secret|password|session_id|api_?key)=[^&\s\"'#;,)]+"),
        rf"\1={MASK}",
    ),
    # A header, as it may stand in a dump of a request.
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\1\2{MASK}"),
    # The password of a URL: scheme://user:password@host.
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,30}://[^/\s:@]*):[^/\s@]*@"), rf"\1:{MASK}@"),
    # A field of JSON, or of a repr.
    (
        re.compile(
            r"(?i)([\"'](?:\w*_)?(?:token|secret|password|authorization|session_id|client_key|server_key)[\"']\s*:\s*)"
            r"(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
        ),
        rf'\1"{MASK}"',
    ),
    # A JSON Web Token, which begins with a header in base64: `{"` is eyJ.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), MASK),
    # A session id.
    (re.compile(r"\bsess_[0-9a-f]{40}\b"), f"sess_{MASK}"),
)


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace the secrets in a log line; a structlog processor, to stand before the renderer.

    Values of fields that are named like secrets go whole; in all other text what looks like one does.
    """
    for key, value in event.items():
        if key not in _NOT_TEXT:
            event[key] = MASK if _is_secret(key) and value is not None else masked(value)
    return event


def masked(value: Any, depth: int = DEPTH_MAX) -> Any:
    """Return a value without the secrets in it; one that shows none stays as it is."""
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, bytes):
        return _masked_text(value.decode("utf-8", "backslashreplace"))
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        # A renderer will show its repr.
        shown = repr(value)
        return value if (text := _masked_text(shown)) == shown else text
    if depth == 0:
        return MASK
    if isinstance(value, Mapping):
        return {
            key: MASK if _is_secret(key) and item is not None else masked(item, depth - 1)
            for key, item in value.items()
        }
    return [masked(item, depth - 1) for item in value]


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and SECRET_KEYS.fullmatch(key.replace("-", "_")) is not None


def _masked_text(text: str) -> str:
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
