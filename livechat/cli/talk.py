"""Owns `livechat talk`: a file or a microphone to be heard in a channel.

    ffmpeg ── RTP, plain, on loopback ──► us ── SRTP ──► server

The key stays in this process: were ffmpeg to encrypt, it would stand in the list of processes for all to read, and
new keys would stop it. What comes to our port from elsewhere than ffmpeg's ports is not sent.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import click
import trio

from livechat.cli import ffmpeg
from livechat.cli.media import MediaLink, media_socket
from livechat.cli.voice import (
    Caller,
    Voice,
    connected,
    find_caller,
    free_port_pair,
    run_until_stopped,
    voice_options,
)
from livechat.client.client import Client, Event
from livechat.client.subscribers import Subscription
from livechat.error import ConfigError
from livechat.protocol.voice_events import FloorQueuePosInfo, MediaGrant

LOOPBACK: Final = "127.0.0.1"
DATAGRAM_BYTES_MAX: Final = 2048
DRAIN_S: Final = 0.2
"""After ffmpeg has ended: all that it sent is in our socket by then."""
FOR_EVER: Final = -1
"""To ffmpeg."""


@click.command(short_help="Let a file or a microphone be heard in a channel.")
@click.argument("channel", metavar="CHANNEL")
@click.option("--file", "source", type=click.Path(path_type=Path), help="What to play: anything ffmpeg reads.")
@click.option("--device", help="What to record from instead, as ffmpeg names it: default, hw:0, :0, ...")
@click.option("--device-format", metavar="FORMAT", help="How ffmpeg reads the device.  [pulse; by platform]")
@click.option(
    "--loop",
    type=click.IntRange(min=FOR_EVER),
    default=0,
    show_default=True,
    metavar="N",
    help="Play the file N times more; -1: for ever.",
)
@ffmpeg.program_option
@voice_options
def talk(
    channel: str,
    source: Path | None,
    device: str | None,
    device_format: str | None,
    loop: int,
    program: Path | None,
    profile: str,
    create: bool,
    user: str | None,
    **given: Any,
) -> None:
    """Be heard in CHANNEL: play a file to its end, or a device until Ctrl-C or SIGTERM.

    ffmpeg reads and encodes (Opus); it is encrypted here. In a push-to-talk channel the floor is asked for first,
    and it ends when that is taken away.
    """
    if (source is None) == (device is None):
        raise ConfigError("expected one of --file and --device")
    if source is not None and not source.exists():
        raise ConfigError(f"cannot read {source}: no such file")
    if source is not None:
        # `-re`: in real time, as it is to be heard.
        chosen = ["-re", "-stream_loop", str(loop), "-i", str(source)]
    else:
        assert device is not None
        chosen = ffmpeg.reading_device(device, device_format)
    wanted = Wanted(channel, profile, create, ffmpeg.find_ffmpeg(program), chosen)
    caller = find_caller("talker", user=user, **given)
    run_until_stopped(partial(_talk, wanted, caller))


@attrs.frozen
class Wanted:
    """What the command line asks for."""

    channel: str
    profile: str
    create: bool
    ffmpeg: str
    source: list[str]
    """The options of ffmpeg that name what is to be heard."""


def _say(text: str) -> None:
    click.echo(text)


async def _talk(wanted: Wanted, caller: Caller) -> None:
    async with connected(caller) as client:
        host = client.local_host
        assert host is not None, "it is connected by TCP"
        with media_socket(host) as sock:
            await _speak(wanted, client, MediaLink(sock))


async def _speak(wanted: Wanted, client: Client, link: MediaLink) -> None:
    async def granted(grant: MediaGrant, why: str) -> None:
        await link.use(grant)
        _say(why)

    voice = Voice(client, wanted.channel, wanted.profile, None, granted, _say)
    try:
        await link.use(await voice.join(create=wanted.create))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(voice.keep)
            nursery.start_soon(link.keep_alive)
            if voice.mode == "ptt":
                nursery.start_soon(_tell_place, client.events(), wanted.channel)
                async with client.floor(wanted.channel):
                    await _play(wanted, client, link)
            else:
                await _play(wanted, client, link)
            nursery.cancel_scope.cancel()
    finally:
        await voice.leave()


async def _tell_place(events: Subscription[Event], channel: str) -> None:
    """Say how many are to have the floor before us; does not return."""
    async for event in events:
        if isinstance(event, FloorQueuePosInfo) and event.channel_id == channel:
            _say(f"waiting for the floor: {event.queue_position} of {event.queue_size}")


async def _play(wanted: Wanted, client: Client, link: MediaLink) -> None:
    """Run ffmpeg, and send what it sends, to the end of both."""
    _say(f"talking in {wanted.channel} as {client.user_id}. Ctrl-C leaves.")
    with media_socket(LOOPBACK) as sock:
        await sock.bind((LOOPBACK, 0))
        port: int = sock.getsockname()[1]
        theirs = free_port_pair(LOOPBACK)
        sources = {(LOOPBACK, theirs), (LOOPBACK, theirs + 1)}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, sock, sources, link)
            await ffmpeg.run("ffmpeg", ffmpeg.sending(wanted.ffmpeg, wanted.source, LOOPBACK, port, theirs))
            await trio.sleep(DRAIN_S)
            nursery.cancel_scope.cancel()


async def _pass_on(sock: trio.socket.SocketType, sources: set[tuple[str, int]], link: MediaLink) -> None:
    while True:
        datagram, source = await sock.recvfrom(DATAGRAM_BYTES_MAX)
        # Others on this machine could send to our port as well.
        if source in sources:
            await link.send(datagram)
