"""A server is named by the same option, and the same URLs, whatever the command."""

from __future__ import annotations

import click
import pytest

from livechat.cli.address import configured_authority, gateway_url, http_url
from livechat.cli.main import cli
from livechat.config import Config
from livechat.error import ConfigError


@pytest.mark.parametrize(
    ("url", "http", "gateway"),
    [
        ("http://h:1", "http://h:1", "ws://h:1/ws"),
        ("https://h/", "https://h/", "wss://h/ws"),
        ("ws://h:1/ws", "http://h:1", "ws://h:1/ws"),
        ("wss://[::1]:1/behind/ws?a=b", "https://[::1]:1", "wss://[::1]:1/behind/ws?a=b"),
        ("ws://h", "http://h", "ws://h/ws"),
    ],
)
def test_a_server_is_named_by_either_of_its_addresses(url: str, http: str, gateway: str) -> None:
    assert (http_url(url), gateway_url(url)) == (http, gateway)


@pytest.mark.parametrize("url", ["", "h:1", "ftp://h", "ws://", "http://h:port", "ws://[::1", "http://h:0", "//h"])
def test_anything_else_is_refused(url: str) -> None:
    for read in (http_url, gateway_url):
        with pytest.raises(ConfigError, match="--server: expected http"):
            read(url)


@pytest.mark.parametrize(
    ("host", "authority"),
    [("127.0.0.1", "127.0.0.1:5"), ("0.0.0.0", "127.0.0.1:5"), ("::", "[::1]:5"), ("fe80::1", "[fe80::1]:5")],
)
def test_the_configured_server_is_reached_on_this_machine(host: str, authority: str) -> None:
    assert configured_authority(Config(host=host, port=5, tls_cert=None)) == authority


def commands(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """Return a command and all below it, with their names."""
    below = command.commands if isinstance(command, click.Group) else {}
    return [(name, command)] + [each for key, value in below.items() for each in commands(value, f"{name} {key}")]


def test_every_command_that_asks_a_server_takes_both_spellings() -> None:
    spellings = {
        name: set(option.opts)
        for name, command in commands(cli, "livechat")
        for option in command.params
        if "--server" in option.opts
    }
    # Of an announcement `--url` is where to read more.
    assert spellings.pop("livechat announce") == {"--server"}
    assert set(map(frozenset, spellings.values())) == {frozenset({"--server", "--url"})}
    asking = {"listen", "talk", "trace", "admin status", "admin users", "admin kick", "user list"}
    assert {f"livechat {name}" for name in asking} <= set(spellings)
