from __future__ import annotations

from pathlib import Path

from tests.examples.programs import run
from tests.support.server import SECRET, running_server


async def test_the_tone_is_heard_through_a_server_of_its_own(tmp_path: Path) -> None:
    done = await run("voice_tone", "--seconds", "1.5", "--wav", "tone.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert "heard: 440 Hz is" in done.stdout.decode()
    assert (tmp_path / "tone.wav").stat().st_size > 100_000


async def test_the_tone_is_heard_through_a_server_that_runs_already(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await run("voice_tone", "--url", server.url, "--seconds", "1", cwd=tmp_path, LIVECHAT_SECRET=SECRET)
    assert done.returncode == 0, done.stderr
    assert "heard: 440 Hz is" in done.stdout.decode()


async def test_it_says_what_is_wrong(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        refused = await run("voice_tone", "--url", server.url, cwd=tmp_path, LIVECHAT_SECRET="not the secret")
        broken = await run("voice_tone", "--ffmpeg", "false", cwd=tmp_path)
        nameless = await run("voice_tone", "--url", server.url, cwd=tmp_path)
    assert nameless.returncode == 1
    assert b"LIVECHAT_SECRET" in nameless.stderr
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"voice_tone: 1001 ")
    assert broken.returncode == 1
    assert b"ffmpeg ended with status 1" in broken.stderr
