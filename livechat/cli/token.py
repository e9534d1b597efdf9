"""Owns `livechat token`: a token for somebody, signed with the server's own key.

It must not print anything but the token on standard output: that is for scripts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from livechat.config import load_config
from livechat.credentials import mint_token, own_key_file
from livechat.error import ConfigError
from livechat.tokens.claims import SCOPES

DURATION: Final = re.compile(r"(\d{1,9})([smhd]?)")
SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """A time span: a number and s, m, h or d; without a letter, seconds."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return it in seconds."""
        match = DURATION.fullmatch(value)
        if match is None or int(match[1]) == 0:
            self.fail(f"expected a time span as 90s, 15m, 1h or 30d, got {value!r}", param, ctx)
        return int(match[1]) * SECONDS[match[2]]


@click.command()
@click.argument("user_id", metavar="USER")
@click.option(
    "--scope", "scopes", multiple=True, default=("chat",), help=f"{', '.join(SCOPES)}; several times.  [chat]"
)
@click.option(
    "--channels", multiple=True, metavar="PATTERN", help="Good for these only, as team-*; several times."
)
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="After 90s, 15m, 1h, 30d, ...")
@click.option("--priority", type=int, help="Of claims to the floor of push-to-talk channels, at most.  [any]")
@click.option("--name", help="What the user is called, for people.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the key is.  [./livechat-data]")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.")
def token(
    user_id: str,
    scopes: tuple[str, ...],
    channels: tuple[str, ...],
    expires: int,
    priority: int | None,
    name: str | None,
    data_dir: Path | None,
    file: Path | None,
) -> None:
    """Print a token that speaks for USER.

    It is signed with the key of the server with the same data folder or LIVECHAT_SECRET. Who has it is USER: let
    it live no longer than it must.
    """
    config = load_config(file, {"data_dir": data_dir})
    config.check()
    if config.auth.mode == "shared-secret":
        raise ConfigError("auth.mode: expected jwt or both: with shared-secret, a server takes no tokens")
    patterns = split_list(channels) if channels else None
    if patterns == ():
        raise ConfigError("--channels: expected patterns as team-*")
    key_file = own_key_file(config)
    is_new = key_file is not None and not key_file.exists()
    try:
        issued = mint_token(
            config, user_id, split_list(scopes), expires, channels=patterns, name=name, priority=priority
        )
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    if is_new:
        # Most likely the wrong folder, and then no server takes the token.
        click.echo(f"livechat: there was no key yet; made {key_file}", err=True)
    click.echo(issued.token)


def split_list(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return what may be given at once, with commas or spaces between, or one by one."""
    return tuple(item for value in values for item in value.replace(",", " ").split())
