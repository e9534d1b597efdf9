"""Owns how commands find and run ffmpeg and ffplay, and the command lines that users may type themselves.

It must not know of channels or keys: no command line holds one, as everybody on a machine can read those.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import trio

from livechat.cli.remote import one_line
from livechat.error import ConfigError
from livechat.rtp.sdp import OPUS_CLOCK_HZ, OPUS_PAYLOAD_TYPE

QUIET: Final = ("-hide_banner", "-nostdin", "-loglevel", "error")
DEVICE_FORMATS: Final = {"darwin": "avfoundation", "win32": "dshow"}
"""How ffmpeg reads a microphone, by platform; elsewhere by PulseAudio (or PipeWire, which speaks it)."""
BITRATE: Final = "48k"
PACKET_BYTES_MAX: Final = 1200
PATIENCE_S: Final = 86_400
"""How long players wait where nobody speaks; by themselves they would give up after 10 s."""
FED_PATIENCE_S: Final = 15
"""The same for those that are fed with silence then: if none comes, whoever started them is no more."""
KILL_AFTER_S: Final = 3.0
COMPLAINT_CHARS_MAX: Final = 200


program_option: Final = click.option(
    "--ffmpeg",
    "program",
    type=click.Path(path_type=Path),
    help="The ffmpeg to use.  [of the PATH, or imageio-ffmpeg's]",
)
"""Of the commands that run it: what `find_ffmpeg` is given."""


def find_ffmpeg(given: Path | None) -> str:
    """Return the ffmpeg to run: the one given, that of the PATH, or that of imageio-ffmpeg.

    Raises:
        ConfigError: there is none.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise ConfigError(f"--ffmpeg: {given} cannot be run")
        return found
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as exc:
        raise ConfigError(
            "ffmpeg is not installed: get it (pip install imageio-ffmpeg), or name it by --ffmpeg"
        ) from exc
    return program


def find_ffplay(ffmpeg: Path | None) -> str:
    """Return the ffplay to run: the one beside the given ffmpeg, or that of the PATH.

    Raises:
        ConfigError: there is none.
    """
    beside = None if ffmpeg is None else shutil.which(ffmpeg.with_name("ffplay"))
    found = beside or shutil.which("ffplay")
    if found is None:
        raise ConfigError("ffplay is not installed; it comes with ffmpeg")
    return found


def reading_device(device: str, given_format: str | None) -> list[str]:
    """Return the options by which ffmpeg reads a device, in the format given or that of the platform."""
    chosen = given_format or DEVICE_FORMATS.get(sys.platform, "pulse")
    # A device sets the pace; what ffmpeg makes up itself (tones, noise) comes as fast as it can.
    pace = ["-re"] if chosen == "lavfi" else []
    return [*pace, "-f", chosen, "-i", device]


def reading(sdp: Path, *, has_key: bool) -> list[str]:
    """Return the options by which ffmpeg and ffplay receive what a session description says.

    Args:
        has_key: it comes encrypted, from the server; else from us, who fill the silence.
    """
    patience_s = PATIENCE_S if has_key else FED_PATIENCE_S
    protocols = "file,udp,rtp,srtp,crypto" if has_key else "file,udp,rtp"
    return [
        *("-protocol_whitelist", protocols, "-listen_timeout", f"{patience_s}"),
        # The codec is known from the description: nothing has to be analysed first.
        *("-analyzeduration", "0", "-i", str(sdp)),
    ]


def playing(ffplay: str, sdp: Path, *, has_key: bool) -> list[str]:
    """Return the command that plays."""
    return [ffplay, "-hide_banner", "-loglevel", "error", "-nodisp", *reading(sdp, has_key=has_key)]


def recording(ffmpeg: str, sdp: Path, file: Path, *, has_key: bool) -> list[str]:
    """Return the command that writes what it receives to a file, in the format that its name says."""
    return [ffmpeg, *QUIET, *reading(sdp, has_key=has_key), "-y", str(file)]


def sending(ffmpeg: str, source: Sequence[str], host: str, port: int, local_port: int) -> list[str]:
    """Return the command that sends a source in Opus, as plain RTP, in real time.

    Args:
        source: the options that name it, up to `-i`.
        host: where to; loopback, as it is not encrypted.
        port: where RTP and RTCP go.
        local_port: where RTP comes from; RTCP comes from the next port.
    """
    # By itself ffmpeg would send RTCP to the port after RTP's.
    ports = f"rtcpport={port}&localrtpport={local_port}&localrtcpport={local_port + 1}"
    # Connected, it ends by itself if we are no more: its packets are refused then.
    return [
        *(ffmpeg, *QUIET, *source, "-map", "0:a:0"),
        *("-c:a", "libopus", "-b:a", BITRATE, "-ar", str(OPUS_CLOCK_HZ)),
        *("-f", "rtp", "-payload_type", str(OPUS_PAYLOAD_TYPE)),
        f"rtp://{host}:{port}?{ports}&pkt_size={PACKET_BYTES_MAX}&connect=1",
    ]


def as_typed(command: Sequence[str]) -> str:
    """Return a command line as one types it into a shell."""
    return shlex.join(command)


async def run(name: str, command: Sequence[str]) -> None:
    """Run one until it ends; cancelled, have it finish its file.

    Raises:
        ConfigError: it could not be run, or failed; what it complained of last.
    """
    try:
        done = await trio.run_process(
            command,
            # It prints the session description there.
            stdout=subprocess.DEVNULL,
            capture_stderr=True,
            check=False,
            deliver_cancel=_end,
            # Ctrl-C in a terminal is for us; we end it.
            start_new_session=True,
        )
    except OSError as exc:
        raise ConfigError(f"cannot run {name}: {(exc.strerror or str(exc)).lower()}") from exc
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        complaint = one_line(said[-1])[:COMPLAINT_CHARS_MAX]
        raise ConfigError(f"{name} ended with status {done.returncode}: {complaint}")


async def _end(process: trio.Process) -> None:
    """Ask a process to end. It does as long as sound comes in: a recorder that waits for some would not see it."""
    process.terminate()
    with trio.move_on_after(KILL_AFTER_S, shield=True):
        await process.wait()
    process.kill()
