"""A tone goes in by one ffmpeg, through the relay by SRTP, and comes out of another one.

    python examples/voice_tone.py                                  with a server of its own
    python examples/voice_tone.py --url ws://127.0.0.1:8080/ws     with yours; $LIVECHAT_SECRET is the token

Signalling is the gateway's: both users join a channel and are given an address and SRTP keys. Media is plain
SRTP to one UDP port, which is why ffmpeg can send and receive it without knowing anything of livechat:

    ffmpeg ── SRTP, speaker's client_key ──► relay ── SRTP, listener's server_key ──► ffmpeg
    440 Hz, Opus                                                                      recording.wav

It needs `pip install imageio-ffmpeg`, or any ffmpeg with libopus, given by --ffmpeg.
"""

from __future__ import annotations

import argparse
import array
import logging
import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import wave
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import trio

import livechat
from livechat.error import ChannelExists
from livechat.protocol.requests import MediaAddress, MediaOffer
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp.sdp import OPUS_PAYLOAD_TYPE, AudioSession, Crypto

TONE_HZ = 440
OTHERS_HZ = (220, 330, 550, 660, 880, 1000, 1320, 2500)
CLEAR_DB = 20.0
"""By so much the tone must stand above every other frequency."""
PROFILE = "AES_CM_128_HMAC_SHA1_80"
"""The SRTP suite that ffmpeg and every other implementation has."""
SAMPLE_RATE_HZ = 48_000
SSRC = 0x0F0F0440
"""What the speaker would like to send with; below 2^31, as older ffmpegs read `-ssrc` as a signed number."""
SECONDS_MAX = 3600.0
PATIENCE_S = 15.0
"""What the recording may take beyond its length."""


class Failed(Exception):
    """It did not work; the text says why."""


# --- signalling: two users in a channel -----------------------------------------------------------------


async def join(client: livechat.Client, channel_id: str, **voice: Any) -> MediaGrant:
    """Make the channel if it is missing, and join it with voice: where to send, and under which keys."""
    try:
        await client.create_channel(channel_id)
    except ChannelExists:
        pass
    joined = await client.join(channel_id, **voice)
    assert joined.media is not None, "voice was asked for"
    return joined.media


# --- media: two ffmpegs -----------------------------------------------------------------------------------


def speaking(ffmpeg: str, voice: MediaGrant, seconds: float) -> list[str]:
    """Return the command that sends the tone.

    RTCP goes to the same port as RTP (`rtcpport`); by itself ffmpeg would send it to the next one. Note that
    the key can be seen in the process list while it runs.
    """
    tone = f"sine=frequency={TONE_HZ}:sample_rate={SAMPLE_RATE_HZ}"
    return [
        *(ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error"),
        *("-re", "-f", "lavfi", "-i", tone, "-t", f"{seconds}"),
        *("-c:a", "libopus", "-b:a", "48k"),
        *("-f", "rtp", "-payload_type", f"{OPUS_PAYLOAD_TYPE}", "-ssrc", f"{voice.ssrc}"),
        *("-srtp_out_suite", PROFILE, "-srtp_out_params", voice.client_key),
        f"srtp://{bracketed(voice.host)}:{voice.port}?rtcpport={voice.port}",
    ]


def recording(ffmpeg: str, sdp: Path, wav: Path, seconds: float) -> list[str]:
    """Return the command that receives what the SDP describes, writes so much of it, and ends."""
    return [
        *(ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "error"),
        # The codec is known from the SDP: nothing has to be analysed before it begins.
        *("-protocol_whitelist", "file,udp,rtp,srtp,crypto", "-analyzeduration", "0", "-i", f"{sdp}"),
        *("-t", f"{seconds}", "-ac", "1", "-ar", f"{SAMPLE_RATE_HZ}", "-c:a", "pcm_s16le", "-y", f"{wav}"),
    ]


async def run_ffmpeg(who: str, command: list[str]) -> None:
    """Run one until it ends; cancellation ends it. What it complains of goes to standard error."""
    # It prints an SDP with the key on standard output.
    done = await trio.run_process(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise Failed(f"{who} ended with status {done.returncode}")


def bracketed(host: str) -> str:
    """Return a host as URLs have it."""
    return f"[{host}]" if ":" in host else host


def free_port(host: str) -> int:
    """Find an even UDP port that is free, with the next one free as well: ffmpeg takes both."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as rtp, socket.socket(family, socket.SOCK_DGRAM) as rtcp:
            rtp.bind((host, 0))
            port: int = rtp.getsockname()[1]
            if port % 2 or port == 65534:
                continue
            try:
                rtcp.bind((host, port + 1))
            except OSError:
                continue
            return port


async def record(url: str, token: str, channel_id: str, ffmpeg: str, wav: Path, seconds: float) -> None:
    """Have one ffmpeg speak and another one write down what it hears; both have ended on return."""
    async with (
        livechat.open_client(url, token, user_id="listener") as listener,
        livechat.open_client(url, token, user_id="speaker") as speaker,
    ):
        host = listener.local_host
        assert host is not None, "it is connected by TCP"
        port = free_port(host)
        # Whoever only listens says where; a speaker's address shows from what it sends.
        hears = await join(listener, channel_id, media=MediaOffer((PROFILE,), MediaAddress(host, port)))
        speaks = await join(speaker, channel_id, ssrc=SSRC, media=MediaOffer((PROFILE,)))
        sdp = wav.with_suffix(".sdp")
        # From this the receiving ffmpeg learns port, codec and key.
        session = AudioSession(channel_id, (host, port), Crypto(hears.profile, hears.server_key))
        sdp.write_text(session.serialize())
        print(f"speaker sends {TONE_HZ} Hz to {speaks.host}:{speaks.port}; listener records {seconds:g} s")
        async with trio.open_nursery() as nursery:
            # The speaker begins first and stops last: so nobody has to know when the other is ready, and
            # the listener joins a stream that is under way, as listeners do.
            tone = speaking(ffmpeg, speaks, seconds + PATIENCE_S)
            nursery.start_soon(run_ffmpeg, "the speaker's ffmpeg", tone)
            with trio.move_on_after(seconds + PATIENCE_S):
                await run_ffmpeg("the listener's ffmpeg", recording(ffmpeg, sdp, wav, seconds))
            nursery.cancel_scope.cancel()  # ends the speaker's ffmpeg


# --- what came out ----------------------------------------------------------------------------------------


def read_wav(path: Path) -> Sequence[int]:
    """Return the samples of a mono 16-bit WAV file."""
    if not path.exists():
        raise Failed("nothing was recorded")
    with wave.open(str(path), "rb") as file:
        samples = array.array("h", file.readframes(file.getnframes()))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def level_db(samples: Sequence[int], frequency_hz: float) -> float:
    """Return how loud one frequency is, in dB below a full-scale sine (Goertzel's algorithm, Hann window)."""
    count = len(samples)
    coefficient = 2 * math.cos(2 * math.pi * frequency_hz / SAMPLE_RATE_HZ)
    turn = 2 * math.pi / count
    before = last = 0.0
    for position, sample in enumerate(samples):
        windowed = sample * (0.5 - 0.5 * math.cos(turn * position))
        before, last = last, windowed + coefficient * last - before
    power = last * last + before * before - coefficient * last * before
    # The window halves the amplitude, and half of a real signal is at the negative frequency.
    amplitude = 4 * math.sqrt(max(power, 0.0)) / count / 32768
    return 20 * math.log10(max(amplitude, 1e-6))


def judge(samples: Sequence[int]) -> None:
    """Print the level of the tone and of other frequencies.

    Raises:
        Failed: the tone is not there, or not clear.
    """
    # One second from the middle: no codec is itself yet with its first packets.
    middle = len(samples) // 2
    part = samples[max(0, middle - SAMPLE_RATE_HZ // 2) : middle + SAMPLE_RATE_HZ // 2]
    if len(part) < SAMPLE_RATE_HZ // 2:
        raise Failed(f"only {len(samples) / SAMPLE_RATE_HZ:.1f} s were recorded")
    levels = {frequency: level_db(part, frequency) for frequency in sorted((TONE_HZ, *OTHERS_HZ))}
    for frequency, level in levels.items():
        print(f"{frequency:6} Hz {level:7.1f} dB  {'#' * int(max(0.0, 100 + level) / 2)}")
    margin = levels[TONE_HZ] - max(levels[frequency] for frequency in OTHERS_HZ)
    if margin < CLEAR_DB:
        raise Failed(f"expected {TONE_HZ} Hz {CLEAR_DB:.0f} dB above all others, got {margin:.1f} dB")
    print(f"heard: {TONE_HZ} Hz is {margin:.0f} dB above all others")


# --- the program ------------------------------------------------------------------------------------------


def secret_of_server(token_file: Path | None) -> str:
    """Return the secret of a server that is not ours."""
    secret = token_file.read_text().strip() if token_file is not None else os.environ.get("LIVECHAT_SECRET")
    if not secret:
        raise Failed("expected the server's secret: set LIVECHAT_SECRET, or name its file by --token-file")
    return secret


@asynccontextmanager
async def gateway(url: str | None, token_file: Path | None, folder: Path) -> AsyncGenerator[tuple[str, str]]:
    """Give (URL, token) of the server to use: the one named, or one of our own for as long as it takes."""
    if url is not None:
        yield url, secret_of_server(token_file)
        return
    secret = secrets.token_urlsafe(16)
    config = livechat.Config(port=0, udp_port=0, data_dir=folder / "data", secret=secret)
    async with livechat.open_server(config) as server:
        yield server.url, secret


async def main(given: argparse.Namespace, ffmpeg: str) -> None:
    """Record the tone and look for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wav = given.wav or folder / "recording.wav"
        async with gateway(given.url, given.token_file, folder) as (url, token):
            await record(url, token, given.channel, ffmpeg, wav, given.seconds)
        judge(read_wav(wav))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Send a tone through the relay and look for it in what comes out."
    )
    parser.add_argument("--url", help="a server that runs already  [one of our own]")
    parser.add_argument("--token-file", type=Path, help="that server's secret  [LIVECHAT_SECRET]")
    parser.add_argument("--channel", default="tone", help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=5.0, help="how much to record  [%(default)g]")
    parser.add_argument("--wav", type=Path, help="keep the recording there, and its SDP beside it")
    parser.add_argument("--ffmpeg", help="[the one of imageio-ffmpeg]")
    arguments = parser.parse_args()
    if not 1 <= arguments.seconds <= SECONDS_MAX:
        parser.error(f"--seconds: expected 1 to {SECONDS_MAX:g}, got {arguments.seconds:g}")
    return arguments


def find_ffmpeg() -> str:
    """Return the ffmpeg of imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
    except ImportError:
        sys.exit("voice_tone: expected an ffmpeg: pip install imageio-ffmpeg, or give --ffmpeg")
    program: str = imageio_ffmpeg.get_ffmpeg_exe()
    return program


def describe(exc: BaseException) -> str:
    """Say what went wrong; what several tasks raised comes in groups."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in exc.exceptions)
    if isinstance(exc, livechat.LiveError):
        return f"{exc.code} {exc}"
    return str(exc) or type(exc).__name__


if __name__ == "__main__":
    given = parse_arguments()
    program = given.ffmpeg or find_ffmpeg()
    # The library logs by structlog and leaves it to its host where that goes; this one wants problems only.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        trio.run(main, given, program)
    except* KeyboardInterrupt:
        sys.exit(130)
    except* (Failed, livechat.ClientError, livechat.LiveError, OSError, trio.TooSlowError) as group:
        sys.exit(f"voice_tone: {describe(group)}")
