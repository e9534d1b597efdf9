"""Owns how commands are told which server is meant: by `--server`, or `--url`, and its HTTP or WebSocket address.

It must not connect.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import click

from livechat.config import Config
from livechat.error import ConfigError

SHAPES: Final = "http(s)://HOST:PORT or ws(s)://HOST:PORT/ws"
TO_HTTP: Final = {"ws": "http", "wss": "https"}
TO_WS: Final = {http: ws for ws, http in TO_HTTP.items()}


def server_option(*names: str) -> Any:
    """Return the option that names a server.

    Args:
        names: of the option, and of its parameter.
    """
    return click.option(*names, metavar="URL", help=f"{SHAPES}.  [the configured host and port]")


def http_url(url: str) -> str:
    """Return the HTTP address of the server that a URL names.

    Raises:
        ConfigError: it is no URL of one.
    """
    parts = _parts(url)
    return url if parts.scheme not in TO_HTTP else f"{TO_HTTP[parts.scheme]}://{parts.netloc}"


def gateway_url(url: str) -> str:
    """Return the gateway of the server that a URL names.

    Raises:
        ConfigError: it is no URL of one.
    """
    parts = _parts(url)
    path = parts.path if parts.path.strip("/") else "/ws"
    return urlunsplit((TO_WS.get(parts.scheme, parts.scheme), parts.netloc, path, parts.query, ""))


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in (*TO_HTTP, *TO_WS) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"--server: expected {SHAPES}, got {url!r}")
    return parts


def configured_authority(config: Config) -> str:
    """Return HOST:PORT where a client on this machine finds the server of a configuration."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - compared, not bound
    return f"{f'[{host}]' if ':' in host else host}:{config.port}"
