"""Owns `livechat serve`: a server on its own, until SIGTERM or SIGINT; SIGHUP has it read its files again."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import click
import trio

from livechat.cli import logs
from livechat.cli.notify import ServiceManager
from livechat.config import Config, load_config, secret_path
from livechat.error import ConfigError
from livechat.server import Server, open_server
from livechat.tuning import calm_gc, tune_process
from livechat.version import __version__

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.command(short_help="Run the server until SIGTERM or SIGINT.")
@click.option("--host", help="Name or IP address to listen on.  [127.0.0.1]")
@click.option("--port", type=int, help="TCP port for WebSocket and HTTP; 0: any.  [8080]")
@click.option("--udp-port", type=int, help="UDP port for media; 0: any.  [10000]")
@click.option("--udp-host", help="IP address to listen on for media.  [where --host is]")
@click.option("--advertise-host", help="Where clients are told to send media.  [where they reached us]")
@click.option("--media-workers", type=int, help="Processes that relay media; 0: none but the server's own.  [0]")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Database and secret.  [./livechat-data]")
@click.option("--store-url", help="sqlite:///path, postgresql://… or memory:  [SQLite in --data-dir]")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM); needs --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Private key (PEM).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="[info]")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="[console]")
@click.option(
    "--debug-echo", is_flag=True, default=None, help="Echo WebSocket messages at /debug/echo, for tests."
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="TOML file with settings.")
def serve(
    file: Path | None, store_url: str | None, media_workers: int | None, debug_echo: bool | None, **flags: Any
) -> None:
    """Run the server until SIGTERM or SIGINT, then drain: gateway.drain_ms and close_timeout_ms at most.

    A second one waits for no client any more.

    SIGHUP reads the certificate, the keys for tokens and the unwanted words (chat.words_file) again. A service
    manager that started it (NOTIFY_SOCKET) is told when it is ready, reloads, stops, and that it works.

    Settings come from the TOML file, over it from LIVECHAT_* in the environment (LIVECHAT_SECRET,
    LIVECHAT_GATEWAY_DRAIN_MS, ...), over that from the options.
    """
    groups = {"store.url": store_url, "media.workers": media_workers, "gateway.debug_echo": debug_echo}
    config = load_config(file, {**flags, **groups})
    logs.configure(config.log_level, config.log_format)
    tune_process()
    try:
        trio.run(_serve, config, ServiceManager(os.environ))
    except* ConfigError as group:
        # Wrapped by the nursery that waits for signals.
        raise group.exceptions[0] from None


@attrs.define(eq=False)
class _Run:
    """One run of the server, as signals and the service manager see it."""

    manager: ServiceManager
    server: Server | None = None
    """None until it listens."""
    starting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stopping: trio.Event = attrs.field(factory=trio.Event)

    async def heed(self, signals: AsyncIterator[int]) -> None:
        """Do what the signals ask for, one after another."""
        async for number in signals:
            if number != signal.SIGHUP:
                self.stop()
            elif self.server is not None and not self.stopping.is_set():
                await self.manager.reloading()
                await self.server.reload()
                await self.manager.ready("reloaded")

    def stop(self) -> None:
        """Stop: when it does already, without waiting for clients; while it starts, at once."""
        if self.server is None:
            self.starting.cancel()
        elif self.stopping.is_set():
            self.server.hurry()
            _say("livechat: stopping at once", err=True)
        else:
            self.stopping.set()


async def _serve(config: Config, manager: ServiceManager) -> None:
    run = _Run(manager)
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.heed, signals)
            nursery.start_soon(calm_gc)
            with run.starting:
                async with open_server(config) as run.server:
                    nursery.start_soon(manager.keep_watchdog, run.server.store_works)
                    await manager.ready(f"listening at {run.server.url}")
                    _say(banner(run.server))
                    await run.stopping.wait()
                    connected = run.server.statistics()["gateway"]["connections"]
                    await manager.stopping(f"draining {connected:.0f} connections")
                    most_s = (config.gateway.drain_ms + config.gateway.close_timeout_ms) / 1000
                    note = f"for at most {most_s:g} s; once more to stop at once"
                    _say(f"livechat: draining {connected:.0f} connections, {note}", err=True)
            if run.starting.cancelled_caught:
                _say("livechat: stopped before it listened", err=True)
            nursery.cancel_scope.cancel()


def _say(text: str, *, err: bool = False) -> None:
    with suppress(OSError):  # nobody may be there to read it
        click.echo(text, err=err)


def banner(server: Server) -> str:
    """Say where the server listens and what to try next; never the secret itself."""
    config = server.config
    host, port = server.addresses.tcp[0]
    udp = ", ".join(f"udp://{_bracketed(host)}:{port}" for host, port in server.addresses.media)
    address = f"{_bracketed(_reachable(host))}:{port}"
    tls = "" if config.tls_cert is None else "s"
    python = shlex.quote(sys.executable)
    token, note = _how_to_come_in(config)
    return f"""livechat {__version__} listens
  gateway  {server.url}
  http     http{tls}://{address}/api/v1/docs
  media    {udp}

{note}
Try, in another terminal:
  {python} -m pip install websockets
  {python} -m websockets "ws{tls}://{address}/ws?user_id=alice&token={token}"
and type
  {{"op": 10, "d": {{"channel_id": "lobby"}}}}
  {{"op": 11, "d": {{"channel_id": "lobby"}}}}
  {{"op": 20, "d": {{"channel_id": "lobby", "content": "hello"}}, "id": 1}}
`livechat trace`, in a third, shows the packets as they pass. Ctrl-C stops."""


def _how_to_come_in(config: Config) -> tuple[str, str]:
    """Return what to put for the token into a command, and what to know of it."""
    if config.auth.mode == "jwt":
        return "TOKEN", "Tokens are made by `livechat token USER`, with the same settings as here."
    if config.secret is None:
        path = secret_path(config)
        token, kept = f"$(cat {shlex.quote(str(path))})", f"kept in {path}"
    else:
        token, kept = "SECRET", "the configured one; in a URL it must be percent-encoded"
    return token, f"Whoever knows the secret may come in as any user_id. The secret is {kept}."


def _reachable(host: str) -> str:
    """Return where a client on this machine finds a server that is bound to `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
