"""Owns `livechat announce`: tell everybody something, through the HTTP API of a running server."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from livechat.cli.remote import find_remote, remote_options
from livechat.cli.token import Duration


@click.command(short_help="Tell everybody something.")
@click.argument("title")
@click.argument("body", default="")
@click.option("--url", help="Where to read more.")
@click.option("--image-url", help="A picture to show.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]), default="info", show_default=True)
@click.option("--expires-in", type=Duration(), help="Not told any more after 90s, 15m, 1h, 30d, ...")
@partial(remote_options, names=("--server",))
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

    The token is LIVECHAT_SECRET, or else the secret in the data folder of the server; where only signed tokens are
    taken, one that is made with the key of the server.
    """
    remote = find_remote(server, cacert, data_dir, file)
    document = {"title": title, "body": body, **fields}
    if expires_in is not None:
        document["expires_at"] = time.time_ns() // 1_000_000 + expires_in * 1000
    created = remote.ask("POST", "/announcements", body=document, expects="announcement_id")
    click.echo(f"announced {created['announcement_id']}")
