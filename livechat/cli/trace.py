"""Owns `livechat trace`: the packets of a running server, one line each as they pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from livechat.cli.display import Document, clock, make_console, size
from livechat.cli.remote import Event, Remote, find_remote, one_line, remote_options

FILTERS: Final = ("user", "session", "op", "direction", "errors")
STYLES: Final = {"in": "cyan", "out": "green"}
STYLES_BY_NAME: Final = {"ERROR": "bold red", "UNREADABLE": "bold red", "CLOSE": "yellow", "HEARTBEAT": "dim"}
NAME_CHARS: Final = 16
WIDE: Final = 100
"""Columns of a terminal from which on a line shows everything."""


class Filter(click.ParamType[tuple[str, str]]):
    """`name=value`, or `errors`."""

    name = "filter"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return (name, value)."""
        name, equals, text = value.partition("=")
        if name == "errors" and not equals:
            text = "true"
        if name not in FILTERS or not text:
            self.fail(f"expected user=, session=, op=, direction= or errors, got {value!r}", param, ctx)
        return name, text


@click.command(short_help="Show the packets that pass, as they do.")
@click.argument("channel", required=False)
@click.option(
    "--filter",
    "filters",
    type=Filter(),
    multiple=True,
    metavar="NAME=VALUE",
    help="user=ID, session=sess_…, op=NAME,NAME, direction=in or out, errors; several times.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N packets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
@remote_options
def trace(
    channel: str | None, filters: Iterable[tuple[str, str]], limit: int | None, as_json: bool, **where: Any
) -> None:
    """Show the packets that pass, of CHANNEL or all: when, which op, by or to whom, how large; never what is said.

    Ctrl-C stops.
    """
    remote, console = find_remote(**where), make_console()
    for event in _follow(remote, {"channel": channel, **dict(filters)}, limit):
        if as_json:
            click.echo(json.dumps(event.data, ensure_ascii=False))
        elif event.name == "dropped":
            _print(console, Text(f"… {event.data['dropped']:,} more were too many to show", "yellow"))
        else:
            _print(console, line(event.data, console.width if console.is_terminal else None))


def _follow(remote: Remote, query: Document, limit: int | None) -> Iterator[Event]:
    """Yield what passes, up to so many packets, also for longer than one token lives.

    Raises:
        ConfigError: the server can't be reached, refuses, or has gone.
    """
    left = limit
    while left is None or left > 0:
        for event in remote.events("/admin/trace", {**query, "limit": left}):
            if event.name == "end":
                if not event.data:
                    return
                # The token has ended; whether its holder may go on is decided where the next one is shown.
                break
            if left is not None:
                left -= event.name == "message"
            yield event


def _print(console: Console, text: Text) -> None:
    if console.is_terminal:
        console.print(text, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        console.print(text, soft_wrap=True)


def line(packet: Document, width: int | None) -> Text:
    """Return one packet as one line.

    Args:
        width: of the terminal; None: there is no limit.
    """
    name, direction = str(packet["name"]), str(packet["direction"])
    if name == "UNKNOWN" and "op" in packet:
        name = f"op {packet['op']}"
    style = STYLES_BY_NAME.get(name, STYLES.get(direction, ""))
    text = Text()
    text.append(f"{clock(packet['time'])} ", "dim")
    text.append(f"{direction:<4}", STYLES.get(direction, ""))
    text.append(f"{one_line(name):<{NAME_CHARS}} ", style)
    for shown, how in _details(packet, width is None or width >= WIDE):
        text.append(one_line(shown), how)
        text.append("  ")
    text.rstrip()
    return text


def _details(packet: Document, is_wide: bool) -> Iterable[tuple[str, str]]:
    if "code" in packet:
        yield str(packet["code"]), "red" if packet["name"] == "ERROR" else "yellow"
    if "channel_id" in packet:
        seq = f" #{packet['seq']}" if "seq" in packet else ""
        yield f"{packet['channel_id']}{seq}", "magenta"
    # Until somebody has identified, the address is all that is known.
    yield packet.get("user_id") or packet["peer"], "bold"
    if "answers" in packet:
        yield f"to {packet['answers']}", "dim"
    if is_wide:
        if "session" in packet:
            yield packet["session"], "dim"
        if packet["size"]:
            yield size(packet["size"]), "dim"
