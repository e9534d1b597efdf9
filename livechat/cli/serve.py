"""Owns `livechat serve`: a server on its own, until SIGTERM or SIGINT; SIGHUP has it read its words again."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import trio

from livechat.cli import logs
from livechat.config import Config, load_config, secret_path
from livechat.error import ConfigError
from livechat.server import Server, open_server
from livechat.tuning import tune_process
from livechat.version import __version__

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.command()
@click.option("--host", help="Name or IP address to listen on.  [127.0.0.1]")
@click.option("--port", type=int, help="TCP port for WebSocket and HTTP; 0: any.  [8080]")
@click.option("--udp-port", type=int, help="UDP port for media; 0: any.  [10000]")
@click.option("--advertise-host", help="Where clients are told to send media.  [where they reached us]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database and secret.  [./livechat-data]")
@click.option("--store-url", help="sqlite:///path, postgresql://… or memory:  [SQLite in --data-dir]")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM); needs --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Private key (PEM).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="[console]")
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.")
def serve(file: Path | None, store_url: str | None, **flags: Any) -> None:
    """Run the server until SIGTERM or SIGINT; a second one does not wait for clients.

    SIGHUP reads the file with unwanted words (chat.words_file) again.

    Settings come from the TOML file, over it from LIVECHAT_* in the environment (LIVECHAT_SECRET,
    LIVECHAT_GATEWAY_DRAIN_MS, ...), over that from the options.
    """
    config = load_config(file, {**flags, "store.url": store_url})
    logs.configure(config.log_level, config.log_format)
    tune_process()
    try:
        trio.run(_serve, config)
    except* ConfigError as group:
        # Wrapped by the nursery that waits for the second signal.
        raise group.exceptions[0] from None


async def _serve(config: Config) -> None:
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            async with open_server(config) as server:
                click.echo(banner(server))
                while await anext(signals) == signal.SIGHUP:
                    await server.reload()
                connected = server.statistics()["gateway"]["connections"]
                with suppress(OSError):  # nobody may be there to read it
                    click.echo(
                        f"livechat: draining {connected:.0f} connections; once more to stop at once", err=True
                    )
                nursery.start_soon(_hurry_on_signal, signals, server)
            nursery.cancel_scope.cancel()


async def _hurry_on_signal(signals: Any, server: Server) -> None:
    while await anext(signals) == signal.SIGHUP:
        pass
    server.hurry()


def banner(server: Server) -> str:
    """Say where the server listens and what to try next; never the secret itself."""
    config = server.config
    host, port = server.addresses.tcp[0]
    udp_host, udp_port = server.addresses.udp
    address = f"{_bracketed(_reachable(host))}:{port}"
    tls = "" if config.tls_cert is None else "s"
    if config.secret is None:
        token, kept = f"$(cat {shlex.quote(str(secret_path(config)))})", f"kept in {secret_path(config)}"
    else:
        token, kept = "SECRET", "the configured one; in a URL it must be percent-encoded"
    python = shlex.quote(sys.executable)
    return f"""livechat {__version__} listens
  gateway  {server.url}
  http     http{tls}://{_bracketed(host)}:{port}/healthz
  media    udp://{_bracketed(udp_host)}:{udp_port}

Whoever knows the secret may come in as any user_id. The secret is {kept}.
Try, in another terminal:
  {python} -m pip install websockets
  {python} -m websockets "ws{tls}://{address}/ws?user_id=alice&token={token}"
and type
  {{"op": 10, "d": {{"channel_id": "lobby"}}}}
  {{"op": 11, "d": {{"channel_id": "lobby"}}}}
  {{"op": 20, "d": {{"channel_id": "lobby", "content": "hello"}}, "id": 1}}
Ctrl-C stops."""


def _reachable(host: str) -> str:
    """Return where a client on this machine finds a server that is bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
