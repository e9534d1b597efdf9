"""Owns `livechat listen`: a channel to be heard by any player that speaks SRTP, or in the clear on this machine.

with an SDP that holds the key          the server sends to the player itself
with --decrypt, --play, --record        the server sends to us, we open it and hand it to players on loopback
"""

from __future__ import annotations

import secrets
import tempfile
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
from livechat.client.client import Client
from livechat.error import ConfigError, MediaNotPossible
from livechat.protocol.types import Address
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp.one_voice import SILENCE_S, OneVoice
from livechat.rtp.sdp import AudioSession, Crypto
from livechat.srtp.profile import SrtpProfile
from livechat.tokens.private_file import replace_private

LOOPBACK: Final = "127.0.0.1"
PLACEHOLDER: Final = Path("channel.sdp")
"""Stands in command lines for the file that the user is yet to write."""


@click.command(short_help="Hear a channel by ffplay, ffmpeg, VLC or GStreamer.")
@click.argument("channel", metavar="CHANNEL")
@click.option("--sdp", type=click.Path(path_type=Path), help="Where to write the SDP.  [standard output]")
@click.option("--port", type=click.IntRange(1, 65534), help="The player's UDP port.  [a free, even one]")
@click.option("--decrypt", is_flag=True, help="Decrypt here, and hand it to players on this machine in the clear.")
@click.option("--play", is_flag=True, help="Decrypt here, and play it by ffplay.")
@click.option("--record", type=click.Path(path_type=Path), help="Decrypt here, and write it to a file by ffmpeg.")
@ffmpeg.program_option
@voice_options
def listen(channel: str, profile: str, create: bool, user: str | None, **given: Any) -> None:
    """Be in CHANNEL as a listener until Ctrl-C or SIGTERM, and write the SDP from which a player hears it.

    The SDP holds the key that the server sends with: who reads it can listen along. It is written again when the
    key changes, and the player has to be started again then; ffmpeg and ffplay also end when a speaker leaves.
    With --decrypt it holds no key: it is decrypted here, one speaker at a time, which works through NAT, over new
    keys, and for players without SRTP.
    """
    options = {name: given.pop(name) for name in ("sdp", "port", "decrypt", "play", "record", "program")}
    wanted = Wanted(channel, profile, create, **options)
    wanted.check()
    caller = find_caller("listener", user=user, **given)
    run_until_stopped(partial(_listen, wanted, caller))


@attrs.frozen
class Wanted:
    """What the command line asks for."""

    channel: str
    profile: str
    create: bool
    sdp: Path | None
    port: int | None
    decrypt: bool
    play: bool
    record: Path | None
    program: Path | None

    @property
    def decrypts(self) -> bool:
        """Whether packets come to us, and not to a player."""
        return self.decrypt or self.play or self.record is not None

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened.

        Raises:
            ConfigError: a program is missing.
        """
        if self.play:
            ffmpeg.find_ffplay(self.program)
        if self.record is not None:
            ffmpeg.find_ffmpeg(self.program)

    def say(self, text: str) -> None:
        """Tell the operator something; standard output is kept for the SDP where it goes there."""
        is_output_taken = self.sdp is None and (self.decrypt or not self.decrypts)
        click.echo(text, err=is_output_taken)


async def _listen(wanted: Wanted, caller: Caller) -> None:
    async with connected(caller) as client:
        if wanted.decrypts:
            await _hear(wanted, client)
        else:
            await _describe(wanted, client)


# --- the player decrypts --------------------------------------------------------------------------------


async def _describe(wanted: Wanted, client: Client) -> None:
    """Keep a membership for a player of the user's."""
    host = client.local_host
    assert host is not None, "it is connected by TCP"
    address = (host, wanted.port or free_port_pair(host))
    description = _Description(wanted, address)

    async def granted(grant: MediaGrant, why: str) -> None:
        await trio.lowlevel.checkpoint()
        description.write(Crypto(grant.profile, grant.server_key))
        wanted.say(f"{why}: the SDP is a new one, start the player again")

    voice = Voice(client, wanted.channel, wanted.profile, address, granted, wanted.say)
    try:
        try:
            grant = await voice.join(create=wanted.create)
        except MediaNotPossible as exc:
            raise ConfigError(f"refused: {exc.reason} ({exc.code}); --decrypt may do") from exc
        description.write(Crypto(grant.profile, grant.server_key))
        _introduce(wanted, client, address, grant.profile)
        await voice.keep()
    finally:
        await voice.leave()


@attrs.define
class _Description:
    """The SDP and where it goes."""

    wanted: Wanted
    address: Address
    session_id: int = attrs.field(factory=lambda: secrets.randbits(62))
    version: int = 0

    def write(self, crypto: Crypto | None) -> None:
        """Write the next version."""
        self.version += 1
        session = AudioSession(
            f"livechat {self.wanted.channel}", self.address, crypto, self.session_id, self.version
        )
        if self.wanted.sdp is None:
            click.echo(session.serialize(), nl=False)
        else:
            replace_private(self.wanted.sdp, session.serialize())


def _introduce(wanted: Wanted, client: Client, address: Address, profile: str | None) -> None:
    """Say what to do now."""
    sdp = wanted.sdp or PLACEHOLDER
    host, port = address
    protection = "in the clear" if profile is None else profile
    wanted.say(f"in {wanted.channel} as {client.user_id}; a player is to receive on {host}:{port}, {protection}")
    if wanted.sdp is None:
        wanted.say(f"save the lines above as {sdp}, and then")
    if profile is None or not SrtpProfile(profile).is_aead:
        has_key = profile is not None
        play = ffmpeg.as_typed(ffmpeg.playing("ffplay", sdp, has_key=has_key))
        record = ffmpeg.as_typed(ffmpeg.recording("ffmpeg", sdp, Path("heard.wav"), has_key=has_key))
        wanted.say(f"  play    {play}\n  record  {record}")
    if profile is None:
        source = f"filesrc location={sdp} ! sdpdemux ! decodebin ! audioconvert ! autoaudiosink"
        wanted.say(f"  or      vlc {sdp}\n  or      gst-launch-1.0 {source}")
    else:
        wanted.say("  (VLC and gst-launch take no key from an SDP: they can play with --decrypt)")
    wanted.say("Ctrl-C leaves.")


# --- we decrypt -----------------------------------------------------------------------------------------


async def _hear(wanted: Wanted, client: Client) -> None:
    """Receive, open, and hand on to players on this machine."""
    host = client.local_host
    assert host is not None, "it is connected by TCP"
    with media_socket(host) as sock, tempfile.TemporaryDirectory(prefix="livechat-") as folder:
        # Bound to where the gateway was reached from; where the server then sees it, it learns by itself.
        await sock.bind((host, 0))
        link = MediaLink(sock)

        async def granted(grant: MediaGrant, why: str) -> None:
            await link.use(grant)
            wanted.say(why)

        voice = Voice(client, wanted.channel, wanted.profile, None, granted, wanted.say)
        try:
            await link.use(await voice.join(create=wanted.create))
            ports: list[int] = []
            # Players are ended first: one that waits for sound would not notice that it is to end.
            feeding = trio.CancelScope(shield=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hand_on, link, ports, feeding)
                try:
                    async with trio.open_nursery() as players:
                        ports += _start_players(wanted, client, players, Path(folder))
                        players.start_soon(link.keep_alive)
                        players.start_soon(voice.keep)
                finally:
                    feeding.cancel()
        finally:
            await voice.leave()


def _start_players(wanted: Wanted, client: Client, nursery: trio.Nursery, folder: Path) -> list[int]:
    """Start what is to hear it, or say how; return the ports that they listen on."""
    ports = []

    def description(name: str) -> Path:
        ports.append(free_port_pair(LOOPBACK))
        path = folder / name
        replace_private(path, AudioSession(f"livechat {wanted.channel}", (LOOPBACK, ports[-1]), None).serialize())
        return path

    if wanted.play:
        program = ffmpeg.find_ffplay(wanted.program)
        command = ffmpeg.playing(program, description("play.sdp"), has_key=False)
        nursery.start_soon(ffmpeg.run, "ffplay", command)
    if wanted.record is not None:
        program = ffmpeg.find_ffmpeg(wanted.program)
        command = ffmpeg.recording(program, description("record.sdp"), wanted.record, has_key=False)
        nursery.start_soon(ffmpeg.run, "ffmpeg", command)
    if wanted.decrypt or wanted.sdp is not None:
        ports.append(wanted.port or free_port_pair(LOOPBACK))
        _Description(wanted, (LOOPBACK, ports[-1])).write(None)
        _introduce(wanted, client, (LOOPBACK, ports[-1]), None)
    else:
        wanted.say(f"in {wanted.channel} as {client.user_id}. Ctrl-C leaves.")
    return ports


async def _hand_on(link: MediaLink, ports: list[int], scope: trio.CancelScope) -> None:
    """Take what the server sends to players, one voice at a time, until `scope` is cancelled."""
    stream = OneVoice(secrets.randbits(32), trio.current_time())
    with scope, media_socket(LOOPBACK) as out:

        async def send(packet: bytes) -> None:
            for port in ports:
                try:
                    await out.sendto(packet, (LOOPBACK, port))
                except OSError:
                    await trio.lowlevel.checkpoint()  # the player is not there just now

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fill_silence, stream, send)
            while True:
                opened = await link.receive()
                packet = None if opened is None else stream.take(*opened, trio.current_time())
                if packet is not None:
                    await send(packet)


async def _fill_silence(stream: OneVoice, send: Any) -> None:
    while True:
        for packet in stream.silence(trio.current_time()):
            await send(packet)
        await trio.sleep(SILENCE_S)
