"""Two ffmpegs as SRTP endpoints that know nothing of livechat, and what tone is in what one of them heard.

Whatever way a test ends, the processes end with it: they live in a nursery of the context that starts them.
"""

from __future__ import annotations

import array
import math
import socket
import subprocess
import wave
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import trio

from tests.support.server import DEADLINE_S

HOST = "127.0.0.1"
SAMPLE_RATE_HZ = 48_000
PAYLOAD_TYPE = 111
SSRC = 0x0F0F0440
"""Below 2^31: some ffmpegs read `-ssrc` as a signed number."""
SUITES = {
    "AES_CM_128_HMAC_SHA1_80": "AES_CM_128_HMAC_SHA1_80",
    # Under RFC 4568's name ffmpeg shortens the tag of SRTCP as well, which section 6.2 of it does not; only
    # under this name, that of DTLS-SRTP, it keeps SRTCP's 80 bits.
    "AES_CM_128_HMAC_SHA1_32": "SRTP_AES128_CM_HMAC_SHA1_32",
}
"""ffmpeg's names of the profiles it has; it has no AEAD."""
_TONE_SECONDS = 2 * DEADLINE_S
"""Longer than anybody listens; only an end in case nobody ends it."""
_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")


@asynccontextmanager
async def speaking(media: dict[str, Any], frequency_hz: int) -> AsyncGenerator[None]:
    """Send a tone in Opus, as `media` of a CHANNEL_JOIN's ACK says, while the block runs."""
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), *_QUIET),
        *("-re", "-f", "lavfi", "-i", f"sine=frequency={frequency_hz}:sample_rate={SAMPLE_RATE_HZ}"),
        *("-t", str(_TONE_SECONDS), "-c:a", "libopus", "-b:a", "48k"),
        *("-f", "rtp", "-payload_type", str(PAYLOAD_TYPE), "-ssrc", str(media["ssrc"])),
        *("-srtp_out_suite", SUITES[media["profile"]], "-srtp_out_params", media["client_key"]),
        # RTCP on the same port (RFC 5761); by itself ffmpeg would take the next one.
        f"srtp://{media['host']}:{media['port']}?rtcpport={media['port']}",
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run, command)
        yield
        nursery.cancel_scope.cancel()


async def record(media: dict[str, Any], port: int, folder: Path, seconds: float) -> Sequence[int]:
    """Receive on a local port under `media`'s server_key; return so many seconds of mono samples.

    Raises:
        trio.TooSlowError: they did not come; the process has ended.
    """
    sdp, wav = folder / "listener.sdp", folder / "heard.wav"
    lines = (
        "v=0",
        f"o=- 0 0 IN IP4 {HOST}",
        "s=test",
        f"c=IN IP4 {HOST}",
        "t=0 0",
        f"m=audio {port} RTP/SAVP {PAYLOAD_TYPE}",
        f"a=rtpmap:{PAYLOAD_TYPE} opus/{SAMPLE_RATE_HZ}/2",
        f"a=crypto:1 {SUITES[media['profile']]} inline:{media['server_key']}",
    )
    sdp.write_text("\r\n".join(lines) + "\r\n")
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), *_QUIET),
        *("-protocol_whitelist", "file,udp,rtp,srtp,crypto", "-analyzeduration", "0", "-i", str(sdp)),
        *("-t", str(seconds), "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-c:a", "pcm_s16le", "-y", str(wav)),
    ]
    with trio.fail_after(DEADLINE_S):
        await _run(command)
    return read_wav(wav)


async def _run(command: list[str]) -> None:
    """Run a process until it ends, with status 0; cancellation ends it."""
    await trio.run_process(command, stdout=subprocess.DEVNULL)


def free_port() -> int:
    """Find an even UDP port that is free, with the next one free as well: ffmpeg takes both."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as rtp, socket.socket(type=socket.SOCK_DGRAM) as rtcp:
            rtp.bind((HOST, 0))
            port: int = rtp.getsockname()[1]
            if port % 2 or port == 65534:
                continue
            try:
                rtcp.bind((HOST, port + 1))
            except OSError:
                continue
            return port


def read_wav(path: Path) -> Sequence[int]:
    """Return the samples of a mono 16-bit WAV file."""
    with wave.open(str(path), "rb") as file:
        assert file.getnchannels() == 1
        assert file.getframerate() == SAMPLE_RATE_HZ
        return array.array("h", file.readframes(file.getnframes()))


def levels_db(samples: Sequence[int], frequencies_hz: Iterable[int]) -> dict[int, float]:
    """Return how loud each frequency is, in dB below a full-scale sine, within one second from the middle."""
    start = (len(samples) - SAMPLE_RATE_HZ) // 2
    assert start >= 0, f"only {len(samples)} samples"
    part = samples[start : start + SAMPLE_RATE_HZ]
    window = [0.5 - 0.5 * math.cos(2 * math.pi * position / len(part)) for position in range(len(part))]
    windowed = [sample * weight for sample, weight in zip(part, window, strict=True)]
    return {frequency: _goertzel_db(windowed, frequency) for frequency in frequencies_hz}


def _goertzel_db(windowed: Sequence[float], frequency_hz: int) -> float:
    coefficient = 2 * math.cos(2 * math.pi * frequency_hz / SAMPLE_RATE_HZ)
    before = last = 0.0
    for sample in windowed:
        before, last = last, sample + coefficient * last - before
    power = last * last + before * before - coefficient * last * before
    # The window halves the amplitude, and half of a real signal is at the negative frequency.
    amplitude = 4 * math.sqrt(max(power, 0.0)) / len(windowed) / 32768
    return 20 * math.log10(max(amplitude, 1e-6))
