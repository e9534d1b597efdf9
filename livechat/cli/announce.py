"""Owns `livechat announce`: tell everybody something, through the HTTP API of a running server."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click

from livechat.config import load_config, read_secret, secret_path
from livechat.error import ConfigError

TIMEOUT_S: Final = 15.0


@click.command()
@click.argument("title")
@click.argument("body", default="")
@click.option("--url", help="Where to read more.")
@click.option("--image-url", help="A picture to show.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]), default="info", show_default=True)
@click.option("--expires-in", type=click.IntRange(min=1), metavar="SECONDS", help="Not told any more after that.")
@click.option("--server", metavar="URL", help="http(s)://HOST:PORT.  [the configured host and port]")
@click.option("--cacert", type=click.Path(path_type=Path), help="Whom to trust for https (PEM).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the secret is.  [./livechat-data]")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.")
def announce(
    title: str,
    body: str,
    expires_in: int | None,
    server: str | None,
    cacert: Path | None,
    data_dir: Path | None,
    file: Path | None,
    **fields: Any,
) -> None:
    """Tell everybody TITLE and BODY: who is connected now, the others when they log in.

    The token is LIVECHAT_SECRET, or else the secret in the data folder of the server.
    """
    config = load_config(file, {"data_dir": data_dir})
    token = config.secret if config.secret is not None else read_secret(secret_path(config))
    if not (token.isascii() and token.isprintable()):
        raise ConfigError("secret: only one of printable ASCII characters can be sent over HTTP")
    document = {"title": title, "body": body, **fields}
    if expires_in is not None:
        document["expires_at"] = time.time_ns() // 1_000_000 + expires_in * 1000
    if server is None:
        scheme = "http" if config.tls_cert is None else "https"
        server = f"{scheme}://{_reachable(config.host)}:{config.port}"
    created = _post(server, cacert, token, document)
    click.echo(f"announced {created['announcement_id']}")


def _reachable(host: str) -> str:
    """Return where a client on this machine finds a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _post(server: str, cacert: Path | None, token: str, document: dict[str, Any]) -> dict[str, Any]:
    """Send the announcement; return what was created.

    Raises:
        ConfigError: the server can't be reached, or refuses; one line.
    """
    try:
        connection = _connect(server, cacert)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", "/api/v1/announcements", json.dumps(document), headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as exc:
        raise ConfigError(f"cannot announce at {_shown(server)}: {_one_line(exc) or type(exc).__name__}") from exc
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    if response.status != 201 or "announcement_id" not in answer:
        reason = answer.get("title") or f"it answers {response.status} {response.reason}, as no livechat does"
        raise ConfigError(f"{_shown(server)} refuses: {_one_line(reason)}")
    return answer


def _connect(server: str, cacert: Path | None) -> http.client.HTTPConnection:
    """Prepare a connection to a server.

    Raises:
        ConfigError: `server` is no URL of one.
        OSError: `cacert` cannot be read.
    """
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError(f"--server: expected http(s)://HOST:PORT, got {server!r}")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.create_default_context(cafile=None if cacert is None else str(cacert))
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _shown(server: str) -> str:
    """Return a URL without the name and password that it may hold."""
    scheme, _, rest = server.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if rest else server
