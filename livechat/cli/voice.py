"""Owns how `livechat listen` and `livechat talk` come into a channel with voice, and how they stay there.

It must not touch media: whoever uses it is told every grant of an address and keys. Whatever ends it is one line
(`ConfigError`).
"""

from __future__ import annotations

import secrets
import signal
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs
import click
import trio

from livechat.cli.address import configured_authority, gateway_url, server_option
from livechat.cli.remote import one_line
from livechat.client.client import Client, Event, open_client
from livechat.client.error import ClientError
from livechat.client.events import ChannelLost, StateChanged
from livechat.client.runner import Token
from livechat.client.settings import Backoff, ClientSettings
from livechat.config import Config, load_config, read_secret
from livechat.credentials import mint_token
from livechat.error import ChannelExists, ChannelNotFound, ConfigError, LiveError
from livechat.protocol.events import ChannelEvent, ChannelJoined
from livechat.protocol.requests import MediaAddress, MediaOffer
from livechat.protocol.voice_events import MediaGrant, MediaUpdate
from livechat.srtp.profile import SrtpProfile
from livechat.tokens.private_file import read_private

PROFILE: Final = SrtpProfile.AES_CM_128_HMAC_SHA1_80.value
"""What every implementation of SRTP has."""
LEAVE_S: Final = 2.0
"""How long leaving may take: whoever pressed Ctrl-C waits for it."""
TOKEN_LIFETIME_S: Final = 3600.0
JWT_PARTS: Final = 3

F = TypeVar("F", bound=Callable[..., Any])
Say = Callable[[str], None]


@attrs.frozen
class Caller:
    """Who comes in, where, and with what."""

    url: str
    token: Token = attrs.field(repr=False)
    user_id: str | None
    """None: the token says it."""
    tls: ssl.SSLContext | None


def voice_options(command: F) -> F:
    """Give a command the options by which it comes into a channel; see `find_caller`."""
    path = click.Path(path_type=Path)
    options = (
        server_option("--server", "--url", "url"),
        click.option("--cacert", type=path, help="Whom to trust for wss (PEM)."),
        click.option("--token-file", type=path, help="Holds a token, or the server's secret.  [LIVECHAT_SECRET]"),
        click.option("--user", metavar="USER", help="Who to be.  [a name made up, or the token's]"),
        click.option("--profile", type=click.Choice(list(SrtpProfile)), default=PROFILE, show_default=True),
        click.option("--create", is_flag=True, help="Create the channel if there is none."),
        click.option("--data-dir", type=path, help="Where the secret is.  [./livechat-data]"),
        click.option("--config", "file", type=path, help="TOML file with settings."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def find_caller(
    name: str,
    url: str | None,
    cacert: Path | None,
    token_file: Path | None,
    user: str | None,
    data_dir: Path | None,
    file: Path | None,
) -> Caller:
    """Return who comes in: on the server of the configuration with its secret, if no other are named.

    Args:
        name: what to begin a made-up name with. It is a new one each time: were it always the same, each of two
            listeners would take the other's voice over.

    Raises:
        ConfigError: a setting is wrong, or a file cannot be read.
    """
    config = load_config(file, {"data_dir": data_dir})
    made_up = f"{name}-{secrets.token_hex(3)}"
    if url is None:
        url = f"{'ws' if config.tls_cert is None else 'wss'}://{configured_authority(config)}/ws"
    else:
        url = gateway_url(url)
    tls = _tls(cacert) if url.startswith("wss") else None
    if token_file is not None:
        token = read_private(token_file, group_may_read=True)
        # A signed token says whose it is; to be somebody else by it would be refused.
        is_signed = token.count(".") == JWT_PARTS - 1
        return Caller(url, token, user or (None if is_signed else made_up), tls)
    user_id = user or made_up
    if config.auth.mode != "jwt":
        return Caller(url, config.secret if config.secret is not None else read_secret(config), user_id, tls)
    return Caller(url, _minting(config, user_id), user_id, tls)


def _minting(config: Config, user_id: str) -> Callable[[], Awaitable[str]]:
    """Return what makes tokens with the key of the server, for longer than one of them lives."""
    lifetime_s = min(TOKEN_LIFETIME_S, config.auth.lifetime_max_s)
    mint_token(config, user_id, lifetime_s=lifetime_s)  # what is wrong with it is said at once

    async def fresh() -> str:
        await trio.lowlevel.checkpoint()
        return mint_token(config, user_id, lifetime_s=lifetime_s).token

    return fresh


def _tls(cacert: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if cacert is None else str(cacert))
    except OSError as exc:
        raise ConfigError(f"cannot read {cacert}: {(exc.strerror or str(exc)).lower()}") from exc


# --- the voice ----------------------------------------------------------------------------------------


class Voice:
    """One's own voice in a channel, taken up again whenever it is lost.

    Args:
        client: joins.
        channel_id: where.
        profile: the SRTP profile to ask for.
        address: where to receive, if that is known; else the server learns it from what is sent to it.
        granted: told of every grant but the first: (grant, why there is a new one).
        say: tells the operator something, one line.
    """

    def __init__(
        self,
        client: Client,
        channel_id: str,
        profile: str,
        address: tuple[str, int] | None,
        granted: Callable[[MediaGrant, str], Awaitable[None]],
        say: Say,
    ) -> None:
        self._client = client
        self._channel_id = channel_id
        self._offer = MediaOffer((profile,), None if address is None else MediaAddress(*address))
        self._granted = granted
        self._say = say
        self._events = client.events()
        self._egress_ssrc: int | None = None
        """What the others hear us as: tells events of this voice from those of earlier ones."""
        self._was_member = channel_id in client.channels
        self.mode = "conference"

    async def join(self, *, create: bool) -> MediaGrant:
        """Come in for the first time.

        Raises:
            LiveError: the server refuses.
        """
        try:
            return await self._join()
        except ChannelNotFound:
            if not create:
                raise
        with suppress(ChannelExists):  # somebody else was faster
            await self._client.create_channel(self._channel_id)
        return await self._join()

    async def _join(self) -> MediaGrant:
        joined: ChannelJoined = await self._client.join(self._channel_id, media=self._offer)
        ours = (member.ssrc for member in joined.active_members if member.user_id == self._client.user_id)
        self._egress_ssrc = next(ours, None)
        self.mode = joined.mode
        assert joined.media is not None, "voice was asked for"
        return joined.media

    async def keep(self) -> None:
        """Follow what becomes of the voice, and take it up again when it was lost; does not return.

        Raises:
            ConfigError: it is over for good, and why.
            LiveError, ClientError: it could not be taken up again, or the client has ended.
        """
        async for event in self._events:
            if isinstance(event, MediaUpdate) and event.channel_id == self._channel_id and event.media is not None:
                await self._granted(event.media, f"the keys were changed ({one_line(event.cause)})")
                continue
            lost = self._lost_by(event)
            if lost is not None:
                await self._granted(await self._join(), lost)

    def _lost_by(self, event: Event) -> str | None:
        """Say why the voice has to be taken up again; None if it has not.

        Raises:
            ConfigError: it is over for good.
        """
        match event:
            case StateChanged(state="resuming"):
                again = "" if event.retry_in_s is None else f"; again in {event.retry_in_s:.1f} s"
                self._say(f"connection lost: {one_line(event.reason)}{again}")
            case StateChanged(state="online", new_session=True):
                return "a new session"
            case StateChanged(state="online"):
                self._say("connected again; the voice went on")
            case ChannelLost(channel_id=self._channel_id):
                raise ConfigError(f"{self._channel_id}: the membership is over: {one_line(event.reason)}")
            case ChannelEvent(channel_id=self._channel_id):
                return self._lost_by_channel(event)
            case MediaUpdate(channel_id=self._channel_id, media=None):
                return f"the voice had ended: {event.cause}"
        return None

    def _lost_by_channel(self, event: ChannelEvent) -> str | None:
        if event.event == "delete":
            raise ConfigError(f"{self._channel_id}: the channel was deleted")
        if event.member.user_id != self._client.user_id:
            return None
        if event.event == "leave":
            raise ConfigError(f"{self._channel_id}: the membership was ended")
        if event.event != "voice_leave" or event.member.ssrc != self._egress_ssrc:
            return None
        if event.cause == "moved":
            # To take it back would be the start of a tug of war, and to leave would end the other's as well.
            self._was_member = True
            raise ConfigError(f"{self._channel_id}: another session of {self._client.user_id} took the voice over")
        return f"the voice had ended: {event.cause or 'no reason was given'}"

    async def leave(self) -> None:
        """Leave the channel, unless the user was a member before: then only the voice ends, with the session."""
        if self._was_member:
            return
        # Not to be interrupted, as it is brief; if it fails, there is nobody left to tell.
        with trio.move_on_after(LEAVE_S, shield=True), suppress(LiveError, ClientError, trio.TooSlowError):
            await self._client.leave(self._channel_id)


@asynccontextmanager
async def connected(caller: Caller) -> AsyncGenerator[Client]:
    """Keep a session while the block runs; the client tries for ever once it was there."""
    settings = ClientSettings(device="livechat", backoff=Backoff(tries_max=None))
    async with open_client(
        caller.url, caller.token, user_id=caller.user_id, settings=settings, tls=caller.tls
    ) as client:
        yield client


# --- running ------------------------------------------------------------------------------------------


def run_until_stopped(main: Callable[[], Awaitable[None]]) -> None:
    """Run until `main` returns, or until Ctrl-C or SIGTERM.

    Raises:
        ConfigError: it failed, and why.
    """
    try:
        trio.run(_until_stopped, main)
    except* (ConfigError, ClientError, LiveError, OSError, ValueError, trio.TooSlowError) as group:
        raise ConfigError(_describe(group)) from None


async def _until_stopped(main: Callable[[], Awaitable[None]]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, signals, nursery.cancel_scope)
            await main()
            nursery.cancel_scope.cancel()


async def _cancel_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _describe(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    if isinstance(exc, LiveError):
        return f"refused: {one_line(exc.reason)} ({exc.code})"
    if isinstance(exc, trio.TooSlowError):
        return "the server does not answer"
    return one_line(exc) or type(exc).__name__


def free_port_pair(host: str) -> int:
    """Find an even UDP port that is free, with the next one free as well: players take both (RFC 3550 section 11).

    Raises:
        OSError: the host is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as rtp, socket.socket(family, socket.SOCK_DGRAM) as rtcp:
            rtp.bind((host, 0))
            port: int = rtp.getsockname()[1]
            if port % 2 or port == 65534:
                continue
            with suppress(OSError):
                rtcp.bind((host, port + 1))
                return port
