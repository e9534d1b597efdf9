from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.examples.programs import DEADLINE_S, read_line, run, running
from tests.support.client import CREATE, JOIN, MESSAGE_EVENT, Client, identified
from tests.support.server import SECRET, running_server, wait_until


async def heard(client: Client) -> tuple[str, str]:
    while True:
        packet = await client.receive()
        if packet["op"] == MESSAGE_EVENT:
            return packet["d"]["author_id"], packet["d"]["content"]


@pytest.mark.parametrize("exists", [False, True], ids=["new channel", "existing channel"])
async def test_the_bot_repeats_what_others_say_and_stops_in_order(tmp_path: Path, exists: bool) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        if exists:
            await alice.ack(CREATE, {"channel_id": "den"})
        names = ("--user-id", "parrot", "--channel", "den")
        async with running("echo_bot", server.url, *names, cwd=tmp_path, LIVECHAT_SECRET=SECRET) as bot:
            assert await read_line(bot) == "parrot listens in den"
            await alice.ack(JOIN, {"channel_id": "den"})
            for text in ("hello", "wörld 🦜"):
                await alice.say("den", text)
                assert await heard(alice) == ("alice", text)
                assert await heard(alice) == ("parrot", text)
                assert await read_line(bot) == f"alice: {text}"
            assert server.statistics()["gateway"]["sessions"] == 2
            bot.send_signal(signal.SIGINT)
            with trio.fail_after(DEADLINE_S):
                assert await bot.wait() == 0
        # It closed with 1000: its session is over, not parked.
        await wait_until(lambda: server.statistics()["gateway"]["sessions"] == 1)


async def test_two_bots_do_not_answer_each_other(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET + "\n")
    options = ("--channel", "den", "--token-file", "token")
    async with (
        running_server(tmp_path / "data") as server,
        running("echo_bot", server.url, "--user-id", "polly", *options, cwd=tmp_path) as polly,
        running("echo_bot", server.url, "--user-id", "coco", *options, cwd=tmp_path) as coco,
        identified(server, "alice") as alice,
    ):
        for bot in (polly, coco):
            assert (await read_line(bot)).endswith("listens in den")
        await alice.ack(JOIN, {"channel_id": "den"})
        for text in ("one", "two"):
            await alice.say("den", text)
            first, *echoes = [await heard(alice) for _ in range(3)]
            assert first == ("alice", text)
            assert sorted(echoes) == [("coco", text), ("polly", text)]


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ((), 2, "expected a token"),
        (("--token-file", "missing"), 2, "cannot read missing"),
        (("http://127.0.0.1:1/", "--token", "x"), 2, "expected ws://"),
        (("ws://127.0.0.1:1/ws", "--token", "x"), 1, "cannot connect"),
    ],
)
async def test_the_bot_says_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    done = await run("echo_bot", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert complaint in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


async def test_the_bot_says_that_its_token_is_wrong(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await run("echo_bot", server.url, cwd=tmp_path, LIVECHAT_SECRET="not the secret")
    assert done.returncode == 1
    assert done.stderr.decode().startswith("echo bot: 1001 ")
