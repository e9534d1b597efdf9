"""Requests without a session: what their handlers may do, and what comes of it."""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from livechat.error import ChannelNotFound, Forbidden, InternalError
from livechat.handlers import channels
from livechat.handlers.ask import Asked, ask
from livechat.handlers.auth import Identity
from livechat.protocol.requests import ChannelCreate, ChannelDelete
from livechat.protocol.types import ChannelId, UserId
from livechat.store.operations import ListChannels
from tests.support.server import running_server

ALICE = Identity(UserId("alice"))
ROOM = ChannelId("room")
flavour: ContextVar[str] = ContextVar("flavour", default="none")


async def test_what_is_asked_for_is_answered_or_refused_as_on_a_session(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        node = server._node
        created = await ask(node, ALICE, channels.create, ChannelCreate(ROOM), is_admin=False)
        assert created.channel_id == ROOM
        with pytest.raises(Forbidden):
            await ask(node, Identity(UserId("bob")), channels.delete, ChannelDelete(ROOM), is_admin=False)
        await ask(node, Identity(UserId("bob")), channels.delete, ChannelDelete(ROOM), is_admin=True)
        with pytest.raises(ChannelNotFound):
            await ask(node, ALICE, channels.delete, ChannelDelete(ROOM), is_admin=True)


async def test_a_handler_with_a_bug_costs_its_own_answer(tmp_path: Path) -> None:
    def buggy(call: Asked, _request: object) -> None:
        def committed(_page: Any) -> None:
            raise RuntimeError("a bug")

        call.submit(ListChannels(call.user_id), committed)

    async with running_server(tmp_path) as server:
        with capture_logs() as logs, pytest.raises(InternalError):
            await ask(server._node, ALICE, buggy, None, is_admin=False)
        assert [entry["event"] for entry in logs] == ["handler failed"]
        assert (await ask(server._node, ALICE, channels.create, ChannelCreate(ROOM), is_admin=False)) is not None


async def test_what_a_task_was_told_of_itself_holds_after_the_commit_too(tmp_path: Path) -> None:
    def handler(call: Asked, _request: object) -> None:
        call.submit(ListChannels(call.user_id), lambda _page: call.ack(flavour.get()))

    async with running_server(tmp_path) as server:
        flavour.set("vanilla")
        assert await ask(server._node, ALICE, handler, None, is_admin=False) == "vanilla"


async def test_only_the_first_answer_counts(tmp_path: Path) -> None:
    def handler(call: Asked, _request: object) -> None:
        call.ack(1)
        call.succeed_silently()

    async with running_server(tmp_path) as server:
        assert await ask(server._node, ALICE, handler, None, is_admin=False) == 1


async def test_what_waits_ends_with_the_one_who_asks(tmp_path: Path) -> None:
    ended = trio.Event()

    def handler(call: Asked, _request: object) -> None:
        async def work() -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.set()

        call.run(work)

    async with running_server(tmp_path) as server, trio.open_nursery() as nursery:

        async def asking() -> None:
            await ask(server._node, ALICE, handler, None, is_admin=False)

        nursery.start_soon(asking)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended.is_set()
