from __future__ import annotations

import gc
import weakref

import trio
from trio.testing import wait_all_tasks_blocked
from trio_websocket import WebSocketRequest

from livechat.gateway.upgrade import UpgradeStream
from tests.support.egress import Egress
from tests.support.transport import ScriptedTransport

HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: a, b\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""Source: RFC 6455, section 1.3."""


async def taken(nursery: trio.Nursery, stream: UpgradeStream) -> WebSocketRequest:
    request = await stream.take_request(nursery)
    assert request is not None
    return request


async def test_an_upgrade_is_answered_by_trio_websocket() -> None:
    egress = Egress(ScriptedTransport())
    async with trio.open_nursery() as nursery:
        stream = UpgradeStream(HEAD, egress.queue)
        request = await taken(nursery, stream)
        assert request.proposed_subprotocols == ("a", "b")
        assert not egress.transport.sent
        await stream.accept(request, "b", "permessage-deflate; server_no_context_takeover")
    status, *headers = bytes(egress.transport.sent).split(b"\r\n")
    assert status.startswith(b"HTTP/1.1 101 ")
    said = {name.lower(): value for name, _, value in (header.partition(b": ") for header in headers)}
    assert said[b"sec-websocket-accept"] == ACCEPT
    assert said[b"sec-websocket-protocol"] == b"b"
    assert said[b"sec-websocket-extensions"] == b"permessage-deflate; server_no_context_takeover"


async def test_once_it_is_answered_nothing_of_trio_websocket_is_left() -> None:
    egress = Egress(ScriptedTransport())
    async with trio.open_nursery() as nursery:
        stream = UpgradeStream(HEAD, egress.queue)
        request = await taken(nursery, stream)
        left = weakref.ref(request)
        await stream.accept(request, None, None)
        del request
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
    gc.collect()
    assert left() is None
    answer = bytes(egress.transport.sent)
    assert answer.endswith(b"\r\n\r\n"), "no close frame follows"
    assert not egress.queue.close_sent


async def test_an_upgrade_that_is_none_is_refused_by_trio_websocket() -> None:
    egress = Egress(ScriptedTransport())
    async with trio.open_nursery() as nursery:
        stream = UpgradeStream(HEAD.replace(b"Version: 13", b"Version: 12"), egress.queue)
        assert await stream.take_request(nursery) is None
    assert bytes(egress.transport.sent).startswith(b"HTTP/1.1 4")


async def test_an_upgrade_may_be_refused() -> None:
    egress = Egress(ScriptedTransport())
    async with trio.open_nursery() as nursery:
        stream = UpgradeStream(HEAD, egress.queue)
        request = await taken(nursery, stream)
        await request.reject(401, body=b"who?")
        await stream.aclose()
    head, _, body = bytes(egress.transport.sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert body == b"who?"


async def test_who_reads_on_before_the_answer_waits(nursery: trio.Nursery) -> None:
    stream = UpgradeStream(HEAD, Egress(ScriptedTransport()).queue)
    read = [await stream.receive_some()]

    async def read_on() -> None:
        read.append(await stream.receive_some())

    nursery.start_soon(read_on)
    await wait_all_tasks_blocked()
    assert read == [HEAD]
    await stream.aclose()
    await wait_all_tasks_blocked()
    assert read == [HEAD, b""]
