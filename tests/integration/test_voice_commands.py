"""`livechat listen` and `livechat talk` as their users run them: processes, a server process, ffmpegs."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import trio

from livechat.hub.settings import FloorSettings
from livechat.tokens.private_file import replace_private
from tests.support import ffmpeg
from tests.support.client import CREATE, FLOOR_RELEASE, FLOOR_REQUEST, JOIN, identified
from tests.support.commands import command
from tests.support.process import PATIENCE_S, ServerProcess, clean_environment, run_livechat, serving
from tests.support.server import SECRET, counted, running_server, wait_until

TONE_HZ = 440
OTHERS_HZ = (220, 330, 550, 660, 880, 1000)
MARGIN_DB = 30.0
SECONDS = 2.5
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
COMMAND = (sys.executable, "-m", "livechat")
KEY = re.compile(r"a=crypto:1 (\S+) inline:(\S+)")


def options(server: ServerProcess, folder: Path) -> list[str]:
    """Say where the server is and what its secret is."""
    return ["--url", server.url, "--token-file", str(folder / "data" / "secret")]


async def make_tone(folder: Path) -> Path:
    """Write a file with a tone."""
    path = folder / "tone.opus"
    tone = f"sine=frequency={TONE_HZ}:sample_rate=48000"
    await trio.run_process(
        [FFMPEG, "-loglevel", "error", "-f", "lavfi", "-i", tone, "-t", str(SECONDS), "-c:a", "libopus", str(path)]
    )
    return path


def loudest_second(samples: Sequence[int]) -> Sequence[int]:
    """Return the second in which most is heard: a recording is as long as somebody listened."""
    starts = range(0, len(samples) - ffmpeg.SAMPLE_RATE_HZ, ffmpeg.SAMPLE_RATE_HZ // 10)
    return max(
        (samples[start : start + ffmpeg.SAMPLE_RATE_HZ] for start in starts),
        key=lambda second: sum(map(abs, second[::48])),
    )


def assert_tone(path: Path) -> None:
    """Assert that the tone is what a recording holds."""
    levels = ffmpeg.levels_db(loudest_second(ffmpeg.read_wav(path)), (TONE_HZ, *OTHERS_HZ))
    assert max(levels[each] for each in OTHERS_HZ) < levels[TONE_HZ] - MARGIN_DB, levels


async def test_a_file_is_heard_by_an_ffmpeg_that_has_the_sdp_and_by_a_recorder(tmp_path: Path) -> None:
    tone = await make_tone(tmp_path)
    sdp, heard, recorded = tmp_path / "lobby.sdp", tmp_path / "heard.wav", tmp_path / "recorded.wav"
    async with serving(tmp_path / "data") as server:
        where = options(server, tmp_path)
        record = ["--record", str(recorded), "--ffmpeg", FFMPEG]
        async with (
            command("listen", "lobby", "--create", "--sdp", str(sdp), *where, cwd=tmp_path) as listening,
            command("listen", "lobby", "--create", *record, *where, cwd=tmp_path) as recording,
            trio.open_nursery() as nursery,
        ):
            line = await listening.wait_for("record  ")
            await recording.wait_for("Ctrl-C leaves")
            # What it says to type is what is typed, but for the program and where the sound goes.
            typed = line.split()[2:-2]
            hearing = [FFMPEG, *typed, "-ac", "1", "-ar", "48000", str(heard)]
            ended = trio.Event()

            async def hear() -> None:
                await trio.run_process(hearing)
                ended.set()

            nursery.start_soon(hear)
            talk = ["talk", "lobby", "--file", str(tone), "--ffmpeg", FFMPEG]
            async with command(*talk, *where, cwd=tmp_path) as talking:
                assert await talking.ended() == 0, talking.output
            # The talker's leaving is a BYE, which ends the player.
            with trio.fail_after(PATIENCE_S):
                await ended.wait()
            assert await recording.stop() == 0, recording.output
            assert await listening.stop(signal.SIGTERM) == 0, listening.output
    assert_tone(heard)
    mono = tmp_path / "mono.wav"
    await trio.run_process([FFMPEG, "-loglevel", "error", "-i", str(recorded), "-ac", "1", str(mono)])
    assert_tone(mono)
    (key,) = KEY.findall(sdp.read_text())
    assert stat.S_IMODE(sdp.stat().st_mode) == 0o600
    for said in (listening.output, recording.output, talking.output):
        assert key[1] not in said


async def test_a_listener_that_lost_its_session_writes_another_sdp(tmp_path: Path) -> None:
    sdp = tmp_path / "lobby.sdp"
    async with serving(tmp_path / "data") as server:
        where = options(server, tmp_path)
        port = server.url.rsplit(":", 1)[1].removesuffix("/ws")
        async with command("listen", "lobby", "--create", "--sdp", str(sdp), *where, cwd=tmp_path) as listening:
            await listening.wait_for("Ctrl-C leaves")
            before = sdp.read_text()
            server.process.kill()
            await server.ended()
            await listening.wait_for("connection lost")
            async with serving(tmp_path / "data", "--port", port):
                line = await listening.wait_for("the SDP is a new one")
                assert line.startswith("a new session: ")
                after = sdp.read_text()
                assert await listening.stop() == 0, listening.output
    (old, new) = (KEY.findall(text)[0] for text in (before, after))
    assert old != new
    # The player goes on where it was told to, and the version counts up.
    assert re.findall(r"m=audio (\d+)", before) == re.findall(r"m=audio (\d+)", after)
    assert re.findall(r"o=- (\d+) 1 ", before) == re.findall(r"o=- (\d+) 2 ", after)


async def test_without_a_file_the_sdp_is_all_that_standard_output_gets(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    replace_private(secret, SECRET)
    async with running_server(tmp_path / "data") as server:
        process = await trio.lowlevel.open_process(
            [*COMMAND, "listen", "lobby", "--create", "--url", server.url, "--token-file", str(secret)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        with trio.fail_after(PATIENCE_S):
            while b"Ctrl-C leaves" not in said:
                said += await process.stderr.receive_some()
            server.rekey("lobby")
            while b"the keys were changed (demand): the SDP is a new one" not in said:
                said += await process.stderr.receive_some()
            process.send_signal(signal.SIGINT)
            described = b"".join([data async for data in process.stdout])
            assert await process.wait() == 0
        await process.stderr.aclose()
        first, second = described.decode().split("v=0\r\n")[1:]
        assert KEY.findall(first) != KEY.findall(second)
        assert re.findall(r"o=- (\d+) 1 ", first) == re.findall(r"o=- (\d+) 2 ", second)
        assert described.endswith(b"a=recvonly\r\n")
        assert b"inline:" not in said
        await wait_until(lambda: counted(server)["peers"] == 0)


async def test_in_a_push_to_talk_channel_it_waits_for_the_floor_and_ends_when_that_is_taken(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret"
    replace_private(secret, SECRET)
    # Alice has the floor until the command has loaded, however long that takes, and sends no pings.
    floor = FloorSettings(ping_timeout_ms=60_000, duration_max_ms=120_000)
    async with running_server(tmp_path / "data", floor=floor) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "radio", "mode": "ptt"})
        await alice.ack(JOIN, {"channel_id": "radio", "ssrc": 1})
        await alice.ack(FLOOR_REQUEST, {"channel_id": "radio"}, id=1)
        source = [
            "--device",
            "sine=frequency=440:sample_rate=48000",
            "--device-format",
            "lavfi",
            "--ffmpeg",
            FFMPEG,
        ]
        where = ["--url", server.url, "--token-file", str(secret)]
        async with command("talk", "radio", *source, *where, cwd=tmp_path) as talking:
            await talking.wait_for("waiting for the floor: 1 of 1")
            await alice.ack(FLOOR_RELEASE, {"channel_id": "radio"}, id=2)
            await talking.wait_for("talking in radio")
            await wait_until(lambda: server.statistics()["media"]["rtp_accepted"] > 5)
            emergency = {"channel_id": "radio", "indicator": "emergency"}
            await alice.ack(FLOOR_REQUEST, emergency, id=3)
            assert await talking.ended() == 2
        assert talking.output.splitlines()[-1] == "livechat: the floor of radio was lost: preempted"
        await wait_until(lambda: counted(server)["peers"] == 1)


async def test_what_ffmpeg_cannot_read_is_said_in_one_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    replace_private(secret, SECRET)
    async with running_server(tmp_path / "data") as server:
        url = server.url.replace("ws://", "http://").removesuffix("/ws")
        talk = ["talk", "lobby", "--create", "--file", str(secret), "--ffmpeg", FFMPEG]
        where = ["--url", url, "--token-file", str(secret)]
        done = await trio.to_thread.run_sync(lambda: run_livechat(*talk, *where))
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("livechat: ffmpeg ended with status ")
        assert SECRET not in line
        await wait_until(lambda: counted(server)["peers"] == 0)
