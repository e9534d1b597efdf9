"""Owns how a command asks a running server over HTTP: where it is, what proves who asks, how refusals look.

It must not print. Whatever goes wrong is one line (`ConfigError`).
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import attrs
import click

from livechat.cli.address import configured_authority, http_url, server_option
from livechat.config import Config, load_config, read_secret
from livechat.credentials import mint_token
from livechat.error import ConfigError

TIMEOUT_S: Final = 15.0
STREAM_TIMEOUT_S: Final = 45.0
"""Three heartbeats of a stream."""
OPERATOR: Final = "operator"
"""Whom the tokens of commands speak for."""
TOKEN_LIFETIME_S: Final = 60.0
STREAM_TOKEN_LIFETIME_S: Final = 3600.0
"""A stream ends with the token that opened it, and is opened anew then."""
PAGE: Final = 1000

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Event:
    """One server-sent event."""

    name: str
    data: Any


@attrs.frozen
class Remote:
    """A running server."""

    url: str
    """http(s)://HOST:PORT"""
    cacert: Path | None
    make_token: Callable[[float], str] = attrs.field(repr=False)
    """Returns what proves who asks; a token of ours lives so many seconds."""

    @property
    def shown(self) -> str:
        """The URL without the name and password that it may hold."""
        scheme, _, rest = self.url.partition("://")
        return one_line(f"{scheme}://{rest.rpartition('@')[2]}" if rest else self.url)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        expects: str,
    ) -> dict[str, Any]:
        """Send a request; return the object that it is answered with.

        Args:
            path: after `/api/v1`.
            query: what is None is left out.
            expects: a field that the answer has.

        Raises:
            ConfigError: the server can't be reached, or refuses.
        """
        with self._reaching(), self._response(method, path, query, body, TIMEOUT_S) as response:
            answer = self._document(response)
            if response.status >= 300 or expects not in answer:
                raise self._refusal(response, answer)
            return answer

    def pages(self, path: str, field: str, query: Mapping[str, object] | None = None) -> Iterator[dict[str, Any]]:
        """Yield every item of a list, page by page.

        Raises:
            ConfigError: the server can't be reached, or refuses.
        """
        after: object = None
        while True:
            page = self.ask("GET", path, query={**(query or {}), "after": after, "limit": PAGE}, expects=field)
            yield from page[field]
            after = page.get("next")
            if after is None:
                return

    def events(self, path: str, query: Mapping[str, object]) -> Iterator[Event]:
        """Yield the events of a stream up to its end.

        Raises:
            ConfigError: the server can't be reached, refuses, or has gone.
        """
        opened = self._response("GET", path, query, None, STREAM_TIMEOUT_S, STREAM_TOKEN_LIFETIME_S)
        with self._reaching(), opened as response:
            if response.status != 200 or not response.headers.get("content-type", "").startswith(
                "text/event-stream"
            ):
                raise self._refusal(response, self._document(response))
            yield from _events(response)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise ConfigError(f"cannot reach {self.shown}: {_reason(exc)}") from exc

    @contextmanager
    def _response(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object,
        timeout_s: float,
        lifetime_s: float = TOKEN_LIFETIME_S,
    ) -> Iterator[http.client.HTTPResponse]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"/api/v1{path}" + (f"?{urlencode(given)}" if given else "")
        headers = {"Authorization": f"Bearer {self.make_token(lifetime_s)}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body)
        connection = _connect(self.url, self.cacert, timeout_s)
        try:
            connection.request(method, target, data, headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _document(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        try:
            answer = json.loads(response.read())
        except (ValueError, RecursionError):
            answer = None
        return answer if isinstance(answer, dict) else {}

    def _refusal(self, response: http.client.HTTPResponse, answer: dict[str, Any]) -> ConfigError:
        reason = answer.get("detail") or f"it answers {response.status} {response.reason}, as no livechat does"
        return ConfigError(f"{self.shown} refuses: {one_line(reason)}")


def remote_options(command: F, names: tuple[str, ...] = ("--server", "--url", "server")) -> F:
    """Give a command the options by which it finds a server; see `find_remote`.

    Args:
        names: of the one that says which, where `--url` is something else.
    """
    options = (
        server_option(*names),
        click.option("--cacert", type=click.Path(path_type=Path), help="Whom to trust for https (PEM)."),
        click.option(
            "--data-dir", type=click.Path(path_type=Path), help="Where the secret is.  [./livechat-data]"
        ),
        click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def find_remote(server: str | None, cacert: Path | None, data_dir: Path | None, file: Path | None) -> Remote:
    """Return the server that is meant: the one of the configuration, if no other is named.

    Raises:
        ConfigError: a setting is wrong, or there is no secret, or it cannot be sent.
    """
    config = load_config(file, {"data_dir": data_dir})
    token = operator_token(config)
    if not (token.isascii() and token.isprintable()):
        raise ConfigError("secret: only one of printable ASCII characters can be sent over HTTP")
    if server is None:
        server = f"{'http' if config.tls_cert is None else 'https'}://{configured_authority(config)}"
    else:
        server = http_url(server)
    # Not the one from above: a command may go on for longer than a token lives.
    return Remote(server, cacert, lambda lifetime_s: operator_token(config, lifetime_s))


def operator_token(config: Config, lifetime_s: float = TOKEN_LIFETIME_S) -> str:
    """Return what lets an operator do everything on the server of a configuration.

    Args:
        lifetime_s: of a token that is made; cut to what the server takes.

    Raises:
        ConfigError: its secret or its key cannot be read.
    """
    if config.auth.mode == "jwt":
        return mint_token(config, OPERATOR, ("admin",), min(lifetime_s, config.auth.lifetime_max_s)).token
    return config.secret if config.secret is not None else read_secret(config)


def segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return quote(text, safe="")


def one_line(text: object) -> str:
    """Return a text as one line without anything that a terminal would obey."""
    words = " ".join(str(text).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)


def _reason(exc: Exception) -> str:
    """Return why a server was not reached, as an operator wants to read it."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {one_line(exc.verify_message)}"
    if isinstance(exc, ssl.SSLError) and exc.reason:
        return f"TLS: {one_line(exc.reason).replace('_', ' ').lower()}"
    said = exc.strerror if isinstance(exc, OSError) else None
    return one_line(said or exc).lower() or type(exc).__name__


def _connect(url: str, cacert: Path | None, timeout_s: float) -> http.client.HTTPConnection:
    """Prepare a connection to a server.

    Raises:
        ConfigError: `cacert` cannot be read.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    assert host is not None, "it is one of `http_url`"
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=None if cacert is None else str(cacert))
    except OSError as exc:
        raise ConfigError(f"cannot read {cacert}: {(exc.strerror or str(exc)).lower()}") from exc
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _events(response: http.client.HTTPResponse) -> Iterator[Event]:
    """Read server-sent events as this server writes them: of each a name, if any, and one line of data."""
    name = "message"
    while line := response.readline():
        field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield Event(name, json.loads(value))
        elif not field:
            name = "message"
    raise http.client.HTTPException("the stream has ended")
