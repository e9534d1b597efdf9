"""Owns `livechat schema`: prints the descriptions of the gateway and of the HTTP API; takes no server."""

from __future__ import annotations

import json

import click

from livechat.http import openapi as api
from livechat.http.app import all_endpoints
from livechat.protocol.asyncapi import document


@click.command(short_help="Print the protocol, or the HTTP API, for programs.")
@click.option("--openapi", is_flag=True, help="The HTTP API, as OpenAPI 3.1, instead.")
@click.option("--compact", is_flag=True, help="On one line, as a server serves it.")
def schema(openapi: bool, compact: bool) -> None:
    """Print what a server serves at /api/v1/protocol.json: every packet as AsyncAPI 3.0 and JSON Schema.

    With --openapi what it serves at /api/v1/openapi.json.
    """
    text = json.dumps(
        api.document(all_endpoints()) if openapi else document(),
        ensure_ascii=False,
        indent=None if compact else 2,
        separators=(",", ":") if compact else None,
    )
    click.echo(text)
