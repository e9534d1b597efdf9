"""A server that is killed again and again, at any moment, under clients that send and reconnect."""

from __future__ import annotations

import random
import signal
import socket
import sqlite3
from collections.abc import AsyncIterable
from contextlib import closing
from pathlib import Path

import trio

import livechat
from livechat.protocol.events import ChannelEvent
from livechat.store.sqlite import DATABASE_NAME
from tests.support.process import serving
from tests.support.server import SECRET, wait_until

KILLS = 24
MESSAGES_MAX = 60
"""Acknowledged in one life of the server before it is killed, at most."""
CHANNEL = "lobby"
TALKERS = ("ann", "bob", "cid")
SETTINGS = livechat.ClientSettings(
    backoff=livechat.Backoff(base_s=0.05, cap_s=0.2, tries_max=None), send_timeout_s=120, connect_timeout_s=10
)
DEADLINE_S = 240.0


class Talker:
    """A client that says one thing after another, and what it was told."""

    def __init__(self, client: livechat.Client) -> None:
        self.client = client
        self.acknowledged: dict[str, int] = {}
        """Content → seq."""
        self.heard: list[tuple[int, str]] = []
        """(seq, content) as they were handed over; joins without content."""
        self.gaps: list[livechat.Gap] = []
        self.joined_at = 0
        self.has_finished = False

    async def listen(self, events: AsyncIterable[object]) -> None:
        """Keep what the client hands over, for ever."""
        async for event in events:
            if isinstance(event, livechat.Message):
                self.heard.append((event.seq, event.content))
            elif isinstance(event, ChannelEvent) and event.seq is not None:
                self.heard.append((event.seq, ""))
            elif isinstance(event, livechat.Gap):
                self.gaps.append(event)

    async def talk(self, stop: trio.Event) -> None:
        """Send until it is time to stop."""
        while not stop.is_set():
            content = f"{self.client.user_id} says {len(self.acknowledged)}"
            stored = await self.client.send_message(CHANNEL, content)
            self.acknowledged[content] = stored.seq
        self.has_finished = True


class Story:
    """What happens: servers that are killed, and clients that talk until the last one of them runs."""

    def __init__(self, data_dir: Path, seed: int) -> None:
        self.data_dir = data_dir
        self.choose = random.Random(seed)
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self.talkers: list[Talker] = []
        self.stop_talking = trio.Event()
        self.all_heard = trio.Event()

    def acknowledged(self) -> int:
        return sum(len(talker.acknowledged) for talker in self.talkers)

    async def kill_one_server_after_another(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run servers; the last one is not killed, and ends when all is said and heard."""
        options = ("--port", str(self.port), "--log-level", "error")
        env = {"LIVECHAT_SECRET": SECRET, "LIVECHAT_RATES_MESSAGES_PER_S": "0"}
        for life in range(KILLS + 1):
            async with serving(self.data_dir, *options, env=env) as server:
                if life == 0:
                    task_status.started()
                enough = self.acknowledged() + self.choose.randrange(1, MESSAGES_MAX)
                await wait_until(lambda enough=enough: self.acknowledged() >= enough)
                if life == KILLS:
                    self.stop_talking.set()
                    await self.all_heard.wait()
                    return
                # Somewhere between two answers, not only right after one.
                for _ in range(self.choose.randrange(20)):
                    await trio.lowlevel.checkpoint()
                server.send(signal.SIGKILL)
                assert await server.ended() == -signal.SIGKILL

    async def take_part(self, user_id: str) -> None:
        """Join and talk until the end."""
        async with livechat.open_client(self.url, SECRET, user_id=user_id, settings=SETTINGS) as client:
            talker = Talker(client)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talker.listen, client.events())
                talker.joined_at = (await client.join(CHANNEL)).last_seq
                self.talkers.append(talker)
                await talker.talk(self.stop_talking)
                await self.all_heard.wait()
                nursery.cancel_scope.cancel()

    async def end_when_all_is_heard(self) -> None:
        """Wait until everybody was told the newest message."""
        await self.stop_talking.wait()
        # What is under way when it is time to stop is still sent.
        await wait_until(lambda: all(talker.has_finished for talker in self.talkers))
        newest = max(seq for talker in self.talkers for seq in talker.acknowledged.values())
        await wait_until(lambda: all(talker.heard and talker.heard[-1][0] >= newest for talker in self.talkers))
        self.all_heard.set()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stored_entries(data_dir: Path) -> list[tuple[int, str]]:
    """Return (seq, content) of the channel as the store holds it."""
    with closing(sqlite3.connect(data_dir / DATABASE_NAME)) as connection:
        return connection.execute("SELECT seq, content FROM message ORDER BY seq").fetchall()


async def test_nothing_that_was_acknowledged_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    story = Story(tmp_path, seed=1)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(story.kill_one_server_after_another)
            async with livechat.open_client(story.url, SECRET, user_id="owner", settings=SETTINGS) as owner:
                await owner.create_channel(CHANNEL)
            for user_id in TALKERS:
                nursery.start_soon(story.take_part, user_id)
            await wait_until(lambda: len(story.talkers) == len(TALKERS))
            nursery.start_soon(story.end_when_all_is_heard)

    stored = stored_entries(tmp_path)
    assert [seq for seq, _ in stored] == list(range(1, len(stored) + 1))
    said = [content for _, content in stored if content]
    assert len(said) == len(set(said))
    for talker in story.talkers:
        assert talker.acknowledged.items() <= {content: seq for seq, content in stored}.items()
        assert talker.gaps == []
        assert talker.heard == stored[talker.joined_at :]
    assert sum(len(talker.acknowledged) for talker in story.talkers) == len(said)
