from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
import trio

from tests.examples.programs import DEADLINE_S, command, environment, run, running
from tests.support.client import CHUNK_EVENT, CREATE, JOIN, Client, identified
from tests.support.server import SECRET, running_server, wait_until


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


HEAD = box(b"ftyp", b"isom") + box(b"moov", b"tracks")
FRAGMENTS = [box(b"moof", b"%d" % number) + box(b"mdat", bytes(50_000)) for number in range(20)]
FILM = HEAD + b"".join(FRAGMENTS) + box(b"mfra", b"index")


async def chunk(client: Client) -> tuple[bytes, bool, bool]:
    """Return the next chunk; joins are passed over."""
    while True:
        packet = await client.receive()
        if packet["op"] == CHUNK_EVENT:
            said = packet["d"]
            return said["data"], said.get("init", False), said.get("keyframe", False)


async def test_a_film_is_published_and_watched_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(FILM)
    async with running_server(tmp_path / "data") as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "cinema"})
        await alice.ack(JOIN, {"channel_id": "cinema"})
        where = ("--url", server.url)
        async with running(
            "live_stream", "watch", "copy.mp4", *where, cwd=tmp_path, LIVECHAT_SECRET=SECRET
        ) as viewer:
            await wait_until(lambda: server.statistics()["gateway"]["subscriptions"] == 2)
            done = await run("live_stream", "publish", "film.mp4", *where, cwd=tmp_path, LIVECHAT_SECRET=SECRET)
            assert done.returncode == 0, done.stderr
            assert done.stderr.decode().splitlines() == ["camera publishes in cinema", "the end, after 21 chunks"]
            assert await chunk(alice) == (HEAD, True, False)
            assert [await chunk(alice) for _ in FRAGMENTS] == [(each, False, True) for each in FRAGMENTS]
            copy = HEAD + b"".join(FRAGMENTS)
            await wait_until(lambda: (tmp_path / "copy.mp4").stat().st_size == len(copy))
            assert (tmp_path / "copy.mp4").read_bytes() == copy
            viewer.send_signal(signal.SIGINT)
            with trio.fail_after(DEADLINE_S):
                assert await viewer.wait() == 0
        # Both closed with 1000: nothing of them is left, and no stream.
        await wait_until(lambda: server.statistics()["gateway"]["sessions"] == 1)
        assert not len(server._node.streams)


async def test_what_ffmpeg_makes_comes_through_pipes_and_can_be_decoded(tmp_path: Path) -> None:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    film = tmp_path / "film.mp4"
    source = "testsrc=size=160x120:rate=25:duration=3"
    with trio.fail_after(DEADLINE_S):
        await trio.run_process(
            [
                *(program, "-loglevel", "error", "-f", "lavfi", "-i", source, "-g", "25", "-pix_fmt", "yuv420p"),
                *("-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4", str(film)),
            ]
        )
        (tmp_path / "token").write_text(SECRET)
        async with running_server(tmp_path / "data") as server, trio.open_nursery() as nursery:
            where = ("--url", server.url, "--token-file", "token")
            watching = command("live_stream", "watch", "-", *where, "--silence", "60")
            watch = await nursery.start(_start, watching, tmp_path)
            await wait_until(lambda: server.statistics()["gateway"]["subscriptions"] == 1)
            publishing = command("live_stream", "publish", "-", *where)
            await trio.run_process(publishing, stdin=film.read_bytes(), cwd=tmp_path, env=environment())
            film_bytes = film.read_bytes()
            # An index ends the file, which is of no use in a stream.
            whole = film_bytes[: film_bytes.rindex(b"mfra") - 4]
            copy = b""
            while len(copy) < len(whole):
                copy += await watch.stdout.receive_some(65536)
            assert copy == whole
            nursery.cancel_scope.cancel()
        frames = await trio.run_process(
            [program, "-loglevel", "error", "-i", "-", "-f", "framemd5", "-"], stdin=copy, capture_stdout=True
        )
    assert len([line for line in frames.stdout.splitlines() if not line.startswith(b"#")]) == 75


async def _start(arguments: list[str], folder: Path, task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        arguments,
        stdout=subprocess.PIPE,
        check=False,
        cwd=folder,
        env=environment(),
        task_status=task_status,
    )


@pytest.mark.parametrize(
    ("film", "complaint"),
    [
        (b"RIFF....AVI " * 10, "expected fragmented MP4"),
        (box(b"ftyp", b"isom") + box(b"moov", b"") + box(b"mdat", b"x"), "got one that is in one piece"),
        (box(b"ftyp", b"isom") + box(b"mdat", b"x") + box(b"moov", b""), "got one that is in one piece"),
        (HEAD + box(b"moof", b"") + box(b"mdat", bytes(300_000)), "more than 262144 bytes"),
    ],
    ids=["no mp4", "not fragmented", "not even begun", "too large"],
)
async def test_what_is_no_fragmented_mp4_is_refused(tmp_path: Path, film: bytes, complaint: str) -> None:
    (tmp_path / "film.mp4").write_bytes(film)
    async with running_server(tmp_path / "data") as server:
        done = await run(
            "live_stream", "publish", "film.mp4", "--url", server.url, cwd=tmp_path, LIVECHAT_SECRET=SECRET
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].startswith("live stream: ")
    assert complaint in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("watch", "-"), 2, "expected a token"),
        (("watch", "-", "--token-file", "missing"), 2, "cannot read missing"),
        (("publish", "missing.mp4", "--token", "x"), 1, "No such file"),
        (("watch", "-", "--token", "x", "--url", "http://h"), 1, "url: expected ws://"),
        (("watch", "-", "--token", "x", "--url", "ws://127.0.0.1:1/ws"), 1, "cannot connect"),
    ],
)
async def test_it_says_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    done = await run("live_stream", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert complaint in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
