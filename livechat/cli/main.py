"""Owns the console script: the commands, and how an operator's mistake looks (one line, exit status 2).

It must not hold server logic; each command calls the library.
"""

from __future__ import annotations

import sys

import click

from livechat.cli.admin import admin
from livechat.cli.announce import announce
from livechat.cli.listen import listen
from livechat.cli.migrate import migrate
from livechat.cli.schema import schema
from livechat.cli.serve import serve
from livechat.cli.talk import talk
from livechat.cli.token import token
from livechat.cli.trace import trace
from livechat.cli.user import user
from livechat.error import ConfigError
from livechat.version import __version__

USAGE_STATUS = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="livechat")
def cli() -> None:
    """A chat and voice relay server."""


cli.add_command(migrate)
cli.add_command(serve)
cli.add_command(announce)
cli.add_command(schema)
cli.add_command(token)
cli.add_command(user)
cli.add_command(admin)
cli.add_command(trace)
cli.add_command(listen)
cli.add_command(talk)


def main(arguments: list[str] | None = None) -> None:
    """Run the console script and exit."""
    try:
        status = cli.main(args=arguments, prog_name="livechat", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        sys.exit(USAGE_STATUS)
    except click.UsageError as exc:
        _fail(exc.format_message().splitlines()[0])
    except click.ClickException as exc:
        _fail(exc.format_message())
    except ConfigError as exc:
        _fail(str(exc))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(reason: str) -> None:
    click.echo(f"livechat: {reason}", err=True)
    sys.exit(USAGE_STATUS)
